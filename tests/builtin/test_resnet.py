"""Tests of SN-GAN's residual networks: sizes, channels and parameter counts of the paper, conditioning."""

import itertools
import math

import pytest
import torch
from torch import nn
from torch.nn import functional as F

import ganframe
from ganframe import DataSpec, Scored, mixes_samples
from ganframe.builtin.resnet import ResNetDiscriminator, ResNetGenerator
from ganframe.layers import ConvThenPool, UpsampleThenConv
from ganframe.testing import check_discriminator, check_generator

SIZES = (32, 64, 128)
ANY_SIZE = [
    DataSpec((1, 28, 28), classes=4),
    DataSpec((4, 48, 48)),
    DataSpec((3, 100, 100)),
    DataSpec((2, 64, 40), classes=3),
    DataSpec((3, 9, 30)),
    DataSpec((1, 13, 8), classes=2),
]


def randomised(network):
    """Redraws every parameter: a conditional scale initialised to 1 for all classes would not depend on the label."""
    for parameter in network.parameters():
        nn.init.normal_(parameter, 0, 0.3)
    return network


def parameter_count(network):
    return sum(p.numel() for p in network.parameters())


@pytest.mark.parametrize("channels", [1, 3])
@pytest.mark.parametrize("size", SIZES)
def test_generator_output_has_data_shape_and_is_in_range(size, channels):
    torch.manual_seed(0)
    G = ResNetGenerator(width=1).build(DataSpec((channels, size, size)), 6)
    for n, training in ((4, True), (4, False), (1, False)):
        images = G.train(training)(3 * torch.randn(n, 6), torch.zeros(n, dtype=torch.long))
        assert images.shape == (n, channels, size, size)
        assert images.abs().max() <= 1


@pytest.mark.parametrize("channels", [1, 3])
@pytest.mark.parametrize("size", SIZES)
def test_discriminator_returns_one_score_per_image(size, channels):
    torch.manual_seed(0)
    D = ResNetDiscriminator(width=1).build(DataSpec((channels, size, size)))
    for n, training in ((4, True), (4, False), (1, False)):
        scores = D.train(training)(torch.randn(n, channels, size, size), torch.zeros(n, dtype=torch.long))
        assert scores.shape == (n,)


@pytest.mark.parametrize("shape", [(3, 7, 32), (1, 4, 4), (2,)])
def test_points_and_small_images_are_refused(shape):
    for build in (
        lambda: ResNetGenerator(width=1).build(DataSpec(shape), 6),
        lambda: ResNetDiscriminator(width=1).build(DataSpec(shape)),
    ):
        with pytest.raises(ValueError, match="resnet takes images of at least 8×8 pixels") as caught:
            build()
        assert str(shape) in str(caught.value)


@pytest.mark.parametrize("data", ANY_SIZE, ids=str)
def test_networks_conform_at_any_size(data):
    way_in, projection = ("batch_norm", "projection") if data.classes else ("none", "none")
    check_generator(ResNetGenerator(width=1, condition=way_in), data)
    check_discriminator(ResNetDiscriminator(width=1, condition=projection), data)


@pytest.mark.parametrize("size", [(13, 22), (25, 9), (31, 31), (50, 100)])
def test_every_pixel_of_any_size_counts(size):
    data = DataSpec((2, *size))
    y = torch.zeros(8, dtype=torch.long)
    G = ResNetGenerator(width=8).build(data, 6).eval().double()
    assert G(torch.randn(8, 6).double(), y).std(0).all()  # each pixel depends on z
    x = torch.randn(8, *data.shape, requires_grad=True)
    (gradient,) = torch.autograd.grad(ResNetDiscriminator(width=2).build(data)(x, y).sum(), x)
    assert gradient.abs().sum(0).all()


@pytest.mark.parametrize(
    ("size", "up", "down", "halves"),
    [
        ((8, 8), [4], [2, 2, 2, 2], 1),
        ((16, 16), [4, 4], [2, 2, 2, 2], 2),
        ((28, 28), [4, 4, 4], [2, 2, 2, 2], 2),
        ((48, 90), [4, 4, 4], [2, 2, 2, 2], 2),
        ((49, 90), [8, 4, 2, 1], [1, 2, 4, 8, 16], 5),
        ((96, 96), [8, 4, 2, 1], [1, 2, 4, 8, 16], 5),
        ((100, 100), [16, 8, 4, 2, 1], [1, 2, 4, 8, 16, 16], 5),
        ((256, 256), [16, 16, 8, 4, 2, 1], [1, 2, 4, 8, 16, 16, 16], 6),
    ],
)
def test_blocks_of_other_sizes_follow_the_tables(size, up, down, halves):
    data = DataSpec((3, *size))
    with torch.device("meta"):
        G, D = ResNetGenerator(width=1).build(data, 6), ResNetDiscriminator(width=1).build(data)
    assert [block.conv2.out_channels for block in G.blocks] == up
    assert [block.conv2.out_channels for block in D.blocks] == down
    kept = len(down) - halves
    assert [isinstance(block.conv2, ConvThenPool) for block in D.blocks] == [True] * halves + [False] * kept


