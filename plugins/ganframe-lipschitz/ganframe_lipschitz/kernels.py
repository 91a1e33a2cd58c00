"""Kernels of layers in one form, sums of their autocorrelation, and a bound on their norm from above.

A kernel is X (g, a, b, *m): g groups of a output channels, b input channels and m taps along each axis; a matrix has no
axes. It stands for the convolution on all of Z^d with stride 1. What a layer with zero padding computes is a part of
this operator: padding with zeros is the start from a signal that is 0 outside, and leaving out what a stride skips, or
what lies outside the image, shortens the result. So no layer has a larger norm than its kernel on Z^d, for any size of
images and any zero padding. With circular padding, frequencies are some of those on Z^d. A transposed convolution is
the transpose of a convolution with the same weight, and has its norm. A dilated kernel has at each frequency ω what the
plain one has at d·ω.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, nullcontext

import attrs
import torch
from torch import Tensor, nn
from torch.nn import functional as F

from ganframe.layers import ConvThenPool, UpsampleThenConv

CONVOLUTIONS = (nn.Conv1d, nn.Conv2d, nn.Conv3d)
TRANSPOSED = (nn.ConvTranspose1d, nn.ConvTranspose2d, nn.ConvTranspose3d)
TINY = 1e-30
"""Added to what is divided by: a kernel of zeros stays one."""


@attrs.frozen
class Geometry:
    """How a layer applies its weight. `scale` is the norm that its kernel may have.

    It is 2 where means of 2×2 pixels follow, whose norm is ½, and ½ where each pixel is repeated 2×2 times before.
    """

    groups: int = 1
    stride: tuple[int, ...] = ()
    dilation: tuple[int, ...] = ()
    scale: float = 1.0

    @classmethod
    def of(cls, layer: nn.Module) -> Geometry:
        if not isinstance(layer, (*CONVOLUTIONS, *TRANSPOSED)):
            return cls()
        scale = 2.0 if isinstance(layer, ConvThenPool) else 0.5 if isinstance(layer, UpsampleThenConv) else 1.0
        return cls(layer.groups, tuple(layer.stride), tuple(layer.dilation), scale)

    def kernel(self, weight: Tensor) -> Tensor:
        """A layer's weight as a kernel (g, a, b, *m) with the layer's own taps. A transposed layer's is transposed."""
        return weight.unflatten(0, (self.groups, -1))

    def patch(self, taps: Sequence[int]) -> tuple[int, ...]:
        """The most taps along each axis, up to those given, for which no input is read by two outputs of a channel.

        Outputs lie `stride` apart and taps `dilation`: p of them are apart while p ≤ stride / gcd(stride, dilation).
        """
        return tuple(min(k, s // math.gcd(s, d)) for k, s, d in zip(taps, self.stride, self.dilation, strict=True))


@contextmanager
def full_precision(tensor: Tensor) -> Iterator[None]:
    """Outside autocast: in bfloat16 a bound on a norm is wrong by a percent."""
    kind = tensor.device.type
    with torch.autocast(kind, enabled=False) if torch.amp.is_autocast_available(kind) else nullcontext():
        yield


def unstrided(kernel: Tensor, stride: Sequence[int]) -> Tensor:
    """The kernel of stride 1 that does the same on s × s pixels put into channels: (g, a, b · ∏s, *⌈m / s⌉).

    Taps are filled up with zeros to a multiple of s.
    """
    pad = [n for s, m in zip(stride[::-1], kernel.shape[:2:-1], strict=True) for n in (0, -m % s)]
    split = F.pad(kernel, pad)
    for axis, s in enumerate(stride):
        split = split.unflatten(3 + 2 * axis, (-1, s))  # (…, ⌈m / s⌉, s, …)
    axes = len(stride)
    order = [0, 1, 2, *(4 + 2 * i for i in range(axes)), *(3 + 2 * i for i in range(axes))]
    return split.permute(order).flatten(2, 2 + axes)


def restrided(kernel: Tensor, stride: Sequence[int], taps: Sequence[int]) -> Tensor:
    """The inverse of `unstrided`: (g, a, b, *taps)."""
    axes = len(stride)
    split = kernel.unflatten(2, (-1, *stride))  # (g, a, b, *s, *⌈m / s⌉)
    order = [0, 1, 2, *(axis for i in range(axes) for axis in (3 + axes + i, 3 + i))]
    split = split.permute(order)
    for axis in range(axes):
        split = split.flatten(3 + axis, 4 + axis)
    return split[(..., *(slice(k) for k in taps))]


def correlation_sums(kernel: Tensor, q: Tensor | None = None) -> Tensor:
    """T (g, a), T_i = Σ_j Σ_t |Σ_{b,u} X[i, b, u] X[j, b, u + t]| q_j / q_i, over output channels j and all shifts t.

    The diagonal matrix of T is at least XXᵀ, on all of Z^d: for a symmetric matrix A and any q > 0 each eigenvalue of
    diag(Σ_j |A_ij| q_j / q_i) - A is ≥ 0, as it is similar to a diagonally dominant matrix (Prach & Lampert 2022,
    theorems 1 and 2; Araujo et al. 2023, theorem 3, for q).
    """
    g, a, _, *taps = kernel.shape
    if taps:
        # The autocorrelation is the kernel convolved with itself: samples i, output channels (g, j), shifts t.
        convolve = (F.conv1d, F.conv2d, F.conv3d)[len(taps) - 1]
        samples, filters = kernel.transpose(0, 1).flatten(1, 2), kernel.flatten(0, 1)
        products = convolve(samples, filters, padding=[k - 1 for k in taps], groups=g)
        sums = products.abs().flatten(2).sum(2).view(a, g, a).transpose(0, 1)
    else:
        sums = (kernel @ kernel.mT).abs()
    return sums.sum(2) if q is None else (sums @ q[..., None])[..., 0] / q


def squared_norm_bound(kernel: Tensor, iterations: int) -> Tensor:
    """An upper bound on the squared norm of a kernel (a, b, *taps) on all of Z^d: a scalar, differentiable.

    X̂(ω), at the frequencies of a grid of N = 4 k points along an axis with k taps, is bounded by `iterations` of Gram
    iteration (Delattre et al. 2023): λ(G)^(2^t) ≤ ‖G^(2^t)‖_F for G = X̂ᴴX̂. Between the points of the grid: for each
    unit vector v, p(ω) = ‖X̂(ω) v‖² is a trigonometric polynomial of degree k - 1 along an axis, between 0 and its
    largest value M. By M. Riesz's lemma p(ω) - M/2 ≥ M/2 cos((k - 1)(ω - ω*)) within π/(k - 1) of where p is largest,
    and a point of the grid is within π/N, so M ≤ max p(grid) / cos²(π (k - 1) / 2N), axis by axis. For k = 3 a bound
    on the norm grows by 3.5 % for each axis.

    Power iteration comes from below, and so bounds nothing.
    """
    taps = kernel.shape[2:]
    X = kernel.flatten(2) if taps else kernel[..., None]
    X = X if X.shape[1] <= X.shape[0] else X.transpose(0, 1)  # the smaller G of the two
    angles = _angles(taps, X)
    real, imaginary = ((X @ part).movedim(2, 0) for part in (angles.cos(), angles.sin()))
    # X̂ = real + i · imaginary, G = R + i S with R symmetric, S antisymmetric.
    R = real.mT @ real + imaginary.mT @ imaginary
    S = real.mT @ imaginary
    S = S - S.mT
    exponent = X.new_zeros(len(R))
    for _ in range(iterations):
        size = _frobenius(R, S)
        exponent = 2 * (exponent + size.log())
        R, S = R / size[:, None, None], S / size[:, None, None]
        RS = R @ S
        R, S = R @ R - S @ S, RS - RS.mT  # SR = -(RS)ᵀ
    logarithm = (exponent + _frobenius(R, S).log()) / 2**iterations
    between = math.prod(math.cos(math.pi * (k - 1) / (2 * _points(k))) ** 2 for k in taps)
    return logarithm.max().exp() / between


def _points(taps: int) -> int:
    """Points of the grid of frequencies along an axis."""
    return 4 * taps if taps > 1 else 1


def _angles(taps: Sequence[int], like: Tensor) -> Tensor:
    """⟨u, ω⟩ for taps u and frequencies ω of the grid, (taps, frequencies)."""
    angles = like.new_zeros(1, 1)
    for axis, k in enumerate(taps):
        n = _points(k)
        u = torch.arange(k, device=like.device, dtype=like.dtype)
        # X is real, so -ω has the norm of ω: half of the frequencies of one axis are enough.
        f = torch.arange(n // 2 + 1 if axis == 0 else n, device=like.device, dtype=like.dtype)
        along = 2 * math.pi / n * torch.outer(u, f)
        angles = (angles[:, None, :, None] + along[None, :, None, :]).flatten(2).flatten(0, 1)
    return angles


def _frobenius(R: Tensor, S: Tensor) -> Tensor:
    return ((R.square() + S.square()).sum((1, 2)) + TINY).sqrt()
