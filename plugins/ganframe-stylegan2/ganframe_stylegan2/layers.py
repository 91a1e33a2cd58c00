"""What the generator and the discriminator share: the filter of resampling, channels of each resolution, conditions."""

from __future__ import annotations

import math

import attrs
import torch
from attrs.validators import ge
from torch import Tensor, nn
from torch.nn import functional as F

from ganframe import DataSpec, option
from ganframe.layers import equalized

SLOPE = 0.2
"""Negative slope of the leaky ReLU. Layers before it have the gain √2, so that activations keep unit deviation."""

Given = int | tuple[int, ...] | None
"""What a network is conditioned on: labels of so many classes, vectors of this shape, or nothing."""


class Filter(nn.Module):
    """The filter [1, 3, 3, 1] / 8 along both axes, each channel by itself; zeros beyond the border.

    forward(h, padding, stride): (N, C, H, W) -> (N, C, H', W'), H' = (H + 2 · padding - 4) / stride + 1, rounded down.
    `gain` multiplies the result: 4 after zeros were inserted between the pixels of both axes.
    """

    kernel: Tensor

    def __init__(self, gain: float = 1.0) -> None:
        super().__init__()
        taps = torch.tensor([1.0, 3.0, 3.0, 1.0]) / 8
        self.register_buffer("kernel", gain * taps[:, None] * taps, persistent=False)  # a constant: not in state_dict

    def forward(self, h: Tensor, padding: int, stride: int = 1) -> Tensor:
        channels = h.shape[1]
        kernel = self.kernel.to(h.dtype).expand(channels, 1, 4, 4)
        return F.conv2d(h, kernel, padding=padding, stride=stride, groups=channels)


@attrs.frozen
class Widths:
    """Options of both networks: the channels of each resolution."""

    width: int = option(512, help="channels of the smaller resolutions", validator=ge(1))
    full_width_up_to: int = option(
        64,
        help="pixels up to which a resolution has `width` channels; each doubling beyond halves them",
        validator=ge(4),
    )

    def widths(self, sizes: tuple[tuple[int, int], ...]) -> list[int]:
        """The channels of each of the `resolutions`. The shorter side counts."""
        doublings = (max(0, math.ceil(math.log2(min(size) / self.full_width_up_to))) for size in sizes)
        return [max(1, self.width // 2**n) for n in doublings]


def given_for(condition: str, data: DataSpec) -> Given:
    """What a network of stylegan2 is conditioned on by its option `condition`.

    Raises ValueError where a condition is requested and the data has none, or images, which these networks do not take.
    """
    if condition == "none":
        return None
    if data.classes is None and data.condition is None:
        raise ValueError(
            f"condition = '{condition}' needs labels or vectors, and the data has neither; use condition = 'none'"
        )
    if data.condition is not None and len(data.condition) == 3:
        raise ValueError(
            f"stylegan2 takes labels or vectors by condition = '{condition}', and the data's conditions are images of "
            f"shape {data.condition}; use networks that translate images, as unet and patch of ganframe-translate"
        )
    return data.classes if data.condition is None else data.condition


class Embedding(nn.Module):
    """A vector of each label, or a linear map of vectors: y (N,) or (N, *condition) -> (N, features), about N(0, 1)."""

    def __init__(self, given: int | tuple[int, ...], features: int) -> None:
        super().__init__()
        if isinstance(given, int):
            self.of: nn.Embedding | nn.Linear = nn.Embedding(given, features)
        else:
            self.of = equalized(nn.Linear(math.prod(given), features), gain=1.0)

    def forward(self, y: Tensor) -> Tensor:
        given = y if isinstance(self.of, nn.Embedding) else y.flatten(1).to(self.of.weight.dtype)
        embedded: Tensor = self.of(given)
        return embedded
