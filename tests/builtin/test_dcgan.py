"""Tests of DCGAN: supported and refused sizes, initialisation as in the paper, conditioning, sample mixing."""

import pytest
import torch
from torch import nn

from ganframe import DataSpec, mixes_samples
from ganframe.builtin.dcgan import DCGANDiscriminator, DCGANGenerator

SIZES = (8, 16, 32, 64, 128)


def randomised(network):
    """Redraws every parameter: a conditional scale initialised to 1 for all classes would not depend on the label."""
    for parameter in network.parameters():
        nn.init.normal_(parameter, 0, 0.3)
    return network


@pytest.mark.parametrize("channels", [1, 3])
@pytest.mark.parametrize("size", SIZES)
def test_generator_output_has_data_shape_and_is_in_range(size, channels):
    torch.manual_seed(0)
    G = randomised(DCGANGenerator(width=2).build(DataSpec((channels, size, size)), 6))
    for n, training in ((4, True), (4, False), (1, False)):
        images = G.train(training)(3 * torch.randn(n, 6), torch.zeros(n, dtype=torch.long))
        assert images.shape == (n, channels, size, size)
        assert images.abs().max() <= 1


@pytest.mark.parametrize("channels", [1, 3])
@pytest.mark.parametrize("size", SIZES)
def test_discriminator_returns_one_score_per_image(size, channels):
    torch.manual_seed(0)
    D = DCGANDiscriminator(width=2).build(DataSpec((channels, size, size)))
    for n, training in ((4, True), (4, False), (1, False)):
        scores = D.train(training)(torch.randn(n, channels, size, size), torch.zeros(n, dtype=torch.long))
        assert scores.shape == (n,)


@pytest.mark.parametrize("shape", [(3, 28, 28), (1, 48, 48), (3, 256, 256), (3, 32, 64), (3, 64, 32), (1, 4, 4), (2,)])
def test_unsupported_sizes_are_refused_with_supported_sizes(shape):
    for build in (
        lambda: DCGANGenerator(width=2).build(DataSpec(shape), 6),
        lambda: DCGANDiscriminator(width=2).build(DataSpec(shape)),
    ):
        with pytest.raises(ValueError, match="dcgan takes square images of 8, 16, 32, 64, 128 pixels") as caught:
            build()
        assert str(shape) in str(caught.value)


@pytest.mark.parametrize(("condition", "matters"), [("none", False), ("concat", True), ("batch_norm", True)])
def test_label_changes_output_only_if_generator_is_conditional(condition, matters):
    torch.manual_seed(0)
    G = randomised(DCGANGenerator(width=4, condition=condition).build(DataSpec((1, 16, 16), 3), 6)).eval()
    z = torch.randn(4, 6)
    first, second = (G(z, torch.full((4,), label)) for label in (0, 2))
    assert all((a != b).any() for a, b in zip(first, second, strict=True)) if matters else torch.equal(first, second)


@pytest.mark.parametrize(("condition", "matters"), [("none", False), ("concat", True), ("projection", True)])
def test_label_changes_score_only_if_discriminator_is_conditional(condition, matters):
    torch.manual_seed(0)
    D = randomised(DCGANDiscriminator(width=4, condition=condition).build(DataSpec((1, 16, 16), 3))).eval()
    x = torch.randn(4, 1, 16, 16)
    first, second = (D(x, torch.full((4,), label)) for label in (0, 2))
    assert (first != second).all() if matters else torch.equal(first, second)


@pytest.mark.parametrize(
    "build",
    [
        lambda data: DCGANGenerator(width=2, condition="concat").build(data, 5),
        lambda data: DCGANGenerator(width=2, condition="batch_norm").build(data, 5),
        lambda data: DCGANDiscriminator(width=2, condition="concat").build(data),
        lambda data: DCGANDiscriminator(width=2, condition="projection").build(data),
    ],
)
def test_condition_without_classes_is_refused(build):
    with pytest.raises(ValueError, match=r"needs labels or conditions, and the data has neither"):
        build(DataSpec((1, 8, 8)))
    build(DataSpec((1, 8, 8), classes=3))


def layers_with_weights(network):
    return [m for m in network.modules() if isinstance(m, (nn.Conv2d, nn.ConvTranspose2d, nn.Linear, nn.Embedding))]


@pytest.mark.parametrize(
    "network",
    [
        lambda: DCGANGenerator(width=16).build(DataSpec((3, 32, 32)), 64),
        lambda: DCGANGenerator(width=16, condition="concat").build(DataSpec((3, 32, 32), 10), 64),
        lambda: DCGANDiscriminator(width=16).build(DataSpec((3, 32, 32))),
        lambda: DCGANDiscriminator(width=16, norm="layer").build(DataSpec((3, 32, 32))),
        lambda: DCGANDiscriminator(width=16, condition="projection").build(DataSpec((3, 32, 32), 10)),
    ],
)
def test_weight_initialisation_matches_paper(network):
    """Zero-centred normal with standard deviation 0.02 (Radford et al. 2015, section 4), in every layer."""
    torch.manual_seed(0)
    built = network()
    for layer in layers_with_weights(built):
        weight, n = layer.weight, layer.weight.numel()
        assert abs(weight.mean()) < 5 * 0.02 / n**0.5, layer
        assert abs(weight.std() / 0.02 - 1) < 5 / (2 * n) ** 0.5, layer
        if getattr(layer, "bias", None) is not None:
            assert (layer.bias == 0).all(), layer
    for norm in (m for m in built.modules() if isinstance(m, nn.BatchNorm2d)):
        assert abs(norm.weight.mean() - 1) < 5 * 0.02 / norm.num_features**0.5
        assert 0 < norm.weight.std() < 0.05
        assert (norm.bias == 0).all()


def test_channels_double_with_each_halving_of_resolution():
    G = DCGANGenerator(width=4).build(DataSpec((3, 64, 64)), 6)
    assert [conv.out_channels for conv in G.convs] == [32, 16, 8, 4]
    assert [norm.norm.num_features for norm in G.norms] == [32, 16, 8, 4]
    D = DCGANDiscriminator(width=4).build(DataSpec((3, 64, 64)))
    assert [m.out_channels for m in D.modules() if isinstance(m, nn.Conv2d)] == [4, 8, 16, 32]
    assert [m.num_features for m in D.modules() if isinstance(m, nn.BatchNorm2d)] == [
        8,
        16,
        32,
    ]  # not in the first layer


def test_convolution_has_bias_only_without_norm():
    for norm, biases in (("none", [True, True, True]), ("batch", [True, False, False])):
        D = DCGANDiscriminator(width=4, norm=norm).build(DataSpec((3, 32, 32)))
        assert [m.bias is not None for m in D.modules() if isinstance(m, nn.Conv2d)] == biases


# At 8 pixels there is only the first layer, which is never normalised.
@pytest.mark.parametrize(
    ("size", "norm", "mixes"),
    [(16, "none", False), (16, "layer", False), (16, "batch", True), (32, "batch", True), (8, "batch", False)],
)
def test_only_batch_norm_mixes_samples(size, norm, mixes, other_samples_gradient):
    torch.manual_seed(0)
    D = randomised(DCGANDiscriminator(width=2, norm=norm).build(DataSpec((1, size, size))))
    assert mixes_samples(D) is mixes
    assert (other_samples_gradient(D, torch.randn(4, 1, size, size)) > 0) is mixes
