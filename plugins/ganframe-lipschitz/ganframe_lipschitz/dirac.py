"""Dirac-GAN (Mescheder et al. 2018, section 2.2): the smallest GAN, to test the effect of a constraint on convergence.

The data is one point, the generator is one point θ, the discriminator is D(x) = ψ·x. The equilibrium is θ at the data
and ψ = 0; a plot of (θ, ψ) shows whether training converges to it.
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
    """Every sample is the same point (1,)."""

    at: float = option(0.0, help="the point")

    @property
    def spec(self) -> DataSpec:
        return DataSpec((1,))

    def build(self) -> _Point:
        return _Point(self.at)


@attrs.frozen
class DiracGenerator(Generator):
    """G(z) = θ for every z; the point θ is the only parameter (Mescheder et al. 2018, definition 2.1)."""

    start: float = option(1.0, help="θ before training, in every coordinate")

    def build(self, data: DataSpec, latent_dim: int) -> nn.Module:
        return _DiracGenerator(data.shape, self.start)


class _DiracGenerator(nn.Module):
    def __init__(self, shape: tuple[int, ...], start: float) -> None:
        super().__init__()
        self.theta = nn.Parameter(torch.full(shape, start))

    def forward(self, z: Tensor, y: Tensor) -> Tensor:
        return self.theta.expand(y.shape[0], *self.theta.shape)  # len(y) would be a constant in an exported graph


@attrs.frozen
class DiracDiscriminator(Discriminator):
    """D(x) = ψ·x, linear without a bias (Mescheder et al. 2018, definition 2.1)."""

    start: float = option(1.0, help="ψ before training, in every coordinate")
    dropout: float = option(0.0, help="dropout probability of each coordinate of x in training")

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
