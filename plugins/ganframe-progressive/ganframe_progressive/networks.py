"""The generator and discriminator of Progressive GAN (Karras et al. 2018, section 2 and appendix A, table 2).

Both begin with the smallest grid of `ganframe.layers.resolutions`, and take in the next resolution stage by stage. They
always see and return images of the full size: G enlarges what its stage gives, D reduces what it gets. So each step
costs what its stage costs, and the rest of a recipe knows nothing of stages.

Layers of stages that have not begun are not called: their gradients are None, and optimisers leave them as they are.

This follows the paper's description, not its authors' code. Choices that the description leaves open:

- how the networks take labels;
- real images are not faded: the paper blends two resolutions of them too, which D alone, for both sides, cannot do;
- groups of the minibatch standard deviation have 4 samples, where the paper's is of the whole batch.
"""

from __future__ import annotations

import itertools
import math
from typing import Literal

import attrs
import torch
from attrs.validators import ge
from torch import Tensor, nn
from torch.nn import functional as F

from ganframe import DataSpec, Discriminator, Generator, option
from ganframe.layers import MinibatchStddev, UpsampleThenConv, downsampled, equalized, pixel_norm, upsampled
from ganframe_progressive.growth import Growing

SLOPE = 0.2  # negative slope of the leaky ReLU


def _classes(condition: str, data: DataSpec) -> int | None:
    """The number of classes to condition on, or None. Raises ValueError if the data has no classes."""
    if condition == "none":
        return None
    if data.classes is None:
        raise ValueError(f"condition = '{condition}' needs labels, and the data has no classes; use condition = 'none'")
    return data.classes


def _activate(h: Tensor) -> Tensor:
    return F.leaky_relu(h, SLOPE)


@attrs.frozen
class ProgressiveGenerator(Growing, Generator):
    """Progressive GAN's generator, z (N, latent_dim) -> x (N, C, H, W) of any size from 8×8 (Karras et al. 2018).

    z is normalised to the sphere of radius √latent_dim. Each resolution has two 3×3 convolutions, each followed by
    leaky ReLU and pixel norm, and a 1×1 convolution to the image, without tanh. `condition` = "concat" concatenates z
    with an embedding of the label, of the same length.
    """

    condition: Literal["none", "concat"] = option("none", help="how G takes labels: 'concat' is an embedding beside z")

    def build(self, data: DataSpec, latent_dim: int) -> nn.Module:
        return _Generator(self, data, latent_dim)


class _First(nn.Module):
    """The smallest grid from z (N, dim), of length √dim in the mean: (N, channels, *grid)."""

    def __init__(self, dim: int, channels: int, grid: tuple[int, int]) -> None:
        super().__init__()
        self.grid = grid
        self.linear = equalized(nn.Linear(dim, channels * grid[0] * grid[1]))
        self.conv = equalized(nn.Conv2d(channels, channels, 3, padding=1))

    def forward(self, z: Tensor) -> Tensor:
        h = pixel_norm(_activate(self.linear(pixel_norm(z)).unflatten(1, (-1, *self.grid))))
        return pixel_norm(_activate(self.conv(h)))


class _UpBlock(nn.Module):
    """The next resolution: (N, C, H, W) -> (N, C', *size)."""

    def __init__(self, channels: int, out: int, size: tuple[int, int]) -> None:
        super().__init__()
        self.size = size
        self.conv1 = equalized(UpsampleThenConv(channels, out))
        self.conv2 = equalized(nn.Conv2d(out, out, 3, padding=1))

    def forward(self, h: Tensor) -> Tensor:
        h = self.conv1(h)[..., : self.size[0], : self.size[1]]
        return pixel_norm(_activate(self.conv2(pixel_norm(_activate(h)))))


class _Generator(nn.Module):
    def __init__(self, config: ProgressiveGenerator, data: DataSpec, latent_dim: int) -> None:
        super().__init__()
        self.sizes = config.sizes(data)
        self.growth = config.growth(data)
        widths = config.widths(len(self.sizes))
        classes = _classes(config.condition, data)
        # torch initialises an embedding from N(0, 1), the distribution of z.
        self.embedding = None if classes is None else nn.Embedding(classes, latent_dim)
        self.first = _First(latent_dim * (1 if classes is None else 2), widths[0], self.sizes[0])
        self.blocks = nn.ModuleList(
            _UpBlock(a, b, size) for (a, b), size in zip(itertools.pairwise(widths), self.sizes[1:], strict=True)
        )
        # By the number of the stage; stages that are left out have none.
        self.images = nn.ModuleDict(
            {
                str(stage): equalized(nn.Conv2d(widths[stage], data.shape[0], 1), gain=1.0)
                for stage in range(self.growth.first, len(widths))
            }
        )

    def forward(self, z: Tensor, y: Tensor) -> Tensor:
        stage, alpha = self.growth.now()
        if self.embedding is not None:
            z = torch.cat([z, self.embedding(y)], dim=1)
        h = below = self.first(z)
        for block in self.blocks[:stage]:
            below, h = h, block(h)
        x: Tensor = self.images[str(stage)](h)
        if alpha < 1:
            old = upsampled(self.images[str(stage - 1)](below), self.sizes[stage])
            x = (1 - alpha) * old + alpha * x
        for size in self.sizes[stage + 1 :]:
            x = upsampled(x, size)
        return x


