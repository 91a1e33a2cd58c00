"""Dirac-GAN (Mescheder et al. 2018, section 2.2): the smallest GAN there is, to see what a constraint does to a game.

The data is one point, the generator one point θ, the critic D(x) = ψ·x. The game is at rest where θ is the data's point
and ψ = 0; whether it gets there can be seen in the plane of (θ, ψ).
"""

from __future__ import annotations

import math

import attrs
import torch
from torch import Tensor, nn

from ganframe import Dataset, DataSpec, Discriminator, Distribution, Generator, option


class _Point(Distribution):
    def __init__(self, at: float) -> None:
        self.at = at

    def draw(self, n: int, generator: torch.Generator) -> tuple[Tensor, Tensor]:
        x = torch.full((n, 1), self.at, device=generator.device)
        return x, torch.zeros(n, dtype=torch.long, device=generator.device)


@attrs.frozen
class Point(Dataset):
    """One point on the line, again and again."""

    at: float = option(0.0, help="where it lies")

    @property
    def spec(self) -> DataSpec:
        return DataSpec((1,))

    def build(self) -> _Point:
        return _Point(self.at)


@attrs.frozen
class DiracGenerator(Generator):
    """G(z) = θ, whatever z: one point, the only parameter (Mescheder et al. 2018, definition 2.1)."""

    start: float = option(1.0, help="θ before training, in every coordinate")

    def build(self, data: DataSpec, latent_dim: int) -> nn.Module:
        return _DiracGenerator(data.shape, self.start)


class _DiracGenerator(nn.Module):
    def __init__(self, shape: tuple[int, ...], start: float) -> None:
        super().__init__()
        self.theta = nn.Parameter(torch.full(shape, start))

    def forward(self, z: Tensor, y: Tensor) -> Tensor:
        return self.theta.expand(len(y), *self.theta.shape)


@attrs.frozen
class DiracDiscriminator(Discriminator):
    """D(x) = ψ·x, linear and without a bias (Mescheder et al. 2018, definition 2.1)."""

    start: float = option(1.0, help="ψ before training, in every coordinate")
    dropout: float = option(0.0, help="share of the coordinates of x dropped in training")

    def build(self, data: DataSpec) -> nn.Module:
        return _DiracDiscriminator(math.prod(data.shape), self.start, self.dropout)


class _DiracDiscriminator(nn.Module):
    def __init__(self, features: int, start: float, dropout: float) -> None:
        super().__init__()
        self.drop = nn.Dropout(dropout)
        self.psi = nn.Linear(features, 1, bias=False)
        nn.init.constant_(self.psi.weight, start)

    def forward(self, x: Tensor, y: Tensor) -> Tensor:
        return self.psi(self.drop(x.flatten(1))).squeeze(1)
