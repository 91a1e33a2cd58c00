"""Norms from above: proved in exact rational arithmetic for small matrices, never below singular values, and close."""

from __future__ import annotations

import itertools
import math
import random
from fractions import Fraction

import numpy as np
import pytest
import torch
from torch.nn import functional as F

from ganframe.analysis import norms
from ganframe.analysis.norms import Convolution, largest_norm, matrix_norm, separable_norm


def is_above(bound, matrix):
    """Whether bound ≥ ‖A‖₂ without any rounding: bound² I - AᵀA has an L D Lᵀ factorisation with D > 0."""
    A = [[Fraction(number) for number in row] for row in matrix.tolist()]
    n = len(A[0])
    S = [[(Fraction(bound) ** 2) * (i == j) - sum(row[i] * row[j] for row in A) for j in range(n)] for i in range(n)]
    for k in range(n):
        if S[k][k] <= 0:
            return False
        for i, j in itertools.product(range(k + 1, n), repeat=2):
            S[i][j] -= S[i][k] * S[k][j] / S[k][k]
    return True


def random_matrix(kind, m, n):
    A = torch.randn(m, n, dtype=torch.float64)
    if kind == "orthogonal":  # all singular values equal
        return 3 * torch.linalg.qr(A if m >= n else A.T).Q.reshape(m, n)
    if kind == "rank one":
        return A[:, :1] @ A[:1]
    if kind == "Hilbert":
        return 1 / (torch.arange(m)[:, None] + torch.arange(n) + 1.0).double()
    scales = {"tiny": 1e-300, "subnormal": 5e-322, "huge": 1e300, "ordinary": 1.0, "float32": 1.0}
    return (A.float().double() if kind == "float32" else A) * scales[kind]


KINDS = ["ordinary", "orthogonal", "rank one", "Hilbert", "tiny", "subnormal", "huge", "float32"]


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("shape", [(1, 1), (1, 4), (5, 1), (2, 2), (6, 4), (3, 5)])
def test_norm_of_matrix_is_above_in_exact_arithmetic_and_close(shape, kind):
    torch.manual_seed(0)
    for _ in range(5):
        A = random_matrix(kind, *shape)
        bound = matrix_norm(A)
        assert is_above(bound, A)
        if kind != "subnormal":
            assert not is_above(bound * (1 - 1e-11), A)


def test_rational_check_refuses_a_number_below_the_norm():
    A = torch.tensor([[3.0, 0.0], [4.0, 0.0]])
    assert not is_above(5.0, A)  # not above, but equal
    assert is_above(5.0 + 1e-15, A)
    assert matrix_norm(A) == pytest.approx(5, rel=1e-14)


@pytest.mark.parametrize("wrong", [lambda values: 0.25 * values, lambda values: torch.full_like(values, 0.9)])
def test_bound_does_not_trust_the_eigenvalue_solver(monkeypatch, wrong):
    """A wrong eigenvalue costs time and tightness, and the bound still holds."""
    solver = torch.linalg.eigvalsh
    monkeypatch.setattr(torch.linalg, "eigvalsh", lambda G: wrong(solver(G)))
    A = torch.randn(20, 12, dtype=torch.float64, generator=torch.Generator().manual_seed(0))
    true = torch.linalg.matrix_norm(A, 2).item()
    assert true <= matrix_norm(A) <= 2 * true


def test_margin_covers_the_rounding_of_the_factorisation(monkeypatch):
    """With the smallest number for which the factorisation ends: often it ends only because it rounds."""
    smallest = []

    def least(G, s):
        s = torch.linalg.eigvalsh(G[0])[-1].item() * (1 - 40 * norms.UNIT)
        while torch.linalg.cholesky_ex(s * torch.eye(len(G[0]), dtype=torch.float64) - G[0]).info > 0:
            s *= 1 + 2 * norms.UNIT
        smallest.append(s)
        return s

    monkeypatch.setattr(norms, "_proved", least)
    too_small = 0
    for A in torch.randn(100, 5, 4, dtype=torch.float64, generator=torch.Generator().manual_seed(0)):
        assert is_above(matrix_norm(A), A)
        too_small += not is_above(math.sqrt(smallest[-1]) * 2.0 ** math.frexp(A.abs().max().item())[1], A)
    assert too_small > 10


@pytest.mark.parametrize("shape", [(700, 600), (40, 900), (1, 3000)])
def test_norm_of_large_matrices(shape):
    torch.manual_seed(0)
    A = torch.randn(shape, dtype=torch.float64)
    true = torch.linalg.matrix_norm(A, 2).item()
    assert true <= matrix_norm(A) <= true * (1 + 1e-8)
    if min(shape) == 600:
        Q = torch.linalg.qr(A).Q
        assert 1 - 1e-13 <= matrix_norm(Q) <= 1 + 1e-8


