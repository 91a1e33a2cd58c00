"""R3GAN's objective and gradient penalties, on raw scores a = D(x) and b = D(G(z)).

Each works with any discriminator in which the samples of a batch are independent.
"""

from __future__ import annotations

import attrs
from attrs.validators import ge
from torch import Tensor, nn
from torch.nn.functional import softplus

from ganframe import Constraint, Objective, Scored, option, score_gradients


def _score_difference(real: Tensor, fake: Tensor | None) -> Tensor:
    """real - fake for each pair, (N,). Raises ValueError unless both have the same shape.

    Shapes that broadcast, such as (N,) and (N, 1), would pair every real sample with every fake one.
    """
    if fake is None or real.shape != fake.shape:
        shapes = f"{tuple(real.shape)} and {'nothing' if fake is None else tuple(fake.shape)}"
        raise ValueError(
            f"relativistic_pairing needs one fake score for each real score, and got the shapes {shapes}; "
            "pass scores of equal shape"
        )
    return real - fake


@attrs.frozen
class RelativisticPairing(Objective):
    """The relativistic pairing GAN (Jolicoeur-Martineau 2018; Huang et al. 2024, section 2).

    L_D = E softplus(b - a), L_G = E softplus(a - b), over pairs of a real and a fake sample, a and b (N,). Only
    differences of scores matter: the optimal discriminator is log p/q + any constant, and where p = q both losses are
    log 2. Each fake sample is compared with a real one, so G cannot drop modes by keeping all fakes on the real side of
    a single decision boundary.
    """

    compares_real = True

    def discriminator_loss(self, real: Tensor, fake: Tensor) -> Tensor:
        return softplus(-_score_difference(real, fake)).mean()

    def generator_loss(self, fake: Tensor, real: Tensor | None = None) -> Tensor:
        return softplus(-_score_difference(fake, real)).mean()


def _penalty(gamma: float, D: nn.Module, side: Scored) -> Tensor:
    """γ/2 · E‖∇D‖², one squared gradient norm per sample."""
    return gamma / 2 * score_gradients(D, side.scores, side.x).square().sum(1).mean()


@attrs.frozen
class _ZeroCentred(Constraint):
    """Base of R1 and R2. With `input_gradients`, ganframe raises an error for a discriminator that mixes samples."""

    gamma: float = option(
        1.0, help="γ: the penalty is γ/2 times the mean squared gradient norm", validator=ge(0), scheduled=True
    )
    input_gradients = True


@attrs.frozen
class R1(_ZeroCentred):
    """γ/2 · E‖∇D(x)‖² on real samples (Mescheder et al. 2018, eq. 9).

    R3GAN uses it with R2 and the same γ (Huang et al. 2024, section 2).
    """

    def penalty(self, D: nn.Module, real: Scored, fake: Scored) -> Tensor:
        return _penalty(self.gamma, D, real)


@attrs.frozen
class R2(_ZeroCentred):
    """γ/2 · E‖∇D(G(z))‖² on fake samples (Mescheder et al. 2018, eq. 10).

    Without it the gradient norm at fake samples can explode while they are far from the data (Huang et al. 2024,
    section 2).
    """

    def penalty(self, D: nn.Module, real: Scored, fake: Scored) -> Tensor:
        return _penalty(self.gamma, D, fake)
