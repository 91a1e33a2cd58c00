"""Synthetic datasets, sampled on the device, new for every batch: Gaussian mixtures and the Swiss roll."""

from __future__ import annotations

import math

import attrs
import torch
from attrs.validators import deep_iterable, ge, gt, min_len
from torch import Tensor

from ganframe import Dataset, DataSpec, Distribution, option


class Mixture(Distribution):
    """A mixture of isotropic Gaussians: means (K, D), stds (K,), weights (K,) with sum 1. y: index of the mode."""

    def __init__(self, means: Tensor, stds: Tensor, weights: Tensor) -> None:
        self.means, self.stds, self.weights = means, stds, weights
        self._equal = bool((stds == stds[0]).all())

    def draw(self, n: int, generator: torch.Generator) -> tuple[Tensor, Tensor]:
        device = generator.device
        if self.means.device != device:
            self.means, self.stds, self.weights = (t.to(device) for t in (self.means, self.stds, self.weights))
        y = torch.multinomial(self.weights, n, replacement=True, generator=generator)
        noise = torch.randn(n, self.means.shape[1], generator=generator, device=device)
        stds = self.stds[:1] if self._equal else self.stds.index_select(0, y)
        return torch.addcmul(self.means.index_select(0, y), noise, stds[:, None]), y

    def modes(self) -> tuple[Tensor, Tensor, Tensor]:
        return self.means, self.stds, self.weights

    def log_density(self, x: Tensor) -> Tensor:
        means, stds, weights = (t.to(x) for t in (self.means, self.stds, self.weights))
        squares = ((x[:, None] - means) / stds[:, None]).square().sum(2)
        constant = means.shape[1] * (stds.log() + math.log(2 * math.pi) / 2)
        return torch.logsumexp(weights.log() - constant - squares / 2, dim=1)


def _uniform(means: Tensor, std: float) -> Mixture:
    modes = len(means)
    return Mixture(means, torch.full((modes,), std), torch.full((modes,), 1 / modes))


@attrs.frozen
class Ring(Dataset):
    """Gaussian mixture on a circle, evenly spaced and equally likely (Srivastava et al. 2017, VEEGAN, section 4)."""

    modes: int = option(8, help="number of Gaussians; the label is the mode's index", validator=ge(1))
    radius: float = option(1.0, help="radius of the circle", validator=gt(0))
    std: float = option(0.01, help="standard deviation of each Gaussian", validator=gt(0))

    @property
    def spec(self) -> DataSpec:
        return DataSpec((2,), classes=self.modes)

    def build(self) -> Mixture:
        angles = torch.arange(self.modes) * (2 * math.pi / self.modes)  # excludes 2π, which is the same point as 0
        return _uniform(self.radius * torch.stack([angles.cos(), angles.sin()], dim=1), self.std)


@attrs.frozen
class Grid(Dataset):
    """Gaussian mixture on a square grid around 0, equally likely (Srivastava et al. 2017, VEEGAN, section 4)."""

    side: int = option(
        5, help="number of Gaussians along each side; the label is the mode's index, row by row", validator=ge(1)
    )
    spacing: float = option(2.0, help="distance between neighbours", validator=gt(0))
    std: float = option(0.05, help="standard deviation of each Gaussian", validator=gt(0))

    @property
    def spec(self) -> DataSpec:
        return DataSpec((2,), classes=self.side**2)

    def build(self) -> Mixture:
        ticks = (torch.arange(self.side) - (self.side - 1) / 2) * self.spacing
        return _uniform(torch.cartesian_prod(ticks, ticks), self.std)


@attrs.frozen
class Gaussian1D(Dataset):
    """Gaussian mixture in one dimension; with one Gaussian, the data of figure 1 of Goodfellow et al. 2014."""

    means: tuple[float, ...] = option((0.0,), help="mean of each Gaussian", validator=min_len(1))
    stds: tuple[float, ...] = option((1.0,), help="standard deviation of each Gaussian", validator=deep_iterable(gt(0)))
    weights: tuple[float, ...] | None = option(
        None,
        help="relative weight of each Gaussian, in any scale; equal by default",
        validator=attrs.validators.optional(deep_iterable(gt(0))),
    )

    def __attrs_post_init__(self) -> None:
        lengths = {len(self.means), len(self.stds), len(self.weights or self.means)}
        if len(lengths) > 1:
            raise ValueError("means, stds and weights must have the same length")

    @property
    def spec(self) -> DataSpec:
        return DataSpec((1,), classes=len(self.means))

    def build(self) -> Mixture:
        weights = torch.tensor(self.weights or (1.0,) * len(self.means))
        return Mixture(torch.tensor(self.means)[:, None], torch.tensor(self.stds), weights / weights.sum())


class _SwissRollPoints(Distribution):
    def __init__(self, noise: float) -> None:
        self.noise = noise

    def draw(self, n: int, generator: torch.Generator) -> tuple[Tensor, Tensor]:
        device = generator.device
        t = 1.5 * math.pi * (1 + 2 * torch.rand(n, generator=generator, device=device))
        x = torch.stack([t * t.cos(), t * t.sin()], dim=1) / 7.5
        x += self.noise * torch.randn(n, 2, generator=generator, device=device)
        return x, torch.zeros(n, dtype=torch.long, device=device)


@attrs.frozen
class SwissRoll(Dataset):
    """Swiss roll: a spiral in the plane, about 3 wide and 3 high (Gulrajani et al. 2017, figure 1)."""

    noise: float = option(0.03, help="standard deviation of the noise around the spiral", validator=ge(0))

    @property
    def spec(self) -> DataSpec:
        return DataSpec((2,))

    def build(self) -> _SwissRollPoints:
        return _SwissRollPoints(self.noise)
