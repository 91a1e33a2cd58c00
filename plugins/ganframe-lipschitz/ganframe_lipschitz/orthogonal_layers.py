"""The constraint `orthogonal_layers`: orthonormal rows or columns, by a parametrisation of each layer's weight."""

from __future__ import annotations

import math
from collections.abc import Sequence

import attrs
import torch
from attrs.validators import ge
from torch import Tensor, nn
from torch.nn import functional as F

from ganframe import Constraint, option
from ganframe_lipschitz.aol import AlmostOrthogonalKernel
from ganframe_lipschitz.covered import covered, parametrized
from ganframe_lipschitz.kernels import Geometry, full_precision
from ganframe_lipschitz.matrices import Method, UnitRows, orthonormal


@attrs.frozen
class OrthogonalLayers(Constraint):
    """Every linear layer and convolution of D has orthonormal rows or columns, so it is 1-Lipschitz by construction.

    A matrix W is that of `orthonormal`: where it is wide its rows are orthonormal, where it is tall its columns are, as
    with Anil, Lucas & Grosse 2019 for dense layers. A convolution is a product of orthogonal ones (`OrthogonalKernel`),
    exactly 1-Lipschitz, and norm-preserving away from zero padding; one of a single channel, where only shifts are
    orthogonal, is rescaled as by `aol`. The rows of an embedding have norm 1.

    The layers are 1-Lipschitz, the network is as much as what joins them: 1-Lipschitz activations keep it so, a
    residual block adds 1 and its branch. Activations that keep the gradient's norm, as `maxmin`, lose least.
    """

    method: Method = option(
        "qr", help="how a matrix becomes orthonormal: exactly by QR, or by Björck's iteration, from below"
    )
    iterations: int = option(12, help="rounds of Björck's iteration", validator=ge(1))

    def check(self, D: nn.Module) -> None:
        covered(D, "orthogonal_layers")

    def wrap(self, D: nn.Module) -> nn.Module:
        for layer in covered(D, "orthogonal_layers"):
            parametrized(layer, _parametrization(layer, self.method, self.iterations))
        return D


def _parametrization(layer: nn.Module, method: Method, iterations: int) -> nn.Module:
    if isinstance(layer, nn.Embedding):
        return UnitRows()
    geometry, shape = Geometry.of(layer), layer.weight.shape
    kernel = OrthogonalKernel(shape, geometry, method, iterations)
    return AlmostOrthogonalKernel(geometry) if kernel.impossible else kernel


class OrthogonalKernel(nn.Module):
    """The weight of a linear layer or a convolution with orthonormal rows or columns, as a parametrisation.

    A matrix H of orthonormal rows or columns acts on patches that do not overlap: p taps along each axis, at most the
    stride, so ‖Hx‖ ≤ ‖x‖. That is all for a linear layer, and for a convolution without overlap (k ≤ s).

    The other k - p taps of an axis come from orthogonal convolutions of two taps (Li et al. 2019, BCOP): P and I - P
    for a projection P = UUᵀ of the channels, half of their rank. At the frequency ω it is P + (I - P) e^(iω), which is
    unitary, so the product with H has H's norm of 1, on images of any size. These convolutions act on the input
    channels, before H, as in Boissin et al. 2025; or on the output channels, after H, where H is tall and the taps
    allow it, since there are more of those. (With Björck's iteration UUᵀ has eigenvalues λ in [0, 1], and
    |λ + (1 - λ) e^(iω)| ≤ 1.)

    `impossible`: a single channel has no such convolutions but shifts.
    """

    def __init__(self, shape: Sequence[int], geometry: Geometry, method: Method = "qr", iterations: int = 12) -> None:
        super().__init__()
        self.geometry, self.method, self.iterations = geometry, method, iterations
        g, s, d = geometry.groups, geometry.stride, geometry.dilation
        a, b, taps = shape[0] // g, shape[1], shape[2:]
        patch = geometry.patch(taps)
        tall = a > b * math.prod(patch)
        # After H a tap more is one more output: s / d taps.
        after = tall and all(s_i % d_i == 0 or s_i == 1 for s_i, d_i in zip(s, d, strict=True))
        steps = [max(1, s_i // d_i) if after else 1 for s_i, d_i in zip(s, d, strict=True)]
        after = after and all((k - p) % step == 0 for k, p, step in zip(taps, patch, steps, strict=True))
        self.after, self.steps = after, steps if after else [1] * len(taps)
        self.axes = [
            axis
            for axis, (k, p) in enumerate(zip(taps, patch, strict=True))
            for _ in range((k - p) // self.steps[axis])
        ]
        mixed = a if after else b
        self.impossible = bool(self.axes) and mixed == 1
        self.patch = patch
        self.shapes = [(g, a, b * math.prod(patch)), (len(self.axes), g, mixed, mixed // 2)]

    def right_inverse(self, weight: Tensor) -> Tensor | tuple[Tensor, Tensor]:
        """Random orthonormal matrices, whatever the weight: most weights are no orthogonal convolutions.

        That of a linear layer is made from its weight.
        """
        H, U = (torch.randn(shape, dtype=weight.dtype, device=weight.device) for shape in self.shapes)
        H = orthonormal(weight.detach()[None] if weight.ndim == 2 else H)
        return (H, orthonormal(U)) if self.axes else H

    def forward(self, H: Tensor, U: Tensor | None = None) -> Tensor:
        with full_precision(H):
            g, a, columns = H.shape
            kernel = orthonormal(H, self.method, self.iterations).reshape(
                g, a, columns // math.prod(self.patch), *self.patch
            )
            kernel = kernel if U is None else self._longer(kernel, orthonormal(U, self.method, self.iterations))
            return (self.geometry.scale * kernel).flatten(0, 1)

    def _longer(self, kernel: Tensor, U: Tensor) -> Tensor:
        """The product of the kernel with a convolution of two taps for each U (g, channels, rank)."""
        X = kernel if self.after else kernel.transpose(1, 2)  # (g, channels that are mixed, the others, *taps)
        made = [0] * len(self.patch)
        for axis, basis in zip(self.axes, U, strict=True):
            rows = X.flatten(2)
            projected = (basis @ (basis.mT @ rows)).view_as(X)
            first, second = projected, X - projected
            if made[axis] % 2:  # every other one is reversed, so that an odd number of channels stays in the middle
                first, second = second, first
            made[axis] += 1
            X = _padded(first, axis, 0, self.steps[axis]) + _padded(second, axis, self.steps[axis], 0)
        return X if self.after else X.transpose(1, 2)


def _padded(X: Tensor, axis: int, before: int, behind: int) -> Tensor:
    """X (g, …, …, *taps) with zeros before and behind the taps of one axis."""
    return F.pad(X, (*(0, 0) * (X.ndim - 4 - axis), before, behind))
