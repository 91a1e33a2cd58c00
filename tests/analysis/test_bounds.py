"""The certified bound of a network: exact for simple ones, never below a slope, NoBound where it is unknown."""

from __future__ import annotations

import math
from collections import namedtuple
from pathlib import Path

import pytest
import torch
from torch import nn
from torch.nn import functional as F
from torch.nn.utils import parametrizations

import ganframe
from ganframe import DataSpec
from ganframe.analysis.bounds import Bound, NoBound, certified_bound
from ganframe.layers import ConvThenPool, GroupSort, UpsampleThenConv
from ganframe.testing.slopes import steepest_slope

R3GAN = Path(__file__).parents[2] / "plugins" / "ganframe-r3gan"
ROUNDING = 1 + 1e-9  # of slopes, not of bounds


class Function(nn.Module):
    """A function of x as a discriminator."""

    def __init__(self, function):
        super().__init__()
        self.function = function

    def forward(self, x, y):
        return self.function(x)


class WithModule(Function):
    """A function of the output of a module."""

    def __init__(self, module, function):
        super().__init__(function)
        self.module = module

    def forward(self, x, y):
        return self.function(self.module(x))


def bound_of(function, shape, x=None):
    """The upper bound of a function of x (1, *shape), traced at a random point or at `x`."""
    x = torch.randn(1, *shape, dtype=torch.float64) if x is None else x
    network = (function if isinstance(function, Function) else Function(function)).double().eval()
    return certified_bound(network, x, torch.zeros(len(x), dtype=torch.long)).value


def dense_norm(function, shape):
    """The largest singular value of the Jacobian of an affine function at 0."""
    zero = torch.zeros(1, *shape, dtype=torch.float64)
    jacobian = torch.autograd.functional.jacobian(function, zero)
    return torch.linalg.matrix_norm(jacobian.reshape(-1, math.prod(shape)), 2).item()


def steepest(function, shape):
    """The largest slope found of a function: norms of its Jacobians, and slopes between neighbours.

    At points of several scales, and at spikes, whose one large number is in all windows of a pool that contain it.
    """
    numbers = math.prod(shape)
    spikes = 10 * torch.eye(numbers, dtype=torch.float64)[torch.linspace(0, numbers - 1, min(numbers, 9)).long()]
    points = [scale * torch.randn(2, numbers, dtype=torch.float64) for scale in (1e-3, 0.3, 5)]
    found = 0.0
    for point in torch.cat([*points, spikes, -spikes]).view(-1, 1, *shape):
        for step in (1e-5, 1.0):
            other = point + step * torch.randn_like(point)
            with torch.no_grad():
                difference = (function(point.clone()) - function(other.clone())).double().norm()
            found = max(found, (difference / (point - other).norm()).item())
        try:
            jacobian = torch.autograd.functional.jacobian(lambda x: function(x.clone()), point)
            found = max(found, torch.linalg.matrix_norm(jacobian.reshape(-1, numbers), 2).item())
        except RuntimeError:  # no Jacobian: a step function, outside torch, or non-finite
            continue
    return found


def steepest_score(D, shape, y, steps=12, pairs=16, scale=1.0):
    """The largest slope found of a score: pairs of points ascend |D(x) - D(x')| / ‖x - x'‖."""
    y = torch.full((pairs,), y)
    x = (scale * torch.randn(pairs, *shape, dtype=torch.float64)).requires_grad_()
    other = (x + scale * torch.logspace(-4, 0.5, pairs).view(-1, *[1] * len(shape)) * torch.randn_like(x)).detach()
    other.requires_grad_()
    optimizer = torch.optim.Adam([x, other], lr=0.05 * scale)
    found = 0.0
    for _ in range(steps):
        slopes = (D(x, y) - D(other, y)).abs() / (x - other).flatten(1).norm(dim=1)
        found = max(found, slopes.max().item())
        optimizer.zero_grad()
        (-slopes.clamp(min=1e-30).log().sum()).backward()
        optimizer.step()
    (gradient,) = torch.autograd.grad(D(x, y).sum(), x)
    return max(found, gradient.flatten(1).norm(dim=1).max().item())


def weights(*shape):
    return torch.randn(*shape, generator=torch.Generator().manual_seed(1), dtype=torch.float64)


class Times(nn.Module):
    def __init__(self, matrix):
        super().__init__()
        self.matrix = nn.Parameter(matrix)

    def forward(self, x):
        return x @ self.matrix


# ----------------------------------------------------------------------------------------------- norms of affine layers


AFFINE = {
    "linear": (nn.Linear(7, 4), (7,)),
    "linear to one number": (nn.Linear(7, 1), (7,)),
    "linear of one number": (nn.Linear(1, 5), (1,)),
    "linear of one number to one": (nn.Linear(1, 1), (1,)),
    "linear of two numbers": (nn.Linear(2, 2), (2,)),
    "linear over positions": (nn.Linear(4, 3), (5, 4)),
    "product with a matrix": (Times(weights(6, 4)), (6,)),
    "conv": (nn.Conv2d(2, 3, 3), (2, 7, 6)),
    "conv with padding": (nn.Conv2d(2, 3, 3, padding=1), (2, 7, 6)),
    "conv padded with zeros beyond its kernel": (nn.Conv2d(2, 3, 3, padding=3), (2, 4, 4)),
    "conv padded to the same size": (nn.Conv2d(2, 3, 4, padding="same"), (2, 6, 6)),
    "conv with stride": (nn.Conv2d(2, 3, 4, stride=2, padding=1), (2, 8, 8)),
    "conv with strides and paddings of two kinds": (nn.Conv2d(2, 3, (3, 2), stride=(1, 2), padding=(2, 0)), (2, 6, 6)),
    "conv with dilation": (nn.Conv2d(2, 3, 3, padding=2, dilation=2), (2, 7, 7)),
    "conv with groups": (nn.Conv2d(4, 6, 3, padding=1, groups=2), (4, 6, 6)),
    "conv of each channel": (nn.Conv2d(4, 4, 4, groups=4, bias=False), (4, 4, 4)),
    "conv to one pixel": (nn.Conv2d(3, 2, 4), (3, 4, 4)),
    "conv to one number": (nn.Conv2d(3, 1, 4), (3, 4, 4)),
    "conv of one pixel": (nn.Conv2d(3, 5, 1), (3, 1, 1)),
    "conv in one dimension": (nn.Conv1d(2, 3, 3, padding=1), (2, 9)),
    "conv in three": (nn.Conv3d(2, 2, 2, padding=1), (2, 3, 3, 3)),
    "transposed conv": (nn.ConvTranspose2d(3, 2, 4, stride=2, padding=1), (3, 4, 4)),
    "transposed conv with output padding": (
        nn.ConvTranspose2d(3, 2, 3, stride=2, padding=1, output_padding=1, groups=1),
        (3, 4, 4),
    ),
    "transposed conv with groups": (nn.ConvTranspose2d(4, 2, 3, groups=2, dilation=2), (4, 4, 4)),
    "average pool": (nn.AvgPool2d(2), (2, 6, 6)),
    "average pool that overlaps": (nn.AvgPool2d(3, stride=1, padding=1), (2, 6, 6)),
    "average pool that leaves the padding out": (
        nn.AvgPool2d(3, stride=2, padding=1, count_include_pad=False),
        (2, 6, 6),
    ),
    "average pool that sums": (nn.AvgPool2d(2, divisor_override=1), (1, 6, 6)),
    "adaptive average pool": (nn.AdaptiveAvgPool2d(4), (2, 6, 6)),
    "upsampling to the nearest": (nn.Upsample(scale_factor=2), (2, 3, 3)),
    "bilinear upsampling": (nn.Upsample(scale_factor=2, mode="bilinear"), (2, 3, 3)),
    "bicubic downsampling": (nn.Upsample(scale_factor=0.5, mode="bicubic"), (2, 6, 6)),
    "padding by reflection": (nn.ReflectionPad2d(2), (2, 4, 4)),
    "padding by replication": (nn.ReplicationPad2d(2), (2, 4, 4)),
    "padding by zeros": (nn.ZeroPad2d(2), (2, 4, 4)),
    "cropping": (nn.ZeroPad2d(-1), (2, 4, 4)),
    "convolution then pooling": (ConvThenPool(2, 3), (2, 6, 5)),
    "upsampling then convolution": (UpsampleThenConv(3, 2), (3, 4, 3)),
    "batch norm": (nn.BatchNorm2d(3), (3, 4, 4)),
    "batch norm of features": (nn.BatchNorm1d(3, affine=False), (3,)),
}