@attrs.frozen
class ProgressiveDiscriminator(Growing, Discriminator):
    """Progressive GAN's discriminator, x (N, C, H, W) of any size from 8×8 -> raw scores (N,) (Karras et al. 2018).

    The mirror image of the generator, without pixel norm: a 1×1 convolution from the image at each resolution, two 3×3
    convolutions, average pooling. At the smallest grid it appends the standard deviation of each group of
    `minibatch_stddev` samples. `condition` = "projection" adds <v_y, h>, h the last features (Miyato & Koyama 2018).
    """

    minibatch_stddev: int = option(
        4,
        help="samples of a group whose standard deviation D sees; 0: none, and samples are independent",
        validator=ge(0),
    )
    condition: Literal["none", "projection"] = option("none", help="how D takes labels: 'projection' in the last layer")

    def build(self, data: DataSpec) -> nn.Module:
        return _Discriminator(self, data)


class _DownBlock(nn.Module):
    """Two convolutions at one resolution, then half of it: (N, C, H, W) -> (N, C', H/2, W/2), rounded up."""

    def __init__(self, channels: int, out: int) -> None:
        super().__init__()
        self.conv1 = equalized(nn.Conv2d(channels, channels, 3, padding=1))
        self.conv2 = equalized(nn.Conv2d(channels, out, 3, padding=1))

    def forward(self, h: Tensor) -> Tensor:
        return downsampled(_activate(self.conv2(_activate(self.conv1(h)))))


class _Last(nn.Module):
    """The features of the smallest grid: (N, C, *grid) -> (N, C)."""

    def __init__(self, channels: int, grid: tuple[int, int], group: int) -> None:
        super().__init__()
        self.stddev = MinibatchStddev(group) if group else nn.Identity()
        self.conv1 = equalized(nn.Conv2d(channels + bool(group), channels, 3, padding=1))
        self.conv2 = equalized(nn.Conv2d(channels, channels, grid))

    def forward(self, h: Tensor) -> Tensor:
        return _activate(self.conv2(_activate(self.conv1(self.stddev(h))))).flatten(1)


class _Discriminator(nn.Module):
    gives_extras = True

    def __init__(self, config: ProgressiveDiscriminator, data: DataSpec) -> None:
        super().__init__()
        sizes = config.sizes(data)
        self.growth = config.growth(data)
        widths = config.widths(len(sizes))
        classes = _classes(config.condition, data)
        self.images = nn.ModuleDict(
            {
                str(stage): equalized(nn.Conv2d(data.shape[0], widths[stage], 1))
                for stage in range(self.growth.first, len(widths))
            }
        )
        # In the order of the stages, as in the generator: the forward pass runs through them backwards.
        self.blocks = nn.ModuleList(_DownBlock(b, a) for a, b in itertools.pairwise(widths))
        self.last = _Last(widths[0], sizes[0], config.minibatch_stddev)
        self.score = equalized(nn.Linear(widths[0], 1), gain=1.0)
        self.embedding = None if classes is None else nn.Embedding(classes, widths[0])

    def forward(self, x: Tensor, y: Tensor, extras: dict[str, Tensor] | None = None) -> Tensor:
        stage, alpha = self.growth.now()
        for _ in range(stage, len(self.blocks)):
            x = downsampled(x)
        h = self._from_image(stage, x)
        for level in range(stage, 0, -1):
            h = self.blocks[level - 1](h)
            if level == stage and alpha < 1:
                h = (1 - alpha) * self._from_image(stage - 1, downsampled(x)) + alpha * h
        h = self.last(h)
        if extras is not None:
            extras["features"] = h
        scores: Tensor = self.score(h).squeeze(1)
        if self.embedding is None:
            return scores
        # The factor equalises the embedding, as `equalized` does the linear layer.
        return scores + (self.embedding(y) * h).sum(1) / math.sqrt(h.shape[1])

    def _from_image(self, stage: int, x: Tensor) -> Tensor:
        return _activate(self.images[str(stage)](x))
