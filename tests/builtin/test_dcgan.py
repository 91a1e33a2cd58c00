"""Tests of DCGAN: sizes, weights of earlier versions, initialisation as in the paper, conditioning, sample mixing."""

import pytest
import torch
from torch import nn

from ganframe import DataSpec, mixes_samples
from ganframe.builtin.dcgan import DCGANDiscriminator, DCGANGenerator
from ganframe.testing import check_discriminator, check_generator

SIZES = (8, 16, 32, 64, 128)
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


@pytest.mark.parametrize("shape", [(3, 7, 32), (1, 4, 4), (2,)])
def test_points_and_small_images_are_refused(shape):
    for build in (
        lambda: DCGANGenerator(width=2).build(DataSpec(shape), 6),
        lambda: DCGANDiscriminator(width=2).build(DataSpec(shape)),
    ):
        with pytest.raises(ValueError, match="dcgan takes images of at least 8×8 pixels") as caught:
            build()
        assert str(shape) in str(caught.value)


@pytest.mark.parametrize("data", ANY_SIZE, ids=str)
def test_networks_conform_at_any_size(data):
    way_in, projection = ("batch_norm", "projection") if data.classes else ("none", "none")
    check_generator(DCGANGenerator(width=2, condition=way_in), data)
    check_discriminator(DCGANDiscriminator(width=2, condition=projection), data)


@pytest.mark.parametrize("size", [(13, 22), (25, 9), (31, 31), (50, 100)])
def test_every_pixel_of_any_size_counts(size):
    data = DataSpec((2, *size))
    y = torch.zeros(8, dtype=torch.long)
    G = randomised(DCGANGenerator(width=8).build(data, 6)).eval().double()
    assert G(torch.randn(8, 6).double(), y).std(0).all()  # each pixel depends on z
    x = torch.randn(8, *data.shape, requires_grad=True)
    (gradient,) = torch.autograd.grad(DCGANDiscriminator(width=2, norm="none").build(data)(x, y).sum(), x)
    assert gradient.abs().sum(0).all()


def test_first_layer_has_the_smallest_grid_as_its_kernel():
    for size, grid in (((48, 48), (6, 6)), ((28, 28), (4, 4)), ((64, 32), (8, 4)), ((64, 40), (8, 5))):
        G = DCGANGenerator(width=2).build(DataSpec((1, *size)), 6)
        assert G.convs[0].kernel_size == grid
        assert len(G.convs) == 3
        assert DCGANDiscriminator(width=2).build(DataSpec((1, *size))).head.linear.in_features == 8 * grid[0] * grid[1]


# What the networks had when they took squares of 8 to 128 pixels: stored runs have these names and shapes.
EARLIER = {
    (8, ("none", "none", "batch")): ((2070489232, 6.9171948), (2605153781, -0.14151506)),
    (16, ("concat", "projection", "layer")): ((1215166158, 21.164055), (344639011, 6.1990509)),
    (32, ("batch_norm", "concat", "none")): ((2778141270, 105.79433), (2284884048, -0.31849754)),
    (32, ("none", "none", "batch")): ((1766339615, 53.901401), (492177432, 39.502716)),
    (64, ("concat", "projection", "batch")): ((237458439, 120.55939), (3002279420, 82.758534)),
    (128, ("batch_norm", "none", "layer")): ((1709671143, 485.0212), (2397077876, 94.771438)),
}


@pytest.mark.parametrize("case", EARLIER, ids=str)
def test_weights_of_earlier_sizes_are_the_same(case, weights_of):
    size, options = case
    data = DataSpec((3, size, size), classes=3)
    torch.manual_seed(7)
    networks = (
        DCGANGenerator(width=2, condition=options[0]).build(data, 6),
        DCGANDiscriminator(width=2, condition=options[1], norm=options[2]).build(data),
    )
    assert tuple(weights_of(network) for network in networks) == EARLIER[case]


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


def test_channels_double_with_each_halving_of_resolution_up_to_16_times():
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
    with torch.device("meta"):
        G, D = (
            DCGANGenerator(width=4).build(DataSpec((3, 300, 300)), 6),
            DCGANDiscriminator(width=4).build(DataSpec((3, 300, 300))),
        )
    assert [conv.out_channels for conv in G.convs] == [64, 64, 32, 16, 8, 4]
    assert [m.out_channels for m in D.modules() if isinstance(m, nn.Conv2d)] == [4, 8, 16, 32, 64, 64]


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
