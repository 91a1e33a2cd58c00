"""R3GAN's generator and discriminator (Huang et al. 2024, section 3, the last configuration), for images of any size.

The two are mirror images. Each of `ganframe.layers.resolutions`, from 4×4 to the image, has a stage of residual blocks
without normalisation. Between two stages the features are resampled bilinearly, with a 1×1 convolution where the number
of channels changes. At 4×4, G starts from a learnt basis and D ends in a depthwise convolution.

This follows the paper's description, not its authors' code. Choices that the description leaves open:

- leaky ReLU of slope 0.2; He's initialisation with the gain of that slope, times the factor of Fixup;
- layers without a leaky ReLU after them are initialised to preserve the variance;
- only the first two convolutions of a block and the last layer of each network have biases, initially 0;
- the first four stages, up to 32×32, have the same number of channels; each further one halves it, as in the paper's
  model for 256×256;
- sizes that 4×4 does not double to: a larger grid, at most 6 pixels along the shorter side; G crops what a doubling has
  too much, and D makes odd sizes even by repeating the last row or column;
- how the networks take labels.
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from typing import Literal

import attrs
import torch
from attrs.validators import ge
from torch import Tensor, nn
from torch.nn import functional as F

from ganframe import DataSpec, Discriminator, Generator, option
from ganframe.layers import downsampled, resolutions

SLOPE = 0.2  # negative slope of the leaky ReLU
WIDE = 4  # stages with the full number of channels: 4×4, 8×8, 16×16, 32×32


@attrs.frozen
class _Stages:
    """Options that both networks share, and the sizes that follow from them."""

    width: int = option(
        128,
        help="channels of the first four stages, 4×4 to 32×32, halved by each further one; 768 in the paper",
        validator=ge(1),
    )
    blocks: int = option(2, help="residual blocks in each stage", validator=ge(1))
    expansion: int = option(2, help="channels inside a residual block, relative to those outside", validator=ge(1))
    group_size: int = option(16, help="channels in each group of the 3×3 convolutions", validator=ge(1))

    def widths(self, data: DataSpec) -> list[int]:
        """The channels of each stage, from 4×4 up. Raises ValueError if the options do not fit the data."""
        stages = len(resolutions("r3gan", data))
        unit = 2 ** max(0, stages - WIDE) * self.group_size // math.gcd(self.group_size, self.expansion)
        if self.width % unit:
            raise ValueError(
                f"width = {self.width} does not split into groups of {self.group_size} channels in every stage of "
                f"r3gan for data of shape {data.shape}; choose a multiple of {unit}, or another group_size"
            )
        return [self.width // 2 ** max(0, i + 1 - WIDE) for i in range(stages)]

    def residual(self, channels: int, stages: int) -> Iterator[nn.Module]:
        """The residual blocks of one of `stages` stages."""
        for _ in range(self.blocks):
            yield _Residual(channels, self.expansion * channels, self.group_size, self.blocks * stages)


class _Residual(nn.Module):
    """h + 1×1(act(grouped 3×3(act(1×1(h))))): (N, C, H, W) -> (N, C, H, W), with `hidden` channels inside.

    Fixup initialisation (Zhang et al. 2019) replaces normalisation: the last convolution is initialised to 0, so the
    block starts as the identity; the other two are scaled by L^(-1/4), L the number of residual blocks of the network.
    """

    def __init__(self, channels: int, hidden: int, group_size: int, total: int) -> None:
        super().__init__()
        self.first = nn.Conv2d(channels, hidden, 1)
        self.grouped = nn.Conv2d(hidden, hidden, 3, padding=1, groups=hidden // group_size)
        self.last = nn.Conv2d(hidden, channels, 1, bias=False)
        for conv in (self.first, self.grouped):
            _init(conv, math.sqrt(2 / (1 + SLOPE**2)) * total**-0.25)
        nn.init.zeros_(self.last.weight)

    def forward(self, h: Tensor) -> Tensor:
        branch = F.leaky_relu(self.first(h), SLOPE)
        branch = F.leaky_relu(self.grouped(branch), SLOPE)
        return h + self.last(branch)


class _Resample(nn.Module):
    """Resampling by 2 and change of channels: up and cropped to `size`, or with None down to half, rounded up.

    forward(h): (N, C, H, W) -> (N, C', *size), or (N, C', ⌈H/2⌉, ⌈W/2⌉). Bilinear resampling commutes with the 1×1
    convolution, so that runs at the lower resolution, where it is cheaper.
    """

    def __init__(self, channels: int, out: int, size: tuple[int, int] | None) -> None:
        super().__init__()
        self.size = size
        self.conv = nn.Identity() if channels == out else _init(nn.Conv2d(channels, out, 1, bias=False))

    def forward(self, h: Tensor) -> Tensor:
        if self.size is not None:
            height, width = self.size
            return F.interpolate(self.conv(h), scale_factor=2, mode="bilinear")[..., :height, :width]
        # Equal to bilinear interpolation by ½, which is the mean of four pixels; its second derivative is faster.
        return self.conv(downsampled(h))


def _init(layer: nn.Conv2d | nn.Linear, gain: float = 1.0) -> nn.Conv2d | nn.Linear:
    """Initialises weights from N(0, gain²/fan-in) and biases to 0, and returns the layer."""
    nn.init.normal_(layer.weight, 0.0, gain / math.sqrt(layer.weight[0].numel()))
    if layer.bias is not None:
        nn.init.zeros_(layer.bias)
    return layer


def _classes(condition: str, data: DataSpec) -> int | None:
    """The number of classes to condition on, or None. Raises ValueError if the data has no classes."""
    if condition == "none":
        return None
    if data.classes is None:
        raise ValueError(f"condition = '{condition}' needs labels, and the data has no classes; use condition = 'none'")
    return data.classes


@attrs.frozen
class R3GANGenerator(_Stages, Generator):
    """R3GAN's generator, z (N, latent_dim) -> x (N, C, H, W), H and W from 8 up (Huang et al. 2024, section 3).

    A learnt basis of 4×4 maps, each scaled by a linear function of z; residual stages; a 1×1 convolution to the image,
    without tanh. `condition` = "concat" concatenates z with an embedding of the label, of the same length.
    """

    condition: Literal["none", "concat"] = option("none", help="how G takes labels: 'concat' is an embedding beside z")

    def build(self, data: DataSpec, latent_dim: int) -> nn.Module:
        return _Generator(self, data, latent_dim)


class _Generator(nn.Module):
    def __init__(self, config: R3GANGenerator, data: DataSpec, latent_dim: int) -> None:
        super().__init__()
        widths = config.widths(data)
        classes = _classes(config.condition, data)
        # torch initialises an embedding from N(0, 1), the distribution of z.
        self.embedding = None if classes is None else nn.Embedding(classes, latent_dim)
        self.modulation = _init(nn.Linear(latent_dim * (1 if classes is None else 2), widths[0], bias=False))
        sizes = resolutions("r3gan", data)
        self.basis = nn.Parameter(torch.randn(widths[0], *sizes[0]))
        layers: list[nn.Module] = []
        for i, width in enumerate(widths):
            if i:
                layers.append(_Resample(widths[i - 1], width, sizes[i]))
            layers += config.residual(width, len(widths))
        self.layers = nn.Sequential(*layers)
        self.image = _init(nn.Conv2d(widths[-1], data.shape[0], 1))

    def forward(self, z: Tensor, y: Tensor) -> Tensor:
        if self.embedding is not None:
            z = torch.cat([z, self.embedding(y)], dim=1)
        return self.image(self.layers(self.modulation(z)[:, :, None, None] * self.basis))


@attrs.frozen
class R3GANDiscriminator(_Stages, Discriminator):
    """R3GAN's discriminator, x (N, C, H, W) -> raw scores (N,), H and W from 8 up (Huang et al. 2024, section 3).

    A 1×1 convolution from the image; residual stages; a depthwise 4×4 convolution, which outputs one number per
    channel; a linear layer. `condition` = "projection" adds <v_y, h>, where h are those numbers (Miyato & Koyama 2018).
    """

    condition: Literal["none", "projection"] = option("none", help="how D takes labels: 'projection' in the last layer")

    def build(self, data: DataSpec) -> nn.Module:
        return _Discriminator(self, data)


class _Discriminator(nn.Module):
    gives_extras = True

    def __init__(self, config: R3GANDiscriminator, data: DataSpec) -> None:
        super().__init__()
        widths = config.widths(data)[::-1]
        grid = resolutions("r3gan", data)[0]
        classes = _classes(config.condition, data)
        self.image = _init(nn.Conv2d(data.shape[0], widths[0], 1, bias=False))
        layers: list[nn.Module] = []
        for i, width in enumerate(widths):
            if i:
                layers.append(_Resample(widths[i - 1], width, None))
            layers += config.residual(width, len(widths))
        self.layers = nn.Sequential(*layers)
        self.pool = _init(nn.Conv2d(widths[-1], widths[-1], grid, groups=widths[-1], bias=False))
        self.score = _init(nn.Linear(widths[-1], 1))
        self.embedding = None if classes is None else nn.Embedding(classes, widths[-1])
        if self.embedding is not None:  # the scale of the linear layer's weights
            nn.init.normal_(self.embedding.weight, 0.0, widths[-1] ** -0.5)

    def forward(self, x: Tensor, y: Tensor, extras: dict[str, Tensor] | None = None) -> Tensor:
        h = self.pool(self.layers(self.image(x))).flatten(1)
        if extras is not None:
            extras["features"] = h
        scores = self.score(h).squeeze(1)
        return scores if self.embedding is None else scores + (self.embedding(y) * h).sum(1)
