"""The objectives of the GAN and WGAN papers, on raw scores a = D(x) and b = D(G(z)).

With D's probability σ(score), -log σ(a) is softplus(-a) and -log(1 - σ(b)) is softplus(b): exact at any score, where
log(σ(b) + ε) would saturate.
"""

from __future__ import annotations

import attrs
from torch import Tensor
from torch.nn.functional import softplus

from ganframe import Objective


@attrs.frozen
class Vanilla(Objective):
    """The minimax game (Goodfellow et al. 2014, eq. 1).

    L_D = softplus(-a) + softplus(b), L_G = -softplus(b). At the optimal critic a = log p/q and
    -L_D = 2 JSD(p, q) - log 4. G's slope, -σ(b), vanishes where D is sure that a sample is fake.
    """

    def discriminator_loss(self, real: Tensor, fake: Tensor) -> Tensor:
        return softplus(-real).mean() + softplus(fake).mean()

    def generator_loss(self, fake: Tensor, real: Tensor | None = None) -> Tensor:
        return -softplus(fake).mean()

    def optimal_score(self, log_ratio: Tensor) -> Tensor:
        return log_ratio


@attrs.frozen
class NonSaturating(Vanilla):
    """The minimax game's D with a G that maximises log D(G(z)) (Goodfellow et al. 2014, section 3).

    L_G = softplus(-b), whose slope -σ(-b) stays near -1 where D is sure that a sample is fake. Some libraries call
    this loss "minimax".
    """

    def generator_loss(self, fake: Tensor, real: Tensor | None = None) -> Tensor:
        return softplus(-fake).mean()


@attrs.frozen
class WGAN(Objective):
    """The Wasserstein game (Arjovsky et al. 2017, eq. 2 and algorithm 1).

    L_D = E b - E a, L_G = -E b. Over 1-Lipschitz critics -L_D has the supremum W1(p, q), so a constraint belongs
    to it.
    """

    def discriminator_loss(self, real: Tensor, fake: Tensor) -> Tensor:
        return fake.mean() - real.mean()

    def generator_loss(self, fake: Tensor, real: Tensor | None = None) -> Tensor:
        return -fake.mean()
