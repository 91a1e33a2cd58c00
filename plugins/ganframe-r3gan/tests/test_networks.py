"""The two networks: shapes, gradients, labels, initialisation, architecture and errors."""

import math
import zlib

import pytest
import torch
from ganframe_r3gan import R3GANDiscriminator, R3GANGenerator
from ganframe_r3gan.networks import _Resample, _Residual
from torch import nn

import ganframe
from ganframe import DataSpec, mixes_samples

SIZES = [8, 16, 32, 64]


def pair(data, latent_dim=5, **options):
    """Both networks with the same options, by default small."""
    options = {"width": 16, **options}
    return R3GANGenerator(**options).build(data, latent_dim), R3GANDiscriminator(**options).build(data)


def residuals(network):
    return [module for module in network.modules() if isinstance(module, _Residual)]


def randomise_branches(network):
    """Initialises the last convolution of each residual branch, initially 0, at random."""
    for block in residuals(network):
        nn.init.normal_(block.last.weight, 0.0, 0.1)
    return network


@pytest.mark.parametrize("size", SIZES)
@pytest.mark.parametrize("n", [1, 3])
@pytest.mark.parametrize("training", [True, False])
def test_output_shapes(size, n, training):
    G, D = pair(DataSpec((3, size, size)))
    y = torch.zeros(n, dtype=torch.long)
    x = G.train(training)(torch.randn(n, 5), y)
    assert x.shape == (n, 3, size, size)
    assert D.train(training)(x, y).shape == (n,)


@pytest.mark.parametrize("size", SIZES)
def test_every_parameter_has_gradients_of_loss_and_gradient_penalty(size):
    G, D = (randomise_branches(network) for network in pair(DataSpec((1, size, size))))
    y = torch.zeros(2, dtype=torch.long)
    x = G(torch.randn(2, 5), y)
    (gradient,) = torch.autograd.grad(D(x, y).sum(), x, create_graph=True)
    (D(x, y).square().sum() + gradient.square().sum()).backward()
    for name, parameter in [*G.named_parameters(), *D.named_parameters()]:
        assert parameter.grad is not None, name
        assert parameter.grad.isfinite().all(), name
        assert parameter.grad.any(), name


def test_samples_of_a_batch_are_independent():
    G, D = (randomise_branches(network).double() for network in pair(DataSpec((1, 8, 8))))
    z, y = torch.randn(3, 5, dtype=torch.float64), torch.zeros(3, dtype=torch.long)
    x = G(z, y).detach().requires_grad_()
    (gradient,) = torch.autograd.grad(D(x, y)[1], x)
    assert gradient[1].any()
    assert not gradient[[0, 2]].any()
    torch.testing.assert_close(G(z[1:2], y[:1]), G(z, y)[1:2])
    assert not mixes_samples(D)


def test_labels_affect_both_conditional_networks():
    G, D = pair(DataSpec((1, 8, 8), classes=10))
    assert G(torch.zeros(2, 5), torch.tensor([0, 1])).std(dim=0).max() == 0  # condition = "none"
    data = DataSpec((1, 8, 8), classes=10)
    G = R3GANGenerator(width=16, condition="concat").build(data, 5)
    D = R3GANDiscriminator(width=16, condition="projection").build(data)
    z, y = torch.randn(1, 5).expand(10, 5), torch.arange(10)
    x = G(z, y)
    assert x.shape == (10, 1, 8, 8)
    assert torch.pdist(x.flatten(1)).min() > 0
    scores = D(x[:1].expand(10, 1, 8, 8), y)
    assert scores.shape == (10,)
    assert scores.unique().numel() == 10


# ------------------------------------------------------------------------------------------------------ initialisation


def test_every_residual_block_starts_as_the_identity():
    for network in pair(DataSpec((1, 16, 16)), blocks=3):
        blocks = residuals(network)
        assert len(blocks) == 9  # 3 stages of 3 blocks
        for block in blocks:
            h = torch.randn(2, 16, 8, 8)
            assert torch.equal(block(h), h)
            assert not torch.equal(randomise_branches(block)(h), h)


