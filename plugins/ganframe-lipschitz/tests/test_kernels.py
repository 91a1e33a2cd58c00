"""Kernels in one form, the sums of their autocorrelation, and the bound on their norm from above."""

import itertools
import math

import pytest
import torch
from ganframe_lipschitz.kernels import Geometry, correlation_sums, restrided, squared_norm_bound, unstrided
from torch import nn
from torch.nn import functional as F

from ganframe.layers import ConvThenPool, UpsampleThenConv


def random(*shape):
    return torch.randn(shape, dtype=torch.float64)


# -------------------------------------------------------------------------------------------------------- one form


@pytest.mark.parametrize(
    ("taps", "stride"), [((4, 4), (2, 2)), ((3, 5), (2, 3)), ((3, 3), (1, 1)), ((2,), (4,)), ((), ())]
)
def test_unstrided_kernel_is_undone(taps, stride):
    kernel = random(2, 3, 5, *taps)
    plain = unstrided(kernel, stride)
    assert plain.shape == (2, 3, 5 * math.prod(stride), *(-(-k // s) for k, s in zip(taps, stride, strict=True)))
    torch.testing.assert_close(restrided(plain, stride, taps), kernel)


def test_unstrided_kernel_does_the_same_on_pixels_put_into_channels():
    kernel, x = random(1, 4, 3, 3, 4), random(2, 3, 8, 8)
    strided = F.conv2d(F.pad(x, (0, 0, 0, 1)), kernel[0], stride=2)
    plain = F.conv2d(F.pixel_unshuffle(x, 2), unstrided(kernel, (2, 2))[0])
    torch.testing.assert_close(strided[:, :, :3], plain)


@pytest.mark.parametrize(
    ("taps", "stride", "dilation", "patch"),
    [(3, 1, 1, 1), (4, 2, 1, 2), (2, 3, 1, 2), (3, 2, 2, 1), (3, 3, 2, 3), (5, 4, 2, 2), (3, 2, 3, 2)],
)
def test_taps_of_a_patch_are_read_once(taps, stride, dilation, patch):
    found = Geometry(1, (stride,), (dilation,)).patch((taps,))
    assert found == (patch,)

    def once(p):
        read = [w * stride + tap * dilation for w, tap in itertools.product(range(50), range(p))]
        return len(set(read)) == len(read)

    assert once(patch)
    assert patch == taps or not once(patch + 1)


@pytest.mark.parametrize(
    ("layer", "scale"),
    [(nn.Linear(2, 3), 1), (nn.Conv2d(2, 3, 3), 1), (ConvThenPool(2, 3), 2), (UpsampleThenConv(2, 3), 0.5)],
)
def test_scale_is_the_inverse_of_the_norm_of_pooling(layer, scale, norm):
    assert Geometry.of(layer).scale == scale
    if scale == 2:
        assert norm(lambda x: F.avg_pool2d(x, 2), (1, 4, 4)) == pytest.approx(1 / scale)
    if scale == 0.5:
        assert norm(lambda x: F.interpolate(x, scale_factor=2), (1, 4, 4)) == pytest.approx(1 / scale)


# ------------------------------------------------------------------------------------------------ autocorrelation


@pytest.mark.parametrize("taps", [(), (3,), (2, 4), (2, 2, 2)])
def test_correlation_sums_by_definition(taps):
    kernel, q = random(2, 3, 2, *taps), random(2, 3).exp()
    expected = torch.zeros(2, 3, dtype=torch.float64)
    for g, i, j in itertools.product(range(2), range(3), range(3)):
        for shift in itertools.product(*(range(1 - k, k) for k in taps)):
            product = 0.0
            for u in itertools.product(*map(range, taps)):
                v = tuple(a + t for a, t in zip(u, shift, strict=True))
                if all(0 <= a < k for a, k in zip(v, taps, strict=True)):
                    product += (kernel[(g, i, slice(None), *u)] @ kernel[(g, j, slice(None), *v)]).item()
            expected[g, i] += abs(product) * q[g, j] / q[g, i]
    torch.testing.assert_close(correlation_sums(kernel, q), expected)


@pytest.mark.parametrize("size", [1, 3, 5])
def test_correlation_sums_are_above_the_gram_matrix_of_padded_convolutions(size, matrix):
    kernel, q = random(4, 3, size, size), random(4).exp()
    A = matrix(lambda x: F.conv2d(x, kernel, padding=size // 2), (3, 6, 5))
    T = correlation_sums(kernel[None], q[None])[0].repeat_interleave(30)
    assert torch.linalg.eigvalsh(T.diag() - A @ A.T).min() > -1e-10
    if size == 1:  # sharp for few products; less would be wrong
        assert torch.linalg.eigvalsh(0.5 * T.diag() - A @ A.T).min() < 0


# ------------------------------------------------------------------------------------------------ a bound from above


@pytest.mark.parametrize("taps", [(), (3,), (3, 3), (5, 3), (2, 2), (1, 1), (3, 3, 2)])
def test_norm_bound_is_above_the_norm_at_every_frequency_and_near_it(taps):
    for seed in range(5):
        torch.manual_seed(seed)
        kernel = random(4, 6, *taps)
        grid = [45 if k > 1 else 1 for k in taps]
        at = torch.fft.fftn(kernel, s=grid, dim=tuple(range(2, 2 + len(taps)))) if taps else kernel
        largest = torch.linalg.svdvals(at.flatten(2).movedim(2, 0) if taps else at).max().item()
        bound = squared_norm_bound(kernel, 8).sqrt().item()
        assert largest <= bound * (1 + 1e-12)
        assert bound < 1.08 ** len(taps) * 1.01 * largest


def test_norm_bound_holds_between_the_points_of_its_grid():
    """I + R e^(iω), R a rotation by π/8, has norm 2 at π/8, the middle of two of its 8 points: the worst case."""
    phase = math.pi / 8
    R = torch.tensor([[math.cos(phase), -math.sin(phase)], [math.sin(phase), math.cos(phase)]], dtype=torch.float64)
    kernel = torch.stack([torch.eye(2, dtype=torch.float64), R], dim=2)
    grid = torch.fft.fft(kernel, n=8).movedim(2, 0)
    assert torch.linalg.svdvals(grid).max().item() == pytest.approx(2 * math.cos(phase / 2))
    assert 2 <= squared_norm_bound(kernel, 8).sqrt().item() < 2 * 1.002


def test_norm_bound_of_ones_and_of_zeros():
    # A 3×3 kernel of ones has norm 9 on Z², at frequency 0.
    bound = squared_norm_bound(torch.ones(1, 1, 3, 3, dtype=torch.float64), 6).sqrt().item()
    assert bound == pytest.approx(9 / math.cos(math.pi / 12) ** 2)
    weight = torch.zeros(3, 2, 3, 3, requires_grad=True)
    zero = squared_norm_bound(weight, 5)
    assert zero.item() < 1e-10
    zero.backward()
    assert weight.grad.isfinite().all()


def test_norm_bound_of_a_large_and_of_a_tiny_matrix_does_not_overflow():
    for size in (1e-6, 1e6):
        matrix = size * torch.randn(20, 30)
        bound = squared_norm_bound(matrix, 6).sqrt().item()
        assert bound == pytest.approx(torch.linalg.matrix_norm(matrix, 2).item(), rel=0.03)


def test_norm_bound_can_be_differentiated():
    kernel = random(3, 2, 3).requires_grad_()
    assert torch.autograd.gradcheck(lambda kernel: squared_norm_bound(kernel, 3), kernel)
