"""The encoder E, from samples to codes, and the small networks that judge codes."""

from __future__ import annotations

import itertools
import math
from collections.abc import Sequence
from typing import Literal

import torch
from torch import Tensor, nn

from ganframe import DataSpec

LIMIT = 20.0
"""The log variance of a code stays within ±LIMIT: exp(LIMIT) is finite in float32, and so is its square."""


class Encoder(nn.Module):
    """E: samples x (N, *shape) -> codes (N, latent_dim), a perceptron or a convolutional network.

    A Gaussian encoder also has a variance for each number of a code: see `moments`. Its forward returns the mean.
    """

    def __init__(self, features: nn.Module, width: int, latent_dim: int, gaussian: bool) -> None:
        super().__init__()
        self.features = features
        self.last = nn.Linear(width, 2 * latent_dim if gaussian else latent_dim)
        self.gaussian = gaussian

    def forward(self, x: Tensor) -> Tensor:
        return self.moments(x)[0]

    def moments(self, x: Tensor) -> tuple[Tensor, Tensor | None]:
        """The mean and the log variance of the codes of x, each (N, latent_dim); None if E is not Gaussian."""
        out = self.last(self.features(x))
        if not self.gaussian:
            return out, None
        mean, log_variance = out.chunk(2, dim=1)
        return mean, log_variance.clamp(-LIMIT, LIMIT)

    def draw(self, x: Tensor, noise: Tensor) -> Tensor:
        """A code of each sample: mean + σ · noise for noise (N, latent_dim) from N(0, I); the code itself without σ."""
        return drawn(*self.moments(x), noise)


def drawn(mean: Tensor, log_variance: Tensor | None, noise: Tensor) -> Tensor:
    """mean + σ · noise (Kingma & Welling 2014, section 2.4), or the mean if there is no variance."""
    return mean if log_variance is None else mean + (log_variance / 2).exp() * noise


def build_encoder(
    network: Literal["mlp", "conv"], hidden: Sequence[int], data: DataSpec, latent_dim: int, gaussian: bool
) -> Encoder:
    """An encoder for the data.

    mlp: a layer of each number of units. conv: a 4×4 convolution with stride 2 to each number of channels. Both with
    leaky ReLU. Raises ValueError for a convolutional encoder of data that are no images, or of too small ones.
    """
    if network == "mlp":
        widths = (math.prod(data.shape), *hidden)
        return Encoder(nn.Sequential(nn.Flatten(), *_layers(widths)), widths[-1], latent_dim, gaussian)
    if not data.is_image:
        raise ValueError(f"network = 'conv' needs images, and samples have the shape {data.shape}; use network = 'mlp'")
    channels, height, width = data.shape
    halvings = 2 ** len(hidden)
    if min(height, width) < halvings:
        raise ValueError(
            f"{len(hidden)} convolutions with stride 2 need images of at least {halvings}×{halvings} pixels, not "
            f"{height}×{width}; give fewer numbers in hidden"
        )
    layers = [
        layer
        for a, b in itertools.pairwise((channels, *hidden))
        for layer in (nn.Conv2d(a, b, 4, stride=2, padding=1), nn.LeakyReLU(0.2))
    ]
    with torch.no_grad():
        size = nn.Sequential(*layers)(torch.zeros(1, *data.shape)).numel()
    return Encoder(nn.Sequential(*layers, nn.Flatten()), size, latent_dim, gaussian)


class Judge(nn.Module):
    """A perceptron from vectors (N, width) to raw scores (N,), with leaky ReLU: high for what it takes for real."""

    def __init__(self, width: int, hidden: Sequence[int]) -> None:
        super().__init__()
        widths = (width, *hidden)
        self.layers = nn.Sequential(*_layers(widths), nn.Linear(widths[-1], 1))

    def forward(self, vectors: Tensor) -> Tensor:
        return self.layers(vectors).squeeze(1)


def _layers(widths: Sequence[int]) -> list[nn.Module]:
    """Linear layers of these widths, each followed by a leaky ReLU."""
    return [layer for a, b in itertools.pairwise(widths) for layer in (nn.Linear(a, b), nn.LeakyReLU(0.2))]