@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize("name", AFFINE)
def test_bound_of_affine_layer_is_the_largest_singular_value_of_its_jacobian(name):
    layer, shape = AFFINE[name]
    layer = layer.double().eval().requires_grad_(False)
    for norm in (m for m in layer.modules() if isinstance(m, (nn.BatchNorm1d, nn.BatchNorm2d))):
        norm.running_var.copy_(torch.tensor([0.01, 4.0, 1.0]))
        norm.running_mean.copy_(torch.tensor([5.0, -3.0, 0.0]))
    expected = dense_norm(layer, shape)
    assert expected * (1 - 1e-14) <= bound_of(layer, shape) <= expected * (1 + 1e-7)


@pytest.mark.parametrize("mode", ["reflect", "replicate", "circular"])
def test_bound_of_convolution_with_other_padding_modes(mode):
    conv = nn.Conv2d(2, 3, 3, padding=1, padding_mode=mode).double().requires_grad_(False)
    padded = dense_norm(lambda x: F.pad(x, (1, 1, 1, 1), mode=mode), (2, 6, 6))
    inside = dense_norm(lambda x: F.conv2d(x, conv.weight), (2, 8, 8))
    assert bound_of(conv, (2, 6, 6)) == pytest.approx(padded * inside, rel=1e-7)
    assert bound_of(conv, (2, 6, 6)) >= dense_norm(conv, (2, 6, 6))


def test_spectral_norm_of_convolution_is_measured_on_the_image():
    """On 32×32 with zeros around it: (1 + 2 cos(π/33))², the square of that of the tridiagonal matrix of ones."""
    conv = nn.Conv2d(1, 1, 3, padding=1, bias=False).double().requires_grad_(False)
    conv.weight.fill_(1.0)
    assert torch.linalg.matrix_norm(conv.weight.flatten(1), 2).item() == pytest.approx(3.0)
    exact = (1 + 2 * math.cos(math.pi / 33)) ** 2
    assert exact == pytest.approx(8.95, abs=0.005)
    assert bound_of(conv, (1, 32, 32)) == pytest.approx(exact, rel=1e-7)


# --------------------------------------------------------------------------------------------------------- exact bounds


def test_bound_of_linear_discriminator_is_its_gradient_norm():
    D = ganframe.component("discriminator", "mlp")(hidden=()).build(DataSpec((5,))).double().eval()
    x, y = torch.randn(3, 5, dtype=torch.float64, requires_grad=True), torch.zeros(3, dtype=torch.long)
    bound = certified_bound(D, x.detach()[:1], y[:1])
    (gradient,) = torch.autograd.grad(D(x, y).sum(), x)
    assert bound.value == pytest.approx(gradient[0].norm().item(), rel=1e-12)
    along = x.detach()[:1] + gradient[:1]
    slope = (D(along, y[:1]) - D(x[:1], y[:1])).abs() / gradient[:1].norm()
    assert bound.value == pytest.approx(slope.item(), rel=1e-12)
    (layer,) = bound.layers
    assert (layer.module, layer.function, layer.how) == ("head.linear", "linear", "singular values")
    assert layer.norm == pytest.approx(bound.value, rel=1e-15)


def test_norms_multiply_along_a_chain():
    layers = [nn.Linear(6, 5), nn.LeakyReLU(0.2), nn.Linear(5, 1)]
    network = nn.Sequential(*layers).double().requires_grad_(False)
    first, second = (torch.linalg.matrix_norm(layer.weight, 2).item() for layer in layers[::2])
    bound = certified_bound(Function(network), torch.zeros(1, 6).double(), torch.zeros(1, dtype=torch.long))
    assert bound.value == pytest.approx(first * second, rel=1e-12)
    assert [(layer.module, layer.function) for layer in bound.layers] == [
        ("function.0", "linear"),
        ("function.1", "leaky_relu"),
        ("function.2", "linear"),
    ]
    assert [layer.norm for layer in bound.layers] == pytest.approx([first, 1.0, second], rel=1e-12)


def test_bound_of_residual_block_is_one_plus_its_branch():
    branch = nn.Sequential(nn.Conv2d(2, 3, 3, padding=1), nn.ReLU(), nn.Conv2d(3, 2, 3, padding=1)).double()
    branch.requires_grad_(False)
    norm = dense_norm(branch[0], (2, 5, 5)) * dense_norm(branch[2], (3, 5, 5))
    for block in (
        lambda x: x + branch(x),
        lambda x: branch(x) + x,
        lambda x: x - branch(x),
        lambda x: x.add(branch(x)),
    ):
        assert bound_of(block, (2, 5, 5)) == pytest.approx(1 + norm, rel=1e-4)
    inner = nn.Linear(4, 4).double().requires_grad_(False)
    w = torch.linalg.matrix_norm(inner.weight, 2).item()

    def nested(x):
        return x + inner(x + inner(x)) / 2

    assert bound_of(nested, (4,)) == pytest.approx(1 + w * (1 + w) / 2, rel=1e-5)
    assert bound_of(lambda x: torch.add(x, inner(x), alpha=3), (4,)) >= (1 + 3 * w) / ROUNDING
    assert bound_of(lambda x: torch.sub(x, inner(x), alpha=-3), (4,)) >= (1 + 3 * w) / ROUNDING


