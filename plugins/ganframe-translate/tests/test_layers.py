"""Layers: z, upsampling, padding, weights at the start, and what data the networks take."""

import pytest
import torch
from ganframe_translate import Patch, Residual, SRResNet, UNet
from ganframe_translate.layers import FromLatent, Layer, even, init_weights, make_norm
from torch import nn
from torch.export import Dim, export
from torch.nn import functional as F

from ganframe import DataSpec

GENERATORS = {
    "unet": (UNet(width=4), DataSpec((1, 16, 16), condition=(1, 16, 16))),
    "residual": (Residual(width=4, blocks=2), DataSpec((1, 16, 16), condition=(1, 16, 16))),
    "srresnet": (SRResNet(width=4, blocks=2), DataSpec((1, 32, 32), condition=(1, 8, 8))),
}


def test_shift_by_z_is_what_a_convolution_makes_of_constant_channels():
    joined, shift = nn.Conv2d(2 + 4, 3, 3, padding=1, padding_mode="replicate", bias=False), FromLatent(3, 4, False)
    h, z = torch.randn(5, 2, 6, 6), torch.randn(5, 4)
    with torch.no_grad():
        shift.shift.weight.copy_(joined.weight[:, 2:].sum((2, 3)))
    expected = joined(torch.cat([h, z[:, :, None, None].expand(-1, -1, 6, 6)], 1))
    of_h = F.conv2d(F.pad(h, (1, 1, 1, 1), mode="replicate"), joined.weight[:, :2])
    torch.testing.assert_close(shift(of_h, z), expected, rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("z", ["concat", "modulate"])
def test_z_is_not_taken_away_by_instance_norm(z):
    """z joined before the normalisation, as constant channels, would be: the mean of each channel is subtracted."""
    layer = Layer(nn.Conv2d(1, 8, 3, padding=1), "instance", nn.ReLU(), z, 4, joins=True)
    y = torch.randn(1, 1, 8, 8).expand(2, -1, -1, -1)
    out = layer(y, torch.randn(2, 4))
    assert (out[0] - out[1]).abs().max() > 0.1


@pytest.mark.parametrize(("height", "width"), [(4, 4), (5, 4), (4, 7), (1, 1)])
def test_odd_sizes_get_a_repeated_row_or_column(height, width):
    h = torch.randn(2, 3, height, width)
    padded = even(h)
    assert padded.shape == (2, 3, height + height % 2, width + width % 2)
    assert torch.equal(padded[:, :, :height, :width], h)
    assert torch.equal(padded[:, :, -1, :width], h[:, :, -1])


def test_instance_norm_takes_maps_of_one_pixel():
    assert make_norm("instance", 3)(torch.randn(2, 3, 1, 1)).abs().max() < 1e-3


@pytest.mark.parametrize("width", [4, 64])
def test_initial_weights_keep_the_size_of_activations(width):
    layers = [nn.Conv2d(width, width, 3, padding=1, padding_mode="circular") for _ in range(8)]
    network = nn.Sequential(*(part for layer in layers for part in (layer, nn.ReLU()))).apply(init_weights)
    scale = network(torch.randn(16, width, 16, 16)).square().mean().sqrt()
    assert 0.05 < scale < 5  # with standard deviation 0.02: 1e-8 for width 4


@pytest.mark.parametrize("name", GENERATORS)
@pytest.mark.parametrize("z", ["concat", "modulate", "none"])
@pytest.mark.parametrize("norm", ["batch", "instance", "none"])
def test_z_changes_samples_from_the_start_in_evaluation_mode(name, z, norm):
    config, data = GENERATORS[name]
    G = type(config)(width=8, z=z, norm=norm).build(data, 16).eval()
    y = (torch.rand(1, *data.condition) * 2 - 1).expand(2, -1, -1, -1)
    samples = G(torch.randn(2, 16), y)
    difference = (samples[0] - samples[1]).abs().mean().item()
    assert difference == 0 if z == "none" else 0.01 < difference < 1


@pytest.mark.parametrize("name", GENERATORS)
def test_larger_and_smaller_inputs_than_in_training(name):
    config, data = GENERATORS[name]
    G = config.build(data, 4).eval()
    factor = data.shape[1] // data.condition[1]
    for size in ((33, 50), (8, 9), (5, 4)):
        samples = G(torch.randn(2, 4), torch.rand(2, 1, *size))
        assert samples.shape == (2, 1, size[0] * factor, size[1] * factor)
        assert samples.isfinite().all()


@pytest.mark.parametrize("name", GENERATORS)
@pytest.mark.parametrize(
    ("data", "found"),
    [
        (DataSpec((1, 16, 16)), "no conditions"),
        (DataSpec((1, 16, 16), classes=3), "labels of 3 classes"),
        (DataSpec((1, 16, 16), condition=(5,)), r"conditions of shape \(5,\)"),
        (DataSpec((4,), condition=(1, 16, 16)), r"has shape \(4,\)"),
    ],
)
def test_data_without_images_is_refused(name, data, found):
    with pytest.raises(ValueError, match=f"^{name} .*{found}.*(use the generator mlp|another network)"):
        GENERATORS[name][0].build(data, 4)


@pytest.mark.parametrize("name", ["unet", "residual"])
def test_other_sizes_of_input_and_output_are_refused(name):
    with pytest.raises(ValueError, match=r"32×32 for an input of 8×8; .* or use srresnet"):
        GENERATORS[name][0].build(DataSpec((1, 32, 32), condition=(1, 8, 8)), 4)


@pytest.mark.parametrize("name", [*GENERATORS, "patch"])
def test_networks_are_exported_with_a_free_batch_size(name):
    """As graphs, by torch.export: nothing in forward depends on values or on the size of the batch."""
    config, data = GENERATORS.get(name, (Patch(width=4, scales=2, receptive_field=16), GENERATORS["srresnet"][1]))
    network = (config.build(data) if name == "patch" else config.build(data, 4)).eval()
    shape = data.shape if name == "patch" else (4,)
    batch = Dim("batch", min=1)
    inputs = torch.randn(2, *shape), torch.rand(2, *data.condition)
    graph = export(network, inputs, dynamic_shapes=({0: batch}, {0: batch})).module()
    inputs = torch.randn(5, *shape), torch.rand(5, *data.condition)
    with torch.no_grad():
        torch.testing.assert_close(graph(*inputs), network(*inputs), rtol=1e-4, atol=1e-5)
