"""Layers for plugins: sizes from the grid to the image, resampling, equalised layers, attention, groups, GroupSort."""

import itertools
import math

import numpy as np
import pytest
import torch
from torch import nn
from torch.nn import functional as F
from torch.nn.utils import parametrizations
from torch.utils.flop_counter import FlopCounterMode

from ganframe import DataSpec, group_size
from ganframe.layers import (
    ConvThenPool,
    GroupSort,
    MinibatchStddev,
    SelfAttention,
    UpsampleThenConv,
    downsampled,
    equalized,
    padded_to_even,
    pixel_norm,
    resolutions,
    upsampled,
)


@pytest.mark.parametrize(
    ("shape", "sizes"),
    [
        ((32, 32), [(4, 4), (8, 8), (16, 16), (32, 32)]),
        ((28, 28), [(4, 4), (7, 7), (14, 14), (28, 28)]),
        ((8, 8), [(4, 4), (8, 8)]),
        ((48, 48), [(6, 6), (12, 12), (24, 24), (48, 48)]),
        ((100, 100), [(4, 4), (7, 7), (13, 13), (25, 25), (50, 50), (100, 100)]),
        ((128, 64), [(8, 4), (16, 8), (32, 16), (64, 32), (128, 64)]),
        ((9, 150), [(5, 75), (9, 150)]),
    ],
)
def test_resolutions_double_from_a_small_grid_to_the_image(shape, sizes):
    assert resolutions("net", DataSpec((3, *shape))) == tuple(sizes)


@pytest.mark.parametrize("size", range(8, 300))
def test_every_size_has_resolutions_whose_grid_has_4_to_6_pixels(size):
    found = resolutions("net", DataSpec((1, size, size)))
    assert found[-1] == (size, size)
    assert 4 <= found[0][0] <= 6
    assert len(found) >= 2
    assert all(small == math.ceil(large / 2) for (small, _), (large, _) in itertools.pairwise(found))


@pytest.mark.parametrize(
    ("data", "words"),
    [
        (DataSpec((2,)), "net takes images .* not an image; choose another network"),
        (DataSpec((3, 7, 32)), "at least 8×8 pixels; the data has shape .3, 7, 32.; set the dataset's size"),
        (DataSpec((16, 21, 3), is_image=False), "not an image"),
    ],
)
def test_resolutions_refuse_what_is_no_image_or_too_small(data, words):
    with pytest.raises(ValueError, match=words):
        resolutions("net", data)


@pytest.mark.parametrize("size", [(8, 8), (7, 8), (25, 13), (9, 150)])
def test_halving_undoes_doubling_at_odd_sizes_too(size):
    small = torch.randn(2, 3, *(math.ceil(n / 2) for n in size))
    large = upsampled(small, size)
    assert large.shape[2:] == size
    torch.testing.assert_close(downsampled(large), small)


def test_padding_to_even_repeats_the_last_row_and_column():
    h = torch.arange(6.0).view(1, 1, 3, 2)
    assert torch.equal(padded_to_even(h)[0, 0], torch.tensor([[0, 1], [2, 3], [4, 5], [4, 5.0]]))
    even = torch.randn(1, 2, 4, 6)
    assert padded_to_even(even) is even


def conv_then_pool(x, weight, bias):
    return F.avg_pool2d(F.conv2d(x, weight, bias, padding=1), 2)


def upsample_then_conv(x, weight, bias):
    return F.conv2d(F.interpolate(x, scale_factor=2, mode="nearest"), weight, bias, padding=1)


RESAMPLING = pytest.mark.parametrize(
    ("fast", "plain"), [(ConvThenPool, conv_then_pool), (UpsampleThenConv, upsample_then_conv)]
)


def gradients(function, x, weight, bias):
    """Of a function's output by all inputs, and of a penalty on its slope, which needs second derivatives."""
    inputs = [tensor for tensor in (x, weight, bias) if tensor is not None]
    out = function(x, weight, bias)
    cotangent = torch.linspace(-1, 1, out.numel(), dtype=out.dtype).view_as(out)
    first = torch.autograd.grad(out, inputs, cotangent)
    (slope,) = torch.autograd.grad(function(x, weight, bias).tanh().sum(), x, create_graph=True)
    return [out, *first, *torch.autograd.grad(slope.square().sum(), inputs)]


