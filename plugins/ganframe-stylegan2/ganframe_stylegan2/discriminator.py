"""StyleGAN2's discriminator (Karras et al. 2020): residual blocks with filtered downsampling, minibatch deviation.

This follows the papers' descriptions, not their authors' code.
"""

from __future__ import annotations

import itertools
import math
from typing import Literal

import attrs
from attrs.validators import ge
from torch import Tensor, nn
from torch.nn import functional as F

from ganframe import DataSpec, Discriminator, option
from ganframe.layers import MinibatchStddev, equalized, padded_to_even, resolutions
from ganframe_stylegan2.layers import SLOPE, Embedding, Filter, Widths, given_for


@attrs.frozen
class StyleGAN2Discriminator(Widths, Discriminator):
    """StyleGAN2's discriminator, x (N, C, H, W) -> raw scores (N,), for H and W from 8 up (Karras et al. 2020).

    `condition` = "projection" adds <v_y, h> / √F, h the last features (N, F) (Miyato & Koyama 2018).
    """

    minibatch_stddev: int = option(
        4, help="samples of a group whose deviation D sees; 0 treats samples independently", validator=ge(0)
    )
    residual: bool = option(True, help="residual blocks; without, plain ones as in StyleGAN")
    condition: Literal["none", "projection"] = option(
        "none", help="how D takes labels or vectors: 'projection' in the last layer"
    )

    def build(self, data: DataSpec) -> nn.Module:
        return _Discriminator(self, data)


class _Block(nn.Module):
    """Two 3×3 convolutions, the second of which halves the resolution: (N, C, H, W) -> (N, C', H/2, W/2), rounded up.

    Features are filtered before every second pixel is left out. With `residual`, a 1×1 convolution of the filtered
    input is added, and the sum is divided by √2 to keep its deviation.
    """

    def __init__(self, channels: int, out: int, residual: bool) -> None:
        super().__init__()
        self.conv1 = equalized(nn.Conv2d(channels, channels, 3, padding=1))
        self.conv2 = equalized(nn.Conv2d(channels, out, 3, stride=2))
        self.skip = equalized(nn.Conv2d(channels, out, 1, bias=False), gain=1.0) if residual else None
        self.filter = Filter()

    def forward(self, h: Tensor) -> Tensor:
        h = padded_to_even(h)
        branch = F.leaky_relu(self.conv1(h), SLOPE)
        branch = F.leaky_relu(self.conv2(self.filter(branch, padding=2)), SLOPE)
        if self.skip is None:
            return branch
        return (branch + self.skip(self.filter(h, padding=1, stride=2))) / math.sqrt(2)


class _Discriminator(nn.Module):
    gives_extras = True

    def __init__(self, config: StyleGAN2Discriminator, data: DataSpec) -> None:
        super().__init__()
        sizes = resolutions("stylegan2", data)[::-1]
        widths = config.widths(sizes)
        given = given_for(config.condition, data)
        self.image = equalized(nn.Conv2d(data.shape[0], widths[0], 1))
        blocks = [_Block(a, b, config.residual) for a, b in itertools.pairwise(widths)]
        # Numbered from the smallest grid up, as in G: `train.from` a smaller size then finds the same resolutions.
        self.blocks = nn.ModuleList(reversed(blocks))
        size = config.minibatch_stddev
        self.deviation = MinibatchStddev(size) if size else nn.Identity()
        self.conv = equalized(nn.Conv2d(widths[-1] + bool(size), widths[-1], 3, padding=1))
        self.linear = equalized(nn.Linear(widths[-1] * math.prod(sizes[-1]), widths[-1]))
        self.score = equalized(nn.Linear(widths[-1], 1), gain=1.0)
        self.embedding = None if given is None else Embedding(given, widths[-1])

    def forward(self, x: Tensor, y: Tensor, extras: dict[str, Tensor] | None = None) -> Tensor:
        h = F.leaky_relu(self.image(x), SLOPE)
        for block in reversed(self.blocks):
            h = block(h)
        h = F.leaky_relu(self.conv(self.deviation(h)), SLOPE)
        h = F.leaky_relu(self.linear(h.flatten(1)), SLOPE)
        if extras is not None:
            extras["features"] = h
        scores: Tensor = self.score(h).squeeze(1)
        if self.embedding is None:
            return scores
        return scores + (self.embedding(y) * h).sum(1) / math.sqrt(h.shape[1])