def test_bound_of_builtin_resnet_discriminator_by_hand():
    D = ganframe.component("discriminator", "resnet")(width=2).build(DataSpec((3, 32, 32))).double().eval()
    D.requires_grad_(False)
    expected, size, channels = 1.0, 32, 3
    for block, halve in zip(D.blocks, (True, True, False, False), strict=True):
        hidden = block.conv1.out_channels
        here, inside = torch.zeros(1, channels, size, size).double(), torch.zeros(1, hidden, size, size).double()
        branch = bound_of(block.conv1, here.shape[1:]) * bound_of(block.conv2, inside.shape[1:])
        shortcut = 1.0
        if halve:  # the pool's norm is 1/2: four numbers of 1/4
            size //= 2
            shortcut = 0.5 * torch.linalg.matrix_norm(block.shortcut.weight[:, :, 0, 0], 2).item()
        expected *= branch + shortcut
        channels = block.conv2.out_channels
    expected *= math.sqrt(size * size) * D.head.linear.weight.norm().item()  # the sum over positions
    bound = certified_bound(D, torch.zeros(1, 3, 32, 32).double(), torch.zeros(1, dtype=torch.long))
    assert bound.value == pytest.approx(expected, rel=1e-7)


def test_bound_of_constant_network_is_zero():
    assert bound_of(lambda x: torch.ones(1, dtype=torch.float64), (3,)) == 0
    assert bound_of(lambda x: x.flatten(1).sum(1) * 0, (3,)) == 0
    embedding = nn.Embedding(3, 1).double()

    class OfTheLabel(nn.Module):
        def forward(self, x, y):
            return embedding(y).squeeze(1)

    assert certified_bound(OfTheLabel(), torch.zeros(3, 2).double(), torch.arange(3)) == Bound(0, [])


def test_spectral_norm_gives_norm_1_to_linear_layers_and_not_to_convolutions():
    torch.manual_seed(3)
    linear = parametrizations.spectral_norm(nn.Linear(6, 5).double(), n_power_iterations=50)
    conv = parametrizations.spectral_norm(nn.Conv2d(2, 3, 3, padding=1).double(), n_power_iterations=50)
    for layer, shape in ((linear, (6,)), (conv, (2, 6, 6))):
        layer.parametrizations.weight.original.data.mul_(100)  # the effective weight is W / σ(W)
        layer(torch.zeros(1, *shape).double())
        layer.eval()
    assert bound_of(linear, (6,)) == pytest.approx(1.0, rel=1e-4)
    assert bound_of(conv, (2, 6, 6)) > 1.05
    assert bound_of(conv, (2, 6, 6)) == pytest.approx(dense_norm(conv, (2, 6, 6)), rel=1e-4)


def test_bound_covers_the_given_labels_only():
    class Scaled(nn.Module):
        def __init__(self):
            super().__init__()
            self.scale = nn.Embedding.from_pretrained(torch.tensor([[1.0], [5.0], [20.0]], dtype=torch.float64))

        def forward(self, x, y):
            return (x * self.scale(y)).squeeze(1)

    x = torch.zeros(3, 1, dtype=torch.float64)
    for n, largest in ((1, 1.0), (2, 5.0), (3, 20.0)):
        assert certified_bound(Scaled(), x[:n], torch.arange(n)).value == pytest.approx(largest, rel=1e-14)


# --------------------------------------------------------------------------------------------------- torch's functions


KNOWN = {
    "relu": ((3,), F.relu, 1),
    "leaky relu": ((3,), lambda x: F.leaky_relu(x, 0.2), 1),
    "leaky relu that is steeper below 0": ((3,), nn.LeakyReLU(3.0), 3),
    "leaky relu that falls below 0": ((3,), lambda x: F.leaky_relu(x, negative_slope=-3.0), 3),
    "prelu": ((3,), lambda x: F.prelu(x, torch.tensor([-2.5], dtype=torch.float64)), 2.5),
    "elu": ((3,), nn.ELU(), 1),
    "elu with α": ((3,), nn.ELU(2.5), 2.5),
    "elu with α by name": ((3,), lambda x: F.elu(x, alpha=2.5), 2.5),
    "elu with small α": ((3,), lambda x: F.elu(x, 0.1), 1),
    "elu with negative α": ((3,), nn.ELU(-2.5), 2.5),
    "softplus with β": ((3,), nn.Softplus(beta=5.0), 1),
    "hardtanh": ((3,), nn.Hardtanh(-2, 3), 1),
    "tanh": ((3,), torch.tanh, 1),
    "sigmoid": ((3,), torch.sigmoid, 0.25),
    "relu6": ((3,), nn.ReLU6(), 1),
    "softsign": ((3,), F.softsign, 1),
    "logsigmoid": ((3,), F.logsigmoid, 1),
    "sine": ((3,), torch.sin, 1),
    "abs": ((3,), torch.abs, 1),
    "MaxMin": ((5, 2), GroupSort(2), 1),
    "a sort of all channels": ((5, 2), GroupSort(None), 1),
    "max pool": ((2, 6, 6), nn.MaxPool2d(2), 1),
    "max pool whose stride is not given": ((1, 6), lambda x: F.max_pool1d(x, 3), 1),
    "max pool that overlaps": ((2, 7, 7), nn.MaxPool2d(3, 1), 3),
    "max pool that overlaps in part": ((1, 9), nn.MaxPool1d(3, 2, padding=1), math.sqrt(2)),
    "max pool that overlaps along one side": ((1, 6, 6), nn.MaxPool2d((3, 2), (1, 2)), math.sqrt(3)),
    "max pool with dilation, whose windows share": ((1, 12), nn.MaxPool1d(2, 2, dilation=2), math.sqrt(2)),
    "max pool with dilation, whose windows do not share": ((1, 13), nn.MaxPool1d(2, 2, dilation=3), 1),
    "max pool with dilation of two kinds": ((1, 9, 9), nn.MaxPool2d(3, (2, 1), dilation=(2, 1)), 3),
    "sum of features": ((5,), lambda x: x.sum(1), math.sqrt(5)),
    "sum over positions": ((2, 3, 3), lambda x: x.sum((2, 3)), 3),
    "mean over positions": ((2, 3, 3), lambda x: x.mean(dim=(2, 3), keepdim=True), 1 / 3),
    "product with constants": ((4,), lambda x: x * torch.tensor([1.0, -7.0, 2.0, 0.0]), 7),
    "product with a number, the number first": ((4,), lambda x: -3 * x, 3),
    "product that repeats": ((1,), lambda x: x * torch.full((9,), 2.0), 6),
    "quotient by constants": ((4,), lambda x: x / torch.tensor([1.0, -0.25, 2.0, 8.0]), 4),
    "quotient that repeats": ((1,), lambda x: x / torch.full((9,), 0.5), 6),
    "expansion": ((2, 1), lambda x: x.expand(-1, -1, 9), 3),
    "expansion of its only row": ((2,), lambda x: x[:, None].expand(-1, 4, -1), 2),
    "itself beside itself": ((4,), lambda x: torch.cat([x, x], 1), math.sqrt(2)),
    "itself three times": ((4,), lambda x: torch.stack([x, x, x], 1), math.sqrt(3)),
    "constants beside it": ((4,), lambda x: torch.cat([x, torch.ones(1, 2)], 1), 1),
    "twice itself": ((4,), lambda x: x + x, 2),
    "a constant less it": ((4,), lambda x: 1 - x, 1),
    "a pixel shuffle": ((4, 2, 2), nn.PixelShuffle(2), 1),
    "flatten, unflatten, permute, flip": (
        (2, 3, 4),
        lambda x: x.flatten(1).unflatten(1, (4, 6)).permute(0, 2, 1).flip(1).contiguous().view(len(x), -1),
        1,
    ),
    "slices": ((6,), lambda x: x[:, 1::2], 1),
    "one of its numbers": ((6,), lambda x: x[..., -1, None], 1),
    "dropout in evaluation": ((6,), lambda x: F.dropout(x, 0.5, training=False), 1),
    "identity": ((6,), nn.Identity(), 1),
    "a module called twice": ((4,), (lambda m: lambda x: m(m(x)))(nn.LeakyReLU(2.0)), 4),
    "a named module": ((4,), nn.Sequential().append(nn.Flatten()).append(nn.LeakyReLU(2.0)), 2),
}


