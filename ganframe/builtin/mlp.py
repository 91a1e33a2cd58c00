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

TEMPERATURE = 0.2  # τ of the Gumbel-softmax, as CTGAN's (Xu et al. 2019)
PERIODS = 64.0


@attrs.frozen
class MLPGenerator(Generator):
    """Multilayer perceptron from z to a sample of any shape (Goodfellow et al. 2014 used one for MNIST)."""

    hidden: tuple[int, ...] = option((128, 128), help="units of each hidden layer", validator=deep_iterable(ge(1)))
    activation: Activation = option("relu", help="activation of the hidden layers; leaky_relu has slope 0.2")
    batch_norm: bool = option(False, help="BatchNorm after each hidden layer")
    output: Literal["auto", "linear", "tanh"] = option(
        "auto", help="last activation; auto: tanh for images, Gumbel-softmax for categories of a table, else linear"
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
        categories = config.output == "auto" and data.columns is not None and max(data.columns) > 1
        self.rows = _Rows(data.columns or (), latent_dim) if categories else None
        self.output = _output(config.output, data)
        self.shape = data.shape

    def forward(self, z: Tensor, y: Tensor) -> Tensor:
        h = self.join(z, y)
        for i, linear in enumerate(self.linears):
            h = linear(h)
            if self.norms:
                h = self.norms[i](h, y)
            h = self.activation(h)
        h = self.last(h)
        return self.output(h).unflatten(1, self.shape) if self.rows is None else self.rows(h, z)


def _output(name: str, data: DataSpec) -> nn.Module:
    """The last activation."""
    if name == "tanh" or (name == "auto" and data.is_image):
        return nn.Tanh()
    return nn.Identity()


class _Rows(nn.Module):
    """The blocks of a table's rows: a number as it is, a category, wider than 1, by Gumbel-softmax.

    A category is drawn with the probabilities softmax(h): it is the largest of h + g, for Gumbel noise g. In training
    it is softmax((h + g) / τ) (Jang et al. 2017), so that gradients pass; in evaluation it is in one-hot form, with the
    same gradients. The noise is a function of z, so that a latent always gives the same row: g = -log(-log u), where u
    is the fractional part of a random linear map of z that is spread over many periods, and so all but uniform.

    forward(h, z): h (N, D), z (N, latent_dim) -> (N, D).
    """

    directions: Tensor

    def __init__(self, widths: tuple[int, ...], latent_dim: int) -> None:
        super().__init__()
        self.widths = widths
        self.register_buffer("directions", PERIODS * torch.randn(latent_dim, sum(widths)) / math.sqrt(latent_dim))

    def forward(self, h: Tensor, z: Tensor) -> Tensor:
        with torch.no_grad(), torch.autocast(z.device.type, enabled=False):
            u = (z.to(self.directions.dtype) @ self.directions).remainder(1).clamp(1e-6, 1 - 1e-6)
            noise = -(-u.log()).log()
        pairs = zip(h.split(self.widths, dim=1), (h + noise.to(h.dtype)).split(self.widths, dim=1), strict=True)
        return torch.cat([self._category(noisy) if h.shape[1] > 1 else h for h, noisy in pairs], dim=1)

    def _category(self, noisy: Tensor) -> Tensor:
        soft = (noisy / TEMPERATURE).softmax(1)
        if self.training:
            return soft
        hard = torch.zeros_like(soft).scatter(1, noisy.argmax(1, keepdim=True), 1.0)
        return hard + (soft - soft.detach())


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
