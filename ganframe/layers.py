"""Layers that networks of several papers share, for plugins: sizes, resampling, equalised layers, attention, GroupSort.

Images and feature maps are (N, C, H, W).
"""

from __future__ import annotations

import math
from typing import TypeVar

import torch
from torch import Tensor, nn
from torch.nn import functional as F
from torch.nn.utils import parametrize
from torch.overrides import handle_torch_function, has_torch_function_unary

from ganframe.components import DataSpec

__all__ = [
    "ConvThenPool",
    "GroupSort",
    "MinibatchStddev",
    "SelfAttention",
    "UpsampleThenConv",
    "downsampled",
    "equalized",
    "group_sort",
    "padded_to_even",
    "pixel_norm",
    "resolutions",
    "upsampled",
]

SMALLEST = 8
"""Pixels of the shorter side of the smallest images that `resolutions` accepts."""

Layer = TypeVar("Layer", nn.Linear, nn.Conv2d)


def resolutions(network: str, data: DataSpec) -> tuple[tuple[int, int], ...]:
    """The (height, width) of each resolution of a network for images, from its smallest grid to the image.

    Each is half of the next one, rounded up. The shorter side of the smallest grid has 4, 5 or 6 pixels: (4, 8, 16, 32)
    for 32 pixels, (4, 7, 14, 28) for 28. A generator doubles and crops (`upsampled`), a discriminator pads and halves
    (`padded_to_even`, `downsampled`).

    Raises ValueError, which names the network, unless the data are images of at least 8 pixels along each side.
    """
    if not data.is_image or min(data.shape[1:]) < SMALLEST:
        remedy = "set the dataset's size or choose another network" if data.is_image else "choose another network"
        raise ValueError(
            f"{network} takes images of at least {SMALLEST}×{SMALLEST} pixels; the data has shape {data.shape}"
            f"{'' if data.is_image else ', which is not an image'}; {remedy}"
        )
    _, height, width = data.shape
    sizes = [(height, width)]
    while min(sizes[0]) > 6:
        height, width = sizes[0]
        sizes.insert(0, (-(-height // 2), -(-width // 2)))
    return tuple(sizes)


def upsampled(h: Tensor, size: tuple[int, int]) -> Tensor:
    """Nearest-neighbour upsampling by 2, cropped at the bottom and right to `size`, the next of `resolutions`."""
    return F.interpolate(h, scale_factor=2)[..., : size[0], : size[1]]


def padded_to_even(h: Tensor) -> Tensor:
    """h with its last row or column repeated where the height or width is odd, so that halving loses no pixel."""
    bottom, right = h.shape[-2] % 2, h.shape[-1] % 2
    return F.pad(h, (0, right, 0, bottom), mode="replicate") if bottom or right else h


def downsampled(h: Tensor) -> Tensor:
    """The mean of each 2×2 pixels, of sizes rounded up: it undoes `upsampled`."""
    return F.avg_pool2d(padded_to_even(h), 2)


def conv_then_pool2d(x: Tensor, weight: Tensor, bias: Tensor | None) -> Tensor:
    """`ConvThenPool` as a function: x (N, C, H, W), weight (C', C, 3, 3) -> (N, C', ⌊H/2⌋, ⌊W/2⌋)."""
    if has_torch_function_unary(x):
        # One function to tensors that follow what is computed: the bound of `ganframe lipschitz` is then the norm of
        # both steps together, which is smaller than the product of their norms.
        return handle_torch_function(conv_then_pool2d, (x,), x, weight, bias)
    return F.conv2d(F.avg_pool2d(x, 2, stride=1, padding=1), weight, bias, stride=2)


def upsample_then_conv2d(x: Tensor, weight: Tensor, bias: Tensor | None) -> Tensor:
    """`UpsampleThenConv` as a function: x (N, C, H, W), weight (C', C, 3, 3) -> (N, C', 2H, 2W)."""
    if has_torch_function_unary(x):
        return handle_torch_function(upsample_then_conv2d, (x,), x, weight, bias)
    # The sum of four pixels is four times their mean; the factor costs least in the weight, where it is exact.
    h = F.avg_pool2d(F.conv_transpose2d(x, 4 * weight.flip(2, 3).transpose(0, 1), stride=2), 2, stride=1)
    # The bias last, as means keep it: with one, oneDNN's transposed convolutions of odd sizes take far longer.
    return h if bias is None else h.add_(bias.to(h.dtype).view(-1, 1, 1))


class ConvThenPool(nn.Conv2d):
    """3×3 convolution and 2×2 average pooling, computed as means of 2×2 pixels and a 3×3 convolution with stride 2.

    Same function of the same 3×3 weight, (N, C, H, W) -> (N, C', ⌊H/2⌋, ⌊W/2⌋), with a quarter of the products: both
    steps are convolutions, which commute, and only every second mean of each row and column is used.
    """

    def __init__(self, in_channels: int, out_channels: int, bias: bool = True) -> None:
        super().__init__(in_channels, out_channels, kernel_size=3, padding=1, bias=bias)

    def forward(self, x: Tensor) -> Tensor:
        return conv_then_pool2d(x, self.weight, self.bias)


class UpsampleThenConv(nn.Conv2d):
    """Nearest-neighbour upsampling by 2 and 3×3 convolution, computed as a transposed convolution and sums of 2×2.

    Same function of the same 3×3 weight, (N, C, H, W) -> (N, C', 2H, 2W), with a quarter of the products: upsampling
    puts zeros between the pixels, then sums 2×2 of them; the sums are taken last, and the zeros need no products.
    """

    def __init__(self, in_channels: int, out_channels: int, bias: bool = True) -> None:
        super().__init__(in_channels, out_channels, kernel_size=3, padding=1, bias=bias)

    def forward(self, x: Tensor) -> Tensor:
        return upsample_then_conv2d(x, self.weight, self.bias)


def group_sort(x: Tensor, size: int | None) -> Tensor:
    """`GroupSort` as a function: x (N, C, …) -> (N, C, …), each group of `size` channels in ascending order."""
    if has_torch_function_unary(x):  # one function whose Lipschitz constant is 1, where its steps are not known to be
        return handle_torch_function(group_sort, (x,), x, size)
    channels = x.shape[1]
    size = min(size or channels, channels)
    full = channels - channels % size
    if full < channels:
        return torch.cat([group_sort(x[:, :full], size), group_sort(x[:, full:], None)], dim=1)
    groups = x.unflatten(1, (-1, size))
    if size == 2:  # cheaper than a sort
        first, second = groups.unbind(2)
        return torch.stack([torch.minimum(first, second), torch.maximum(first, second)], dim=2).flatten(1, 2)
    return groups.sort(2).values.flatten(1, 2)


class GroupSort(nn.Module):
    """Sorts groups of neighbouring channels in ascending order (Anil, Lucas & Grosse 2019, section 4.1).

    `size` is the number of channels of a group: 2 is MaxMin, None sorts all channels. Where it does not divide the
    channels, the last group is smaller. No parameters.

    A sort permutes the numbers, so that its Jacobian is orthogonal: the norm of a gradient is kept, where ReLU loses
    it. It is 1-Lipschitz in the Euclidean norm: ‖sort(a) - sort(b)‖ ≤ ‖a - b‖ (the rearrangement inequality).

    forward(x): (N, C, …) -> (N, C, …), sorted along dimension 1 at each position. Raises ValueError for a size below 2.
    """

    def __init__(self, size: int | None = 2) -> None:
        super().__init__()
        if size is not None and size < 2:
            raise ValueError(f"groups of {size} channels have no order; choose 2 or more, or None for all channels")
        self.size = size

    def forward(self, x: Tensor) -> Tensor:
        return group_sort(x, self.size)

    def extra_repr(self) -> str:
        return f"size={self.size}"


class SelfAttention(nn.Module):
    """h + γ · o, o the attention of each position to all others, γ = 0 at the start (Zhang et al. 2019, section 3).

    Queries and keys have C/8 channels, at least one, as in the paper. Values have C/2, where the paper has C/8 too; a
    1×1 convolution brings them back to C. With `pool` = 2 keys and values are max-pooled by 2: a quarter of the memory.

    forward(h): (N, C, H, W) -> (N, C, H, W). It can be differentiated twice.
    """

    def __init__(self, channels: int, pool: int = 1) -> None:
        super().__init__()
        inner, values = max(1, channels // 8), max(1, channels // 2)
        self.query = nn.Conv2d(channels, inner, 1, bias=False)
        self.key = nn.Conv2d(channels, inner, 1, bias=False)
        self.value = nn.Conv2d(channels, values, 1, bias=False)
        self.out = nn.Conv2d(values, channels, 1, bias=False)
        self.gamma = nn.Parameter(torch.zeros(()))
        self.pool = pool

    def forward(self, h: Tensor) -> Tensor:
        key, value = self.key(h), self.value(h)
        if self.pool > 1:
            # Rounded up, so that no position of an odd size is left out.
            key, value = (F.max_pool2d(part, self.pool, ceil_mode=True) for part in (key, value))
        # Not torch's fused attention: it has no second derivative, which penalties need.
        weights = (self.query(h).flatten(2).transpose(1, 2) @ key.flatten(2)).softmax(2)  # (N, positions, keys)
        attended = (value.flatten(2) @ weights.transpose(1, 2)).unflatten(2, h.shape[2:])
        return h + self.gamma * self.out(attended)


class MinibatchStddev(nn.Module):
    """Appends one channel: how much the samples of a group differ (Karras et al. 2018, section 3).

    It is the standard deviation over the group of each feature at each position, averaged over all of them. Groups are
    of `size` consecutive samples, and batches are multiples of it; a remainder is a smaller group.

    forward(h): (N, C, H, W) -> (N, C + 1, H, W), or (N, F) -> (N, F + 1). Raises ValueError for groups of fewer than 2.
    """

    def __init__(self, size: int = 4) -> None:
        super().__init__()
        if size < 2:
            raise ValueError(f"groups of {size} sample have no deviation; choose 2 or more, or leave the layer out")
        self.mixes_groups_of = size

    def forward(self, h: Tensor) -> Tensor:
        deviations = torch.cat([_deviation(group) for group in self._groups(h)])
        return torch.cat([h, deviations.view(-1, 1, *[1] * (h.ndim - 2)).expand(-1, 1, *h.shape[2:])], dim=1)

    def _groups(self, h: Tensor) -> list[Tensor]:
        """The batch as (groups, samples of a group, …): all full groups, and the remainder if there is one."""
        full = len(h) - len(h) % self.mixes_groups_of
        parts = [h[:full].unflatten(0, (-1, self.mixes_groups_of))] if full else []
        return parts + ([h[full:][None]] if full < len(h) else [])


def _deviation(groups: Tensor) -> Tensor:
    """One number for each sample of groups (K, m, …): (K · m,)."""
    # The small constant keeps the gradient finite where all samples of a group are equal.
    deviation = (_not_half(groups).var(1, correction=0) + 1e-8).sqrt().flatten(1).mean(1)
    return deviation.to(groups.dtype).repeat_interleave(groups.shape[1])


def _not_half(h: Tensor) -> Tensor:
    """h, in float32 where it is in float16: there 1e-8 is 0, and squares are infinite from 256 on."""
    return h.float() if h.dtype == torch.float16 else h


def pixel_norm(h: Tensor) -> Tensor:
    """h divided by the root mean square of its channels, at each position (Karras et al. 2018, section 4.2)."""
    return h * (_not_half(h).square().mean(1, keepdim=True) + 1e-8).rsqrt().to(h.dtype)


class _Scaled(nn.Module):
    """w = scale · v, as a parametrisation."""

    def __init__(self, scale: float) -> None:
        super().__init__()
        self.scale = scale

    def forward(self, v: Tensor) -> Tensor:
        return self.scale * v

    def right_inverse(self, w: Tensor) -> Tensor:
        return w / self.scale


def equalized(layer: Layer, gain: float = math.sqrt(2), lr: float = 1.0) -> Layer:
    """The layer with an equalised learning rate (Karras et al. 2018, section 4.1): its weight is w = c · v.

    v ~ N(0, 1/lr²) is what the optimiser moves, and c = gain · lr / √fan-in. So w ~ N(0, gain²/fan-in), as in He et
    al. 2015 for gain √2, and a step of Adam, whose size does not depend on c, moves w by c times as much. `lr` < 1
    slows the layer: StyleGAN's mapping network has 0.01. The bias is 0, and is slowed as well.

    It is a parametrisation of `layer.weight`, which is w for whatever reads it. `weight_clipping`, which clamps
    parameters, clamps v.
    """
    fan_in = layer.weight[0].numel()
    nn.init.normal_(layer.weight, 0.0, gain / math.sqrt(fan_in))
    parametrize.register_parametrization(layer, "weight", _Scaled(gain * lr / math.sqrt(fan_in)))
    if layer.bias is not None:
        nn.init.zeros_(layer.bias)
        if lr != 1:
            parametrize.register_parametrization(layer, "bias", _Scaled(lr))
    return layer
