"""The term `best_of`: the distance of the best of several answers, so that each may be another right one."""

from __future__ import annotations

import attrs
import torch
from attrs.validators import ge
from torch import Tensor, nn

from ganframe import DataSpec, Term, Turn, option


@attrs.frozen
class BestOf(Term):
    """weight · E min_k |x - G(z_k, y)|, the L1 distance of the best of `samples` answers to one y (variety loss).

    Only the best answer has a gradient, so the others may be right for another x of the same y. With samples = 1 this
    is the L1 distance of pix2pix, whose minimum is the median of all x. With two or more samples and two equally likely
    x it is smallest where G makes each of them half of the time. If one of two x is rarer, two samples keep its share,
    and more make it too often: with four, an x of 30 % is made 43 % of the time.

    Gupta et al. 2018 (Social GAN, eq. 4, there with squares). The other latents are those of other samples of the
    batch, at equal distances (in a smaller batch some answers are the same), and G is called `samples` - 1 more times.
    """

    weight: float = option(10.0, help="weight of the term", validator=ge(0), scheduled=True)
    samples: int = option(2, help="k, the answers of which the best counts", validator=ge(1))

    needs_real = "x"

    def prepare(self, G: nn.Module, D: nn.Module, data: DataSpec) -> None:
        if data.condition is None:
            raise ValueError(
                "compares answers with the real sample that has their condition, and this data has no conditions; "
                "choose a dataset of pairs (here: moving_digits, derived, paired_images)"
            )

        if self.samples > 1 and any(getattr(module, "ignores_latent", False) for module in G.modules()):
            raise ValueError(
                "chooses the best of several answers, and this generator makes one, whatever z is; give it z (here: "
                'z = "concat"), or set samples = 1'
            )

    def generator_term(self, turn: Turn) -> Tensor:
        assert turn.real is not None
        z, y, x = turn.fake.z, turn.fake.y, turn.real.x
        assert z is not None
        distances = [(x - turn.fake.x).abs().flatten(1).mean(1)]
        for index in range(1, self.samples):
            # Processes that share a batch give a sample the same latents if `samples` divides their parts.
            other = z.roll(index * len(z) // self.samples, 0)
            distances.append((x - turn.G(other, y)).abs().flatten(1).mean(1))
        return self.weight * torch.stack(distances).amin(0).mean()
