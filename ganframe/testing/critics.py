"""Critics on which constraints are tried: small, in float64, with slopes that are known."""

from __future__ import annotations

import math

import torch
from torch import Tensor, nn

POINT, IMAGE = (3,), (2, 4, 4)


class Critic(nn.Module):
    """Layers on the flattened sample; D(x, y) -> (N,). `seen` keeps the samples of each call."""

    def __init__(self, *layers: nn.Module) -> None:
        super().__init__()
        self.layers = nn.Sequential(nn.Flatten(), *layers)
        self.seen: list[Tensor] = []

    def forward(self, x: Tensor, y: Tensor) -> Tensor:
        self.seen.append(x)
        return self.layers(x).squeeze(1)


class ByLabel(Critic):
    """D(x, y) = (1 + y) w·x: a sample's slope is its label's, wherever it is asked for."""

    def forward(self, x: Tensor, y: Tensor) -> Tensor:
        return super().forward(x, y) * (1 + y)


def linear(shape: tuple[int, ...], slope: float = 2.0) -> Critic:
    """D(x) = w·x with ‖w‖ = slope."""
    return Critic(_direction(shape, slope)).double()


def by_label(shape: tuple[int, ...]) -> Critic:
    return ByLabel(_direction(shape, 1.0)).double()


def _direction(shape: tuple[int, ...], slope: float) -> nn.Linear:
    layer = nn.Linear(math.prod(shape), 1, bias=False)
    with torch.no_grad():
        layer.weight.mul_(slope / layer.weight.norm())
    return layer


def curved(shape: tuple[int, ...], dropout: float = 0.0, last: float = 3.0) -> Critic:
    """A perceptron with one hidden layer, smooth, its last weights scaled by `last`."""
    critic = Critic(nn.Linear(math.prod(shape), 16), nn.Tanh(), nn.Dropout(dropout), nn.Linear(16, 1))
    with torch.no_grad():
        for parameter in critic.layers[-1].parameters():
            parameter.mul_(last)
    return critic.double()


def seen(D: nn.Module) -> list[Tensor]:
    """The samples of each call of the Critic within D."""
    return next(module.seen for module in D.modules() if isinstance(module, Critic))


def points(n: int, shape: tuple[int, ...]) -> Tensor:
    """n samples in float64."""
    return torch.randn(n, *shape, dtype=torch.float64)