# What the networks had when they took squares of 32, 64 and 128 pixels: stored runs have these names and shapes.
EARLIER = {
    (32, ("none", "none")): ((3689224662, 97.394113), (2568635729, 1.8747633)),
    (32, ("batch_norm", "projection")): ((3300828904, 164.15175), (475779670, 14.821893)),
    (64, ("concat", "concat")): ((4055829595, 120.35117), (2747008316, -2.6433782)),
    (64, ("batch_norm", "none")): ((1383074995, 260.10122), (3508536683, 3.8693249)),
    (128, ("none", "projection")): ((1863280803, 248.36745), (1800922885, -26.38965)),
}


@pytest.mark.parametrize("case", EARLIER, ids=str)
def test_weights_of_earlier_sizes_are_the_same(case, weights_of):
    size, options = case
    data = DataSpec((3, size, size), classes=3)
    torch.manual_seed(7)
    networks = (
        ResNetGenerator(width=1, condition=options[0]).build(data, 6),
        ResNetDiscriminator(width=1, condition=options[1]).build(data),
    )
    assert tuple(weights_of(network) for network in networks) == EARLIER[case]


def test_networks_for_32_pixels_match_table_4():
    """G: dense to 4×4×256, then three up blocks of 256. D: four blocks of 128; the first two halve. Counted by hand."""
    data = DataSpec((3, 32, 32))
    conv3, conv1, bn = (lambda a, b: 9 * a * b + b), (lambda a, b: a * b + b), (lambda a: 2 * a)
    G = ResNetGenerator(width=64).build(data, 128)
    up = bn(256) + conv3(256, 256) + bn(256) + conv3(256, 256) + conv1(256, 256)
    assert parameter_count(G) == (128 + 1) * 256 * 16 + 3 * up + bn(256) + conv3(256, 3) == 4_276_739
    D = ResNetDiscriminator(width=64).build(data)
    first = conv3(3, 128) + conv3(128, 128) + conv1(3, 128)
    halving = 2 * conv3(128, 128) + conv1(128, 128)
    assert parameter_count(D) == first + halving + 2 * 2 * conv3(128, 128) + 129 == 1_053_825
    assert {m.out_channels for m in G.blocks.modules() if isinstance(m, nn.Conv2d)} == {256}
    assert {m.out_channels for m in D.modules() if isinstance(m, nn.Conv2d)} == {128}
    assert [isinstance(block.conv2, ConvThenPool) for block in D.blocks] == [True, True, False, False]


def test_channels_for_128_pixels_match_table_6():
    data = DataSpec((3, 128, 128))
    with torch.device("meta"):
        G, D = ResNetGenerator(width=64).build(data, 128), ResNetDiscriminator(width=64).build(data)
    assert G.first.out_features == 1024 * 16
    assert [block.conv2.out_channels for block in G.blocks] == [1024, 512, 256, 128, 64]
    assert [block.conv2.out_channels for block in D.blocks] == [64, 128, 256, 512, 1024, 1024]
    assert [isinstance(block.conv2, ConvThenPool) for block in D.blocks] == [True] * 5 + [False]