@pytest.mark.parametrize("name", KNOWN)
def test_lipschitz_constants_of_torch_functions(name):
    shape, function, constant = KNOWN[name]
    assert bound_of(function, shape) == pytest.approx(constant, rel=1e-4)
    assert steepest(function, shape) <= constant * ROUNDING


@pytest.mark.parametrize("function", [F.gelu, lambda x: F.gelu(x, approximate="tanh"), F.silu])
def test_bound_of_activations_steeper_than_1(function):
    x = torch.linspace(-4, 4, 4001, dtype=torch.float64, requires_grad=True)
    (slope,) = torch.autograd.grad(function(x).sum(), x)
    assert slope.abs().max() <= bound_of(function, (1,)) <= slope.abs().max() * 1.001


@pytest.mark.parametrize("norm", [nn.LayerNorm(6, eps=1e-3), nn.GroupNorm(2, 6, eps=1e-3)])
def test_bound_of_normalisation_layers_is_reached_at_constant_input(norm):
    norm = norm.double().requires_grad_(False)
    norm.weight.mul_(-3)
    assert bound_of(norm, (6,)) == pytest.approx(3 / math.sqrt(1e-3), rel=1e-6)
    assert dense_norm(norm, (6,)) == pytest.approx(3 / math.sqrt(1e-3), rel=1e-6)
    assert bound_of(lambda x: F.layer_norm(x, (6,)), (6,)) == pytest.approx(1 / math.sqrt(1e-5))


# --------------------------------------------------------------------------------- a bound is correct or not returned


def in_place(function):
    """The function in place on a copy h of x: the result is h, not what `function` returns."""

    def applied(x):
        h = x * 1
        function(h)
        return h

    return applied


def _assign(h):
    h[:, 0] = h[:, 1] * 9


def _gather_into(x):
    buffer = torch.zeros(1, 6, dtype=torch.float64)
    buffer[:] = x * 3
    return buffer


def _out(x):
    buffer = torch.zeros(1, 6, dtype=torch.float64)
    torch.mul(x, 3, out=buffer)
    return buffer


def _added_into(x):
    buffer = torch.zeros(1, 6, dtype=torch.float64)
    buffer += x
    return buffer


def _old_name(x):
    h = x * 1
    old = h
    h += x
    return old + h


def _view_of_it(x):
    h = x * 1
    view = h.view(1, 2, 3)
    h.mul_(5)
    return view


