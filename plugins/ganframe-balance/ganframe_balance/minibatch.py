"""A discriminator that sees how much the samples of a group differ: minibatch standard deviation."""

from __future__ import annotations

import itertools
import math

import attrs
import torch
from attrs.validators import and_, deep_iterable, ge, min_len
from torch import Tensor, nn

from ganframe import DataSpec, Discriminator, option


class GroupDeviation(nn.Module):
    """Appends to features (N, F) one more: the mean over features of their standard deviation in the sample's group.

    Groups are of `size` consecutive samples; a remainder at the end of the batch is a smaller group.
    """

    def __init__(self, size: int) -> None:
        super().__init__()
        self.mixes_groups_of = size

    def forward(self, h: Tensor) -> Tensor:
        return torch.cat([h, torch.cat([_deviation(group) for group in self._groups(h)])[:, None]], dim=1)

    def _groups(self, h: Tensor) -> list[Tensor]:
        """The batch as (groups, samples of a group, F): all full groups, and the remainder if there is one."""
        full = len(h) - len(h) % self.mixes_groups_of
        parts = [h[:full].unflatten(0, (-1, self.mixes_groups_of))] if full else []
        return parts + ([h[full:][None]] if full < len(h) else [])


def _deviation(groups: Tensor) -> Tensor:
    """One number for each sample of groups (K, m, F): (K · m,)."""
    # The small constant keeps the gradient finite where all samples of a group are equal.
    deviation = (groups.var(1, correction=0) + 1e-8).sqrt().mean(1)
    return deviation.repeat_interleave(groups.shape[1])


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
