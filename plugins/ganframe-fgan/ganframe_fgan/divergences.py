"""The table of f-divergences of Nowozin, Cseke and Tomioka 2016 (tables 1 and 2 and their
full versions in the appendix), on raw scores v.

D_f(p‖q) = E_q f(u) with u = p/q, f convex and f(1) = 0 ("gan" alone has f(1) = -log 4). A critic T = g(v) bounds it
from below by E_p T - E_q f*(T), and reaches it where T = f'(u). f*(g(v)) is written as one function of v: taken one
after the other, f* would meet the edge of its domain, where g(v) is rounded to it.

Nothing here knows of losses or players.
"""

from __future__ import annotations

import functools
import math
from collections.abc import Callable, Mapping
from typing import Any, Literal

import attrs
import torch
from torch import Tensor
from torch.nn.functional import softplus

Name = Literal[
    "total_variation",
    "kl",
    "reverse_kl",
    "pearson",
    "neyman",
    "squared_hellinger",
    "jeffrey",
    "jensen_shannon",
    "jensen_shannon_weighted",
    "gan",
]


@attrs.frozen
class Divergence:
    """A row of the table: three functions of a tensor, element by element."""

    g: Callable[[Tensor], Tensor]
    """g(v): the output activation, which maps any score into the domain of f*."""

    conjugate: Callable[[Tensor], Tensor]
    """f*(g(v))."""

    optimum: Callable[[Tensor], Tensor]
    """log u -> v*, the score at which g(v*) = f'(u)."""


@functools.cache
def table(pi: float) -> Mapping[Name, Divergence]:
    """Every row by its name; `pi` is the weight of the row "jensen_shannon_weighted".

    Slopes matter more than the last digit of a value: exp(v) - 1 stands for expm1(v), and σ(2v) - ½ for ½ tanh v,
    because torch differentiates those two through their rounded results, and the slope at v = -20 would be 0.
    """
    log_2 = math.log(2)
    return {
        # f = ½|u - 1|, f* = t on [-½, ½]. The optimal score is ±∞, and anything where u = 1.
        "total_variation": Divergence(
            g=_half_tanh,
            conjugate=_half_tanh,
            optimum=lambda log_u: torch.where(log_u == 0, log_u, log_u * math.inf),
        ),
        # f = u log u, f* = exp(t - 1)
        "kl": Divergence(
            g=lambda v: v,
            conjugate=lambda v: torch.exp(v - 1),
            optimum=lambda log_u: 1 + log_u,
        ),
        # f = -log u, f* = -1 - log(-t) for t < 0
        "reverse_kl": Divergence(
            g=lambda v: -torch.exp(-v),
            conjugate=lambda v: v - 1,
            optimum=lambda log_u: log_u,
        ),
        # f = (u - 1)², f* = t²/4 + t. With u ≥ 0 the conjugate is -1 below t = -2, and this bound, the paper's, is
        # above it there: no tighter, and never at its optimum.
        "pearson": Divergence(
            g=lambda v: v,
            conjugate=lambda v: v.square() / 4 + v,
            optimum=lambda log_u: 2 * torch.expm1(log_u),
        ),
        # f = (1 - u)²/u, f* = 2 - 2 √(1 - t) for t < 1
        "neyman": Divergence(
            g=lambda v: 1 - torch.exp(-v),
            conjugate=lambda v: 2 - 2 * torch.exp(-v / 2),
            optimum=lambda log_u: 2 * log_u,
        ),
        # f = (√u - 1)², f* = t/(1 - t) for t < 1
        "squared_hellinger": Divergence(
            g=lambda v: 1 - torch.exp(-v),
            conjugate=lambda v: torch.exp(v) - 1,
            optimum=lambda log_u: log_u / 2,
        ),
        # f = (u - 1) log u, f* = w + 1/w + t - 2 with w + log w = 1 - t
        "jeffrey": Divergence(
            g=lambda v: v,
            conjugate=_jeffrey,
            optimum=lambda log_u: log_u - torch.expm1(-log_u),
        ),
        # f = u log u - (u + 1) log((u + 1)/2), f* = -log(2 - exp t) for t < log 2: twice the JSD
        "jensen_shannon": Divergence(
            g=lambda v: log_2 - softplus(-v),
            conjugate=lambda v: softplus(v) - log_2,
            optimum=lambda log_u: log_u,
        ),
        # f = πu log u - (1 - π + πu) log(1 - π + πu), f* = (1 - π) log[(1 - π)/(1 - π exp(t/π))] for t < -π log π
        "jensen_shannon_weighted": Divergence(
            g=lambda v: -pi * (math.log(pi) + softplus(-v)),
            conjugate=lambda v: (1 - pi) * (math.log1p(-pi) + softplus(v)),
            optimum=lambda log_u: log_u + math.log(pi) - math.log1p(-pi),
        ),
        # f = u log u - (u + 1) log(u + 1), f* = -log(1 - exp t) for t < 0
        "gan": Divergence(
            g=lambda v: -softplus(-v),
            conjugate=softplus,
            optimum=lambda log_u: log_u,
        ),
    }


def _half_tanh(v: Tensor) -> Tensor:
    return torch.sigmoid(2 * v) - 0.5


def _jeffrey(t: Tensor) -> Tensor:
    """f*(t) = w + 1/w + t - 2 = 1/w - 1 - log w, which is u - 1 + log u for the ratio u = 1/w at which f'(u) = t."""
    log_u: Tensor = JeffreyLogRatio.apply(t)
    return torch.expm1(log_u) + log_u


class JeffreyLogRatio(torch.autograd.Function):
    """t -> y, the root of y + 1 - exp(-y) = t: the log u at which Jeffrey's f'(u) = t, element by element.

    w = exp(-y) is the Wright omega function of 1 - t, and d/dt f* = 1/w. In y nothing overflows before the result
    does. Any device and floating dtype, and differentiable any number of times: dy/dt = 1/(1 + w) = σ(y).
    """

    generate_vmap_rule = True
    STEPS = 5  # float64 is reached by 4, float32 by 3

    @staticmethod
    def forward(t: Tensor) -> Tensor:
        # Newton's method on a concave, rising function: from t >= 0 one step leads below the root, and log w is at
        # most log(1 - t) below 0; from there on it rises to the root and cannot pass it.
        y = torch.relu(t) - torch.log1p(torch.relu(-t))
        for _ in range(JeffreyLogRatio.STEPS):
            y = y - (y - torch.expm1(-y) - t) * torch.sigmoid(y)
        return y

    @staticmethod
    def setup_context(ctx: Any, inputs: tuple[Tensor], output: Tensor) -> None:
        ctx.save_for_backward(output)

    @staticmethod
    def backward(ctx: Any, slope: Tensor) -> Tensor:
        (y,) = ctx.saved_tensors
        return slope * torch.sigmoid(y)
