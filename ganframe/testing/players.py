"""Small networks of both players, on which terms are checked, for any data."""

from __future__ import annotations

import math

import attrs
import torch
from torch import Tensor, nn
from torch.nn.functional import softplus

from ganframe.components import DataSpec, Discriminator, Generator, Objective


@attrs.frozen
class SmallGenerator(Generator):
    """A perceptron on z and a flattened y."""

    def build(self, data: DataSpec, latent_dim: int) -> nn.Module:
        return _GeneratorNetwork(data, latent_dim)


@attrs.frozen
class SmallDiscriminator(Discriminator):
    """A perceptron on x and a flattened y. It gives the extras "features" (N, 16), "classes" (N, C) and `more`."""

    more: tuple[str, ...] = ()

    def build(self, data: DataSpec) -> nn.Module:
        return _DiscriminatorNetwork(data, self.more)


@attrs.frozen
class Logistic(Objective):
    """The non-saturating losses."""

    def discriminator_loss(self, real: Tensor, fake: Tensor) -> Tensor:
        return softplus(-real).mean() + softplus(fake).mean()

    def generator_loss(self, fake: Tensor, real: Tensor | None = None) -> Tensor:
        return softplus(-fake).mean()


class _GeneratorNetwork(nn.Module):
    def __init__(self, data: DataSpec, latent_dim: int) -> None:
        super().__init__()
        self.shape = data.shape
        sizes = latent_dim + math.prod(data.condition or (1,)), 16
        self.layers = nn.Sequential(nn.Linear(*sizes), nn.Tanh(), nn.Linear(16, math.prod(data.shape)), nn.Tanh())

    def forward(self, z: Tensor, y: Tensor) -> Tensor:
        return self.layers(torch.cat([z, _flat(y, z)], 1)).view(-1, *self.shape)


class _DiscriminatorNetwork(nn.Module):
    gives_extras = True

    def __init__(self, data: DataSpec, more: tuple[str, ...]) -> None:
        super().__init__()
        sizes = math.prod(data.shape) + math.prod(data.condition or (1,)), 16
        self.hidden = nn.Sequential(nn.Linear(*sizes), nn.Tanh())
        self.score = nn.Linear(16, 1)
        self.heads = nn.ModuleDict({name: nn.Linear(16, 4) for name in more})
        self.heads["classes"] = nn.Linear(16, data.classes or 4)

    def forward(self, x: Tensor, y: Tensor, extras: dict[str, Tensor] | None = None) -> Tensor:
        features = self.hidden(torch.cat([x.flatten(1), _flat(y, x)], 1))
        if extras is not None:
            extras["features"] = features
            extras.update({name: head(features) for name, head in self.heads.items()})
        return self.score(features).squeeze(1)


def _flat(y: Tensor, like: Tensor) -> Tensor:
    return y.reshape(len(y), -1).to(like.dtype)