@pytest.mark.parametrize("bias", [True, False])
@pytest.mark.parametrize("size", [(8, 8), (2, 2), (7, 7), (6, 9), (9, 4), (3, 3)])
@RESAMPLING
def test_resampling_convolution_equals_two_steps_up_to_second_derivatives(fast, plain, size, bias):
    torch.manual_seed(0)
    layer = fast(3, 5, bias).double()
    x = torch.randn(2, 3, *size, dtype=torch.float64, requires_grad=True)
    got = gradients(lambda x, *_: layer(x), x, layer.weight, layer.bias)
    expected = gradients(plain, x, layer.weight, layer.bias)
    for one, other in zip(got, expected, strict=True):
        torch.testing.assert_close(one, other, rtol=1e-12, atol=1e-12)


@pytest.mark.parametrize("layer", [ConvThenPool(2, 3), UpsampleThenConv(2, 3)])
def test_resampling_convolutions_have_second_derivatives(layer):
    layer = layer.double()
    x = torch.randn(1, 2, 4, 4, dtype=torch.float64, requires_grad=True)
    assert torch.autograd.gradgradcheck(layer, x)


@RESAMPLING
def test_resampling_convolutions_multiply_a_quarter_as_often(fast, plain):
    def products(function):
        with FlopCounterMode(display=False) as counted:
            function(torch.randn(2, 3, 16, 16, requires_grad=True)).square().sum().backward()
        return counted.get_total_flops()

    layer = fast(3, 5)
    of_plain = products(lambda x: plain(x, layer.weight, layer.bias))
    # A transposed convolution makes one row and column more than is kept.
    assert products(layer) == pytest.approx(of_plain / 4, rel=0.01)


@pytest.mark.parametrize("layer", [ConvThenPool, UpsampleThenConv])
def test_weights_of_resampling_convolutions_are_those_of_a_3x3_convolution(layer):
    torch.manual_seed(0)
    made = layer(3, 5)
    torch.manual_seed(0)
    plain = nn.Conv2d(3, 5, 3, padding=1)
    assert made.state_dict().keys() == plain.state_dict().keys()
    assert all(torch.equal(a, b) for a, b in zip(made.parameters(), plain.parameters(), strict=True))
    # σ is that of the 3×3 weight, so the layer computes with weight / σ.
    torch.manual_seed(1)
    of_made = parametrizations.spectral_norm(made)
    torch.manual_seed(1)
    of_plain = parametrizations.spectral_norm(plain)
    assert torch.equal(of_made.eval().weight, of_plain.eval().weight)


def test_self_attention_is_the_identity_at_first_and_its_gamma_has_a_gradient():
    layer, h = SelfAttention(16), torch.randn(2, 16, 5, 3)
    assert torch.equal(layer(h), h)
    layer(h).square().sum().backward()
    assert layer.gamma.grad.abs() > 0


@pytest.mark.parametrize(("size", "pool"), [((4, 4), 1), ((5, 3), 1), ((4, 6), 2), ((5, 7), 2)])
def test_self_attention_is_the_formula_of_the_paper_at_each_position(size, pool):
    torch.manual_seed(0)
    layer = SelfAttention(16, pool).double()
    nn.init.constant_(layer.gamma, 0.7)
    h = torch.randn(1, 16, *size, dtype=torch.float64)
    f, g, v = (F.conv2d(h, conv.weight) for conv in (layer.query, layer.key, layer.value))
    if pool == 2:
        g, v = F.max_pool2d(g, 2, ceil_mode=True), F.max_pool2d(v, 2, ceil_mode=True)
    keys, values = g.flatten(2)[0].T, v.flatten(2)[0].T
    out = layer(h)
    for i in range(size[0]):
        for j in range(size[1]):
            s = torch.stack([torch.dot(f[0, :, i, j], key) for key in keys])
            beta = s.exp() / s.exp().sum()
            o = layer.out.weight[:, :, 0, 0] @ (beta[:, None] * values).sum(0)
            torch.testing.assert_close(out[0, :, i, j], h[0, :, i, j] + 0.7 * o)


