"""Layers shared by the built-in networks: how labels and conditions enter, normalisation, activations."""

from __future__ import annotations

import math
from typing import Literal

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from ganframe import DataSpec
from ganframe.layers import GroupSort

Activation = Literal["relu", "leaky_relu", "tanh"]
CriticActivation = Literal["relu", "leaky_relu", "tanh", "maxmin", "groupsort", "fullsort"]
CRITIC_ACTIVATIONS = (
    "activation of the hidden layers; leaky_relu has slope 0.2; maxmin, groupsort and fullsort sort pairs of channels, "
    "groups of 4 or all (Anil et al. 2019)"
)
Norm = Literal["batch", "layer", "none"]
GeneratorCondition = Literal["none", "concat", "batch_norm"]
DiscriminatorCondition = Literal["none", "concat", "projection"]

Given = int | tuple[int, ...] | None
"""What a layer is conditioned on: labels of so many classes, conditions of this shape, or nothing."""


class ConditionalBatchNorm(nn.Module):
    """BatchNorm with one scale and shift per class (Dumoulin et al. 2017); plain BatchNorm where nothing is given.

    Conditions give them by linear maps: the scale is 1 + V y, the shift U y, with V and U of zeros at the start.

    forward(h, y): h (N, C) or (N, C, H, W), y (N,) or (N, *condition) -> shape of h.
    """

    def __init__(self, features: int, given: Given, dims: Literal[1, 2]) -> None:
        super().__init__()
        kind = nn.BatchNorm1d if dims == 1 else nn.BatchNorm2d
        self.norm = kind(features, affine=given is None)
        self.given = given
        if isinstance(given, int):
            self.scale: nn.Module = nn.Embedding(given, features)
            self.shift: nn.Module = nn.Embedding(given, features)
            nn.init.ones_(self.scale.weight)
            nn.init.zeros_(self.shift.weight)
        elif given is not None:
            self.scale, self.shift = _LinearMap(given, features), _LinearMap(given, features)

    def forward(self, h: Tensor, y: Tensor) -> Tensor:
        h = self.norm(h)
        if self.given is None:
            return h
        scale = self.scale(y) if isinstance(self.given, int) else 1 + self.scale(y)
        everywhere = (..., *[None] * (h.ndim - 2))  # no size of the batch in it, which an exported graph would keep
        return scale[everywhere] * h + self.shift(y)[everywhere]


class _LinearMap(nn.Module):
    """V y, (N, features), of conditions y (N, *condition). V is 0 at the start, whatever initialises linear layers."""

    def __init__(self, condition: tuple[int, ...], features: int) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.zeros(features, math.prod(condition)))

    def forward(self, y: Tensor) -> Tensor:
        return F.linear(y.flatten(1), self.weight)


class JoinLabel(nn.Module):
    """Concatenates the one-hot label, or the condition, to x; returns x where nothing is given.

    To points it is joined as features. To images a label or a vector is joined as constant channels, and an image of
    the same size as it is.

    forward(x, y): x (N, D) or (N, C, H, W), y (N,) or (N, *condition) -> x with more features or channels.
    """

    def __init__(self, given: Given) -> None:
        super().__init__()
        self.given = given

    def forward(self, x: Tensor, y: Tensor) -> Tensor:
        if self.given is None:
            return x
        if isinstance(self.given, int):
            # F.one_hot reads the largest label from the device in each call.
            joined = F.embedding(y, torch.eye(self.given, dtype=x.dtype, device=x.device))
        else:
            joined = (y if x.ndim == y.ndim == 4 else y.flatten(1)).to(x.dtype)
        if joined.ndim != x.ndim:
            joined = joined.view(*joined.shape, *[1] * (x.ndim - 2)).expand(-1, -1, *x.shape[2:])
        return torch.cat([x, joined], dim=1)


class Head(nn.Module):
    """The last layer of D: a score from features h (N, F), with projection (Miyato & Koyama 2018).

    forward(h, y) -> ψ(h) + <v_y, h>, (N,), for labels; ψ(h) + <V y, h> for conditions; ψ(h) where nothing is given.
    """

    def __init__(self, features: int, given: Given) -> None:
        super().__init__()
        self.linear = nn.Linear(features, 1)
        self.embedding: nn.Embedding | nn.Linear | None = None
        if isinstance(given, int):
            self.embedding = nn.Embedding(given, features)
        elif given is not None:
            self.embedding = nn.Linear(math.prod(given), features, bias=False)
        if self.embedding is not None:  # v_y on the scale of the linear layer; torch's default is N(0, 1)
            bound = (features * (1 if isinstance(given, int) else self.embedding.weight.shape[1])) ** -0.5
            nn.init.uniform_(self.embedding.weight, -bound, bound)

    def forward(self, h: Tensor, y: Tensor) -> Tensor:
        scores = self.linear(h).squeeze(1)
        if self.embedding is None:
            return scores
        return scores + (self.embedding(y if isinstance(self.embedding, nn.Embedding) else y.flatten(1)) * h).sum(1)


def make_activation(name: CriticActivation) -> nn.Module:
    """The module of an activation; it has no parameters."""
    if name == "leaky_relu":
        return nn.LeakyReLU(0.2)
    sizes = {"maxmin": 2, "groupsort": 4, "fullsort": None}
    return GroupSort(sizes[name]) if name in sizes else {"relu": nn.ReLU(), "tanh": nn.Tanh()}[name]


def make_norm(norm: Norm, features: int, dims: Literal[1, 2]) -> nn.Module:
    """BatchNorm, LayerNorm over all axes except the batch, or identity, for (N, C) or (N, C, H, W)."""
    if norm == "batch":
        return nn.BatchNorm1d(features) if dims == 1 else nn.BatchNorm2d(features)
    return nn.GroupNorm(1, features) if norm == "layer" else nn.Identity()


def given_for(condition: str, wanted: str, data: DataSpec) -> Given:
    """The data's number of classes or shape of conditions if the option `condition` is `wanted`, else None.

    Raises ValueError if a condition is requested and the data has neither labels nor conditions.
    """
    if condition != "none" and data.classes is None and data.condition is None:
        raise ValueError(
            f"condition = '{condition}' needs labels or conditions, and the data has neither; use condition = 'none'"
        )
    if condition != wanted:
        return None
    return data.classes if data.condition is None else data.condition


def joined_width(given: Given) -> int:
    """The number of features that `JoinLabel` adds to points, or to latents."""
    return math.prod(given) if isinstance(given, tuple) else given or 0


def joined_channels(given: Given, shape: tuple[int, ...]) -> int:
    """The number of channels that `JoinLabel` adds to images of this shape. Raises ValueError for other sizes."""
    if not isinstance(given, tuple) or len(given) != 3:
        return joined_width(given)
    if given[1:] != shape[1:]:
        height, width = shape[1:]
        raise ValueError(
            f"condition = 'concat' joins conditions of {height}×{width} to images of that size, and the data's have "
            f"shape {given}; resize them in the dataset"
        )
    return given[0]


def refuse_images(network: str, condition: str, data: DataSpec, remedy: str) -> None:
    """Raises ValueError where a condition is requested and the data's are images, for networks that take vectors."""
    if condition != "none" and data.condition is not None and len(data.condition) == 3:
        raise ValueError(
            f"{network} takes labels or vectors by condition = '{condition}', and the data's conditions are images of "
            f"shape {data.condition}; {remedy}"
        )