def plain_conv(layer, h):
    return F.conv2d(h, layer.weight, layer.bias, padding=layer.weight.shape[-1] // 2)


def test_generator_computes_the_blocks_of_the_paper():
    """BN, ReLU, upsample, conv, BN, ReLU, conv; shortcut: upsample, 1×1 conv (Miyato et al. 2018, figure 8)."""
    torch.manual_seed(0)
    G = randomised(ResNetGenerator(width=1).build(DataSpec((3, 32, 32)), 6)).double()
    z, y = torch.randn(4, 6, dtype=torch.float64), torch.zeros(4, dtype=torch.long)
    got = G(z, y)
    h = G.first(z).view(4, 4, 4, 4)
    for block in G.blocks:
        assert isinstance(block.conv1, UpsampleThenConv)
        branch = F.interpolate(block.norm1(h, y).relu(), scale_factor=2)
        branch = plain_conv(block.conv2, block.norm2(plain_conv(block.conv1, branch), y).relu())
        h = branch + plain_conv(block.shortcut, F.interpolate(h, scale_factor=2))
    torch.testing.assert_close(got, plain_conv(G.last, G.norm(h).relu()).tanh())


def test_discriminator_computes_the_blocks_of_the_paper():
    """(ReLU), conv, ReLU, conv, pool; shortcut: 1×1 conv, pool. The first block has no ReLU at its input."""
    torch.manual_seed(0)
    D = randomised(ResNetDiscriminator(width=1).build(DataSpec((3, 32, 32)))).double()
    x, y = torch.randn(4, 3, 32, 32, dtype=torch.float64), torch.zeros(4, dtype=torch.long)
    h = x
    for i, block in enumerate(D.blocks):
        branch = plain_conv(block.conv2, plain_conv(block.conv1, h if i == 0 else h.relu()).relu())
        shortcut = h if isinstance(block.shortcut, nn.Identity) else plain_conv(block.shortcut, h)
        h = F.avg_pool2d(branch + shortcut, 2) if i < 2 else branch + shortcut
    expected = D.head.linear(h.relu().sum((2, 3)))[:, 0]
    torch.testing.assert_close(D(x, y), expected)


def test_weights_are_initialised_with_glorot_uniform():
    """±√(6 / (fan in + fan out)), times √2 in the 3×3 convolutions of the branches; biases 0."""
    torch.manual_seed(0)
    G = ResNetGenerator(width=8).build(DataSpec((3, 32, 32)), 16)
    D = ResNetDiscriminator(width=16).build(DataSpec((3, 32, 32)))
    for layer in (m for network in (G, D) for m in network.modules() if isinstance(m, (nn.Conv2d, nn.Linear))):
        residual = isinstance(layer, nn.Conv2d) and layer.kernel_size == (3, 3) and layer is not G.last
        area = layer.weight[0, 0].numel()
        bound = (6 / (area * sum(layer.weight.shape[:2]))) ** 0.5 * (2**0.5 if residual else 1)
        assert 0.8 * bound < layer.weight.abs().max() <= bound, layer
        assert abs(layer.weight.std() * 3**0.5 / bound - 1) < 0.2, layer
        assert (layer.bias == 0).all(), layer


def test_projection_embedding_is_initialised_with_glorot_uniform():
    """As in Miyato & Koyama 2018. With N(0, 1) the projection would dominate ψ(h) at the start."""
    torch.manual_seed(0)
    D = ResNetDiscriminator(width=16, condition="projection").build(DataSpec((3, 32, 32), classes=10))
    weight = D.head.embedding.weight
    assert weight.abs().max() <= (6 / sum(weight.shape)) ** 0.5


@pytest.mark.parametrize(("condition", "matters"), [("none", False), ("concat", True), ("batch_norm", True)])
def test_label_changes_output_only_if_generator_is_conditional(condition, matters):
    torch.manual_seed(0)
    G = randomised(ResNetGenerator(width=2, condition=condition).build(DataSpec((3, 32, 32), 3), 6)).train()
    z = torch.randn(4, 6)
    first, second = (G(z, torch.full((4,), label)) for label in (0, 2))
    # In training mode batch statistics remove a shift of all samples, so the labels differ within the batch.
    mixed = G(z, torch.tensor([0, 0, 2, 2]))
    if matters:
        assert not torch.allclose(mixed, first)
        assert not torch.allclose(mixed, second)
    else:
        assert torch.equal(first, second)
        assert torch.equal(first, mixed)


@pytest.mark.parametrize(("condition", "matters"), [("none", False), ("concat", True), ("projection", True)])
def test_label_changes_score_only_if_discriminator_is_conditional(condition, matters):
    torch.manual_seed(0)
    D = randomised(ResNetDiscriminator(width=2, condition=condition).build(DataSpec((3, 32, 32), 3)))
    x = torch.randn(4, 3, 32, 32)
    first, second = (D(x, torch.full((4,), label)) for label in (0, 2))
    assert (first != second).all() if matters else torch.equal(first, second)


@pytest.mark.parametrize(
    "build",
    [
        lambda data: ResNetGenerator(width=1, condition="concat").build(data, 5),
        lambda data: ResNetGenerator(width=1, condition="batch_norm").build(data, 5),
        lambda data: ResNetDiscriminator(width=1, condition="concat").build(data),
        lambda data: ResNetDiscriminator(width=1, condition="projection").build(data),
    ],
)
def test_condition_without_classes_is_refused(build):
    with pytest.raises(ValueError, match=r"needs labels or conditions, and the data has neither"):
        build(DataSpec((3, 32, 32)))
    build(DataSpec((3, 32, 32), classes=3))


@pytest.mark.parametrize("size", SIZES)
def test_discriminator_treats_samples_independently(size, other_samples_gradient):
    torch.manual_seed(0)
    D = ResNetDiscriminator(width=1).build(DataSpec((1, size, size)))
    assert not mixes_samples(D)
    assert other_samples_gradient(D, torch.randn(3, 1, size, size)) == 0
    assert mixes_samples(ResNetGenerator(width=1).build(DataSpec((1, size, size)), 4))  # BatchNorm


# ------------------------------------------------------------------------------------------------------ self-attention


def build_both(attention, size=(32, 32)):
    torch.manual_seed(1)
    G = ResNetGenerator(width=2, attention=attention).build(DataSpec((3, *size)), 6)
    torch.manual_seed(2)
    return G, ResNetDiscriminator(width=4, attention=attention).build(DataSpec((3, *size)))


def test_network_with_attention_starts_as_the_network_without_it():
    G, D = build_both(16)
    plain_G, plain_D = build_both(0)
    z, y = torch.randn(3, 6), torch.zeros(3, dtype=torch.long)
    x = G(z, y)
    assert torch.equal(x, plain_G(z, y))
    assert torch.equal(D(x, y), plain_D(x, y))
    for network in (G, D):
        nn.init.constant_(network.attention.gamma, 0.5)
    assert not torch.allclose(G(z, y), x)
    assert not torch.allclose(D(x, y), plain_D(x, y))


@pytest.mark.parametrize(
    ("size", "side", "maps"),
    [((32, 32), 16, (16, 16)), ((32, 32), 8, (8, 8)), ((40, 30), 15, (20, 15)), ((64, 64), 32, (32, 32))],
)
def test_attention_is_applied_once_at_the_feature_maps_of_its_side(size, side, maps):
    seen = []
    for network, inputs in zip(build_both(side, size), (torch.randn(2, 6), torch.randn(2, 3, *size)), strict=True):
        network.attention.register_forward_pre_hook(lambda _, given: seen.append(tuple(given[0].shape[2:])))
        network(inputs, torch.zeros(2, dtype=torch.long))
    assert seen == [maps, maps]


def test_attention_at_other_sides_is_refused_with_those_that_exist():
    data = DataSpec((3, 32, 32))
    for side in (4, 5, 64):
        with pytest.raises(ValueError, match=rf"attention = {side}: no block .* choose one of 8, 16, 32, or 0"):
            ResNetGenerator(attention=side).build(data, 6)
        with pytest.raises(ValueError, match=rf"attention = {side}: no block .* choose one of 8, 16, or 0"):
            ResNetDiscriminator(attention=side).build(data)


@pytest.mark.parametrize("data", [DataSpec((3, 32, 32), classes=4), DataSpec((2, 30, 17))], ids=str)
def test_networks_with_attention_conform(data):
    way_in, projection, side = ("batch_norm", "projection", 16) if data.classes else ("none", "none", 9)
    check_generator(ResNetGenerator(width=1, condition=way_in, attention=side), data)
    check_discriminator(ResNetDiscriminator(width=1, condition=projection, attention=side), data)


def test_spectral_norm_reaches_the_convolutions_of_attention():
    _, D = build_both(16)
    D = ganframe.component("constraint", "spectral_norm")(power_iterations=200).wrap(D)
    D(torch.randn(2, 3, 32, 32), torch.zeros(2, dtype=torch.long))
    for layer in (D.attention.query, D.attention.key, D.attention.value, D.attention.out):
        norm = torch.linalg.matrix_norm(layer.eval().weight.flatten(1), 2)
        assert norm.item() == pytest.approx(1, abs=1e-3)


def test_gradient_penalty_trains_attention():
    _, D = build_both(16)
    nn.init.constant_(D.attention.gamma, 0.5)
    x, y = torch.randn(4, 3, 32, 32), torch.zeros(4, dtype=torch.long)
    real, fake = (Scored(x=samples, y=y, scores=D(samples, y), z=None, extras={}) for samples in (x, -x))
    ganframe.component("constraint", "gradient_penalty")().penalty(D, real, fake).backward()
    for name, parameter in D.attention.named_parameters():
        assert parameter.grad.isfinite().all(), name
        assert parameter.grad.any(), name


@pytest.mark.parametrize(("size", "halvings"), [((25, 13), 2), ((27, 35), 2), ((101, 67), 5)])
def test_discriminator_halves_odd_sizes_upwards_so_that_no_row_or_column_is_left_out(size, halvings):
    D = ResNetDiscriminator(width=1).build(DataSpec((1, *size)))
    sizes = [size]
    for block in D.blocks:
        block.register_forward_hook(lambda _, __, out: sizes.append(tuple(out.shape[2:])))
    D(torch.zeros(2, 1, *size), torch.zeros(2, dtype=torch.long))
    halved = [(a, b) for a, b in itertools.pairwise(sizes) if a != b]
    assert len(halved) == halvings
    assert all(small == tuple(math.ceil(n / 2) for n in large) for large, small in halved)
