"""Fisher and Sobolev GAN: a critic with a unit second moment, held by an augmented Lagrangian.

Both maximise E D(x) - E D(G(z)) under Ω = 1, where Ω is a second moment of D's scores or of D's gradients. Use them
with the objective `wgan`; each adds to D's loss -λ (1 - Ω) + ρ/2 (Ω - 1)², the rest of the augmented Lagrangian, with
its sign changed because D descends. λ is memory: after each step λ ← λ + ρ (Ω - 1).
"""

from __future__ import annotations

import attrs
import torch
from attrs.validators import gt
from torch import Tensor, nn

from ganframe import (
    DataSpec,
    Parts,
    Term,
    Turn,
    mean_scores,
    option,
    refuse_mixed_samples,
    score_gradients,
    whole_batch,
)


class Multiplier(nn.Module):
    """The Lagrange multiplier λ, of either sign. It is 0 at first."""

    value: Tensor

    def __init__(self) -> None:
        super().__init__()
        self.register_buffer("value", torch.zeros(()))

    def lagrangian(self, moment: Tensor, rho: float) -> Tensor:
        """-λ (1 - Ω) + ρ/2 (Ω - 1)² for Ω = `moment`. Then λ moves by ρ (Ω - 1), which is linear in the batch."""
        excess = moment - 1
        # clone: λ moves in place before backward() reads it.
        value = self.value.clone() * excess + rho / 2 * excess.square()
        with torch.no_grad():
            self.value.add_((rho * excess).to(self.value))
        return value


@attrs.frozen
class _Augmented(Term):
    """-λ (1 - Ω) + ρ/2 (Ω - 1)² in D's loss, for the second moment Ω of a subclass."""

    rho: float = option(1e-6, help="ρ, weight of the square and rate of the multiplier", validator=gt(0))

    def prepare(self, G: nn.Module, D: nn.Module, data: DataSpec) -> Parts:
        return Parts(discriminator=Multiplier())

    def moment(self, turn: Turn) -> Tensor:
        """Ω, a scalar."""
        raise NotImplementedError

    def discriminator_term(self, turn: Turn) -> Tensor:
        multiplier = turn.parts.discriminator
        assert isinstance(multiplier, Multiplier)
        return multiplier.lagrangian(self.moment(turn), self.rho)


@attrs.frozen
class Fisher(_Augmented):
    """Ω = ½ (E D(x)² + E D(G(z))²) = 1 by an augmented Lagrangian in D's loss (Mroueh & Sercu 2017, eq. 5 and alg. 1).

    With the objective `wgan`, -loss_discriminator is then the Fisher IPM of real and fake samples: the largest mean
    difference, in units of the critic's own second moment. At the optimum λ is half of it. ρ = 1e-6 is the paper's, for
    long runs on images; Ω is large until λ has grown, so short runs need a larger ρ.
    """

    def moment(self, turn: Turn) -> Tensor:
        assert turn.real is not None
        real, fake = (whole_batch(mean_scores(side.scores)) for side in (turn.real, turn.fake))
        return (real.square().mean() + fake.square().mean()) / 2


@attrs.frozen
class Sobolev(_Augmented):
    """Ω = ½ (E‖∇D(x)‖² + E‖∇D(G(z))‖²) = 1 by an augmented Lagrangian in D's loss (Mroueh et al. 2018, alg. 1).

    With the objective `wgan`, -loss_discriminator is then the Sobolev IPM of real and fake samples, whose dominant
    measure is their mixture. A mean of squared norms is bounded, not the norm at each point. D must treat the samples
    of a batch independently: no BatchNorm.
    """

    def prepare(self, G: nn.Module, D: nn.Module, data: DataSpec) -> Parts:
        refuse_mixed_samples(D)
        return super().prepare(G, D, data)

    def moment(self, turn: Turn) -> Tensor:
        assert turn.real is not None
        points = torch.cat([turn.real.x.detach(), turn.fake.x.detach()]).requires_grad_()
        gradients = score_gradients(turn.D, turn.D(points, torch.cat([turn.real.y, turn.fake.y])), points)
        return whole_batch(gradients.square().sum(1)).mean()
