"""Tests of SN-GAN's residual networks: sizes, channels and parameter counts of the paper, conditioning."""

import pytest
import torch
from torch import nn
from torch.nn import functional as F

from ganframe import DataSpec, mixes_samples
from ganframe.builtin.resnet import ResNetDiscriminator, ResNetGenerator
from ganframe.layers import ConvThenPool, UpsampleThenConv

SIZES = (32, 64, 128)


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


@pytest.mark.parametrize("shape", [(1, 28, 28), (3, 48, 48), (3, 256, 256), (3, 32, 64), (3, 16, 16), (3, 8, 8), (2,)])
def test_unsupported_sizes_are_refused_with_supported_sizes(shape):
    for build in (
        lambda: ResNetGenerator(width=1).build(DataSpec(shape), 6),
        lambda: ResNetDiscriminator(width=1).build(DataSpec(shape)),
    ):
        with pytest.raises(ValueError, match="resnet takes square images of 32, 64, 128 pixels") as caught:
            build()
        assert str(shape) in str(caught.value)


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


def test_channels_for_128_pixels_match_table_5():
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