Pair = namedtuple("Pair", "a b")
W = weights(4, 6)
C = torch.linspace(1, 2, 10, dtype=torch.float64)
TRICKY = {
    "both halves again": ((4,), lambda x: torch.cat([*x.chunk(2, 1)], 1)),
    "unequal parts, and one of them twice": ((6,), lambda x: torch.cat([*x.split([1, 2, 3], 1), x[:, :1]], dim=1)),
    "a max pool with its indices": ((1, 9), lambda x: F.max_pool1d(x, 3, 1, return_indices=True)[0]),
    "an adaptive max pool": ((1, 9), lambda x: F.adaptive_max_pool1d(x, 5)),
    "a number picked three times": ((6,), lambda x: x[:, [0, 0, 0]]),
    "a number picked by a tensor of indices": ((6,), lambda x: x[:, torch.tensor([1, 2, 1, 1])]),
    "index_select": ((6,), lambda x: x.index_select(1, torch.tensor([0, 0, 0]))),
    "gather": ((6,), lambda x: x.gather(1, torch.tensor([[0, 0, 0]]))),
    "repeat": ((6,), lambda x: x.repeat(1, 4)),
    "repeat_interleave": ((6,), lambda x: x.repeat_interleave(4, 1)),
    "tile": ((6,), lambda x: torch.tile(x, (1, 4))),
    "a sum that repeats a feature": ((1,), lambda x: x + C),
    "a difference that repeats a feature": ((1,), lambda x: C - x),
    "a sum of branches, one of them repeated": ((2, 6, 6), lambda x: x + x.mean((2, 3), keepdim=True)),
    "a sum of two that are both repeated": ((3,), lambda x: x[:, :, None] + x[:, None, :]),
    "torch.add's old order": ((6,), lambda x: torch.add(x, 3, x)),
    "torch.add by names": ((6,), lambda x: torch.add(input=x, other=x, alpha=-3)),
    "torch.sub of a constant, with alpha": ((6,), lambda x: torch.sub(C[:6], x, alpha=4)),
    "addcmul": ((6,), lambda x: torch.addcmul(C[:6], x, C[:6], value=4)),
    "branches stacked in front and summed": ((6,), lambda x: torch.stack([x, x, x]).sum(0)),
    "samples last, and summed": ((6,), lambda x: x.T.sum(0)),
    "samples last, by transpose, and averaged": ((3, 8), lambda x: x.transpose(0, 1).mean(0)),
    "samples last, by movedim, and summed": ((3, 8), lambda x: x.movedim(0, -1).sum(0)),
    "positions among the samples, and summed": ((3, 8), lambda x: x.view(-1, 8).sum(0)),
    "all of it flat, and summed": ((6,), lambda x: x.flatten().sum()),
    "a sum of everything": ((6,), lambda x: x.sum()),
    "a layer on one sample without a batch": ((6,), lambda x: F.linear(x.squeeze(), W)),
    "a convolution on one sample without a batch": ((3, 8), lambda x: F.conv1d(x[0], W[:, :, None].view(2, 3, 4))),
    "linear by names": ((6,), lambda x: F.linear(input=x, weight=W)),
    "linear with x as its weight": ((6,), lambda x: F.linear(W, x)),
    "lerp": ((6,), lambda x: torch.lerp(x, C[:6], -3.0)),
    "where, of x": ((6,), lambda x: torch.where(x > 0, x * 5, x)),
    "where, of constants": ((6,), lambda x: torch.where(x > 0, 5.0, -5.0)),
    "a step": ((6,), lambda x: (x > 0).double() * 5),
    "a mask": ((6,), lambda x: x * (x > 0)),
    "a mask and a slope": ((6,), lambda x: x * torch.where(x > 0, 1.0, 0.2)),
    "a sign": ((6,), lambda x: x.sign()),
    "numbers cut to integers": ((6,), lambda x: (10 * x).long().double()),
    "numbers as bits": ((6,), lambda x: x.view(torch.int32).double()),
    "the place of the largest": ((6,), lambda x: C[x.argmax(1)]),
    "a branch of Python's": ((6,), lambda x: x * 50 if x.sum() > 0 else x),
    "a number of Python's": ((6,), lambda x: x * x.sum().item()),
    "a float of Python's": ((6,), lambda x: x * float(x.sum())),
    "a list of Python's": ((6,), lambda x: torch.tensor(x.tolist(), dtype=torch.float64) * 3),
    "an array": ((6,), lambda x: torch.from_numpy(x.detach().numpy() * 3)),
    "a tensor made anew": ((6,), lambda x: x.detach().as_subclass(torch.Tensor) * 3),
    "a function under vmap": ((6,), lambda x: x + 5 * torch.vmap(torch.sin)(x)),
    "in place": ((6,), in_place(lambda h: h.mul_(5))),
    "in place, by Python": ((6,), in_place(lambda h: h.__imul__(5))),
    "in place, in a part": ((6,), in_place(lambda h: h[:, :3].mul_(5))),
    "in place, seen by a view": ((6,), _view_of_it),
    "in place, seen by its old name": ((6,), _old_name),
    "in place, a steep activation": ((6,), in_place(lambda h: F.leaky_relu(h, 3.0, inplace=True))),
    "in place, a steep module": ((6,), in_place(nn.ELU(3.0, inplace=True))),
    "in place, a relu whose input is used later": ((6,), in_place(nn.ReLU(inplace=True))),
    "in place, a setting of its data": ((6,), in_place(lambda h: setattr(h, "data", h.data * 5))),
    "an assignment to a part": ((6,), in_place(_assign)),
    "an assignment into a buffer": ((6,), _gather_into),
    "a sum into a buffer": ((6,), _added_into),
    "an out argument": ((6,), _out),
    "detach": ((6,), lambda x: x.detach() * 3),
    "data": ((6,), lambda x: x.data * 3),
    "another type": ((6,), lambda x: x.to(torch.complex128).real * 3),
    "parts along the batch": ((6,), lambda x: torch.cat(x.split(1, 0)) * 3),
    "rows by iteration": ((6,), lambda x: sum(3 * row for row in x)),
    "columns by unbind, summed by Python": ((6,), lambda x: sum(x.unbind(1))),
    "a named tuple": ((6,), lambda x: torch.cat(Pair(x, 3 * x), 1)),
    "a square": ((6,), lambda x: x * x),
    "a softplus that jumps": ((6,), lambda x: F.softplus(x, threshold=0.0)),
    "a quotient by zero": ((6,), lambda x: x / 0),
    "a layer norm without ε": ((6,), lambda x: F.layer_norm(x, (6,), eps=0.0)),
    "dropout in training by its inner name": ((6,), lambda x: torch.dropout(x, 0.5, train=True)),
    "a clamp": ((6,), lambda x: (3 * x).clamp(-1, 1)),
    "a loop of autograd's own": (
        (6,),
        lambda x: torch.utils.checkpoint.checkpoint(torch.sin, 3 * x, use_reentrant=False),
    ),
}


@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize("name", TRICKY)
def test_bound_is_correct_or_not_returned(name):
    """Traced at points of either sign, as a function may act differently elsewhere."""
    shape, function = TRICKY[name]
    found = steepest(function, shape)
    for x in (torch.full((1, *shape), -0.5), torch.full((1, *shape), 0.5), torch.randn(1, *shape)):
        try:
            bound = bound_of(function, shape, x.double())
        except NoBound:
            continue
        assert bound >= found / ROUNDING


def test_bound_includes_sums_over_the_batch():
    """The slope of each score in its own sample includes the part through the sum over the batch."""
    bound = bound_of(lambda x: (x - 3 * x.sum(0)).sum(1), (4,), torch.randn(3, 4).double())
    assert bound >= 2 * math.sqrt(4)


def test_bound_includes_custom_autograd_functions():
    class Tripled(torch.autograd.Function):
        @staticmethod
        def forward(ctx, x):
            return x * 3

        @staticmethod
        def backward(ctx, gradient):
            return gradient

    assert bound_of(Tripled.apply, (4,)) == pytest.approx(3, rel=1e-14)


def test_shared_weights_count_at_each_use():
    layer = nn.Linear(4, 4, bias=False).double().requires_grad_(False)
    norm = torch.linalg.matrix_norm(layer.weight, 2).item()
    assert bound_of(lambda x: layer(layer(x)) + F.linear(x, layer.weight), (4,)) == pytest.approx(norm**2 + norm)


@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize(
    "function",
    [
        lambda x: x + 1e-6 * torch.vmap(torch.sin)(x),  # far below the bound of the rest at random points
        lambda x: torch.cat([x, torch.vmap(torch.relu)(x)], 1),
        lambda x: torch.vmap(torch.relu)(x),
    ],
)
def test_what_cannot_be_traced_is_found_wherever_x_is(function):
    with pytest.raises(NoBound, match=r"depend on x in a way that cannot be traced|is not known"):
        bound_of(function, (6,))


# --------------------------------------------------------------------------------------------- declared constants


class Declares(nn.Module):
    """A function that is 1-Lipschitz in its first argument, which its parts do not show: a product of two of x's."""

    def __init__(self, constant=1.0):
        super().__init__()
        self.linear, self.constant = nn.Linear(4, 4), constant

    def forward(self, x, scale=1.0):
        h = self.linear(x) / torch.linalg.matrix_norm(self.linear.weight, 2)
        return scale * h.abs() * torch.tanh(h.abs()) / 2

    def lipschitz_constant(self):
        """1: the slope of h tanh(h) / 2 is at most 0.6, and the linear map has norm 1."""
        return self.constant


