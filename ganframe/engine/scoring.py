"""How D is called on real and fake samples: which sides share a call, in which precision, with which gradients.

Each of these is decided once, in `Scoring.decide`, for a discriminator, its constraints and terms, and nowhere else.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from contextlib import AbstractContextManager, contextmanager, nullcontext
from typing import Literal

import attrs
import torch
from torch import Tensor, nn
from torch.nn.utils import parametrize

from ganframe.components import Constraint, Scored, Term
from ganframe.declarations import has_many_scores, mixes_samples


@attrs.frozen
class Scoring:
    """The decisions.

    `shared_call`: real and fake samples go through D in one call. This is faster, and equal where D treats samples
    independently. It is off where a constraint differentiates the scores of one side by its samples: the gradient
    would run back through the other side too, on zeros.

    `input_gradients`: in D's loss the samples require grad, and D runs in float32, outside autocast. Penalties, terms
    and losses are always computed outside autocast, from scores in float32.

    `weights_once`: D's parametrised weights are computed once for all calls of D in a loss, so that spectral
    normalisation runs one power iteration a step.

    `extras`: a term reads what D returns besides its scores. `many_scores`: D may return scores (N, …).

    `generator_real`: what G's loss needs of a real batch, "scores", "x" or None. `generator_scores`: G's loss calls D;
    it does not before the objective starts, unless a term needs it.
    """

    shared_call: bool
    input_gradients: bool
    weights_once: bool
    autocast: Callable[[], AbstractContextManager[None]]
    extras: bool = False
    many_scores: bool = False
    generator_real: Literal["x", "scores"] | None = None
    generator_scores: bool = True

    @classmethod
    def decide(
        cls,
        D: nn.Module,
        constraints: Iterable[Constraint],
        autocast: Callable[[], AbstractContextManager[None]],
        terms: Iterable[Term] = (),
        compares_real: bool = False,
        started: bool = True,
    ) -> Scoring:
        """For this D, these constraints and terms. `autocast` makes the context of the run's mixed precision.

        `compares_real` is the objective's; `started` is false while G is trained by its terms alone.
        """
        constraints, terms = list(constraints), list(terms)
        needs = {term.needs_real for term in terms}
        scored = compares_real or "scores" in needs
        extras = any(term.needs_extras for term in terms)
        input_gradients = any(constraint.input_gradients for constraint in constraints)
        return cls(
            shared_call=not mixes_samples(D) and not input_gradients,
            input_gradients=input_gradients,
            weights_once=bool(constraints or terms),
            autocast=autocast,
            extras=extras,
            many_scores=has_many_scores(D),
            generator_real="scores" if scored else "x" if "x" in needs else None,
            generator_scores=started or scored or extras,
        )

    def cached_weights(self) -> AbstractContextManager[None]:
        """For the calls of D in one loss."""
        return parametrize.cached() if self.weights_once else nullcontext()

    def both_sides(
        self, D: nn.Module, x: Tensor, fakes: Tensor, y: Tensor, z: Tensor | None = None
    ) -> tuple[Scored, Scored]:
        """Both sides of D's loss, scored, with input gradients where a constraint needs them."""
        fakes = fakes.to(x.dtype)
        if self.input_gradients:
            return self.scored(D, x.detach().requires_grad_(), fakes.requires_grad_(), y, z)
        with self.autocast():
            return self.scored(D, x, fakes, y, z)

    def generator_sides(
        self,
        D: nn.Module,
        x: Tensor | None,
        fakes: Tensor,
        y: Tensor,
        z: Tensor,
    ) -> tuple[Scored | None, Scored]:
        """Both sides of G's loss, as far as it needs them."""
        if x is not None and self.generator_real == "scores":
            return self.scored(D, x, fakes, y, z)
        real = None if x is None else Scored(x, y, None)  # type: ignore[arg-type]
        scores, extras = self._call(D, fakes, y) if self.generator_scores else (None, {})
        return real, Scored(_full(fakes), y, scores, z, extras)  # type: ignore[arg-type]

    def scored(
        self, D: nn.Module, x: Tensor, fakes: Tensor, y: Tensor, z: Tensor | None = None
    ) -> tuple[Scored, Scored]:
        """Real and fake samples with their scores in float32.

        Raises ValueError for scores of another shape than D declares: (N, 1) would pair every real sample with every
        fake one.
        """
        n = y.shape[0]
        if self.shared_call:
            both, extras = self._call(D, torch.cat([x, fakes]), torch.cat([y, y]))
            real, fake = both.split(n)
            sides = {name: value.split(n) for name, value in extras.items()}
            real_extras, fake_extras = ({name: pair[i] for name, pair in sides.items()} for i in (0, 1))
        else:
            real, real_extras = self._call(D, x, y)
            fake, fake_extras = self._call(D, fakes, y)
        self._check_shape(real, n)
        return Scored(x, y, real, None, real_extras), Scored(fakes.to(x.dtype), y, fake, z, fake_extras)

    def _call(self, D: nn.Module, x: Tensor, y: Tensor) -> tuple[Tensor, dict[str, Tensor]]:
        """D's scores and extras, in float32."""
        if not self.extras:
            return D(x, y).float(), {}
        extras: dict[str, Tensor] = {}
        scores = D(x, y, extras).float()
        return scores, {name: _full(value) for name, value in extras.items()}

    def _check_shape(self, scores: Tensor, n: int) -> None:
        right = scores.shape[:1] == (n,) if self.many_scores else scores.shape == (n,)
        if not right:
            raise ValueError(f"the discriminator returns scores of shape {tuple(scores.shape)}, not {(n,)}")


def _full(tensor: Tensor) -> Tensor:
    """Half precision as float32."""
    return tensor.float() if tensor.dtype in (torch.float16, torch.bfloat16) else tensor


@contextmanager
def same_parametrized_weights(*networks: nn.Module) -> Iterator[None]:
    """Parametrisations are in evaluation mode meanwhile: those with a state, as spectral normalisation, keep it."""
    modules = [
        part
        for network in networks
        for module in network.modules()
        if isinstance(module, parametrize.ParametrizationList)
        for part in module.modules()
    ]
    modes = [module.training for module in modules]
    for module in modules:
        module.training = False
    try:
        yield
    finally:
        for module, mode in zip(modules, modes, strict=True):
            module.training = mode
