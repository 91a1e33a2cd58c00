"""The constraint `aol`: almost orthogonal layers, by a rescaling of their weights."""

from __future__ import annotations

import attrs
import torch
from torch import Tensor, nn

from ganframe import Constraint
from ganframe_lipschitz.covered import covered, parametrized
from ganframe_lipschitz.kernels import Geometry, correlation_sums, full_precision, restrided, unstrided
from ganframe_lipschitz.matrices import UnitRows, orthonormal

LEAST = 1e-12
"""The least sum that a filter is divided by: one of zeros stays zero."""


@attrs.frozen
class AlmostOrthogonal(Constraint):
    """W diag(d), d_j = (Σ_i |WᵀW|_ij)^-½, in every linear layer and convolution of D (AOL; Prach & Lampert 2022).

    The result has a norm of at most 1 for any W (theorem 1). In a convolution the sum is over channels and shifts of
    the kernel's autocorrelation (theorem 2); `AlmostOrthogonalKernel` says how strides enter. If the columns of W are
    orthogonal, those of the result are orthonormal, and training leads towards this. Weights start orthogonal. The rows
    of an embedding have norm 1.
    """

    def check(self, D: nn.Module) -> None:
        covered(D, "aol")

    def wrap(self, D: nn.Module) -> nn.Module:
        for layer in covered(D, "aol"):
            kind = UnitRows() if isinstance(layer, nn.Embedding) else AlmostOrthogonalKernel(Geometry.of(layer))
            parametrized(layer, kind)
        return D


class AlmostOrthogonalKernel(nn.Module):
    """A kernel rescaled by AOL, as a parametrisation.

    Of W and Wᵀ, which have the same norm, the side with fewer channels is rescaled: its sums cost less.

    A convolution with stride s is one of stride 1 on s × s pixels that are put into channels, which moves numbers and
    changes no norm. The theorem is applied to that one: only shifts by multiples of s count, so the bound is sharper
    than that of the kernel with stride 1. (With a dilation beside the stride, stride 1 is assumed; skipping outputs
    does not increase a norm.)
    """

    def __init__(self, geometry: Geometry) -> None:
        super().__init__()
        self.geometry = geometry
        dilated = any(d > 1 for d in geometry.dilation)
        self.stride = tuple(1 for _ in geometry.stride) if dilated else geometry.stride

    def right_inverse(self, weight: Tensor) -> Tensor:
        """An orthonormal matrix at the middle tap, and 0 at the others: the sums are 1 there (Xiao et al. 2018).

        Weights drawn independently for each tap would be divided by a sum that is far larger than their norm.
        """
        kernel = unstrided(self.geometry.kernel(weight.detach()), self.stride)
        start = torch.zeros_like(kernel)
        middle = tuple((k - 1) // 2 for k in kernel.shape[3:])
        start[(..., *middle)] = orthonormal(torch.randn_like(kernel[(..., *middle)]))
        return restrided(start, self.stride, weight.shape[2:]).flatten(0, 1)

    def forward(self, V: Tensor) -> Tensor:
        with full_precision(V):
            kernel = unstrided(self.geometry.kernel(V), self.stride)
            wide = kernel.shape[1] <= kernel.shape[2]
            X = kernel if wide else kernel.transpose(1, 2)
            d = self.geometry.scale * correlation_sums(X).clamp_min(LEAST).rsqrt()
            X = X * d[(..., *[None] * (X.ndim - 2))]
            return restrided(X if wide else X.transpose(1, 2), self.stride, V.shape[2:]).flatten(0, 1)
