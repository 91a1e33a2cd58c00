"""R3GAN's game, on raw scores a = D(x) and b = D(G(z)): the relativistic pairing loss and the two gradient penalties.

It knows nothing of the networks: each part works with any critic that treats samples independently.
"""

from __future__ import annotations

import attrs
import torch
from attrs.validators import ge
from torch import Tensor, nn
from torch.nn.functional import softplus

from ganframe import Constraint, Objective, Scored, option


def _lead(real: Tensor, fake: Tensor | None) -> Tensor:
    """a - b for each pair, (N,). Raises ValueError unless there is one fake for each real sample.

    Shapes that broadcast, as (N,) and (N, 1) do, would pair every real sample with every fake one.
    """
    if fake is None or real.shape != fake.shape:
        shapes = f"{tuple(real.shape)} and {'nothing' if fake is None else tuple(fake.shape)}"
        raise ValueError(f"relativistic pairing compares each real score with one fake score; it was given {shapes}")
    return real - fake


@attrs.frozen
class RelativisticPairing(Objective):
    """The relativistic pairing game (Jolicoeur-Martineau 2018; Huang et al. 2024, section 2).

    L_D = E softplus(b - a), L_G = E softplus(a - b), over pairs of a real and a fake sample, a and b (N,). Only
    differences of scores count: the optimal critic is a = log p/q + any constant, and where p = q both losses are
    log 2. Each fake is judged beside a real sample, so no part of the data can be forgotten on the good side of one
    boundary.
    """

    compares_real = True

    def discriminator_loss(self, real: Tensor, fake: Tensor) -> Tensor:
        return softplus(-_lead(real, fake)).mean()

    def generator_loss(self, fake: Tensor, real: Tensor | None = None) -> Tensor:
        return softplus(-_lead(fake, real)).mean()


def _penalty(gamma: float, side: Scored) -> Tensor:
    """γ/2 · E‖∇D‖², with one squared norm per sample."""
    # The sum, not the mean: each sample's own score is differentiated, whatever the size of the batch.
    (gradient,) = torch.autograd.grad(side.scores.sum(), side.x, create_graph=True)
    return gamma / 2 * gradient.flatten(1).square().sum(1).mean()


@attrs.frozen
class _ZeroCentred(Constraint):
    """What R1 and R2 share. A critic that mixes samples is refused by ganframe, for any such constraint."""

    gamma: float = option(1.0, help="γ, the weight: the penalty is γ/2 times the mean squared norm", validator=ge(0))
    input_gradients = True


@attrs.frozen
class R1(_ZeroCentred):
    """γ/2 · E‖∇D(x)‖² on real samples (Mescheder et al. 2018, eq. 9).

    R3GAN uses it with R2 and one γ for both (Huang et al. 2024, section 2).
    """

    def penalty(self, D: nn.Module, real: Scored, fake: Scored) -> Tensor:
        return _penalty(self.gamma, real)


@attrs.frozen
class R2(_ZeroCentred):
    """γ/2 · E‖∇D(G(z))‖² on fake samples (Mescheder et al. 2018, eq. 10).

    Without it the critic's slope at the fakes is free to explode while they are far from the data (Huang et al. 2024,
    section 2).
    """

    def penalty(self, D: nn.Module, real: Scored, fake: Scored) -> Tensor:
        return _penalty(self.gamma, fake)
