"""The least squares and the relativistic average games as a plugin of ganframe, on raw scores a = D(x), b = D(G(z))."""

from __future__ import annotations

from collections.abc import Mapping

import attrs
from torch import Tensor
from torch.nn.functional import softplus

from ganframe import Objective, hookimpl, option


@attrs.frozen
class LeastSquares(Objective):
    """Least squares GAN (Mao et al. 2017, eq. 2): L_D = ½ E(a - real)² + ½ E(b - fake)², L_G = ½ E(b - wanted)².

    Scores are raw and the critic's last layer is linear: through a sigmoid the squares would saturate, which they are
    there to avoid. The optimal critic is a = (real · p + fake · q) / (p + q), so p/(p + q) with the codes 0, 1, 1
    (eq. 9). Twice G's loss over real and fake samples is then ∫(q - p)²/(p + q), Pearson's χ² of p + q from 2q, where
    real - wanted = 1 and real - fake = 2 (eq. 8): fake -1, real 1, wanted 0.
    """

    fake: float = option(0.0, help="the score D is to give fakes; the paper's a")
    real: float = option(1.0, help="the score D is to give real samples; the paper's b")
    wanted: float = option(1.0, help="the score G wants for its fakes; the paper's c")

    def __attrs_post_init__(self) -> None:
        # High scores mean real everywhere in ganframe; codes the other way round would be the same game read backwards.
        if self.fake >= min(self.real, self.wanted):
            raise ValueError("real and wanted must both be above fake")

    def discriminator_loss(self, real: Tensor, fake: Tensor) -> Tensor:
        return (real - self.real).square().mean() / 2 + (fake - self.fake).square().mean() / 2

    def generator_loss(self, fake: Tensor, real: Tensor | None = None) -> Tensor:
        return (fake - self.wanted).square().mean() / 2

    def optimal_score(self, log_ratio: Tensor) -> Tensor:
        return self.fake + (self.real - self.fake) * log_ratio.sigmoid()


@attrs.frozen
class RelativisticAverage(Objective):
    """The relativistic average game (Jolicoeur-Martineau 2018, RaSGAN).

    L_D = ½ [E softplus(mean b - a) + E softplus(b - mean a)]: a real sample is to look more real than fakes do on
    average, a fake less real than real samples do. L_G is the same with the sides exchanged, and both means have
    gradients in both losses. The ½ is that of the paper's code, not of its formulas: where p = q both losses are log 2.
    The means are those of the batch, and with several processes of each process's own part of it.
    """

    compares_real = True

    def discriminator_loss(self, real: Tensor, fake: Tensor) -> Tensor:
        return softplus(fake.mean() - real).mean() / 2 + softplus(fake - real.mean()).mean() / 2

    def generator_loss(self, fake: Tensor, real: Tensor | None = None) -> Tensor:
        if real is None:
            raise ValueError("the relativistic average game compares fake scores with real ones; it was given no real")
        return self.discriminator_loss(fake, real)


@hookimpl
def ganframe_objectives() -> Mapping[str, type[Objective]]:
    return {"least_squares": LeastSquares, "relativistic_average": RelativisticAverage}