def test_residual_convolutions_start_at_he_scale_times_fixup_factor():
    for network in pair(DataSpec((1, 32, 32)), width=128, blocks=4):
        blocks = residuals(network)
        fixup = len(blocks) ** -0.25
        assert fixup == 0.5  # 16 blocks
        for block in blocks:
            for conv, fan_in in ((block.first, 128), (block.grouped, 16 * 9)):
                he = math.sqrt(2 / (1 + 0.2**2) / fan_in)
                assert conv.weight.std().item() == pytest.approx(fixup * he, rel=0.03)
                assert not conv.bias.any()


def test_initial_samples_and_scores_have_the_scale_of_the_input():
    torch.manual_seed(0)
    G, D = pair(DataSpec((3, 16, 16)), latent_dim=64, width=64)
    y = torch.zeros(64, dtype=torch.long)
    with torch.no_grad():
        assert 0.2 < G(torch.randn(64, 64), y).std() < 2
        assert 0.2 < D(torch.randn(64, 3, 1, 1).expand(64, 3, 16, 16), y).std() < 4


# -------------------------------------------------------------------------------------------------------- architecture


def test_networks_have_no_normalisation_and_no_buffers():
    for network in pair(DataSpec((3, 64, 64))):
        assert not [m for m in network.modules() if "norm" in type(m).__name__.lower()]
        assert not list(network.buffers())


@pytest.mark.parametrize("group_size", [4, 16])
def test_grouped_convolutions_have_group_size_channels_in_each_group(group_size):
    for network in pair(DataSpec((3, 64, 64)), group_size=group_size, expansion=4):
        for block in residuals(network):
            assert block.grouped.in_channels == 4 * block.first.in_channels
            assert block.grouped.weight.shape[1] == group_size


def test_channels_halve_with_each_doubling_beyond_32_pixels():
    # The channels of the paper's model for 256×256.
    assert R3GANGenerator(width=768).widths(DataSpec((3, 256, 256))) == [768, 768, 768, 768, 384, 192, 96]
    assert R3GANDiscriminator().widths(DataSpec((3, 8, 8))) == [128, 128]
    assert R3GANGenerator(width=64).widths(DataSpec((3, 48, 96))) == [64, 64, 64, 64]  # grids of 6×12 to 48×96
    assert R3GANGenerator(width=64).widths(DataSpec((3, 100, 100))) == [64, 64, 64, 64, 32, 16]


@pytest.mark.parametrize("size", [(9, 14), (13, 22), (31, 25)])
def test_every_pixel_of_any_size_counts(size):
    data = DataSpec((2, *size))
    G, D = (randomise_branches(network).double() for network in pair(data))
    x, y = G(torch.randn(4, 5).double(), torch.zeros(4, dtype=torch.long)), torch.zeros(4, dtype=torch.long)
    assert x.std(0).all()  # each pixel depends on z
    (gradient,) = torch.autograd.grad(D(x, y).sum(), x)
    assert gradient.abs().sum(0).all()


# What the networks had when they took squares of powers of two: stored runs have these names and shapes.
EARLIER = {
    (8, ("none", "none")): ((3426901798, -10.697017), (812372881, 31.615536)),
    (32, ("concat", "projection")): ((4098922975, 50.244051), (2173177032, 41.004159)),
    (64, ("none", "none")): ((1440374046, -34.56754), (3150237473, -16.122879)),
}


@pytest.mark.parametrize("case", EARLIER, ids=str)
def test_weights_of_earlier_sizes_are_the_same(case):
    size, (way_in, projection) = case
    data = DataSpec((3, size, size), classes=3)
    torch.manual_seed(7)
    networks = (
        R3GANGenerator(width=16, blocks=1, condition=way_in).build(data, 6),
        R3GANDiscriminator(width=16, blocks=1, condition=projection).build(data),
    )
    for network, (names, total) in zip(networks, EARLIER[case], strict=True):
        state = network.state_dict()
        assert (
            zlib.crc32(", ".join(f"{name} {tuple(tensor.shape)}" for name, tensor in state.items()).encode()) == names
        )
        # A weighted sum of all values: random numbers differ in the last digit between processors.
        values = torch.cat([tensor.double().flatten() for tensor in state.values()])
        weighted = torch.linspace(1, 2, len(values), dtype=torch.float64) * values
        assert weighted.sum().item() == pytest.approx(total, rel=1e-5, abs=1e-4)


