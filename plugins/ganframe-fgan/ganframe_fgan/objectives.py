"""The objectives of f-GAN and of maximum likelihood GAN, on raw scores a = D(x) and b = D(G(z))."""

from __future__ import annotations

from typing import Literal

import attrs
import torch
from attrs.validators import and_, gt, lt
from torch import Tensor
from torch.nn.functional import softplus

from ganframe import Objective, option
from ganframe_fgan.divergences import Divergence, Name, table


@attrs.frozen
class FGAN(Objective):
    """f-GAN: the objective of an f-divergence (Nowozin, Cseke, Tomioka 2016, eq. 6 and section 2.4).

    F = E g(a) - E f*(g(b)), whose maximum over D is D_f(p‖q). L_D = -F. L_G is -E f*(g(b)) for "minimax"; its gradient
    at the optimal discriminator is that of D_f. L_G is -E g(b) for "non_saturating" (section 3.2); its gradient there
    is that of another divergence, D_h with h'' = f''/u. The package's README lists D_h of each f.
    """

    divergence: Name = option("kl", help="D_f(p‖q), p the density of the data: kl is KL(p‖q)")
    generator: Literal["minimax", "non_saturating"] = option("minimax", help="G's loss: -E f*(g(b)), or -E g(b)")
    pi: float = option(0.5, help="π of jensen_shannon_weighted, the weight of the data", validator=and_(gt(0), lt(1)))

    def discriminator_loss(self, real: Tensor, fake: Tensor) -> Tensor:
        return self._row.conjugate(fake).mean() - self._row.g(real).mean()

    def generator_loss(self, fake: Tensor, real: Tensor | None = None) -> Tensor:
        reward = self._row.conjugate if self.generator == "minimax" else self._row.g
        return -reward(fake).mean()

    def optimal_score(self, log_ratio: Tensor) -> Tensor:
        """The optimal score v* where log p/q is `log_ratio`: g(v*) = f'(u)."""
        return self._row.optimum(log_ratio)

    def reads_real(self, scores: Tensor) -> Tensor:
        """Which samples D classifies as real: T = g(v) > f'(1), which is v > v*(u = 1) (table 2)."""
        return scores > self.optimal_score(torch.zeros_like(scores))

    @property
    def _row(self) -> Divergence:
        return table(self.pi)[self.divergence]


@attrs.frozen
class MaximumLikelihood(Objective):
    """The GAN whose G learns by maximum likelihood (Goodfellow 2014, "On distinguishability criteria for estimating
    generative models"; Goodfellow 2016, tutorial, section 3.2.4).

    L_D = softplus(-a) + softplus(b), as in the minimax game; the optimal discriminator is a = log p/q. L_G = -exp(b);
    its gradient at the optimal discriminator is that of KL(p‖q). In float32 exp(b) is infinite above b = 88.7. The
    tutorial's factor ½ in both losses is omitted.
    """

    def discriminator_loss(self, real: Tensor, fake: Tensor) -> Tensor:
        return softplus(-real).mean() + softplus(fake).mean()

    def generator_loss(self, fake: Tensor, real: Tensor | None = None) -> Tensor:
        return -fake.exp().mean()

    def optimal_score(self, log_ratio: Tensor) -> Tensor:
        return log_ratio
