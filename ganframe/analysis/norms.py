"""Norms of linear maps from above, in float64: of matrices, of convolutions, and of maps that act on each axis.

Each is the largest singular value, or a little more, with a proof that it is not less (`largest_norm`). Power and
Lanczos iteration approach a norm from below, which proves nothing. Gram iteration (Delattre et al. 2023) comes from
above too; of a convolution of 128 channels on 32×32 it takes three times as long, and where all singular values are
equal, as in orthogonal layers, it is 2 % above the norm after six steps. Knows torch alone.
"""

from __future__ import annotations

import itertools
import math
from collections.abc import Callable, Iterable, Iterator

import attrs
import torch
from torch import Tensor
from torch.nn import functional as F

UNIT = 2.0**-53
"""The unit roundoff of float64."""

DENSE = 2**34
"""Products for which the matrix of a convolution may be written out: seconds."""

CHUNK = 2**22
"""Complex numbers of a chunk of matrices: 64 MiB."""


def largest_norm(matrices: Iterable[Tensor]) -> float:
    """An upper bound on the largest singular value of all matrices of batches (K, m, n) in float64 or complex128.

    It is above the largest singular value by a factor of about 1 + 1e-10. Infinite where a number is not finite.

    Proof. Let A be one of the matrices, n its smaller side, m its larger one, u = 2^-53, G the computed Gram matrix
    AᴴA, and s a number for which the Cholesky factorisation of the computed S = s·I - G runs to its end. Then

    - ‖G - AᴴA‖₂ ≤ 4mu ‖A‖_F² (Higham 2002, equation 3.13, for real and imaginary parts), ‖A‖_F² ≤ 2 tr G, and
      tr G ≤ ns, since no diagonal entry of S is negative;
    - S differs from s·I - G by at most 2us on the diagonal;
    - the factor R has RᴴR = S + E with ‖E‖₂ ≤ 4(n + 2)u ‖R‖_F² (Higham 2002, theorem 10.3) and ‖R‖_F² ≤ 2 tr S ≤ 2ns.

    As RᴴR is positive semidefinite, ‖A‖₂² ≤ s (1 + 8nmu + 2u + 8n(n + 2)u) ≤ s (1 + 8n(m + n + 3)u). No eigenvalue
    solver is trusted: eigenvalues only propose s. Rump 2006 proves matrices positive definite in this way. LAPACK and
    BLAS are assumed to add products in any order, without Strassen's algorithm.

    Matrices are divided by a power of two before, so that nothing overflows and underflow is far below these margins.
    """
    largest = 0.0
    for batch in matrices:
        size = batch.abs().max().item() if batch.numel() else 0.0
        if not math.isfinite(size):
            return math.inf
        if size == 0:
            continue
        scale = 2.0 ** min(math.frexp(size)[1], 1023)
        A = batch / scale if batch.shape[1] >= batch.shape[2] else batch.mH / scale
        n, m = sorted(A.shape[1:])
        so_far = min(largest / scale, 1e100)  # whose square is finite
        s = _proved(A.mH @ A, so_far * so_far)
        norm = math.sqrt(s * (1 + 8 * n * (m + n + 3) * UNIT)) * (1 + 4 * UNIT)
        largest = max(largest, math.nextafter(norm * scale, math.inf))
    return largest


def _proved(G: Tensor, s: float) -> float:
    """A number ≥ s for which the Cholesky factorisation of s·I - G runs to its end for all matrices G (K, n, n)."""
    slack = 64 * G.shape[-1] * UNIT  # in most cases more than the rounding of an eigenvalue and of a factorisation
    while len(G):
        S = -G
        S.diagonal(dim1=1, dim2=2).add_(s)
        G = G[torch.linalg.cholesky_ex(S).info > 0] if s > 0 else G
        if len(G):
            s = max(s, torch.linalg.eigvalsh(G[_steepest(G)])[-1].item()) * (1 + slack)
            slack *= 2
    return s