def test_resampling_is_bilinear_and_exact_on_a_ramp():
    ramp = torch.arange(8.0).expand(1, 1, 8, 8)
    down, up = _Resample(1, 1, None), _Resample(1, 1, (8, 8))
    torch.testing.assert_close(down(ramp)[0, 0, 0], torch.tensor([0.5, 2.5, 4.5, 6.5]))
    torch.testing.assert_close(up(down(ramp))[0, 0, 0, 1:-1], torch.arange(1.0, 7.0))
    bilinear = nn.functional.interpolate(x := torch.randn(2, 3, 8, 8), scale_factor=0.5, mode="bilinear")
    torch.testing.assert_close(_Resample(3, 3, None)(x), bilinear)
    assert torch.equal(
        _Resample(1, 1, (7, 5))(ramp[..., :4, :4]), _Resample(1, 1, (8, 8))(ramp[..., :4, :4])[..., :7, :5]
    )


def test_generator_output_is_unbounded():
    G, _ = pair(DataSpec((1, 8, 8)))
    assert G(100 * torch.randn(8, 5), torch.zeros(8, dtype=torch.long)).abs().max() > 1


# -------------------------------------------------------------------------------------------------------------- errors


def build(cls, data, **options):
    config = cls(**options)
    return config.build(data, 5) if cls is R3GANGenerator else config.build(data)


@pytest.mark.parametrize("cls", [R3GANGenerator, R3GANDiscriminator])
@pytest.mark.parametrize("shape", [(1, 4, 4), (3, 7, 12), (2,), (3, 8, 8, 8)])
def test_unsupported_shape_raises_value_error(cls, shape):
    with pytest.raises(ValueError, match=r"r3gan takes images of at least 8×8 pixels; .* choose another network"):
        build(cls, DataSpec(shape))


@pytest.mark.parametrize("cls", [R3GANGenerator, R3GANDiscriminator])
def test_width_not_divisible_into_groups_raises_value_error_with_a_multiple(cls):
    for size, options, unit in ((8, {"width": 20}, 8), (128, {"width": 16}, 32), (8, {"width": 8, "expansion": 1}, 16)):
        data = DataSpec((1, size, size))
        with pytest.raises(ValueError, match=f"choose a multiple of {unit}, or"):
            build(cls, data, **options)
        build(cls, data, **{**options, "width": unit})


@pytest.mark.parametrize(("cls", "condition"), [(R3GANGenerator, "concat"), (R3GANDiscriminator, "projection")])
def test_condition_without_classes_raises_value_error(cls, condition):
    with pytest.raises(ValueError, match=f"'{condition}' needs labels, .* use condition = 'none'"):
        build(cls, DataSpec((1, 8, 8)), condition=condition)


@pytest.mark.parametrize("cls", [R3GANGenerator, R3GANDiscriminator])
@pytest.mark.parametrize("option", ["width", "blocks", "expansion", "group_size"])
def test_option_of_zero_raises_value_error(cls, option):
    with pytest.raises(ValueError, match=option):
        cls(**{option: 0})


@pytest.mark.parametrize(("kind", "cls"), [("generator", R3GANGenerator), ("discriminator", R3GANDiscriminator)])
def test_component_is_registered(kind, cls):
    assert ganframe.component(kind, "r3gan") is cls


@pytest.mark.parametrize("condition", ["none", "concat"])
def test_generator_is_exported_with_a_free_batch_size(condition):
    G = R3GANGenerator(width=16, condition=condition).build(DataSpec((3, 8, 8), classes=4), 6).eval()
    batch = torch.export.Dim("batch", min=1)
    two, seven = ((torch.randn(n, 6), torch.arange(n) % 4) for n in (2, 7))
    graph = torch.export.export(G, two, dynamic_shapes=({0: batch}, {0: batch})).module()
    for run in (graph, torch.jit.trace(G, two)):
        torch.testing.assert_close(run(*seven), G(*seven), rtol=1e-4, atol=1e-5)
