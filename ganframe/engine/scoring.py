"""How D is called on real and fake samples: which sides share a call, in which precision, with which gradients.

Each of these is decided once, in `Scoring.decide`, for a discriminator and its constraints, and nowhere else.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from contextlib import AbstractContextManager, nullcontext

import attrs
import torch
from torch import Tensor, nn
from torch.nn.utils import parametrize

from ganframe.components import Constraint, Scored, mixes_samples


@attrs.frozen
class Scoring:
    """The decisions.

    `shared_call`: real and fake samples go through D in one call. This is faster, and equal where D treats samples
    independently. It is off where a constraint differentiates the scores of one side by its samples: the gradient
    would run back through the other side too, on zeros.

    `input_gradients`: in D's loss the samples require grad, and D runs in float32, outside autocast. Penalties and
    losses are always computed outside autocast, from scores in float32.

    `weights_once`: D's parametrised weights are computed once for all calls of D in a loss, so that spectral
    normalisation runs one power iteration a step.
    """

    shared_call: bool
    input_gradients: bool
    weights_once: bool
    autocast: Callable[[], AbstractContextManager[None]]

    @classmethod
    def decide(
        cls, D: nn.Module, constraints: Iterable[Constraint], autocast: Callable[[], AbstractContextManager[None]]
    ) -> Scoring:
        """For this D and these constraints. `autocast` makes the context of the run's mixed precision."""
        constraints = list(constraints)
        input_gradients = any(constraint.input_gradients for constraint in constraints)
        return cls(
            shared_call=not mixes_samples(D) and not input_gradients,
            input_gradients=input_gradients,
            weights_once=bool(constraints),
            autocast=autocast,
        )

    def cached_weights(self) -> AbstractContextManager[None]:
        """For the calls of D in one loss."""
        return parametrize.cached() if self.weights_once else nullcontext()

    def both_sides(self, D: nn.Module, x: Tensor, fakes: Tensor, y: Tensor) -> tuple[Scored, Scored]:
        """Both sides of D's loss, scored, with input gradients where a constraint needs them."""
        fakes = fakes.to(x.dtype)
        if self.input_gradients:
            x, fakes = x.detach().requires_grad_(), fakes.requires_grad_()
            real, fake = self.scores(D, x, fakes, y)
        else:
            with self.autocast():
                real, fake = self.scores(D, x, fakes, y)
        return Scored(x, y, real), Scored(fakes, y, fake)

    def scores(self, D: nn.Module, x: Tensor, fakes: Tensor, y: Tensor) -> tuple[Tensor, Tensor]:
        """Scores (N,) of real and of fake samples, in float32.

        Raises ValueError for scores of another shape: (N, 1) would pair every real sample with every fake one.
        """
        if self.shared_call:
            real, fake = D(torch.cat([x, fakes]), torch.cat([y, y])).float().split(y.shape[0])
        else:
            real, fake = D(x, y).float(), D(fakes, y).float()
        if real.shape != y.shape:
            raise ValueError(f"the discriminator returns scores of shape {tuple(real.shape)}, not {tuple(y.shape)}")
        return real, fake