def test_a_declared_constant_takes_the_place_of_what_is_inside():
    first, last = nn.Linear(3, 4), nn.Linear(4, 2)
    network = Function(nn.Sequential(first, Declares(0.75), nn.ReLU(), last)).eval()
    bound = certified_bound(network, torch.randn(1, 3), torch.zeros(1).long())
    norms = [torch.linalg.matrix_norm(layer.weight.double(), 2).item() for layer in (first, last)]
    assert bound.value == pytest.approx(0.75 * math.prod(norms), rel=1e-12)
    assert [(layer.module, layer.function, layer.how) for layer in bound.layers[:2]] == [
        ("function.0", "linear", "singular values"),
        ("function.1", "Declares", "declared by Declares"),
    ]
    assert len(bound.layers) == 4
    with torch.no_grad():
        assert network(torch.randn(5, 3), None).isfinite().all()  # the network itself is as it was


def test_a_discriminator_may_declare_its_own_constant():
    class D(Declares):
        def forward(self, x, y):
            return super().forward(x).sum(1) / 2

    bound = certified_bound(D().eval(), torch.randn(2, 4), torch.zeros(2).long())
    assert bound.value == pytest.approx(1, rel=1e-14)
    assert [layer.how for layer in bound.layers] == ["declared by D"]


def test_a_constant_is_computed_from_the_weights_in_float64():
    class Norm(nn.Linear):
        def lipschitz_constant(self):
            """The norm."""
            assert self.weight.dtype == torch.float64
            return torch.linalg.matrix_norm(self.weight, 2) * (1 + 1e-12)

    network = Norm(5, 3)
    expected = torch.linalg.matrix_norm(network.weight.double(), 2).item()
    found = certified_bound(Function(network), torch.randn(1, 5), torch.zeros(1).long())
    assert found.value == pytest.approx(expected, rel=1e-11)
    assert found.value > expected


@pytest.mark.parametrize(
    ("network", "words"),
    [
        (Declares(math.nan), r"module: Declares.lipschitz_constant\(\) returned nan; it must be finite"),
        (Declares(-1.0), "returned -1.0; it must be finite and not negative"),
        (Declares("1,0"), "must return a number, not str"),
    ],
)
def test_a_declared_number_that_is_none_gives_no_bound(network, words):
    with pytest.raises(NoBound, match=words):
        bound_of(WithModule(network, torch.relu), (4,))


def test_a_declared_constant_holds_for_the_first_argument_alone():
    class Scaled(Function):
        def forward(self, x, y):
            return self.function(x, scale=x)

    with pytest.raises(NoBound, match="declares a constant for its first argument alone, and others depend on x too"):
        bound_of(Scaled(Declares()), (4,))


# --------------------------------------------------------------------------------------- functions without a rule


class Squared(nn.Module):
    def forward(self, x):
        return x * x


UNKNOWN = {
    "softmax": (nn.Softmax(1), "softmax"),
    "mul": (Squared(), "mul"),
    "batch_norm": (nn.BatchNorm1d(6).train(), "batch_norm"),
    "batch_norm without statistics": (nn.BatchNorm1d(6, track_running_stats=False), "batch_norm"),
    "dropout": (nn.Dropout(0.5).train(), "dropout"),
    "bilinear": (nn.Bilinear(6, 6, 2), "bilinear"),
    "instance_norm": (nn.InstanceNorm1d(6), "instance_norm"),
}


@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize("name", UNKNOWN)
def test_no_bound_names_the_function_and_its_module(name):
    module, function = UNKNOWN[name]

    class Network(nn.Module):
        def __init__(self):
            super().__init__()
            self.first = nn.Linear(6, 6)
            self.middle = nn.ModuleDict({"odd": module})

        def forward(self, x, y):
            h = self.first(x)
            return (self.middle["odd"](h, h) if function == "bilinear" else self.middle["odd"](h)).sum(1)

    with pytest.raises(NoBound, match=rf"\b{function}\b.*\bmiddle\.odd\b"):
        certified_bound(Network(), torch.randn(3, 6), torch.zeros(3, dtype=torch.long))


@pytest.mark.parametrize(
    ("function", "name"),
    [
        (lambda x: x @ x.transpose(1, 2), "matmul"),
        (lambda x: x.square(), "square"),
        (lambda x: x**2, "pow"),
        (lambda x: x.amax(0), "amax"),
        (lambda x: torch.einsum("nij,nij->n", x, x), "einsum"),
        (lambda x: x / x.norm(), "norm"),
        (lambda x: 1 / (1 + x), "rdiv"),
    ],
)
def test_no_bound_names_functions_of_the_network_itself(function, name):
    before = nn.Linear(3, 3).double()  # a module that was left again

    with pytest.raises(NoBound, match=f"{name}.*the network"):
        bound_of(WithModule(before, function), (3, 3))


@pytest.mark.parametrize("value", [math.nan, math.inf])
def test_non_finite_weights_have_no_bound(value):
    for layer, shape in ((nn.Linear(6, 3), (6,)), (nn.Conv2d(2, 2, 3), (2, 5, 5)), (nn.LayerNorm(4), (4,))):
        layer.weight.data.view(-1)[1] = value
        with pytest.raises(NoBound):
            bound_of(layer, shape)


# ---------------------------------------------------------------------------------------------- the network afterwards


def snapshot(network):
    return {
        "state": {name: tensor.clone() for name, tensor in network.state_dict().items()},
        "modes": [module.training for module in network.modules()],
        "hooks": [(len(m._forward_hooks), len(m._forward_pre_hooks)) for m in network.modules()],
        "frozen": [parameter.requires_grad for parameter in network.parameters()],
        "gradients": [None if p.grad is None else p.grad.clone() for p in network.parameters()],
    }


@pytest.mark.parametrize("ending", [nn.Identity(), nn.Softmax(1), nn.Dropout(0.5), nn.Linear(4, 4), nn.Linear(9, 9)])
def test_certified_bound_leaves_the_network_unchanged(ending):
    norm = nn.BatchNorm1d(4)
    middle = parametrizations.spectral_norm(nn.Linear(4, 4))
    network = Function(nn.Sequential(nn.Linear(5, 4), norm, middle, nn.LeakyReLU(0.2, inplace=True), ending))
    network.eval()
    ending.train()
    norm.bias.requires_grad_(False)
    network.function[0].weight.grad = torch.ones(4, 5)
    network.function[0].register_forward_hook(lambda *_: None)
    before, x = snapshot(network), torch.randn(3, 5)
    point = x.clone()
    numbers = torch.random.get_rng_state()
    try:
        certified_bound(network, x, torch.zeros(3, dtype=torch.long))
    except (NoBound, RuntimeError):
        assert not isinstance(ending, nn.Identity)
    torch.testing.assert_close(snapshot(network), before, rtol=0, atol=0)
    assert x.equal(point)
    assert type(x) is torch.Tensor
    assert isinstance(ending, nn.Dropout) or torch.random.get_rng_state().equal(numbers)
    assert torch.is_grad_enabled()
    assert type(network(x, None) if not isinstance(ending, nn.Linear) or ending.in_features == 4 else x) is torch.Tensor


