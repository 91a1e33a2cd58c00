"""Small float64 discriminators with known gradients, on which constraints are checked."""

from __future__ import annotations

import math

import torch
from torch import Tensor, nn

POINT, IMAGE = (3,), (2, 4, 4)


class RecordingDiscriminator(nn.Module):
    """Layers on the flattened sample; D(x, y) -> (N,). `seen` records the samples of each call."""

    def __init__(self, *layers: nn.Module) -> None:
        super().__init__()
        self.layers = nn.Sequential(nn.Flatten(), *layers)
        self.seen: list[Tensor] = []

    def forward(self, x: Tensor, y: Tensor) -> Tensor:
        self.seen.append(x)
        return self.layers(x).squeeze(1)


class ByLabel(RecordingDiscriminator):
    """D(x, y) = (1 + y) w·x: the gradient depends on the label only, not on x."""

    def forward(self, x: Tensor, y: Tensor) -> Tensor:
        return super().forward(x, y) * (1 + y)


class Featured(RecordingDiscriminator):
    """D gives the extras "features", the input of its last layer."""

    gives_extras = True

    def forward(self, x: Tensor, y: Tensor, extras: dict[str, Tensor] | None = None) -> Tensor:
        features = self.layers[:-1](x)
        if extras is not None:
            extras["features"] = features
        return super().forward(x, y)


class Many(RecordingDiscriminator):
    """Three scores for each sample, (N, 3), all equal."""

    many_scores = True

    def forward(self, x: Tensor, y: Tensor) -> Tensor:
        return super().forward(x, y)[:, None].expand(-1, 3)


class Pairs(RecordingDiscriminator):
    """Two consecutive samples are one input of the layers, and both have its score."""

    mixes_groups_of = 2

    def forward(self, x: Tensor, y: Tensor) -> Tensor:
        self.seen.append(x)
        return self.layers(x.reshape(len(x) // 2, -1)).squeeze(1).repeat_interleave(2)


def linear(shape: tuple[int, ...], slope: float = 2.0) -> RecordingDiscriminator:
    """D(x) = w·x with ‖w‖ = slope."""
    return RecordingDiscriminator(_direction(shape, slope)).double()


def by_label(shape: tuple[int, ...]) -> RecordingDiscriminator:
    """D(x, y) = (1 + y) w·x with ‖w‖ = 1."""
    return ByLabel(_direction(shape, 1.0)).double()


def _direction(shape: tuple[int, ...], slope: float) -> nn.Linear:
    layer = nn.Linear(math.prod(shape), 1, bias=False)
    with torch.no_grad():
        layer.weight.mul_(slope / layer.weight.norm())
    return layer


def curved(shape: tuple[int, ...], dropout: float = 0.0, last: float = 3.0) -> RecordingDiscriminator:
    """Smooth perceptron with one hidden layer; its last layer's parameters are multiplied by `last`."""
    D = RecordingDiscriminator(nn.Linear(math.prod(shape), 16), nn.Tanh(), nn.Dropout(dropout), nn.Linear(16, 1))
    with torch.no_grad():
        for parameter in D.layers[-1].parameters():
            parameter.mul_(last)
    return D.double()


def seen(D: nn.Module) -> list[Tensor]:
    """The samples of each call of the RecordingDiscriminator within D."""
    return next(module.seen for module in D.modules() if isinstance(module, RecordingDiscriminator))


def points(n: int, shape: tuple[int, ...]) -> Tensor:
    """n standard normal samples in float64."""
    return torch.randn(n, *shape, dtype=torch.float64)
