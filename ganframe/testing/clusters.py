"""Data to check metrics on: clusters of points, or of small images, with as much as a metric needs and no more."""

from __future__ import annotations

import math
from typing import Any

import attrs
import torch
from torch import Tensor
from torch.utils.data import Dataset as TorchDataset
from torch.utils.data import TensorDataset

from ganframe.components import Dataset, DataSpec, Distribution, option

COUNT = 4
STD = 0.05
FINITE = 3_000


@attrs.frozen
class Clusters(Dataset):
    """Four isotropic Gaussians: a distribution with known modes, or a finite set of its samples."""

    shape: tuple[int, ...] = option(help="shape of a sample; three axes are an image")
    modes: bool = option(help="whether it is a distribution that tells its modes")
    labels: bool = option(help="whether the cluster is the label")
    held: bool = option(help="whether samples are held out of training; always so for a distribution")
    conditions: bool = option(False, help="whether -x is the condition of each sample x")

    @property
    def spec(self) -> DataSpec:
        return DataSpec(self.shape, COUNT if self.labels else None, self.shape if self.conditions else None)

    def build(self) -> TorchDataset[Any]:
        return Drawn(self.shape, self.labels, self.conditions) if self.modes else self._set(0)

    def held_out(self) -> TorchDataset[Any] | None:
        return self._set(1) if self.held and not self.modes else None

    def _set(self, seed: int) -> TensorDataset:
        drawn = Drawn(self.shape, self.labels, self.conditions)
        return TensorDataset(*drawn.draw(FINITE, torch.Generator().manual_seed(seed)))


class Drawn(Distribution):
    """The distribution. Means of points are ±.6; in an image one quarter is bright."""

    def __init__(self, shape: tuple[int, ...], labels: bool, conditions: bool) -> None:
        self.labels, self.conditions = labels, conditions
        if len(shape) == 3:
            quarter = torch.full((COUNT, *shape), -0.6)
            for k in range(COUNT):
                rows, columns = (
                    slice(i * n // 2, (i + 1) * n // 2) for i, n in zip(divmod(k, 2), shape[1:], strict=True)
                )
                quarter[k, :, rows, columns] = 0.6
            self.means = quarter
        else:
            places = torch.arange(math.prod(shape)) % 2  # the bits of k in turn: (-, -), (-, +), (+, -), (+, +)
            bits = torch.arange(COUNT)[:, None] >> (1 - places) & 1
            level = bits if math.prod(shape) > 1 else torch.arange(COUNT)[:, None]
            self.means = (1.2 * level - 0.6).view(COUNT, *shape)

    def draw(self, n: int, generator: torch.Generator) -> tuple[Tensor, Tensor]:
        y = torch.randint(COUNT, (n,), generator=generator, device=generator.device)
        noise = torch.randn(n, *self.means.shape[1:], generator=generator, device=generator.device)
        x = self.means.to(generator.device)[y] + STD * noise
        if self.conditions:
            return x, -x
        return x, y if self.labels else torch.zeros_like(y)

    def modes(self) -> tuple[Tensor, Tensor, Tensor]:
        return self.means, torch.full((COUNT,), STD), torch.full((COUNT,), 1 / COUNT)
