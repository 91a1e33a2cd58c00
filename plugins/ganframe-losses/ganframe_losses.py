"""Least squares GAN and the relativistic average GAN as a plugin of ganframe, on raw scores a = D(x), b = D(G(z))."""

from __future__ import annotations

from collections.abc import Mapping

import attrs
from torch import Tensor
from torch.nn.functional import softplus

from ganframe import Objective, hookimpl, option


@attrs.frozen
class LeastSquares(Objective):
    """Least squares GAN (Mao et al. 2017, eq. 2): L_D = ½ E(a - real)² + ½ E(b - fake)², L_G = ½ E(b - wanted)².

    Scores are raw: D's last layer is linear, because after a sigmoid the loss would saturate. The optimal discriminator
    is a = (real · p + fake · q) / (p + q). With the codes fake 0, real 1, wanted 1 (eq. 9) it is p/(p + q). With the
    codes fake -1, real 1, wanted 0 (eq. 8: real - wanted = 1, real - fake = 2), twice G's loss over real and fake
    samples is ∫(q - p)²/(p + q) at the optimum, Pearson's χ² of p + q from 2q.
    """

    fake: float = option(0.0, help="target of D for the scores of fake samples; the paper's a")
    real: float = option(1.0, help="target of D for the scores of real samples; the paper's b")
    wanted: float = option(1.0, help="target of G for the scores of fake samples; the paper's c")

    def __attrs_post_init__(self) -> None:
        # In ganframe a high score always means real.
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
    """Relativistic average GAN (Jolicoeur-Martineau 2018, RaSGAN).

    L_D = ½ [E softplus(mean b - a) + E softplus(b - mean a)]: D scores each real sample above the mean fake score, and
    each fake sample below the mean real score. L_G is the same with a and b exchanged. Both means have gradients in
    both losses. The factor ½ is from the paper's code, not its formulas: where p = q both losses are log 2. The means
    are over the batch; with several processes, over the part of the batch in each process.
    """

    compares_real = True

    def discriminator_loss(self, real: Tensor, fake: Tensor) -> Tensor:
        return softplus(fake.mean() - real).mean() / 2 + softplus(fake - real.mean()).mean() / 2

    def generator_loss(self, fake: Tensor, real: Tensor | None = None) -> Tensor:
        if real is None:
            raise ValueError(
                "relativistic_average compares fake scores with real ones, and got no real scores; pass `real` too"
            )
        return self.discriminator_loss(fake, real)


@hookimpl
def ganframe_objectives() -> Mapping[str, type[Objective]]:
    return {"least_squares": LeastSquares, "relativistic_average": RelativisticAverage}