def _steepest(G: Tensor) -> int:
    """The place of the matrix (K, n, n) with about the largest eigenvalue, by a short power iteration."""
    v = torch.ones_like(G[:, :, :1])
    for _ in range(10):
        v = F.normalize(G @ v, dim=1)
    return int((G @ v).norm(dim=1).argmax())


def matrix_norm(matrix: Tensor) -> float:
    """An upper bound on the largest singular value of a matrix (m, n), about 1e-10 of it above."""
    return largest_norm([matrix.detach().double().cpu()[None]])


# -------------------------------------------------------------------------------------------------------- convolutions


@attrs.frozen
class Convolution:
    """y_j = Σ_k w_k x_{j·stride + k·dilation - padding}, with zeros beyond x, in one to three dimensions.

    `weight` is (C', C / groups, *kernel). `inputs` and `outputs` are the sizes of x and y, one number a dimension.
    """

    weight: Tensor
    inputs: tuple[int, ...]
    outputs: tuple[int, ...]
    stride: tuple[int, ...]
    padding: tuple[int, ...]
    dilation: tuple[int, ...]
    groups: int = 1

    def norm(self) -> float:
        """An upper bound on the operator norm: of the operator's matrix where that is small, else by frequency.

        `rounding` covers a kernel whose numbers are sums of four numbers of a layer's.
        """
        w = self.weight.detach().double()
        kernels = w.reshape(self.groups, -1, w.shape[1], math.prod(w.shape[2:]))  # (groups, C'/groups, C/groups, taps)
        taps = kernels.shape[-1]
        rounding = 4 * (taps + 80) * UNIT * math.sqrt(taps) * kernels.norm().item()
        found = largest_norm([self._written_out(kernels)] if self.is_small else self._by_frequency(kernels))
        return (found + rounding) * (1 + 4 * UNIT) if math.isfinite(found) else math.inf

    @property
    def is_small(self) -> bool:
        """Whether the matrix of the operator may be written out."""
        rows = len(self.weight) // self.groups * math.prod(self.outputs)
        columns = self.weight.shape[1] * math.prod(self.inputs)
        numbers = self.groups * rows * columns
        return numbers <= 8 * CHUNK and numbers * min(rows, columns) <= DENSE

    def _offsets(self) -> list[tuple[int, ...]]:
        """k·dilation - padding of each tap k of the kernel."""
        taps = itertools.product(*map(range, self.weight.shape[2:]))
        return [tuple(k * d - p for k, d, p in zip(tap, self.dilation, self.padding, strict=True)) for tap in taps]

    def _written_out(self, kernels: Tensor) -> Tensor:
        """The operator as a matrix for each group, (groups, C'/groups · outputs, C/groups · inputs)."""
        groups, out, into, _ = kernels.shape
        places = math.prod(self.outputs), math.prod(self.inputs)
        matrix = kernels.new_zeros(*places, groups, out, into)
        each = torch.cartesian_prod(*map(torch.arange, self.outputs)).view(-1, len(self.outputs))
        strides = torch.tensor([math.prod(self.inputs[i + 1 :]) for i in range(len(self.inputs))])
        for tap, offset in enumerate(self._offsets()):
            read = each * torch.tensor(self.stride) + torch.tensor(offset)
            inside = ((read >= 0) & (read < torch.tensor(self.inputs))).all(1)
            matrix[inside.nonzero()[:, 0], (read[inside] * strides).sum(1)] = kernels[..., tap]
        return matrix.permute(2, 3, 0, 4, 1).reshape(groups, out * places[0], into * places[1])

    def _by_frequency(self, kernels: Tensor) -> Iterator[Tensor]:
        """The blocks of a circular convolution on a larger image, which is block-diagonal in the Fourier basis.

        Numbers that are read beyond x are zeros, at most b of them on each side. On a circular image of M·stride
        numbers a dimension, at least those of x and b, they are zeros too, those of both sides being the same ones. So
        the operator is the circular one with inputs in x and some of its outputs (two outputs that are one in the
        circle read nothing but zeros), and its norm is not larger. With a stride s the positions i·s + r are one input
        for each r < s (polyphase components), and the stride is 1. The norm is the largest singular value of

            Ŵ(f) = Σ_k w_k exp(2πi f·⌊t_k / s⌋ / M), one block of columns for each r = t_k mod s,

        with t_k = k·dilation - padding, over all frequencies f (Sedghi, Gupta & Long 2019, for stride 1). As w is real,
        f and -f have equal norms.

        Rounding: each exp has an error of at most 80u, and a sum over T taps adds Tu Σ|w_k|, in the real and the
        imaginary part. So ‖Ŵ(f)‖ is off by at most 2(T + 80)u √T ‖w‖_F.
        """
        offsets, s = torch.tensor(self._offsets()), torch.tensor(self.stride)
        last = (torch.tensor(self.outputs) - 1) * s
        beyond = torch.maximum(-offsets.amin(0), last + offsets.amax(0) - torch.tensor(self.inputs) + 1).clamp(min=0)
        sizes = -(-(torch.tensor(self.inputs) + beyond) // s)
        moved, phase = offsets.div(s, rounding_mode="floor"), offsets.remainder(s)
        sizes[moved.amin(0) == moved.amax(0)] = 1  # such a frequency is one factor of Ŵ, as for kernels of one pixel
        grid = [torch.arange(M) for M in sizes.tolist()]
        grid[-1] = grid[-1][: len(grid[-1]) // 2 + 1]
        frequencies = torch.cartesian_prod(*grid).view(-1, len(grid))
        parts = [(phase == r).all(1) for r in phase.unique(dim=0)]
        blocks = [(moved[part], kernels[..., part].flatten(0, 2).T) for part in parts]
        groups, out, into, _ = kernels.shape
        for some in frequencies.split(max(1, CHUNK // (groups * out * into * len(blocks)))):
            columns = []
            for steps, w in blocks:
                # Whole turns are taken off in integers, so that angles stay small.
                turns = ((some[:, None] * steps).remainder(sizes) / sizes.double()).sum(2)
                angle = 2 * math.pi * turns.remainder(1)
                columns.append(torch.complex(angle.cos() @ w, angle.sin() @ w).view(-1, out, into))
            yield torch.cat(columns, dim=2)


# ---------------------------------------------------------------------------------------- maps that act on each axis


def separable_norm(function: Callable[[Tensor], Tensor], x: Tensor, dims: int) -> float:
    """An upper bound on the norm of x -> Ax + b, A = A₁ ⊗ … ⊗ A_d acting on the last `dims` axes of x, each by itself.

    Pooling by means, padding and resizing are such maps. ‖A‖ = ‖A₁‖ … ‖A_d‖. Each A_i is read off, up to a factor, by
    giving the function inputs that are constant along the other axes: A(e ⊗ 1) = A₁e ⊗ A₂1.
    """
    x = x[(slice(0, 1),) * (x.ndim - dims)]
    offset = function(torch.zeros_like(x))

    def linear(x: Tensor) -> Tensor:
        return (function(x) - offset).flatten(0, -dims - 1)[0]

    ones = linear(torch.ones_like(x))
    place = [int(i) for i in torch.unravel_index(ones.abs().argmax(), ones.shape)]
    norm = abs(ones[tuple(place)].item()) ** (1 - dims)
    for axis in range(dims):
        columns = []
        for i in range(x.shape[axis - dims]):
            unit = torch.zeros_like(x)
            unit.select(axis - dims, i).fill_(1)
            columns.append(linear(unit)[tuple(slice(None) if j == axis else place[j] for j in range(dims))])
        # 1e-12 is 50u √n, for the rounding of the numbers in A_i, with n up to 10,000.
        norm *= matrix_norm(torch.stack(columns, dim=1)) * (1 + 1e-12)
    return norm
