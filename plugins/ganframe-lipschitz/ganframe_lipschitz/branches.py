"""The discriminator `sorted_branches`: many small 1-Lipschitz networks, and a weighted sum of their sorted scores."""

from __future__ import annotations

import itertools
import math
from typing import Literal

import attrs
import torch
from attrs.validators import deep_iterable, ge, min_len
from torch import Tensor, nn

from ganframe import DataSpec, Discriminator, option
from ganframe_lipschitz.critics import given, joined, numbers
from ganframe_lipschitz.kernels import full_precision
from ganframe_lipschitz.matrices import UnitRows, orthonormal


@attrs.frozen
class SortedBranches(Discriminator):
    """1-Lipschitz network v · sort(f_1(x), …, f_K(x)) of K branches f_k, with learnt v, Σ|v_k| ≤ 1.

    A branch has linear layers with orthonormal rows or columns, a full sort after each, and a last weight of norm 1, as
    `orthogonal_layers` with `activation = "fullsort"` (Anil, Lucas & Grosse 2019). Each branch sees all of x at its
    full slope, as its scores are held in the maximum norm and not in the Euclidean one: |f_k(x) - f_k(x')| ≤ ‖x - x'‖
    for each k, sorting does not increase the largest difference, and v increases it at most by Σ|v_k|. So functions
    that are maxima or minima of others can be learnt, which one orthogonal network has to share its slope among (the
    same paper, section 4: with the maximum norm such networks are universal).

    Its learning rate is that of a network whose units are normalised: 3e-2 with Adam, falling to 0, learns well.
    """

    branches: int = option(64, help="number K of branches", validator=ge(1))
    hidden: tuple[int, ...] = option(
        (32,),
        help="units of each hidden layer of a branch; fewer than the numbers of a sample lose directions",
        validator=[min_len(1), deep_iterable(ge(1))],
    )
    condition: Literal["none", "concat"] = option(
        "none", help="how labels or conditions enter: not at all, or concatenated to x"
    )

    def build(self, data: DataSpec) -> nn.Module:
        return _Network(self, data)


class _Network(nn.Module):
    """D(x, y) -> (N,), 1-Lipschitz in x for each y. Samples of any shape are flattened."""

    gives_extras = True

    def __init__(self, config: SortedBranches, data: DataSpec) -> None:
        super().__init__()
        self.given = given(config.condition, data)
        self.sorted = _Branches(numbers(data, self.given), config.branches, config.hidden)

    def forward(self, x: Tensor, y: Tensor, extras: dict[str, Tensor] | None = None) -> Tensor:
        return self.sorted(joined(x.flatten(1), y, self.given), extras)


class _Branches(nn.Module):
    """v · sort(f_1(x), …, f_K(x)): (N, c) -> (N,). Fills `extras` with the branches' scores as features (N, K)."""

    def __init__(self, features: int, branches: int, hidden: tuple[int, ...]) -> None:
        super().__init__()
        widths = itertools.pairwise((features, *hidden))
        self.weights = nn.ParameterList(orthonormal(torch.randn(branches, b, a)) for a, b in widths)
        self.biases = nn.ParameterList(torch.zeros(branches, 1, b) for b in (*hidden, 1))
        self.last = nn.Parameter(UnitRows()(torch.randn(branches, hidden[-1])))
        self.v = nn.Parameter(torch.full((branches,), 1 / branches))

    def forward(self, x: Tensor, extras: dict[str, Tensor] | None = None) -> Tensor:
        with full_precision(x):
            weights = [orthonormal(weight) for weight in self.weights] + [UnitRows()(self.last)[:, None]]
            v = self.v / self.v.abs().sum().clamp_min(1)
        h = x.expand(len(v), *x.shape)  # (K, N, units): each branch has its own matrices
        for weight, bias in zip(weights[:-1], self.biases, strict=False):
            h = (torch.matmul(h, weight.mT) + bias).sort(2).values
        scores = (torch.matmul(h, weights[-1].mT) + self.biases[-1]).squeeze(2).T
        if extras is not None:
            extras["features"] = scores
        return torch.matmul(scores.sort(1).values, v)

    def lipschitz_constant(self) -> float:
        """1 by the argument of `SortedBranches`, and 1e-9 for the rounding of orthonormal matrices in float64.

        Householder's QR has an error below some n · 1e-16 with n numbers in a matrix, whatever the matrix.
        """
        finite = all(bool(parameter.isfinite().all()) for parameter in self.parameters())
        return 1 + 1e-9 if finite else math.inf
