"""Multilayer perceptrons for data of any shape."""

from __future__ import annotations

import itertools
import math
from typing import Literal

import attrs
import torch
from attrs.validators import and_, deep_iterable, ge, lt
from torch import Tensor, nn

from ganframe import DataSpec, Discriminator, Generator, option
from ganframe.builtin.layers import (
    CRITIC_ACTIVATIONS,
    Activation,
    ConditionalBatchNorm,
    CriticActivation,
    DiscriminatorCondition,
    GeneratorCondition,
    Head,
    JoinLabel,
    Norm,
    given_for,
    joined_width,
    make_activation,
    make_norm,
)


@attrs.frozen
class MLPGenerator(Generator):
    """Multilayer perceptron from z to a sample of any shape (Goodfellow et al. 2014 used one for MNIST)."""

    hidden: tuple[int, ...] = option((128, 128), help="units of each hidden layer", validator=deep_iterable(ge(1)))
    activation: Activation = option("relu", help="activation of the hidden layers; leaky_relu has slope 0.2")
    batch_norm: bool = option(False, help="BatchNorm after each hidden layer")
    output: Literal["auto", "linear", "tanh"] = option(
        "auto", help="last activation; auto: tanh for images, softmax for categories of a table, else linear"
    )
    condition: GeneratorCondition = option(
        "none", help="how labels or conditions enter: concatenated to z, or conditional BatchNorm"
    )

    def build(self, data: DataSpec, latent_dim: int) -> nn.Module:
        if self.condition == "batch_norm" and not self.batch_norm:
            raise ValueError("condition = 'batch_norm' needs batch_norm = true")
        return _MLPGenerator(self, data, latent_dim)


class _MLPGenerator(nn.Module):
    def __init__(self, config: MLPGenerator, data: DataSpec, latent_dim: int) -> None:
        super().__init__()
        joined = given_for(config.condition, "concat", data)
        in_norm = given_for(config.condition, "batch_norm", data)
        widths = (latent_dim + joined_width(joined), *config.hidden)
        self.join = JoinLabel(joined)
        self.linears = nn.ModuleList(nn.Linear(a, b) for a, b in itertools.pairwise(widths))
        self.norms = nn.ModuleList(
            ConditionalBatchNorm(width, in_norm, dims=1) for width in widths[1:] if config.batch_norm
        )
        self.activation = make_activation(config.activation)
        self.last = nn.Linear(widths[-1], math.prod(data.shape))
        self.output = _output(config.output, data)
        self.shape = data.shape

    def forward(self, z: Tensor, y: Tensor) -> Tensor:
        h = self.join(z, y)
        for i, linear in enumerate(self.linears):
            h = linear(h)
            if self.norms:
                h = self.norms[i](h, y)
            h = self.activation(h)
        return self.output(self.last(h)).unflatten(1, self.shape)


def _output(name: str, data: DataSpec) -> nn.Module:
    """The last activation."""
    if name == "tanh" or (name == "auto" and data.is_image):
        return nn.Tanh()
    if name == "auto" and data.columns is not None and max(data.columns) > 1:
        return _Columns(data.columns)
    return nn.Identity()


class _Columns(nn.Module):
    """The blocks of a table's rows (N, D): softmax over a category, wider than 1; a number as it is."""

    def __init__(self, widths: tuple[int, ...]) -> None:
        super().__init__()
        self.widths = widths

    def forward(self, h: Tensor) -> Tensor:
        blocks = h.split(self.widths, dim=1)
        return torch.cat([block.softmax(1) if block.shape[1] > 1 else block for block in blocks], dim=1)


@attrs.frozen
class MLPDiscriminator(Discriminator):
    """Multilayer perceptron from a flattened sample of any shape to its score."""

    hidden: tuple[int, ...] = option((128, 128), help="units of each hidden layer", validator=deep_iterable(ge(1)))
    activation: CriticActivation = option("leaky_relu", help=CRITIC_ACTIVATIONS)
    norm: Norm = option("none", help="normalisation after each hidden layer")
    dropout: float = option(0.0, help="probability of dropping a hidden unit", validator=and_(ge(0), lt(1)))
    condition: DiscriminatorCondition = option(
        "none", help="how labels or conditions enter: concatenated to x, or by projection"
    )

    def build(self, data: DataSpec) -> nn.Module:
        return _MLPDiscriminator(self, data)


class _MLPDiscriminator(nn.Module):
    gives_extras = True

    def __init__(self, config: MLPDiscriminator, data: DataSpec) -> None:
        super().__init__()
        joined = given_for(config.condition, "concat", data)
        widths = (math.prod(data.shape) + joined_width(joined), *config.hidden)
        layers: list[nn.Module] = []
        for a, b in itertools.pairwise(widths):
            layers += [nn.Linear(a, b), make_norm(config.norm, b, dims=1), make_activation(config.activation)]
            layers += [nn.Dropout(config.dropout)] if config.dropout else []
        self.join = JoinLabel(joined)
        self.layers = nn.Sequential(*(layer for layer in layers if not isinstance(layer, nn.Identity)))
        self.head = Head(widths[-1], given_for(config.condition, "projection", data))

    def forward(self, x: Tensor, y: Tensor, extras: dict[str, Tensor] | None = None) -> Tensor:
        h = self.layers(self.join(x.flatten(1), y))
        if extras is not None:
            extras["features"] = h
        return self.head(h, y)
