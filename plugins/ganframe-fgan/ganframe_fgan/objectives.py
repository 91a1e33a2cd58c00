"""The f-GAN game and the maximum likelihood game, on raw scores a = D(x) and b = D(G(z))."""

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
    """The game of an f-divergence (Nowozin, Cseke, Tomioka 2016, eq. 6 and section 2.4).

    F = E g(a) - E f*(g(b)), of which D_f(p‖q) is the greatest value. L_D = -F. L_G is -E f*(g(b)) for "minimax",
    whose gradient at the optimal critic is that of D_f, and -E g(b) for "non_saturating" (section 3.2), which then
    descends another divergence, that of h with h'' = f''/u: the package's README has them all.
    """

    divergence: Name = option("kl", help="D_f; p, the data's density, stands first: kl is KL(p‖q)")
    generator: Literal["minimax", "non_saturating"] = option("minimax", help="G's loss: -E f*(g(b)), or -E g(b)")
    pi: float = option(0.5, help="π of jensen_shannon_weighted, the share of the data", validator=and_(gt(0), lt(1)))

    def discriminator_loss(self, real: Tensor, fake: Tensor) -> Tensor:
        return self._row.conjugate(fake).mean() - self._row.g(real).mean()

    def generator_loss(self, fake: Tensor, real: Tensor | None = None) -> Tensor:
        reward = self._row.conjugate if self.generator == "minimax" else self._row.g
        return -reward(fake).mean()

    def optimal_score(self, log_ratio: Tensor) -> Tensor:
        """The score v* of the best critic where log p/q is `log_ratio`: g(v*) = f'(u)."""
        return self._row.optimum(log_ratio)

    def reads_real(self, scores: Tensor) -> Tensor:
        """Which samples the critic takes for real: T = g(v) > f'(1), that is v > v*(u = 1) (table 2)."""
        return scores > self.optimal_score(torch.zeros_like(scores))

    @property
    def _row(self) -> Divergence:
        return table(self.pi)[self.divergence]


@attrs.frozen
class MaximumLikelihood(Objective):
    """The GAN whose G learns by maximum likelihood (Goodfellow 2014, "On distinguishability criteria for estimating
    generative models"; Goodfellow 2016, tutorial, section 3.2.4).

    L_D = softplus(-a) + softplus(b), the minimax game's, with the optimal critic a = log p/q; L_G = -exp(b), whose
    gradient there is that of KL(p‖q). In float32 exp(b) is infinite above b = 88.7. The tutorial's factor ½ on every
    loss is left out.
    """

    def discriminator_loss(self, real: Tensor, fake: Tensor) -> Tensor:
        return softplus(-real).mean() + softplus(fake).mean()

    def generator_loss(self, fake: Tensor, real: Tensor | None = None) -> Tensor:
        return -fake.exp().mean()

    def optimal_score(self, log_ratio: Tensor) -> Tensor:
        return log_ratio
