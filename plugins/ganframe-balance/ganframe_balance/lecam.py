"""LeCam regularisation: D's scores are held near moving means of the other side's scores."""

from __future__ import annotations

import attrs
import torch
from attrs.validators import and_, ge, gt, lt
from torch import Tensor, nn

from ganframe import DataSpec, Parts, Term, Turn, mean_scores, option


class ScoreMeans(nn.Module):
    """Exponential moving means of D's scores: `real` is α_R, `fake` is α_F."""

    real: Tensor
    fake: Tensor

    def __init__(self) -> None:
        super().__init__()
        self.register_buffer("real", torch.zeros(()))
        self.register_buffer("fake", torch.zeros(()))

    @torch.no_grad()
    def follow(self, real: Tensor, fake: Tensor, decay: float) -> None:
        """α ← decay · α + (1 - decay) · mean of the batch. Linear, so the mean over processes is that of the batch."""
        self.real.lerp_(real.mean().to(self.real), 1 - decay)
        self.fake.lerp_(fake.mean().to(self.fake), 1 - decay)


@attrs.frozen
class LeCam(Term):
    """weight · [E relu(D(x) - α_F)² + E relu(α_R - D(G(z)))²] in D's loss (Tseng et al. 2021, arXiv:2104.03310, eq. 4).

    α_R and α_F are moving means of D's scores of real and fake samples, as they were before this step. The relu is of
    the authors' code; with `one_sided` = false the squares are those of the paper. For the Wasserstein objective the
    paper shows that the squares minimise a LeCam divergence. It is meant for few training samples.
    """

    weight: float = option(0.01, help="λ, the weight of the term", validator=gt(0), scheduled=True)
    decay: float = option(0.99, help="decay of the moving means", validator=and_(ge(0), lt(1)))
    one_sided: bool = option(True, help="penalise only D(x) above α_F and D(G(z)) below α_R")

    def prepare(self, G: nn.Module, D: nn.Module, data: DataSpec) -> Parts:
        return Parts(discriminator=ScoreMeans())

    def discriminator_term(self, turn: Turn) -> Tensor:
        assert turn.real is not None
        means = turn.parts.discriminator
        assert isinstance(means, ScoreMeans)
        real, fake = mean_scores(turn.real.scores), mean_scores(turn.fake.scores)
        above, below = real - means.fake, means.real - fake
        if self.one_sided:
            above, below = above.relu(), below.relu()
        value = self.weight * (above.square().mean() + below.square().mean())
        means.follow(real.detach(), fake.detach(), self.decay)
        return value
