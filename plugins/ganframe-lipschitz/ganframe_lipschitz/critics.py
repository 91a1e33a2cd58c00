"""The discriminators `sll` and `cpl`: residual networks that are 1-Lipschitz by construction, for data of any shape."""

from __future__ import annotations

import itertools
import math
from typing import ClassVar, Literal

import attrs
import torch
from attrs.validators import ge
from torch import Tensor, nn
from torch.nn import functional as F

from ganframe import DataSpec, Discriminator, option
from ganframe.layers import resolutions
from ganframe_lipschitz.blocks import Block, CPLBlock, SLLBlock
from ganframe_lipschitz.covered import parametrized
from ganframe_lipschitz.kernels import Geometry
from ganframe_lipschitz.orthogonal_layers import OrthogonalKernel

Given = int | tuple[int, ...] | None

WIDEST = 4  # the most channels of a resolution in multiples of `width`


@attrs.frozen
class _Residual(Discriminator):
    width: int = option(
        64,
        help="units of each layer; for images the channels of the first resolution, twice as many in the next, and 4 "
        "times as many in all later ones",
        validator=ge(1),
    )
    blocks: int = option(3, help="residual blocks, for images in each resolution", validator=ge(1))
    condition: Literal["none", "concat"] = option(
        "none", help="how labels or conditions enter: not at all, or concatenated to x, for images as channels"
    )
    block: ClassVar[type[Block]]

    def build(self, data: DataSpec) -> nn.Module:
        return _Network(self, data)


@attrs.frozen
class SLL(_Residual):
    """1-Lipschitz network of the blocks x - 2 W diag(T)⁻¹ relu(Wᵀx + b) (SLL; Araujo et al. 2023, theorem 3).

    T_i = Σ_j |WᵀW|_ij q_j / q_i, with q > 0 learnt; in convolutions the sum is over the autocorrelation of the kernel.
    """

    block = SLLBlock


@attrs.frozen
class CPL(_Residual):
    """1-Lipschitz network of the blocks x - (2 / ‖W‖²) W relu(Wᵀx + b) (CPL; Meunier et al. 2022, equation 8).

    ‖W‖ is bounded from above by Gram iteration (Delattre et al. 2023), not estimated by power iteration.
    """

    block = CPLBlock


class _Network(nn.Module):
    """D(x, y) -> (N,), 1-Lipschitz in x for each y, in the Euclidean distance of samples.

    Points, and what is no image, are flattened and go through an orthonormal matrix to `width` units, then the blocks.
    Images are halved by orthonormal matrices on patches of 2×2 pixels, which do not overlap, each followed by its
    blocks, until the shorter side has 4, 5 or 6 pixels. Odd sizes are filled up with zeros, which changes no distance.
    The last layer has a weight of norm 1.
    """

    gives_extras = True

    def __init__(self, config: _Residual, data: DataSpec) -> None:
        super().__init__()
        self.given = given(config.condition, data)
        layers: list[nn.Module] = []
        if data.is_image:
            grid, *larger = resolutions("sll and cpl", data)
            widths = [min(2**i, WIDEST) * config.width for i in range(len(larger))]
            for a, b in itertools.pairwise([data.shape[0] + _channels(self.given, data), *widths]):
                layers.append(_orthogonal(_Halving(a, b)))
                layers += [config.block(b, b, size=3) for _ in range(config.blocks)]
            features = widths[-1] * math.prod(grid)
        else:
            layers.append(_orthogonal(nn.Linear(numbers(data, self.given), config.width)))
            layers += [config.block(config.width, config.width) for _ in range(config.blocks)]
            features = config.width
        self.flat = not data.is_image
        self.layers = nn.Sequential(*layers)
        self.last = _orthogonal(nn.Linear(features, 1))

    def forward(self, x: Tensor, y: Tensor, extras: dict[str, Tensor] | None = None) -> Tensor:
        h = self.layers(joined(x.flatten(1) if self.flat else x, y, self.given)).flatten(1)
        if extras is not None:
            extras["features"] = h
        return self.last(h).squeeze(1)


class _Halving(nn.Conv2d):
    """A matrix on each patch of 2×2 pixels: (N, C, H, W) -> (N, C', ⌈H/2⌉, ⌈W/2⌉)."""

    def __init__(self, channels: int, out: int) -> None:
        super().__init__(channels, out, kernel_size=2, stride=2)

    def forward(self, x: Tensor) -> Tensor:
        return super().forward(F.pad(x, (0, x.shape[-1] % 2, 0, x.shape[-2] % 2)))


def _orthogonal(layer: nn.Linear | nn.Conv2d) -> nn.Module:
    return parametrized(layer, OrthogonalKernel(layer.weight.shape, Geometry.of(layer)))


def given(condition: Literal["none", "concat"], data: DataSpec) -> Given:
    """What enters beside x: labels, as their number of classes; conditions, as their shape; or nothing.

    Raises ValueError where it is asked for and the data has neither.
    """
    if condition == "none":
        return None
    given = data.classes if data.condition is None else data.condition
    if given is None:
        raise ValueError(
            "condition = 'concat' needs labels or conditions, and the data has neither; use condition = 'none'"
        )
    return given


def numbers(data: DataSpec, given: Given) -> int:
    """The numbers of a flattened sample and of what enters beside it."""
    return math.prod(data.shape) + (math.prod(given) if isinstance(given, tuple) else given or 0)


def joined(x: Tensor, y: Tensor, given: Given) -> Tensor:
    """x with the one-hot label or the condition as more features, or as more channels of images (N, C, H, W)."""
    if given is None:
        return x
    if isinstance(given, int):
        more = F.embedding(y, torch.eye(given, dtype=x.dtype, device=x.device))
    else:
        more = (y if x.ndim == y.ndim == 4 else y.flatten(1)).to(x.dtype)
    if more.ndim != x.ndim:
        more = more[..., None, None].expand(-1, -1, *x.shape[2:])
    return torch.cat([x, more], dim=1)


def _channels(given: Given, data: DataSpec) -> int:
    """The channels that a label or condition adds to images. Raises ValueError for images of another size."""
    if not isinstance(given, tuple) or len(given) != 3:
        return math.prod(given) if isinstance(given, tuple) else given or 0
    if given[1:] != data.shape[1:]:
        height, width = data.shape[1:]
        raise ValueError(
            f"condition = 'concat' joins conditions of {height}×{width} to images of that size, and the data's have "
            f"shape {given}; resize them in the dataset"
        )
    return given[0]
