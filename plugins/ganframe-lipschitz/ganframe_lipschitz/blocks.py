"""Residual blocks that are 1-Lipschitz by construction: SLL and CPL, dense and convolutional.

Both are x - 2 W D⁻¹ relu(Wᵀx + b) with a positive diagonal matrix D for which D - WᵀW has no negative eigenvalue. Then
the block is 1-Lipschitz: between two inputs it acts as J = I - 2 W D⁻¹ S Wᵀ, with a diagonal S of slopes in [0, 1], and
JᵀJ = I - 4 W D⁻¹ S Wᵀ + 4 W S D⁻¹ (WᵀW) D⁻¹ S Wᵀ ≤ I - 4 W D⁻¹ (S - S²) Wᵀ ≤ I.

In a convolutional block Wᵀ is a convolution with stride 1 and zero padding that keeps the size, and W its transpose. D
is found for the convolution on all of Z^d, of which the block's is a part: with projections R and P to the positions
inside, R WᵀP W Rᵀ ≤ R WᵀW Rᵀ ≤ R D Rᵀ.
"""

from __future__ import annotations

import math

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from ganframe_lipschitz.kernels import correlation_sums, full_precision, squared_norm_bound
from ganframe_lipschitz.matrices import orthonormal

LEAST = 1e-12
"""The least entry of D."""


class Block(nn.Module):
    """x - 2 W D⁻¹ relu(Wᵀx + b): (N, C) -> (N, C), or (N, C, H, W) -> (N, C, H, W) with kernels of odd `size`."""

    def __init__(self, channels: int, inner: int, size: int | None = None) -> None:
        super().__init__()
        if size is not None and size % 2 == 0:
            raise ValueError(f"a block has kernels of odd size, as 3, not {size}: an even one would move the image")
        taps = () if size is None else (size, size)
        # Orthonormal, at the middle tap: D is then the identity, and the block keeps norms.
        start = torch.zeros(inner, channels, *taps)
        start[(..., *(k // 2 for k in taps))] = orthonormal(torch.randn(inner, channels))
        self.weight = nn.Parameter(start)
        self.bias = nn.Parameter(torch.zeros(inner))

    def diagonal(self) -> Tensor:
        """D: (inner,), or a scalar."""
        raise NotImplementedError

    def forward(self, x: Tensor) -> Tensor:
        with full_precision(x):
            factor = 2 / self.diagonal().clamp_min(LEAST)
        if self.weight.ndim == 2:
            return x - F.linear(factor * F.linear(x, self.weight, self.bias).relu(), self.weight.T)
        padding = self.weight.shape[-1] // 2
        h = F.conv2d(x, self.weight, self.bias, padding=padding).relu()
        return x - F.conv_transpose2d(factor.view(-1, 1, 1) * h, self.weight, padding=padding)

    def lipschitz_constant(self) -> float:
        """1 by the theorem of this module, and 1e-9 for the rounding of D in float64.

        Sums of n numbers have relative errors below n · 1.2e-16, and n is the number of weights at most.
        """
        finite = all(bool(parameter.isfinite().all()) for parameter in self.parameters())
        return 1 + 1e-9 if finite else math.inf


class SLLBlock(Block):
    """SDP-based Lipschitz layer (Araujo et al. 2023, theorem 3): D_i = Σ_j |WᵀW|_ij q_j / q_i with q > 0 learnt.

    D - WᵀW is similar to a diagonally dominant matrix, so no eigenvalue is negative (`correlation_sums`).
    """

    def __init__(self, channels: int, inner: int, size: int | None = None) -> None:
        super().__init__(channels, inner, size)
        self.log_q = nn.Parameter(torch.zeros(inner))

    def diagonal(self) -> Tensor:
        return correlation_sums(self.weight[None], self.log_q.exp()[None])[0]


class CPLBlock(Block):
    """Convex potential layer (Meunier et al. 2022, equation 8): D = ‖W‖², here an upper bound (`squared_norm_bound`).

    The paper estimates ‖W‖ by power iteration, from below: its layer is 1-Lipschitz only where that has converged.
    """

    ITERATIONS = 5

    def diagonal(self) -> Tensor:
        return squared_norm_bound(self.weight, self.ITERATIONS)