def test_in_place_network_does_not_change_the_callers_input():
    x = torch.randn(1, 4)
    kept = x.clone()
    labels = torch.arange(3)  # x is one row, expanded for three labels, as in `ganframe lipschitz`
    network = Function(nn.Sequential(nn.ReLU(inplace=True), nn.Linear(4, 1)))
    certified_bound(network, x.expand(3, 4), labels)
    assert x.equal(kept)


def test_bound_of_a_network_in_float32_is_computed_in_float64():
    network = Function(nn.Sequential(nn.Conv2d(1, 2, 3), nn.ReLU(), nn.Flatten(), nn.Linear(18, 1))).eval()
    x, y = torch.randn(1, 1, 5, 5), torch.zeros(1, dtype=torch.long)
    single = certified_bound(network, x, y)
    assert all(parameter.dtype == torch.float32 for parameter in network.parameters())
    assert single == certified_bound(network.double(), x.double(), y)


# --------------------------------------------------------------------------------- random networks, many slopes


def random_network(seed):
    """One to four affine layers with random options and activations between them: (network, activations, shape)."""
    generator = torch.Generator().manual_seed(seed)

    def draw(*choices):
        return choices[int(torch.randint(len(choices), (), generator=generator))]

    shape = draw((5,), (9,), (2, 6, 5), (4, 5, 7), (1, 4, 4), (2, 9))
    layers, h = [], torch.zeros(1, *shape)
    for _ in range(draw(1, 2, 3, 4)):
        width, channels = draw(1, 2, 4, 6), h.shape[1]
        if h.ndim == 2:
            layer = nn.Linear(channels, width)
        else:
            dims, groups = h.ndim - 2, draw(1, 1, math.gcd(channels, width))
            kind = draw(nn.Conv2d, nn.ConvTranspose2d) if dims == 2 else draw(nn.Conv1d, nn.ConvTranspose1d)
            options = {"stride": draw(1, 2, 3), "padding": draw(0, 1), "dilation": draw(1, 1, 2), "groups": groups}
            layer = kind(channels, width, draw(1, 2, 3), **options)
        try:
            h = layer(h)
        except RuntimeError:  # the feature maps are too small for this kernel
            continue
        if h.numel() > 500 or not h.numel():
            break
        layers += [layer, draw(nn.ReLU(), nn.LeakyReLU(0.2), nn.Tanh(), GroupSort(2), GroupSort(None), nn.ELU())]
    return nn.Sequential(*layers).double().requires_grad_(False), shape


def test_bounds_of_200_random_networks_are_the_products_of_exact_norms_and_above_every_slope():
    deep = 0
    for seed in range(200):
        torch.manual_seed(seed)
        network, shape = random_network(seed)
        h, exact = torch.zeros(1, *shape, dtype=torch.float64), 1.0
        for layer in network:
            if hasattr(layer, "weight"):
                exact *= dense_norm(layer, h.shape[1:])
            h = layer(h)
        bound = bound_of(network, shape)
        assert exact * (1 - 1e-13) <= bound <= exact * (1 + 1e-8) + 1e-10, network
        affine = nn.Sequential(*(layer for layer in network if hasattr(layer, "weight")))
        assert dense_norm(affine, shape) <= bound * (1 + 1e-13)
        found = steepest_slope(network, torch.randn(4, *shape, dtype=torch.float64), steps=3) if len(network) else 0
        assert found <= bound * ROUNDING
        deep += len(network) > 4
    assert deep > 50


@pytest.mark.parametrize(
    ("name", "options", "shape"),
    [
        ("mlp", {"hidden": (16, 16), "activation": "maxmin"}, (4,)),
        ("mlp", {"hidden": (12, 12), "activation": "fullsort"}, (2, 3)),
        ("dcgan", {"width": 4, "norm": "none", "activation": "groupsort"}, (1, 8, 8)),
        ("resnet", {"width": 2, "activation": "maxmin"}, (1, 8, 8)),
    ],
)
def test_10000_random_and_adversarial_slopes_do_not_exceed_the_bound(name, options, shape):
    """5,000 random pairs at many distances, and 5,000 pairs that move uphill; the steepest is not far below."""
    torch.manual_seed(0)
    D = built(name, shape, **options).double().eval().requires_grad_(False)
    y = torch.zeros(500).long()
    bound = certified_bound(D, torch.zeros(1, *shape), y[:1]).value
    found = 0.0
    for scale in torch.logspace(-3, 1, 10):
        x = torch.randn(500, *shape, dtype=torch.float64)
        other = x + scale * torch.randn_like(x)
        slopes = (D(x, y) - D(other, y)).abs() / (x - other).flatten(1).norm(dim=1)
        found = max(found, slopes.max().item())
    adversarial = steepest_slope(lambda x: D(x, y[: len(x)]), torch.randn(84, *shape, dtype=torch.float64), steps=10)
    assert found <= bound * ROUNDING
    assert found < adversarial <= bound * ROUNDING
    if name == "mlp":
        assert adversarial > 0.2 * bound


# --------------------------------------------------------------------------------------------------- whole networks


def built(name, shape, classes=None, **options):
    return ganframe.component("discriminator", name)(**options).build(DataSpec(shape, classes))


def grown(D, factor):
    """D in evaluation mode and float64, its weights scaled by `factor`, its batch norms with random statistics."""
    for parameter in D.parameters():
        parameter.data.mul_(factor)
    for module in D.modules():
        if isinstance(module, (nn.BatchNorm1d, nn.BatchNorm2d)):
            module.running_mean.normal_()
            module.running_var.uniform_(0.05, 2.0)
    return D.double().eval().requires_grad_(False)


DISCRIMINATORS = [
    *[("mlp", {"hidden": (8, 8), "norm": norm}, (3,)) for norm in ("none", "layer", "batch")],
    *[("mlp", {"hidden": (8,), "activation": name, "dropout": 0.5}, (2, 3)) for name in ("relu", "tanh")],
    *[("dcgan", {"width": 3, "norm": norm}, (1, 8, 8)) for norm in ("none", "layer", "batch")],
    ("resnet", {"width": 1}, (1, 32, 32)),
]
ODD = [("dcgan", {"width": 2, "norm": "none"}, (1, 9, 13)), ("resnet", {"width": 1}, (2, 13, 9))]


