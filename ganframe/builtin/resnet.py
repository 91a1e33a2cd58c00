"""The residual networks of SN-GAN (Miyato et al. 2018, tables 4 and 6), for images of 32, 64 and 128 pixels."""

from __future__ import annotations

import itertools
import math

import attrs
from attrs.validators import ge
from torch import Tensor, nn
from torch.nn import functional as F

from ganframe import DataSpec, Discriminator, Generator, option
from ganframe.builtin.dcgan import square_size
from ganframe.builtin.layers import (
    ConditionalBatchNorm,
    DiscriminatorCondition,
    GeneratorCondition,
    Given,
    Head,
    JoinLabel,
    given_for,
    joined_channels,
    joined_width,
    refuse_images,
)
from ganframe.layers import ConvThenPool, UpsampleThenConv

# Channels of each block in multiples of `width`, by image size. A generator block doubles the resolution;
# a discriminator block halves it, except those marked 0 in _HALVES.
_UP = {32: (4, 4, 4, 4), 64: (16, 8, 4, 2, 1), 128: (16, 16, 8, 4, 2, 1)}
_DOWN = {32: (2, 2, 2, 2), 64: (1, 2, 4, 8, 16), 128: (1, 2, 4, 8, 16, 16)}
_HALVES = {32: (1, 1, 0, 0), 64: (1, 1, 1, 1, 1), 128: (1, 1, 1, 1, 1, 0)}


def _init(module: nn.Module) -> None:
    """Glorot uniform weights, with gain √2 in the 3×3 convolutions of residual branches; biases 0."""
    if isinstance(module, (nn.Conv2d, nn.Linear)):
        residual = isinstance(module, nn.Conv2d) and module.kernel_size == (3, 3)
        nn.init.xavier_uniform_(module.weight, gain=math.sqrt(2) if residual else 1.0)
        if module.bias is not None:
            nn.init.zeros_(module.bias)
    elif isinstance(module, Head) and module.embedding is not None:
        nn.init.xavier_uniform_(module.embedding.weight)


@attrs.frozen
class ResNetGenerator(Generator):
    """Residual blocks with BatchNorm and nearest-neighbour upsampling (Miyato et al. 2018, tables 4a and 6a)."""

    width: int = option(
        64, help="channels: 4 × width in each block at 32 pixels, 16 to 1 × width at larger sizes", validator=ge(1)
    )
    condition: GeneratorCondition = option(
        "none", help="how labels or vectors enter: concatenated to z, or conditional BatchNorm"
    )

    def build(self, data: DataSpec, latent_dim: int) -> nn.Module:
        refuse_images("resnet", self.condition, data, "use the generator mlp, or one made for images")
        return _ResNetGenerator(self, data, latent_dim)


class _UpBlock(nn.Module):
    def __init__(self, channels: int, out: int, given: Given) -> None:
        super().__init__()
        self.norm1 = ConditionalBatchNorm(channels, given, dims=2)
        self.conv1 = UpsampleThenConv(channels, out)
        self.norm2 = ConditionalBatchNorm(out, given, dims=2)
        self.conv2 = nn.Conv2d(out, out, 3, padding=1)
        self.shortcut = nn.Conv2d(channels, out, 1)

    def forward(self, h: Tensor, y: Tensor) -> Tensor:
        branch = self.conv1(self.norm1(h, y).relu())
        branch = self.conv2(self.norm2(branch, y).relu())
        # A 1×1 convolution commutes with upsampling and is cheaper before it.
        return branch + F.interpolate(self.shortcut(h), scale_factor=2)


class _ResNetGenerator(nn.Module):
    def __init__(self, config: ResNetGenerator, data: DataSpec, latent_dim: int) -> None:
        super().__init__()
        widths = [config.width * m for m in _UP[square_size("resnet", data, tuple(_UP))]]
        joined = given_for(config.condition, "concat", data)
        in_norm = given_for(config.condition, "batch_norm", data)
        self.join = JoinLabel(joined)
        self.first = nn.Linear(latent_dim + joined_width(joined), widths[0] * 16)
        self.blocks = nn.ModuleList(_UpBlock(a, b, in_norm) for a, b in itertools.pairwise(widths))
        self.norm = nn.BatchNorm2d(widths[-1])
        self.last = nn.Conv2d(widths[-1], data.shape[0], 3, padding=1)
        self.apply(_init)
        nn.init.xavier_uniform_(self.last.weight)

    def forward(self, z: Tensor, y: Tensor) -> Tensor:
        h = self.first(self.join(z, y)).unflatten(1, (-1, 4, 4))
        for block in self.blocks:
            h = block(h, y)
        return self.last(self.norm(h).relu()).tanh()


@attrs.frozen
class ResNetDiscriminator(Discriminator):
    """Residual blocks without normalisation, then a sum over positions (Miyato et al. 2018, tables 4b and 6b)."""

    width: int = option(
        64, help="channels: 2 × width in each block at 32 pixels, 1 to 16 × width at larger sizes", validator=ge(1)
    )
    condition: DiscriminatorCondition = option(
        "none", help="how labels or conditions enter: as extra channels of x, or by projection"
    )

    def build(self, data: DataSpec) -> nn.Module:
        if self.condition == "projection":
            refuse_images("resnet", self.condition, data, "use condition = 'concat'")
        return _ResNetDiscriminator(self, data)


class _DownBlock(nn.Module):
    """Residual block; the first block of a network receives the image, so it starts without a ReLU."""

    def __init__(self, channels: int, out: int, halve: bool, first: bool) -> None:
        super().__init__()
        self.first = first
        self.halve = halve
        hidden = out if first else channels
        self.conv1 = nn.Conv2d(channels, hidden, 3, padding=1)
        self.conv2 = ConvThenPool(hidden, out) if halve else nn.Conv2d(hidden, out, 3, padding=1)
        self.shortcut = nn.Conv2d(channels, out, 1) if halve or channels != out else nn.Identity()

    def forward(self, x: Tensor) -> Tensor:
        branch = self.conv2(self.conv1(x if self.first else x.relu()).relu())
        # Pooling commutes with a 1×1 convolution, which is cheaper after pooling.
        return branch + self.shortcut(F.avg_pool2d(x, 2) if self.halve else x)


class _ResNetDiscriminator(nn.Module):
    gives_extras = True

    def __init__(self, config: ResNetDiscriminator, data: DataSpec) -> None:
        super().__init__()
        size = square_size("resnet", data, tuple(_DOWN))
        joined = given_for(config.condition, "concat", data)
        widths = [data.shape[0] + joined_channels(joined, data.shape), *(config.width * m for m in _DOWN[size])]
        blocks = zip(widths, widths[1:], _HALVES[size], strict=False)
        self.join = JoinLabel(joined)
        self.blocks = nn.Sequential(
            *(_DownBlock(a, b, bool(halve), first=i == 0) for i, (a, b, halve) in enumerate(blocks))
        )
        self.head = Head(widths[-1], given_for(config.condition, "projection", data))
        self.apply(_init)

    def forward(self, x: Tensor, y: Tensor, extras: dict[str, Tensor] | None = None) -> Tensor:
        h = self.blocks(self.join(x, y)).relu().sum((2, 3))
        if extras is not None:
            extras["features"] = h
        return self.head(h, y)