@pytest.mark.parametrize("size", [(4, 4), (5, 7)])
def test_every_position_reaches_every_other_where_keys_are_pooled(size):
    torch.manual_seed(0)
    layer = SelfAttention(8, pool=2)
    nn.init.constant_(layer.gamma, 1.0)
    h = torch.randn(1, 8, *size, requires_grad=True)
    (slope,) = torch.autograd.grad(layer(h)[0, :, 0, 0].sum(), h)
    heard = slope[0].abs().sum(0)
    pooled = F.max_pool2d(heard[None], 2, ceil_mode=True)
    assert (pooled > 0).all()


def test_self_attention_can_be_differentiated_twice():
    layer = SelfAttention(4).double()
    nn.init.constant_(layer.gamma, 0.5)
    assert torch.autograd.gradgradcheck(layer, torch.randn(1, 4, 2, 2, dtype=torch.float64, requires_grad=True))


@pytest.mark.parametrize("shape", [(8, 3, 4, 5), (8, 6)])
def test_minibatch_stddev_is_that_of_numpy_for_each_group(shape):
    h = torch.randn(shape, dtype=torch.float64)
    layer = MinibatchStddev(4)
    out = layer(h)
    assert group_size(layer) == 4
    assert out.shape == (shape[0], shape[1] + 1, *shape[2:])
    assert torch.equal(out[:, :-1], h)
    for group in range(2):
        expected = np.std(h[4 * group : 4 * group + 4].numpy(), axis=0).mean()
        appended = out[4 * group : 4 * group + 4, -1]
        torch.testing.assert_close(appended, torch.full_like(appended, expected), atol=1e-6, rtol=1e-6)


def test_minibatch_stddev_takes_a_smaller_last_group_and_equal_samples():
    h = torch.randn(6, 2, 3, 3)
    torch.testing.assert_close(MinibatchStddev(4)(h)[4:], MinibatchStddev(2)(h[4:]))
    same = h[:1].repeat(4, 1, 1, 1).requires_grad_()
    out = MinibatchStddev(4)(same)
    assert out[:, -1].max() < 1e-3
    out.sum().backward()
    assert same.grad.isfinite().all()


@pytest.mark.parametrize("size", [0, 1])
def test_groups_of_one_sample_are_refused(size):
    with pytest.raises(ValueError, match=f"groups of {size} sample have no deviation; choose 2 or more"):
        MinibatchStddev(size)


def test_pixel_norm_gives_channels_a_root_mean_square_of_1():
    h = 7 * torch.randn(3, 5, 4, 2)
    torch.testing.assert_close(pixel_norm(h).square().mean(1), torch.ones(3, 4, 2))
    assert pixel_norm(torch.zeros(1, 4)).isfinite().all()


@pytest.mark.parametrize("value", [0.0, 1e-4, 1000.0])
@pytest.mark.parametrize("layer", [MinibatchStddev(2), pixel_norm])
def test_half_precision_gives_what_float32_gives_with_finite_gradients(layer, value):
    signs = torch.tensor([1.0, -1.0, 1.0, 1.0])[:, None, None, None]  # the second group has equal samples
    h = (value * signs).expand(4, 3, 2, 2).half().requires_grad_()
    out = layer(h)
    assert out.dtype == torch.float16
    torch.testing.assert_close(out.float(), layer(h.float()), rtol=1e-2, atol=1e-3)
    out.float().mean().backward()
    assert h.grad.isfinite().all()


@pytest.mark.parametrize("make", [lambda: nn.Linear(50, 400), lambda: nn.Conv2d(20, 400, 3)])
@pytest.mark.parametrize(("gain", "lr"), [(math.sqrt(2), 1.0), (1.0, 0.01)])
def test_equalized_layers_store_unit_weights_and_scale_them(make, gain, lr):
    torch.manual_seed(0)
    layer = equalized(make(), gain, lr)
    fan_in = layer.weight[0].numel()
    stored = layer.parametrizations.weight.original
    assert stored.std().item() == pytest.approx(1 / lr, rel=0.05)
    torch.testing.assert_close(layer.weight, gain * lr / math.sqrt(fan_in) * stored)
    assert not layer.bias.any()


