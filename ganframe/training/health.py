"""Watches a run: non-finite losses and weights, a discriminator that has won, a generator that has collapsed.

Nothing is read from the device between two checks.
"""

from __future__ import annotations

import itertools
import math
from collections.abc import Callable

import torch
from torch import Tensor
from torch.nn.utils import get_total_norm

from ganframe.engine.state import State
from ganframe.errors import RunError, warn
from ganframe.training.log import LogMeans

LONGEST = 1_000  # steps without a check
INF = float("inf")
VANISHED = 1e-4  # of the largest gradient norm that the generator has had
PATIENCE = 3  # checks in a row that find it vanished
COLLAPSED = 0.02  # of the real samples' standard deviation
COLUMNS = 2**16  # dimensions whose variance is computed at a time
OF_DATA = 1e6  # what a process with non-finite data adds to a sum of faults, more than all others
SHRUNK = 0.1  # of the largest standard deviation that the fakes have had: new networks may begin with little


class NotFinite(RunError):
    """A loss, a penalty, a score or a weight is NaN or infinite."""


class NotFiniteData(NotFinite):
    """Real samples are NaN or infinite, so other batches and noise do not help."""


class Watch:
    """A callback that passes each step on to `means`, and checks for non-finite values where `due` says so.

    `due(step)` must be true where anything of a step is stored. There is a check at least every LONGEST steps. At the
    first step and every `every`-th, it looks for a discriminator that has won, and warns if `tell` is true. `agree`
    sums over processes, so that all of them stop together.
    """

    def __init__(
        self,
        means: LogMeans,
        every: int,
        due: Callable[[int], bool],
        agree: Callable[[Tensor], Tensor],
        tell: bool = True,
    ) -> None:
        self.means = means
        self.every = min(every, LONGEST)
        self.due, self.agree, self.tell = due, agree, tell
        self.largest, self.vanished, self.warned = 0.0, 0, False
        self.updates = 0  # of both players, at the last check

    def __call__(self, state: State) -> None:
        self.means(state)
        if self.due(state.step) or state.step % LONGEST == 0:
            self.check(state)
        if state.step == 1 or state.step % self.every == 0:
            self._warn_if_discriminator_has_won(state)

    def check(self, state: State) -> None:
        """Raises NotFinite, with the value's name and step, where anything since the last check is not finite."""
        fault = self.means.fold(state.step) or _non_finite_weights(state)
        updates = state.D.updates + state.G.updates
        since, self.updates = updates - self.updates, updates
        of_data = None if fault is None else _data_fault(state, since if since > 0 else updates)
        grade = 0.0 if fault is None else 1.0 if of_data is None else OF_DATA
        anywhere = self.agree(torch.tensor(grade, device=state.device)).item()
        if anywhere > 0:
            fault = fault or f"step {state.step}: another process has a non-finite value"
        if anywhere >= OF_DATA:
            raise NotFiniteData(f"{fault}; the data has such values: dataset: {of_data or 'see the other processes'}")
        if anywhere > 0:
            raise NotFinite(fault)

    def _warn_if_discriminator_has_won(self, state: State) -> None:
        """Warns once where D separates the batch completely and G's gradient has vanished."""
        gradients = [p.grad for p in state.G.parameters if p.grad is not None]
        if self.warned or not gradients or "score_real" not in state.latest:
            return
        norm = get_total_norm(gradients).item()
        if not math.isfinite(norm):  # a step that fp16's scaler skips
            return
        self.largest = max(self.largest, norm)
        separated = (state.latest["score_real"].min() > state.latest["score_fake"].max()).item()
        self.vanished = self.vanished + 1 if separated and norm <= VANISHED * self.largest else 0
        if self.vanished == PATIENCE:
            self.warned = True
            if not self.tell:
                return
            warn(
                f"step {state.step}: the discriminator separates all real samples from all fakes, and the generator's "
                f"gradient has vanished (norm {norm:.1e}; it has been {self.largest:.1e}): the generator no longer "
                "learns. A constraint on the discriminator, a lower learning rate for it, or the non-saturating loss "
                "commonly help"
            )


def _data_fault(state: State, batches: int) -> str | None:
    """What is wrong with the real samples of the newest batches; None too where their source cannot say."""
    look = getattr(state.batches, "fault", None)
    return None if look is None else look(batches)


def _non_finite_weights(state: State) -> str | None:
    """A message for the first network with a weight or buffer that is not finite, or None."""
    terms = [(f"term '{name}'", m) for name, part in state.game.parts.items() for m in part.trained.values()]
    owners = [("the generator", state.G.network), ("the discriminator", state.D.network), *terms]
    named = (
        (owner, *pair)
        for owner, network in owners
        for pair in itertools.chain(network.named_parameters(), network.named_buffers())
    )
    held = [(owner, name, tensor) for owner, name, tensor in named if tensor.is_floating_point()]
    # The largest absolute value, not the norm: the sum of squares of finite weights may overflow. Of all at once, as
    # the calls cost more than what they compute.
    if not held or math.isfinite(get_total_norm([tensor for *_, tensor in held], INF).item()):
        return None
    for owner, name, tensor in held:
        if not tensor.isfinite().all():
            return f"step {state.step}: weights of {owner} are not finite, for example {name}"
    return None


class CollapseWatch:
    """Warns once where fakes (N, *shape) vary far less than real samples, and far less than they did before.

    `first` are fakes of the generator at the start.
    """

    def __init__(self, first: Tensor) -> None:
        self.largest, self.warned = _deviation(first), False

    def __call__(self, fake: Tensor, real: Tensor, step: int) -> None:
        if self.warned:
            return
        fakes, reals = _deviation(fake), _deviation(real)
        self.largest = max(self.largest, fakes)
        if fakes < COLLAPSED * reals and fakes < SHRUNK * self.largest:
            self.warned = True
            warn(
                f"step {step}: the generator has collapsed: the standard deviation of its samples is {fakes:.1e}, that "
                f"of the data {reals:.1e}. A constraint on the discriminator, lower learning rates or larger batches "
                "commonly help"
            )


def _deviation(samples: Tensor) -> float:
    """The standard deviation, over all dimensions; 0 for a single sample."""
    rows = samples.detach().flatten(1).cpu()  # some devices have no float64
    return math.sqrt(torch.cat([part.double().var(0, correction=0) for part in rows.split(COLUMNS, 1)]).mean().item())
