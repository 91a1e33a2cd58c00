"""The blocks of `sll` and `cpl`: their formulas, and the theorem, by matrices and by slopes that are looked for."""

import math

import pytest
import torch
from ganframe_lipschitz.blocks import CPLBlock, SLLBlock
from torch.nn import functional as F

BLOCKS = [SLLBlock, CPLBlock]
SHAPES = [(5, 7, None, (5,)), (6, 3, None, (6,)), (3, 4, 3, (3, 6, 5)), (2, 5, 5, (2, 4, 4)), (4, 4, 1, (4, 3, 3))]


def block_of(kind, channels, inner, size, scale=1.0):
    """A block with random weights, in float64."""
    block = kind(channels, inner, size).double()
    with torch.no_grad():
        for parameter in block.parameters():
            parameter.copy_(scale * torch.randn_like(parameter))
    return block


def test_dense_sll_by_definition():
    block, x = block_of(SLLBlock, 4, 3, None), torch.randn(6, 4, dtype=torch.float64)
    W, q = block.weight.T, block.log_q.exp()
    T = torch.stack([sum((W.T @ W)[i, j].abs() * q[j] / q[i] for j in range(3)) for i in range(3)])
    expected = x - 2 * (x @ W + block.bias).relu() @ T.reciprocal().diag() @ W.T
    torch.testing.assert_close(block(x), expected)


def test_dense_cpl_by_definition():
    block, x = block_of(CPLBlock, 4, 3, None), torch.randn(6, 4, dtype=torch.float64)
    W = block.weight.T
    squared = torch.linalg.matrix_norm(W, 2).square()
    expected = x - 2 / squared * (x @ W + block.bias).relu() @ W.T
    torch.testing.assert_close(block(x), expected, rtol=0.05, atol=0.05)  # ‖W‖ by 5 rounds of Gram iteration
    assert 1 <= block.diagonal() / squared <= 3 ** (1 / 64) + 1e-12


@pytest.mark.parametrize("kind", BLOCKS)
@pytest.mark.parametrize(("channels", "inner", "size", "shape"), SHAPES)
def test_diagonal_is_above_the_gram_matrix_of_the_block(kind, channels, inner, size, shape, matrix):
    block = block_of(kind, channels, inner, size)
    weight = block.weight.detach()
    into = (lambda x: x @ weight.T) if size is None else (lambda x: F.conv2d(x, weight, padding=size // 2))
    A = matrix(into, shape)
    D = block.diagonal().detach().expand(inner).repeat_interleave(len(A) // inner)
    assert torch.linalg.eigvalsh(D.diag() - A @ A.T).min() > -1e-9 * D.max()


@pytest.mark.parametrize("kind", BLOCKS)
@pytest.mark.parametrize(("channels", "inner", "size", "shape"), SHAPES)
@pytest.mark.parametrize("scale", [0.1, 10.0])
def test_no_slope_is_above_1(kind, channels, inner, size, shape, scale, random_slope, adversarial_slope):
    block = block_of(kind, channels, inner, size, scale)
    constant = block.lipschitz_constant()
    assert 1 <= constant <= 1 + 1e-6
    found = max(random_slope(block, shape), adversarial_slope(block, shape))
    assert 0.3 < found <= constant + 1e-8


@pytest.mark.parametrize("kind", BLOCKS)
def test_slopes_are_found_where_the_diagonal_is_too_small(kind, random_slope, adversarial_slope, monkeypatch):
    """The two searches can fail: with D / 2 the block has slopes above 1."""
    block = block_of(kind, 5, 7, None)
    half = block.diagonal().detach() / 2
    monkeypatch.setattr(block, "diagonal", lambda: half)
    assert adversarial_slope(block, (5,)) > 1.01
    assert random_slope(block, (5,)) > 1.01


@pytest.mark.parametrize("kind", BLOCKS)
@pytest.mark.parametrize(("size", "shape"), [(None, (6,)), (3, (6, 5, 4))])
def test_block_keeps_norms_at_the_start(kind, size, shape):
    """x - 2 W relu(Wᵀx) with an orthogonal W is -W|Wᵀx|."""
    block = kind(6, 6, size).double()
    x = torch.randn(8, *shape, dtype=torch.float64)
    after = block(x).flatten(1).norm(dim=1)
    # The bound of ‖W‖ for cpl is larger than 1: it keeps a little less.
    torch.testing.assert_close(after, x.flatten(1).norm(dim=1), rtol=1e-6 if kind is SLLBlock else 0.3, atol=0)


@pytest.mark.parametrize("kind", BLOCKS)
def test_block_of_zeros_is_the_identity_and_has_finite_gradients(kind):
    block, x = kind(3, 4, 3), torch.randn(2, 3, 5, 5)
    torch.nn.init.zeros_(block.weight)
    assert torch.equal(block(x), x)
    block(x).square().sum().backward()
    assert all(p.grad is None or p.grad.isfinite().all() for p in block.parameters())


@pytest.mark.parametrize("kind", BLOCKS)
def test_block_with_weights_that_are_not_finite_has_no_constant(kind):
    block = kind(3, 4)
    block.weight.data[0, 0] = math.nan
    assert block.lipschitz_constant() == math.inf


@pytest.mark.parametrize("kind", BLOCKS)
def test_kernel_of_even_size_is_refused(kind):
    with pytest.raises(ValueError, match="odd size"):
        kind(3, 4, 2)
