"""The term `variety`: of several samples for one input, only the nearest to the target is drawn to it."""

from __future__ import annotations

import attrs
import torch
from attrs.validators import ge
from torch import Tensor, nn

from ganframe import DataSpec, Term, Turn, option


@attrs.frozen
class Variety(Term):
    """weight · E min_i E|x - G(z_i, y)| over `samples` latents z_i of each y (Gupta et al. 2018, Social GAN, 3.4).

    An L1 distance draws each sample to the median of all targets that y may have, so that z is ignored or a blur comes
    out. Here the other samples of the same y are left to other targets. The paper has the squared distance of paths.

    z_1 is that of the fakes, and the others are those of other rows of the batch: multiples of `samples` give the same
    pairs where processes share the batch. G is called on the others without gradients, and once more at the nearest.
    """

    weight: float = option(10.0, help="weight of the term", validator=ge(0), scheduled=True)
    samples: int = option(2, help="samples of each y, of which the nearest counts", validator=ge(2))

    needs_real = "x"

    def prepare(self, G: nn.Module, D: nn.Module, data: DataSpec) -> None:
        if data.condition is None:
            raise ValueError("compares samples with the target of their input, and this data has no conditions")

    def generator_term(self, turn: Turn) -> Tensor:
        real, z, y = turn.real, turn.fake.z, turn.fake.y
        assert real is not None
        assert z is not None
        with torch.no_grad():
            shifts = [len(z) * i // self.samples for i in range(1, self.samples)]
            others = torch.stack([z.roll(shift, 0) for shift in shifts])
            made = turn.G(others.flatten(0, 1), y.repeat(len(shifts), *[1] * (y.ndim - 1)))
            samples = torch.cat([turn.fake.x[None], made.unflatten(0, (len(shifts), -1))])
            nearest = torch.stack([distance(x, real.x) for x in samples]).argmin(0)
            chosen = torch.cat([z[None], others])[nearest, torch.arange(len(z), device=z.device)]
        return self.weight * distance(turn.G(chosen, y), real.x).mean()


def distance(one: Tensor, other: Tensor) -> Tensor:
    """The mean absolute difference of each sample, (N,)."""
    return (one - other).abs().flatten(1).mean(1)
