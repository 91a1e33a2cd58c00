"""The f-divergences of Nowozin, Cseke and Tomioka 2016 (tables 1 and 2, complete in the appendix), on raw scores v.

D_f(p‖q) = E_q f(u) with u = p/q, f convex and f(1) = 0 (except "gan", where f(1) = -log 4). For a variational
function T = g(v), E_p T - E_q f*(T) is a lower bound of D_f, and equal to it where T = f'(u). f*(g(v)) is written as
one function of v, because g(v) may round to the boundary of the domain of f*.
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
    """A row of the table: three elementwise functions of a tensor."""

    g: Callable[[Tensor], Tensor]
    """v -> g(v), the output activation, which maps any score into the domain of f*."""

    conjugate: Callable[[Tensor], Tensor]
    """v -> f*(g(v))."""

    optimum: Callable[[Tensor], Tensor]
    """log u -> v*, the optimal score: g(v*) = f'(u)."""


@functools.cache
def table(pi: float) -> Mapping[Name, Divergence]:
    """All rows by name; `pi` is the weight π of "jensen_shannon_weighted".

    Exact gradients matter more than the last digit of a value: exp(v) - 1 replaces expm1(v), and σ(2v) - ½ replaces
    ½ tanh v, because torch computes the gradients of expm1 and tanh from their rounded results: 0 at v = -20.
    """
    log_2 = math.log(2)
    return {
        # f = ½|u - 1|, f* = t on [-½, ½]. The optimal score is ±∞; where u = 1 every score is optimal.
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
        # f = (u - 1)², f* = t²/4 + t, as in the paper. With u ≥ 0 the conjugate is -1 below t = -2, less than the
        # paper's. The paper's bound is looser there, but the optimum is never there.
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
    """f*(t) = w + 1/w + t - 2 = 1/w - 1 - log w = u - 1 + log u, with u = 1/w and f'(u) = t."""
    log_u: Tensor = JeffreyLogRatio.apply(t)
    return torch.expm1(log_u) + log_u


class JeffreyLogRatio(torch.autograd.Function):
    """t -> y, the root of y + 1 - exp(-y) = t, elementwise: y = log u where Jeffrey's f'(u) = t.

    w = exp(-y) is the Wright omega function of 1 - t, and d/dt f* = 1/w. In terms of y, no intermediate value
    overflows before the result. Works on any device and floating dtype. Differentiable any number of times:
    dy/dt = 1/(1 + w) = σ(y).
    """

    generate_vmap_rule = True
    STEPS = 5  # 4 steps converge in float64, 3 in float32

    @staticmethod
    def forward(t: Tensor) -> Tensor:
        # Newton's method on a concave, increasing function. For t >= 0 the first step leads below the root; for t < 0
        # the start is below it, because log w <= log(1 - t). From there the iterates increase and cannot pass the root.
        y = torch.relu(t) - torch.log1p(torch.relu(-t))
        for _ in range(JeffreyLogRatio.STEPS):
            y = y - (y - torch.expm1(-y) - t) * torch.sigmoid(y)
        return y

    @staticmethod
    def setup_context(ctx: Any, inputs: tuple[Tensor], output: Tensor) -> None:
        ctx.save_for_backward(output)

    @staticmethod
    def backward(ctx: Any, gradient: Tensor) -> Tensor:
        (y,) = ctx.saved_tensors
        return gradient * torch.sigmoid(y)
