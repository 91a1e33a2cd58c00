"""Layers shared by the built-in networks: fast resampling convolutions and label conditioning."""

from __future__ import annotations

from typing import Literal, cast

import torch
from torch import Tensor, nn
from torch.nn import functional as F

Norm = Literal["batch", "layer", "none"]
GeneratorCondition = Literal["none", "concat", "batch_norm"]
DiscriminatorCondition = Literal["none", "concat", "projection"]


def _box(kernel: Tensor) -> Tensor:
    """Sum of a 3×3 kernel shifted by 0 and 1 in both directions: 4×4."""
    return sum(F.pad(kernel, (j, 1 - j, i, 1 - i)) for i in (0, 1) for j in (0, 1))  # type: ignore[return-value]


class ConvThenPool(nn.Conv2d):
    """3×3 convolution and 2×2 average pooling, computed as one 4×4 convolution with stride 2.

    Same function of the same 3×3 weight, (N, C, H, W) -> (N, C', H/2, W/2), in about a third of the time.
    """

    def __init__(self, in_channels: int, out_channels: int) -> None:
        super().__init__(in_channels, out_channels, kernel_size=3, padding=1)

    def forward(self, x: Tensor) -> Tensor:
        return F.conv2d(x, _box(self.weight) / 4, self.bias, stride=2, padding=1)


class UpsampleThenConv(nn.Conv2d):
    """Nearest-neighbour upsampling by 2 and 3×3 convolution, computed as one 4×4 transposed convolution.

    Same function of the same 3×3 weight, (N, C, H, W) -> (N, C', 2H, 2W), in about a third of the time.
    """

    def __init__(self, in_channels: int, out_channels: int) -> None:
        super().__init__(in_channels, out_channels, kernel_size=3, padding=1)

    def forward(self, x: Tensor) -> Tensor:
        kernel = _box(self.weight.flip(2, 3)).transpose(0, 1)
        return F.conv_transpose2d(x, kernel, self.bias, stride=2, padding=1)


class ConditionalBatchNorm(nn.Module):
    """BatchNorm with one scale and shift per class (Dumoulin et al. 2017); plain BatchNorm without classes.

    forward(h, y): h (N, C) or (N, C, H, W), y (N,) -> shape of h.
    """

    def __init__(self, features: int, classes: int | None, dims: Literal[1, 2]) -> None:
        super().__init__()
        kind = nn.BatchNorm1d if dims == 1 else nn.BatchNorm2d
        self.norm = kind(features, affine=classes is None)
        if classes is not None:
            self.scale = nn.Embedding(classes, features)
            self.shift = nn.Embedding(classes, features)
            nn.init.ones_(self.scale.weight)
            nn.init.zeros_(self.shift.weight)
        self.classes = classes

    def forward(self, h: Tensor, y: Tensor) -> Tensor:
        h = self.norm(h)
        if self.classes is None:
            return h
        shape = (len(h), h.shape[1]) + (1,) * (h.ndim - 2)
        return self.scale(y).view(shape) * h + self.shift(y).view(shape)


class JoinLabel(nn.Module):
    """Concatenates the one-hot label to points as features or to images as constant channels; x without classes.

    forward(x, y): x (N, D) or (N, C, H, W), y (N,) -> (N, D + classes) or (N, C + classes, H, W).
    """

    def __init__(self, classes: int | None) -> None:
        super().__init__()
        self.classes = classes or 0

    def forward(self, x: Tensor, y: Tensor) -> Tensor:
        if not self.classes:
            return x
        label = F.one_hot(y, self.classes).to(x.dtype)
        return torch.cat([x, label.view(*label.shape, *[1] * (x.ndim - 2)).expand(-1, -1, *x.shape[2:])], dim=1)


class Head(nn.Module):
    """The last layer of D: a score from features h (N, F), with label projection (Miyato & Koyama 2018).

    forward(h, y) -> ψ(h) + <v_y, h>, (N,); without classes, ψ(h).
    """

    def __init__(self, features: int, classes: int | None) -> None:
        super().__init__()
        self.linear = nn.Linear(features, 1)
        self.embedding = None if classes is None else nn.Embedding(classes, features)
        if self.embedding is not None:  # scale of the linear layer; torch's default is N(0, 1)
            nn.init.uniform_(self.embedding.weight, -(features**-0.5), features**-0.5)

    def forward(self, h: Tensor, y: Tensor) -> Tensor:
        scores = self.linear(h).squeeze(1)
        return scores if self.embedding is None else scores + (self.embedding(y) * h).sum(1)


def make_norm(norm: Norm, features: int, dims: Literal[1, 2]) -> nn.Module:
    """BatchNorm, LayerNorm over all axes except the batch, or identity, for (N, C) or (N, C, H, W)."""
    if norm == "batch":
        return nn.BatchNorm1d(features) if dims == 1 else nn.BatchNorm2d(features)
    return nn.GroupNorm(1, features) if norm == "layer" else nn.Identity()


def classes_for(condition: str, wanted: str, classes: int | None) -> int | None:
    """The number of classes if `condition` is `wanted`, else None.

    Raises ValueError if a condition is requested and the data has no classes.
    """
    if condition != "none" and classes is None:
        raise ValueError(f"condition = '{condition}' needs labels, and the data has no classes; use condition = 'none'")
    return cast(int, classes) if condition == wanted else None
