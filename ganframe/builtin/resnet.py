"""The residual networks of SN-GAN (Miyato et al. 2018, tables 4 and 6), for images of any size from 8 pixels up.

The paper has them for 32, 64 and 128 pixels. With `attention` they have a layer of SAGAN (Zhang et al. 2019).
"""

from __future__ import annotations

import itertools
import math

import attrs
from attrs.validators import ge
from torch import Tensor, nn
from torch.nn import functional as F

from ganframe import DataSpec, Discriminator, Generator, option
from ganframe.builtin.layers import (
    CRITIC_ACTIVATIONS,
    ConditionalBatchNorm,
    CriticActivation,
    DiscriminatorCondition,
    GeneratorCondition,
    Given,
    Head,
    JoinLabel,
    given_for,
    joined_channels,
    joined_width,
    make_activation,
    refuse_images,
)
from ganframe.layers import ConvThenPool, SelfAttention, UpsampleThenConv, padded_to_even, resolutions, upsampled

_SMALL = 3  # doublings of the images for which table 4 is used, of 32 pixels in the paper; table 6 for more


def _up(doublings: int) -> list[int]:
    """Channels of the smallest grid and of each of G's blocks, in multiples of `width`. Each block doubles."""
    return [4] * (doublings + 1) if doublings <= _SMALL else [min(2**i, 16) for i in reversed(range(doublings + 1))]


def _down(doublings: int) -> list[tuple[int, bool]]:
    """Channels of each of D's blocks in multiples of `width`, and whether it halves the resolution."""
    if doublings <= _SMALL:
        return [(2, i < min(2, doublings)) for i in range(4)]
    # At 64 pixels the paper halves once more than it doubles; at 128 the last block keeps the resolution.
    return [(min(2**i, 16), i < doublings or doublings == _SMALL + 1) for i in range(doublings + 1)]


