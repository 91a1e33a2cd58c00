"""A discriminator that sees how much the samples of a group differ: minibatch standard deviation."""

from __future__ import annotations

import itertools
import math

import attrs
from attrs.validators import and_, deep_iterable, ge, min_len
from torch import Tensor, nn

from ganframe import DataSpec, Discriminator, option
from ganframe.layers import MinibatchStddev as GroupDeviation


@attrs.frozen
class MinibatchStddev(Discriminator):
    """Perceptron that sees how much the samples of a group differ, before its last hidden layer (Karras et al. 2018).

    One feature is appended: the standard deviation over the group, averaged over the features (Progressive GAN, section
    3). A generator that returns the same sample for every z is then easy to detect. The samples are flattened. Batches
    are multiples of `group`.
    """

    hidden: tuple[int, ...] = option(
        (128, 128), help="units of each hidden layer", validator=and_(min_len(1), deep_iterable(ge(1)))
    )
    group: int = option(4, help="samples of a group, whose deviation each of them sees", validator=ge(2))

    def build(self, data: DataSpec) -> nn.Module:
        return _MinibatchStddev(self, math.prod(data.shape))


class _MinibatchStddev(nn.Module):
    gives_extras = True

    def __init__(self, config: MinibatchStddev, size: int) -> None:
        super().__init__()
        widths = (size, *config.hidden)
        layers: list[nn.Module] = []
        for a, b in itertools.pairwise(widths[:-1]):
            layers += [nn.Linear(a, b), nn.LeakyReLU(0.2)]
        self.layers = nn.Sequential(
            nn.Flatten(),
            *layers,
            GroupDeviation(config.group),
            nn.Linear(widths[-2] + 1, widths[-1]),
            nn.LeakyReLU(0.2),
        )
        self.last = nn.Linear(widths[-1], 1)

    def forward(self, x: Tensor, y: Tensor, extras: dict[str, Tensor] | None = None) -> Tensor:
        h = self.layers(x)
        if extras is not None:
            extras["features"] = h
        return self.last(h).squeeze(1)
