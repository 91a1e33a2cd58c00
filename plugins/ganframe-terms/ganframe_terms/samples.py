"""Terms on the generator's samples themselves: the L1 distance of pix2pix, and mode seeking."""

from __future__ import annotations

import attrs
from attrs.validators import ge, gt
from torch import Tensor, nn

from ganframe import DataSpec, Term, Turn, option, whole_batch


@attrs.frozen
class L1(Term):
    """weight · E |x - G(z, y)|, the mean over all numbers of a sample (Isola et al. 2017, pix2pix, eq. 3).

    x is the real sample that belongs to the condition y. So the data needs conditions.
    """

    weight: float = option(100.0, help="λ, the weight of the term", validator=ge(0), scheduled=True)

    needs_real = "x"

    def prepare(self, G: nn.Module, D: nn.Module, data: DataSpec) -> None:
        if data.condition is None:
            raise ValueError(
                "compares each fake with the real sample that has its condition, and this data has no conditions; "
                "choose a dataset of pairs (here: completion)"
            )

    def generator_term(self, turn: Turn) -> Tensor:
        assert turn.real is not None
        return self.weight * (turn.real.x - turn.fake.x).abs().mean()


@attrs.frozen
class ModeSeeking(Term):
    """weight / (r + ε), r = E|G(z₁, y) - G(z₂, y)| / E|z₁ - z₂| (Mao et al. 2019, MSGAN, eq. 4).

    The paper maximises the ratio of the distance of two samples to that of their latents, which share y. As in the
    authors' code, both are mean absolute differences over the batch, and G minimises the reciprocal of their ratio. z₂
    are the latents of the other half of the batch. G is called once more.
    """

    weight: float = option(1.0, help="weight of the term", validator=ge(0), scheduled=True)
    epsilon: float = option(1e-5, help="ε, which bounds the term where all samples are equal", validator=gt(0))

    def generator_term(self, turn: Turn) -> Tensor:
        z, y = turn.fake.z, turn.fake.y
        assert z is not None
        if len(z) < 2:
            raise ValueError("compares pairs of fakes, and there is one; use larger batches")
        # A shift by half of the batch pairs the same latents if processes share the batch.
        other = z.roll(len(z) // 2, 0)
        samples = whole_batch((turn.fake.x - turn.G(other, y)).abs().flatten(1).mean(1)).mean()
        latents = whole_batch((z - other).abs().flatten(1).mean(1)).mean()
        return self.weight / (samples / latents + self.epsilon)