@pytest.mark.parametrize("lr", [1.0, 0.01])
def test_gradients_of_an_equalized_layer_are_those_of_the_plain_one_times_its_scale(lr):
    torch.manual_seed(0)
    layer = equalized(nn.Linear(6, 3), lr=lr)
    x, plain = torch.randn(5, 6), nn.Linear(6, 3)
    plain.load_state_dict({"weight": layer.weight.detach(), "bias": layer.bias.detach()})
    for network in (layer, plain):
        network(x).square().sum().backward()
    stored = layer.parametrizations.weight.original
    torch.testing.assert_close(stored.grad, math.sqrt(2) * lr / math.sqrt(6) * plain.weight.grad)
    bias = layer.bias if lr == 1 else layer.parametrizations.bias.original
    torch.testing.assert_close(bias.grad, lr * plain.bias.grad)


def test_a_step_of_adam_moves_equalized_weights_by_their_scale():
    """The reason for the name: Adam's first step has the size of the rate, whatever the gradient."""
    layer = equalized(nn.Linear(100, 10), lr=0.01)
    before = layer.weight.detach().clone()
    optimizer = torch.optim.Adam(layer.parameters(), lr=0.1)
    layer(torch.randn(20, 100)).square().sum().backward()
    optimizer.step()
    moved = (layer.weight.detach() - before).abs()
    torch.testing.assert_close(moved, torch.full_like(moved, 0.1 * 0.01 * math.sqrt(2 / 100)), rtol=1e-3, atol=1e-7)


def sorted_by_numpy(x, size):
    """Each group of `size` channels of x (N, C, …) in ascending order, the last group being what is left."""
    groups = np.split(x, range(size or x.shape[1], x.shape[1], size or x.shape[1]), axis=1)
    return np.concatenate([np.sort(group, axis=1) for group in groups], axis=1)


@pytest.mark.parametrize(
    "shape", [(5, 12), (2, 7), (3, 1), (2, 8, 3, 4), (1, 5, 2, 2), (2, 6, 3), (0, 4), (1, 4, 2, 2, 3)]
)
@pytest.mark.parametrize("size", [2, 3, 4, None])
def test_group_sort_sorts_groups_of_channels_at_each_position_as_numpy_does(size, shape):
    x = torch.randn(shape, dtype=torch.float64)
    assert np.array_equal(GroupSort(size)(x).numpy(), sorted_by_numpy(x.numpy(), size))
    if len(shape) == 4:
        last = x.contiguous(memory_format=torch.channels_last)
        assert np.array_equal(GroupSort(size)(last).numpy(), sorted_by_numpy(x.numpy(), size))


@pytest.mark.parametrize("size", [2, 4, None])
def test_jacobian_of_group_sort_is_a_permutation_so_gradients_keep_their_norm(size):
    torch.manual_seed(0)
    jacobian = torch.autograd.functional.jacobian(lambda x: GroupSort(size)(x[None])[0], torch.randn(10))
    assert torch.equal(jacobian @ jacobian.T, torch.eye(10))
    assert set(jacobian.flatten().tolist()) == {0.0, 1.0}


@pytest.mark.parametrize("size", [2, 4, None])
def test_group_sort_is_1_lipschitz_at_ties_too_and_has_second_derivatives(size):
    torch.manual_seed(0)
    layer = GroupSort(size)
    a = torch.randint(-2, 3, (10_000, 6)).double()
    b = a + torch.randint(-1, 2, a.shape) * torch.rand(a.shape, dtype=torch.float64)
    assert (torch.linalg.norm(layer(a) - layer(b), dim=1) <= torch.linalg.norm(a - b, dim=1) * (1 + 1e-15)).all()
    tied = torch.zeros(1, 6, requires_grad=True)
    (gradient,) = torch.autograd.grad(layer(tied) @ torch.randn(6), tied)
    assert gradient.isfinite().all()
    x = torch.randn(2, 5, 2, dtype=torch.float64, requires_grad=True)
    assert torch.autograd.gradgradcheck(lambda x: layer(x).square(), x)


@pytest.mark.parametrize("size", [-1, 0, 1])
def test_group_sort_of_fewer_than_two_channels_is_refused(size):
    with pytest.raises(ValueError, match=f"groups of {size} channels have no order; choose 2 or more, or None"):
        GroupSort(size)
