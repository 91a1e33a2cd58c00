"""The objectives of the GAN and WGAN papers, as functions of raw scores a = D(x) and b = D(G(z)).

D's probability is σ(score), so -log σ(a) = softplus(-a) and -log(1 - σ(b)) = softplus(b). softplus is exact at any
score; log(σ(b) + ε) saturates.
"""

from __future__ import annotations

import attrs
from torch import Tensor
from torch.nn.functional import softplus

from ganframe import Objective


@attrs.frozen
class Vanilla(Objective):
    """The minimax game (Goodfellow et al. 2014, eq. 1).

    L_D = softplus(-a) + softplus(b), L_G = -softplus(b). For the optimal D, D(x) = log p/q and
    -L_D = 2 JSD(p, q) - log 4. G's gradient -σ(b) vanishes where D is confident that a sample is fake.
    """

    def discriminator_loss(self, real: Tensor, fake: Tensor) -> Tensor:
        return softplus(-real).mean() + softplus(fake).mean()

    def generator_loss(self, fake: Tensor, real: Tensor | None = None) -> Tensor:
        return -softplus(fake).mean()

    def optimal_score(self, log_ratio: Tensor) -> Tensor:
        return log_ratio


@attrs.frozen
class NonSaturating(Vanilla):
    """The non-saturating game: L_D of the minimax game; G maximises log D(G(z)) (Goodfellow et al. 2014, section 3).

    L_G = softplus(-b). Its gradient -σ(-b) stays near -1 where D is confident that a sample is fake. Some libraries
    call this loss "minimax".
    """

    def generator_loss(self, fake: Tensor, real: Tensor | None = None) -> Tensor:
        return softplus(-fake).mean()


@attrs.frozen
class WGAN(Objective):
    """The Wasserstein game (Arjovsky et al. 2017, eq. 2 and algorithm 1).

    L_D = E b - E a, L_G = -E b. The supremum of -L_D over 1-Lipschitz critics is W1(p, q), so use it with a
    constraint.
    """

    def discriminator_loss(self, real: Tensor, fake: Tensor) -> Tensor:
        return fake.mean() - real.mean()

    def generator_loss(self, fake: Tensor, real: Tensor | None = None) -> Tensor:
        return -fake.mean()