def test_largest_norm_is_over_all_matrices_of_all_batches_of_any_scale():
    torch.manual_seed(0)
    batches = [scale * torch.randn(4, 3, 5, dtype=torch.complex128) for scale in (1e-200, 1.0, 1e200, 1e-5, 1e180)]
    true = torch.linalg.matrix_norm(batches[2], 2).max().item()
    assert true <= largest_norm(batches) <= true * (1 + 1e-12)
    assert true <= largest_norm(batches[::-1]) <= true * (1 + 1e-12)
    assert largest_norm([]) == largest_norm([torch.zeros(2, 3, 3)]) == largest_norm([torch.zeros(0, 3, 3)]) == 0


@pytest.mark.parametrize("value", [math.nan, math.inf, -math.inf])
def test_non_finite_numbers_have_an_infinite_norm(value):
    A = torch.ones(4, 3, dtype=torch.float64)
    A[1, 2] = value
    assert matrix_norm(A) == math.inf
    assert Convolution(A.view(4, 3, 1, 1), (5, 5), (5, 5), (1, 1), (0, 0), (1, 1)).norm() == math.inf


# -------------------------------------------------------------------------------------------------------- convolutions


def random_convolution(seed, smallest=1):
    """A convolution with random options, as torch computes it, transposed ones as their adjoint."""
    draw = random.Random(seed)
    dims = draw.choice([1, 2, 2, 2, 3])
    groups = draw.choice([1, 1, 1, 2, 3])
    out, into = groups * draw.randint(1, 3), groups * draw.randint(1, 3)

    def each(*choices):
        return tuple(draw.choice(choices) for _ in range(dims))

    kernel, stride, padding, dilation = each(1, 2, 3, 4), each(1, 1, 2, 3), each(0, 1, 2, 4), each(1, 1, 2)
    reach = [(k - 1) * d + 1 for k, d in zip(kernel, dilation, strict=True)]
    most = 9 if dims < 3 else 4
    sizes = tuple(max(smallest, draw.randint(1, most), r - 2 * p) for r, p in zip(reach, padding, strict=True))
    generator = torch.Generator().manual_seed(seed)
    weight = torch.randn(out, into // groups, *kernel, generator=generator, dtype=torch.float64)
    weight += draw.choice([0.0, 0.0, 1.0])  # most are steepest at some frequency, these at 0
    apply = getattr(F, f"conv{dims}d")
    options = {"stride": stride, "padding": padding, "dilation": dilation, "groups": groups}
    outputs = tuple(apply(torch.zeros(1, into, *sizes).double(), weight, **options).shape[2:])
    x = torch.eye(into * math.prod(sizes), dtype=torch.float64).view(-1, into, *sizes)
    matrix = apply(x, weight, **options).flatten(1)
    return Convolution(weight, sizes, outputs, stride, padding, dilation, groups), matrix


def test_norms_of_200_random_convolutions_are_those_of_their_matrices():
    for seed in range(200):
        convolution, matrix = random_convolution(seed)
        assert convolution.is_small
        true = torch.linalg.matrix_norm(matrix, 2).item()
        rounding = 1e-10 * convolution.weight.norm().item()  # some read nothing but zeros
        assert true * (1 - 1e-14) <= convolution.norm() <= true + rounding, convolution


def test_norms_by_frequency_of_200_random_convolutions_are_from_above_and_near(monkeypatch):
    """Circular convolutions are steeper at the border, by more where the kernel is as large as the image, as here."""
    monkeypatch.setattr(norms, "DENSE", 0)
    ratios = []
    for seed in range(200):
        convolution, matrix = random_convolution(seed, smallest=4)
        assert not convolution.is_small
        true = torch.linalg.matrix_norm(matrix, 2).item()
        ratios.append(convolution.norm() / true)
        assert ratios[-1] >= 1 - 1e-14, convolution
    assert max(ratios) < 4
    assert np.median(ratios) < 1.2


def test_norm_by_frequency_is_within_two_percent_on_images_of_usual_sizes(monkeypatch):
    torch.manual_seed(0)
    weight = torch.randn(8, 8, 3, 3, dtype=torch.float64) / math.sqrt(72)
    convolution = Convolution(weight, (16, 16), (16, 16), (1, 1), (1, 1), (1, 1))
    exact = convolution.norm()
    monkeypatch.setattr(norms, "DENSE", 0)
    assert exact <= convolution.norm() <= 1.02 * exact


@pytest.mark.parametrize(("stride", "padding", "size"), [(1, 1, 6), (1, 0, 5), (2, 1, 7), (2, 0, 6), (3, 2, 8)])
@pytest.mark.parametrize("kernel", [1, 3, 4])
def test_norm_by_frequency_is_that_of_the_circular_operator(monkeypatch, kernel, stride, padding, size):
    """Written out from the definition in one dimension: y_j = Σ_k w_k x_{(j·stride + k - padding) mod N}."""
    w = torch.randn(2, 3, kernel, dtype=torch.float64, generator=torch.Generator().manual_seed(kernel))
    outputs = (size + 2 * padding - kernel) // stride + 1
    read = [j * stride + k - padding for j in range(outputs) for k in range(kernel)]
    zeros = max(0, -min(read), max(read) - size + 1)
    M = math.ceil((size + zeros) / stride)
    circular = torch.zeros(2, M, 3, M * stride, dtype=torch.float64)
    for j, k in itertools.product(range(M), range(kernel)):
        circular[:, j, :, (j * stride + k - padding) % (M * stride)] += w[:, :, k]
    true = torch.linalg.matrix_norm(circular.reshape(2 * M, -1), 2).item()
    monkeypatch.setattr(norms, "DENSE", 0)
    found = Convolution(w, (size,), (outputs,), (stride,), (padding,), (1,)).norm()
    assert true * (1 - 1e-14) <= found <= true * (1 + 1e-11)


def test_norm_by_frequency_does_not_depend_on_the_chunks(monkeypatch):
    monkeypatch.setattr(norms, "DENSE", 0)
    convolution = Convolution(torch.randn(4, 3, 3, 3), (12, 10), (6, 5), (2, 2), (1, 1), (1, 1))
    whole = convolution.norm()
    monkeypatch.setattr(norms, "CHUNK", 1)
    assert convolution.norm() == pytest.approx(whole, rel=1e-11)


@pytest.mark.parametrize("dense", [0, norms.DENSE])
def test_norm_of_convolution_whose_kernel_is_one_pixel_is_exact(monkeypatch, dense):
    """It is that of the matrix, in exact arithmetic, whichever way it is computed."""
    monkeypatch.setattr(norms, "DENSE", dense)
    for seed in range(5):
        A = torch.randn(4, 3, dtype=torch.float64, generator=torch.Generator().manual_seed(seed))
        bound = Convolution(A.view(4, 3, 1, 1), (5, 3), (5, 3), (1, 1), (0, 0), (1, 1)).norm()
        assert is_above(bound, A)
        assert not is_above(bound * (1 - 1e-11), A)


def test_identity_kernel_and_zeros():
    weight = torch.zeros(3, 3, 3, 3)
    assert Convolution(weight, (40, 40), (40, 40), (1, 1), (1, 1), (1, 1)).norm() == 0
    weight[range(3), range(3), 1, 1] = 1
    assert Convolution(weight, (40, 40), (40, 40), (1, 1), (1, 1), (1, 1)).norm() == pytest.approx(1, rel=1e-10)


# ---------------------------------------------------------------------------------------- maps that act on each axis


SEPARABLE = {
    "means": ((2, 7, 9), 2, lambda x: F.avg_pool2d(x, (3, 2), (2, 3), padding=(1, 0))),
    "means that leave the padding out": (
        (1, 7, 8),
        2,
        lambda x: F.avg_pool2d(x, 3, 2, padding=1, count_include_pad=False),
    ),
    "means with windows beyond the end": ((1, 8, 7), 2, lambda x: F.avg_pool2d(x, 3, 2, 1, ceil_mode=True)),
    "sums": ((1, 6, 6), 2, lambda x: F.avg_pool2d(x, 2, divisor_override=3)),
    "means in one dimension": ((2, 9), 1, lambda x: F.avg_pool1d(x, 4, 1)),
    "means in three": ((1, 4, 5, 3), 3, lambda x: F.avg_pool3d(x, 2, 1)),
    "adaptive means": ((1, 7, 5), 2, lambda x: F.adaptive_avg_pool2d(x, (3, 4))),
    "area": ((1, 7, 5), 2, lambda x: F.interpolate(x, (3, 4), mode="area")),
    "nearest": ((1, 5, 4), 2, lambda x: F.interpolate(x, (7, 9))),
    "bilinear at the corners": ((1, 5, 4), 2, lambda x: F.interpolate(x, (7, 9), mode="bilinear", align_corners=True)),
    "bicubic": ((2, 6, 5), 2, lambda x: F.interpolate(x, scale_factor=(1.5, 2.5), mode="bicubic")),
    "bicubic without aliases": ((1, 9, 8), 2, lambda x: F.interpolate(x, (4, 5), mode="bicubic", antialias=True)),
    "trilinear": ((1, 3, 4, 2), 3, lambda x: F.interpolate(x, scale_factor=2, mode="trilinear")),
    "zeros and a crop": ((1, 5, 4), 2, lambda x: F.pad(x, (-1, 2, 0, 1))),
    "a frame of numbers": ((1, 5, 4), 2, lambda x: F.pad(x, (1, 1, 1, 1), value=1e6)),
    "reflections": ((1, 5, 4), 2, lambda x: F.pad(x, (3, 2, 1, 4), mode="reflect")),
    "circles": ((1, 5, 4), 2, lambda x: F.pad(x, (3, 2, 1, 4), mode="circular")),
    "channels of zeros": ((3, 2, 2), 3, lambda x: F.pad(x, (0, 0, 1, 0, 2, 1))),
}


@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize("name", SEPARABLE)
def test_norm_of_maps_of_each_axis_is_that_of_their_matrix(name):
    shape, dims, function = SEPARABLE[name]
    zero = torch.zeros(1, *shape, dtype=torch.float64)
    matrix = torch.autograd.functional.jacobian(function, zero).reshape(-1, math.prod(shape))
    true = torch.linalg.matrix_norm(matrix, 2).item()
    found = separable_norm(function, torch.full_like(zero, math.nan), dims)
    assert true * (1 - 1e-13) <= found <= true * (1 + 1e-10)