def _attended(side: int, ends: list[tuple[int, int]]) -> int | None:
    """The first block that ends at feature maps with this shorter side, None for 0. Raises ValueError for others."""
    sides = [min(end) for end in ends]
    if side and side not in sides:
        found = ", ".join(map(str, sorted({*sides})))
        raise ValueError(
            f"attention = {side}: no block of resnet ends at feature maps with a shorter side of {side} pixels for "
            f"these images; choose one of {found}, or 0 for no attention"
        )
    return sides.index(side) if side else None


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
    """Residual blocks with BatchNorm and nearest-neighbour upsampling (Miyato et al. 2018, tables 4a and 6a).

    Images with a shorter side of up to 48 pixels have the blocks of table 4, as many as lead from a grid of 4 to 6
    pixels to the image; larger ones those of table 6. What a doubling has too much, as 14 for 13, is cropped.
    """

    width: int = option(
        64, help="channels: 4 × width in each block up to 48 pixels, 16 to 1 × width at larger sizes", validator=ge(1)
    )
    condition: GeneratorCondition = option(
        "none", help="how labels or vectors enter: concatenated to z, or conditional BatchNorm"
    )
    attention: int = option(
        0, help="shorter side of the feature maps that get SAGAN's self-attention; 0 for none", validator=ge(0)
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

    def forward(self, h: Tensor, y: Tensor, size: tuple[int, int]) -> Tensor:
        branch = self.conv1(self.norm1(h, y).relu())[..., : size[0], : size[1]]
        branch = self.conv2(self.norm2(branch, y).relu())
        # A 1×1 convolution commutes with upsampling and is cheaper before it.
        return branch + upsampled(self.shortcut(h), size)


class _ResNetGenerator(nn.Module):
    def __init__(self, config: ResNetGenerator, data: DataSpec, latent_dim: int) -> None:
        super().__init__()
        self.sizes = resolutions("resnet", data)
        self.attended = _attended(config.attention, list(self.sizes[1:]))
        widths = [config.width * m for m in _up(len(self.sizes) - 1)]
        joined = given_for(config.condition, "concat", data)
        in_norm = given_for(config.condition, "batch_norm", data)
        self.join = JoinLabel(joined)
        self.first = nn.Linear(latent_dim + joined_width(joined), widths[0] * math.prod(self.sizes[0]))
        self.blocks = nn.ModuleList(_UpBlock(a, b, in_norm) for a, b in itertools.pairwise(widths))
        self.norm = nn.BatchNorm2d(widths[-1])
        self.last = nn.Conv2d(widths[-1], data.shape[0], 3, padding=1)
        self.apply(_init)
        nn.init.xavier_uniform_(self.last.weight)
        # Last, so that the other weights are those of the network without attention.
        self.attention = None if self.attended is None else SelfAttention(widths[self.attended + 1]).apply(_init)

    def forward(self, z: Tensor, y: Tensor) -> Tensor:
        h = self.first(self.join(z, y)).unflatten(1, (-1, *self.sizes[0]))
        for i, (block, size) in enumerate(zip(self.blocks, self.sizes[1:], strict=True)):
            h = block(h, y, size)
            if self.attention is not None and i == self.attended:
                h = self.attention(h)
        return self.last(self.norm(h).relu()).tanh()


@attrs.frozen
class ResNetDiscriminator(Discriminator):
    """Residual blocks without normalisation, then a sum over positions (Miyato et al. 2018, tables 4b and 6b).

    Images with a shorter side of up to 48 pixels have the blocks of table 4, larger ones those of table 6. Before each
    halving odd sizes are made even by repeating the last row or column.
    """

    width: int = option(
        64, help="channels: 2 × width in each block up to 48 pixels, 1 to 16 × width at larger sizes", validator=ge(1)
    )
    condition: DiscriminatorCondition = option(
        "none", help="how labels or conditions enter: as extra channels of x, or by projection"
    )
    attention: int = option(
        0, help="shorter side of the feature maps that get SAGAN's self-attention; 0 for none", validator=ge(0)
    )
    activation: CriticActivation = option("relu", help=CRITIC_ACTIVATIONS)

    def build(self, data: DataSpec) -> nn.Module:
        if self.condition == "projection":
            refuse_images("resnet", self.condition, data, "use condition = 'concat'")
        return _ResNetDiscriminator(self, data)


class _DownBlock(nn.Module):
    """Residual block; the first block of a network receives the image, so it starts without an activation."""

    def __init__(self, channels: int, out: int, halve: bool, first: bool, activation: CriticActivation) -> None:
        super().__init__()
        self.first = first
        self.halve = halve
        self.activation = make_activation(activation)
        hidden = out if first else channels
        self.conv1 = nn.Conv2d(channels, hidden, 3, padding=1)
        self.conv2 = ConvThenPool(hidden, out) if halve else nn.Conv2d(hidden, out, 3, padding=1)
        self.shortcut = nn.Conv2d(channels, out, 1) if halve or channels != out else nn.Identity()

    def forward(self, x: Tensor) -> Tensor:
        x = padded_to_even(x) if self.halve else x
        branch = self.conv2(self.activation(self.conv1(x if self.first else self.activation(x))))
        # Pooling commutes with a 1×1 convolution, which is cheaper after pooling.
        return branch + self.shortcut(F.avg_pool2d(x, 2) if self.halve else x)


def _ends(data: DataSpec, halves: tuple[bool, ...]) -> list[tuple[int, int]]:
    """The (height, width) of the feature maps at which each of D's blocks ends."""
    ends, (_, height, width) = [], data.shape
    for halve in halves:
        if halve:
            height, width = -(-height // 2), -(-width // 2)
        ends.append((height, width))
    return ends


class _ResNetDiscriminator(nn.Module):
    gives_extras = True

    def __init__(self, config: ResNetDiscriminator, data: DataSpec) -> None:
        super().__init__()
        sizes = resolutions("resnet", data)
        multiples, halves = zip(*_down(len(sizes) - 1), strict=True)
        self.attended = _attended(config.attention, _ends(data, halves))
        joined = given_for(config.condition, "concat", data)
        widths = [data.shape[0] + joined_channels(joined, data.shape), *(config.width * m for m in multiples)]
        blocks = zip(widths, widths[1:], halves, strict=False)
        self.join = JoinLabel(joined)
        self.blocks = nn.Sequential(
            *(_DownBlock(a, b, halve, i == 0, config.activation) for i, (a, b, halve) in enumerate(blocks))
        )
        self.activation = make_activation(config.activation)
        self.head = Head(widths[-1], given_for(config.condition, "projection", data))
        self.apply(_init)
        # Last, so that the other weights are those of the network without attention.
        self.attention = None if self.attended is None else SelfAttention(widths[self.attended + 1]).apply(_init)

    def forward(self, x: Tensor, y: Tensor, extras: dict[str, Tensor] | None = None) -> Tensor:
        h = self.join(x, y)
        for i, block in enumerate(self.blocks):
            h = block(h)
            if self.attention is not None and i == self.attended:
                h = self.attention(h)
        h = self.activation(h).sum((2, 3))
        if extras is not None:
            extras["features"] = h
        return self.head(h, y)
