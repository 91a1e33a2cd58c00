"""Whether a run is still worth its time: losses and weights that are numbers, a critic that has not won for good, a
generator that has not collapsed.

Nothing is read from the device between two checks: what a step leaves is kept there until it is looked at.
"""

from __future__ import annotations

import itertools
import math
import sys
from collections.abc import Callable

import torch
from torch import Tensor
from torch.nn.utils import get_total_norm

from ganframe.engine import State
from ganframe.errors import RunError

LONGEST = 1_000  # steps without a look
INF = float("inf")
GONE = 1e-4  # of the greatest gradient that the generator has had
PATIENCE = 3  # looks in a row at which it must be gone
COLLAPSED = 0.02  # of the real samples' deviation
SHRUNK = 0.1  # of the greatest deviation that the fakes have had: new networks may begin with little


class NotFinite(RunError):
    """A loss, a penalty, a score or a weight is not a number any more."""


class Watch:
    """A callback that looks for what is not finite wherever `due` says so, and whenever `check` is called.

    `due` is asked with each step and must be true where anything of a step is stored; every LONGEST steps there is a
    look in any case. At the first step and each `every`-th it looks for a critic that has won, and says so where `tell`
    is true. `agree` sums over processes, so that all of them stop together.
    """

    def __init__(
        self, every: int, due: Callable[[int], bool], agree: Callable[[Tensor], Tensor], tell: bool = True
    ) -> None:
        self.every = min(every, LONGEST)
        self.due, self.agree, self.tell = due, agree, tell
        self.terms: list[dict[str, Tensor]] = []
        self.greatest, self.lost, self.warned = 0.0, 0, False

    def __call__(self, state: State) -> None:
        self.terms.append({name: value.detach() for name, value in state.latest.items()})
        if self.due(state.step) or state.step % LONGEST == 0:
            self.check(state)
        if state.step == 1 or state.step % self.every == 0:
            self._look_for_a_winner(state)

    def check(self, state: State) -> None:
        """Raises NotFinite, with the term and its step, where anything is not finite since the last look."""
        fault = self._fault(state)
        anywhere = self.agree(torch.tensor(float(fault is not None), device=state.device)).item() > 0
        self.terms.clear()
        if anywhere:
            raise NotFinite(fault or f"step {state.step}: another process has met what is not finite")

    def _fault(self, state: State) -> str | None:
        values = [value.flatten() for terms in self.terms for value in terms.values()]
        if values and not torch.cat(values).isfinite().all():
            for step, terms in enumerate(self.terms, state.step - len(self.terms) + 1):
                for name, value in terms.items():
                    wrong = value[~value.isfinite()]
                    if len(wrong):
                        return f"step {step}: {name} is {wrong[0].item()}"
        for player, network in (("generator", state.G.network), ("discriminator", state.D.network)):
            named = itertools.chain(network.named_parameters(), network.named_buffers())
            held = {name: tensor.detach() for name, tensor in named if tensor.is_floating_point()}
            # The greatest absolute value: that of finite weights is finite, as their squares' sum need not be.
            if held and not get_total_norm(held.values(), INF).isfinite():
                wrong_ones = [name for name, tensor in held.items() if not tensor.isfinite().all()]
                return f"step {state.step}: the {player}'s weights are not finite, {wrong_ones[0]} for one"
        return None

    def _look_for_a_winner(self, state: State) -> None:
        """Warns once of a critic that leaves its generator nothing to learn from."""
        gradients = [p.grad for p in state.G.parameters if p.grad is not None]
        if self.warned or not gradients:
            return
        norm = get_total_norm(gradients).item()
        if not math.isfinite(norm):  # a step that fp16's scaler skips
            return
        self.greatest = max(self.greatest, norm)
        apart = (state.latest["score_real"].min() > state.latest["score_fake"].max()).item()
        self.lost = self.lost + 1 if apart and norm <= GONE * self.greatest else 0
        if self.lost == PATIENCE:
            self.warned = True
            if not self.tell:
                return
            warn(
                f"step {state.step}: the critic tells all real samples from all fakes, and the generator's gradient is "
                f"gone ({norm:.1e}; it has been {self.greatest:.1e}): it learns no more. A constraint on the critic, "
                "a lower learning rate for it, or the non-saturating loss commonly help"
            )


class CollapseWatch:
    """Warns once of fakes (N, *shape) that vary next to nothing beside real samples, having varied more before.

    `first` are fakes of the generator as it is at the start.
    """

    def __init__(self, first: Tensor) -> None:
        self.greatest, self.warned = _deviation(first), False

    def __call__(self, fake: Tensor, real: Tensor, step: int) -> None:
        if self.warned:
            return
        fakes, reals = _deviation(fake), _deviation(real)
        self.greatest = max(self.greatest, fakes)
        if fakes < COLLAPSED * reals and fakes < SHRUNK * self.greatest:
            self.warned = True
            warn(
                f"step {step}: the generator has collapsed: its samples deviate by {fakes:.1e}, the data's by "
                f"{reals:.1e}. A constraint on the critic, lower learning rates or larger batches commonly help"
            )


def _deviation(samples: Tensor) -> float:
    """The standard deviation, over all dimensions; 0 of a single sample."""
    return math.sqrt(samples.flatten(1).double().var(0, correction=0).mean().item())


def warn(message: str) -> None:
    print(f"warning: {message}", file=sys.stderr, flush=True)