def dominates(D, shape, classes, scale=1.0, **effort):
    labels = torch.arange(classes)
    x = torch.randn(1, *shape, dtype=torch.float64).expand(classes, *shape)
    found = certified_bound(D, x, labels)
    bound = found.value
    assert math.isfinite(bound)
    assert found.layers
    for y in labels.tolist():
        assert steepest_score(D, shape, y, scale=scale, **effort) <= bound * ROUNDING
    return bound


@pytest.mark.parametrize("condition", ["none", "concat", "projection"])
@pytest.mark.parametrize(("name", "options", "shape"), DISCRIMINATORS)
def test_slopes_of_builtin_discriminators_do_not_exceed_the_bound(name, options, shape, condition):
    effort = {"steps": 4, "pairs": 8} if name == "resnet" else {}
    D = built(name, shape, 3, condition=condition, **options)
    for factor in (1.0, 4.0):
        dominates(grown(D, factor), shape, 3, **effort)


@pytest.mark.parametrize(("name", "options", "shape"), ODD)
def test_slopes_at_odd_sizes_do_not_exceed_the_bound(name, options, shape):
    dominates(grown(built(name, shape, **options), 2.0), shape, 1, steps=4, pairs=8)


@pytest.mark.parametrize("gamma", [0.0, 0.5])
def test_self_attention_has_no_bound(gamma):
    D = built("resnet", (1, 32, 32), width=1, attention=8)
    nn.init.constant_(D.attention.gamma, gamma)
    with pytest.raises(NoBound, match=r"matmul.*, in attention, multiplies two functions of x.* no Lipschitz constant"):
        certified_bound(D.eval(), torch.randn(1, 1, 32, 32), torch.zeros(1, dtype=torch.long))


@pytest.mark.parametrize(("name", "options", "shape"), [DISCRIMINATORS[0], DISCRIMINATORS[5], DISCRIMINATORS[-1]])
def test_slopes_under_spectral_norm_do_not_exceed_the_bound(name, options, shape):
    D = built(name, shape, 2, condition="projection", **options)
    D = ganframe.component("constraint", "spectral_norm")(power_iterations=5).wrap(D)
    with torch.no_grad():
        D(torch.randn(2, *shape), torch.arange(2))
    D = D.double().eval().requires_grad_(False)
    effort = {"steps": 4, "pairs": 8} if name == "resnet" else {}
    bound = dominates(D, shape, 2, **effort)
    if name == "mlp":  # layers of norm about 1, and (embedding · h) + ψ(h)
        assert bound <= 1.1 * (1 + math.sqrt(8))


def test_slopes_of_r3gan_discriminator_do_not_exceed_the_bound(install_package):
    install_package(R3GAN)
    D = built("r3gan", (1, 8, 8), 2, width=16, blocks=1, condition="projection")
    with torch.no_grad():  # fix-up starts the branches at 0
        for module in D.modules():
            if isinstance(module, nn.Conv2d):
                module.weight.normal_(0, 0.3)
    dominates(grown(D, 1.0), (1, 8, 8), 2)


FEATURES = [
    lambda n: (nn.Linear(n, 4), 4),
    lambda n: (nn.ReLU(), n),
    lambda n: (nn.LeakyReLU(1.7), n),
    lambda n: (nn.PReLU(n, init=-1.5), n),
    lambda n: (nn.ELU(1.4), n),
    lambda n: (nn.Softplus(beta=3), n),
    lambda n: (nn.Hardtanh(-2, 2), n),
    lambda n: (nn.Tanh(), n),
    lambda n: (nn.BatchNorm1d(n), n),
    lambda n: (nn.LayerNorm(n, eps=0.1), n),
    lambda n: (nn.GroupNorm(1, n, eps=0.1), n),
    lambda n: (Lambda(lambda h: torch.cat([h, h.flip(1)], 1)), 2 * n),
    lambda n: (Lambda(lambda h: torch.stack([h, 2 * h]).sum(0)), n),
    lambda n: (Lambda(lambda h: torch.add(h, h.tanh(), alpha=-2)), n),
    lambda n: (Lambda(lambda h: h * torch.linspace(-2, 2, n).double() / 0.7), n),
    lambda n: (Lambda(lambda h: h[:, :, None].expand(-1, -1, 2).flatten(1) - 1), 2 * n),
    lambda n: (Lambda(lambda h: sum(h.mean(1, keepdim=True).chunk(1, 1)) + h), n),
    lambda n: (Lambda(lambda h: h.sum(1, keepdim=True) * torch.ones(3).double()), 3),
    lambda n: (Lambda(lambda h: F.max_pool1d(h[:, None], 3, 1, padding=1)[:, 0]), n),
    lambda n: (Lambda(lambda h: F.avg_pool1d(h[:, None], 3, 1, 1, count_include_pad=False).squeeze(1)), n),
    lambda n: (Lambda(lambda h: F.pad(h[:, None], (1, 1), mode="replicate").flatten(1)), n + 2),
    lambda n: (Lambda(lambda h: F.interpolate(h[:, None], scale_factor=2, mode="linear").flatten(1)), 2 * n),
]


class Lambda(nn.Module):
    def __init__(self, function):
        super().__init__()
        self.function = function

    def forward(self, h):
        return self.function(h)


@pytest.mark.parametrize("seed", range(24))
def test_slopes_of_random_networks_do_not_exceed_the_bound(seed):
    """Half of them have no negative weights; the bound is then close to the slopes found."""
    draw = torch.Generator().manual_seed(seed)
    modules, width = [], 3
    while len(modules) < 6:
        module, width = FEATURES[int(torch.randint(len(FEATURES), (1,), generator=draw))](width)
        modules.append(module)
    network = grown(nn.Sequential(*modules, nn.Linear(width, 1), nn.Flatten(0)), 1.5)
    if seed % 2:
        for parameter in network.parameters():
            parameter.abs_()
    dominates(Function(network), (3,), 1, scale=2.0)


def test_slopes_of_image_functions_do_not_exceed_the_bound():
    network = nn.Sequential(
        nn.Conv2d(2, 4, 3, padding=1, padding_mode="reflect"),
        nn.MaxPool2d(3, 1, dilation=2),
        nn.Upsample(scale_factor=2, mode="bilinear"),
        nn.ConvTranspose2d(4, 3, 3, stride=2, groups=1),
        nn.GroupNorm(3, 3, eps=0.1),
        nn.AvgPool2d(3, 2, padding=1, count_include_pad=False),
        Lambda(lambda h: h + F.interpolate(h.mean((2, 3), keepdim=True), h.shape[2:])),
        Lambda(lambda h: h.sum((1, 2, 3))),
    )
    dominates(Function(grown(network, 1.0)), (2, 6, 6), 1)
