"""The generator: latents w, style mixing, what every pixel depends on, labels, the mapping network, errors, export."""

import math

import pytest
import torch
from ganframe_stylegan2 import StyleGAN2Generator
from torch.nn import functional as F

import ganframe
from ganframe import DataSpec

GREY, COLOURED = DataSpec((1, 32, 32)), DataSpec((3, 28, 20), classes=4)


def build(data=GREY, **options):
    """A small generator with latents of 5 numbers, whose noise and biases are not 0."""
    options = {"width": 8, "full_width_up_to": 16, "w_dim": 6, "mapping_layers": 2, **options}
    G = StyleGAN2Generator(**options).build(data, 5)
    for conv in G.convs:
        torch.nn.init.constant_(conv.noise_strength, 0.1)
    return G


def inputs(n=4, data=GREY):
    return torch.randn(n, 5), torch.arange(n) % (data.classes or 1)


# ----------------------------------------------------------------------------------------------------------- latents w


@pytest.mark.parametrize("data", [GREY, COLOURED], ids=str)
def test_synthesize_of_map_gives_the_samples_of_evaluation(data):
    G = build(data, condition="mapping" if data.classes else "none").eval()
    z, y = inputs(data=data)
    w = G.map(z, y)
    assert w.shape == (4, 6)
    assert torch.equal(G.synthesize(w, y), G(z, y))
    each = w[:, None].expand(-1, G.layers, -1)
    assert torch.equal(G.synthesize(each, y), G(z, y))


@pytest.mark.parametrize("output", ["skip", "last"])
@pytest.mark.parametrize("first", [0, 1, 2, 5, 6])
def test_w_of_later_layers_changes_no_earlier_activation(first, output):
    """What style mixing is: from a layer on, another w."""
    G = build(output=output).eval()
    assert G.layers == 7  # 4×4: one; 8, 16, 32: two each
    z, y = inputs()
    w = G.map(z, y)[:, None].repeat(1, G.layers, 1)
    seen = []
    for conv in G.convs:
        conv.register_forward_hook(lambda conv, inputs, out: seen.append(out))
    before = G.synthesize(w, y)
    w[:, first:] = torch.randn_like(w[:, first:])
    after = G.synthesize(w, y)
    changed = [not torch.equal(a, b) for a, b in zip(seen[:7], seen[7:], strict=True)]
    assert changed == [i >= first for i in range(7)]
    assert not torch.equal(before, after)


def test_w_for_another_number_of_layers_raises_value_error():
    G = build()
    with pytest.raises(ValueError, match=r"w has 3 layers; give \(N, w_dim\), or \(N, 7, w_dim\)"):
        G.synthesize(torch.zeros(2, 3, 6), torch.zeros(2, dtype=torch.long))


# -------------------------------------------------------------------------------------------------------- style mixing


def mixed(G, z, y):
    return G.map(z, y), G._mixed(G.map(z, y), z, y)


def test_mixed_samples_have_their_own_w_and_from_a_random_layer_on_that_of_another():
    G = build(style_mixing=1.0)
    z, y = inputs(400)
    w, ws = mixed(G, z, y)
    own = (ws == w[:, None]).all(2)
    others = w.roll(200, 0)[:, None]  # of the sample half a batch away
    foreign = (ws == others).all(2)
    assert (own ^ foreign).all()
    crossover = own.sum(1)
    assert torch.equal(own, torch.arange(G.layers) < crossover[:, None])
    counts = crossover.bincount(minlength=8)
    assert counts[0] == counts[7] == 0
    assert (counts[1:7] > 400 / 6 * 0.6).all()  # uniform on 1, …, layers - 1


def test_style_mixing_is_the_share_of_mixed_samples():
    G = build(style_mixing=0.3)
    w, ws = mixed(G, *inputs(2000))
    assert (ws != w[:, None]).any(2).any(1).float().mean().item() == pytest.approx(0.3, abs=0.04)


def test_mixed_latents_are_mapped_with_the_samples_own_label():
    G = build(COLOURED, condition="mapping", style_mixing=1.0)
    z, y = inputs(4, COLOURED)
    _, ws = mixed(G, z, y)
    torch.testing.assert_close(ws[:, -1], G.map(z[[2, 3, 0, 1]], y))
    torch.testing.assert_close(ws[:, 0], G.map(z, y))


@pytest.mark.parametrize("n", [8, 12, 13, 16])
def test_samples_of_one_group_of_the_minibatch_deviation_share_no_w(n):
    """They would differ less than real samples, of which each is drawn by itself, and D would see that."""
    w, ws = mixed(build(style_mixing=1.0), *inputs(n))
    lent = (ws[:, -1:] == w[None]).all(2)  # (N, N): whose w the last layer has
    assert (lent.sum(1) == 1).all()
    group = torch.arange(n) // 4
    assert not lent[group[:, None] == group].any()


def test_a_single_sample_is_not_mixed():
    w, ws = mixed(build(style_mixing=1.0), *inputs(1))
    assert torch.equal(ws[0], w[0].expand(7, -1))


def test_styles_are_mixed_in_training_only():
    z, y = inputs(8)
    for share, training, mixes in ((1.0, True, True), (1.0, False, False), (0.0, True, False)):
        G = build(style_mixing=share).train(training)
        seen = []
        G.synthesize = lambda w, y, seen=seen: seen.append(w)
        G(z, y)
        assert (seen[0].ndim == 3) == mixes


# -------------------------------------------------------------------------------------------------------------- images


@pytest.mark.parametrize("options", [{}, {"style": "instance"}, {"output": "last"}], ids=str)
@pytest.mark.parametrize("shape", [(1, 8, 8), (3, 28, 28), (4, 40, 25)])
def test_every_pixel_depends_on_z(shape, options):
    G = build(DataSpec(shape), **options).eval()
    x = G(*inputs(8))
    assert x.shape == (8, *shape)
    assert (x.std(0) > 1e-4).all()


def test_image_is_the_sum_of_those_of_all_resolutions():
    G = build(DataSpec((2, 16, 16))).eval()
    images = []
    for to_image in G.images.values():
        to_image.register_forward_hook(lambda layer, inputs, out: images.append(out))
    x = G(*inputs())
    assert [image.shape[-1] for image in images] == [4, 8, 16]
    small, middle, large = images
    middle = middle + F.interpolate(small, size=(8, 8), mode="bilinear")
    torch.testing.assert_close(x, large + F.interpolate(middle, size=(16, 16), mode="bilinear"))
    assert list(build(output="last").images) == ["6"]


def test_samples_are_not_bounded_and_start_at_the_scale_of_images():
    G = build(DataSpec((3, 32, 32)), width=64, w_dim=64).eval()
    with torch.no_grad():
        x = G(*inputs(64))
        assert 0.3 < x.std() < 3
        assert G.synthesize(100 * torch.randn(4, 64), None).abs().max() > 1


def test_labels_change_the_samples_of_a_conditional_generator_only():
    z, y = torch.randn(1, 5).expand(4, -1), torch.arange(4)
    for condition, differ in (("mapping", True), ("none", False)):
        x = build(COLOURED, condition=condition).eval()(z, y)
        assert (torch.pdist(x.flatten(1)).min() > 1e-3) == differ


def test_vectors_condition_the_mapping():
    G = build(DataSpec((1, 8, 8), condition=(3,)), condition="mapping").eval()
    z, y = torch.randn(1, 5).expand(4, -1), torch.randn(4, 3, dtype=torch.float64)
    assert torch.pdist(G(z, y).flatten(1)).min() > 1e-3


# ------------------------------------------------------------------------------------------------------------- mapping


def test_mapping_normalises_z_and_learns_at_a_hundredth_of_the_rate():
    G = build(w_dim=64, mapping_layers=3)
    z, y = inputs()
    torch.testing.assert_close(G.map(10 * z, y), G.map(z, y), rtol=1e-4, atol=1e-5)
    assert len(G.mapping.layers) == 3
    layer = G.mapping.layers[1]
    weight, stored = layer.weight.detach(), layer.parametrizations.weight.original.detach()
    assert weight.std().item() == pytest.approx(math.sqrt(2 / 64), rel=0.1)
    assert stored.std().item() == pytest.approx(100, rel=0.1)
    before = weight.clone()
    optimizer = torch.optim.Adam(layer.parameters(), lr=0.1)
    G.map(z, y).square().sum().backward()
    optimizer.step()
    torch.testing.assert_close(
        (layer.weight - before).abs(), torch.full((64, 64), 0.1 * 0.01 * math.sqrt(2 / 64)), rtol=1e-2, atol=1e-6
    )


def test_latents_w_have_unit_scale_at_any_depth():
    for layers in (1, 8):
        w = build(w_dim=256, mapping_layers=layers).map(*inputs(64))
        assert 0.6 < w.square().mean().sqrt() < 1.6


# -------------------------------------------------------------------------------------------------------------- errors


@pytest.mark.parametrize("data", [DataSpec((2,)), DataSpec((1, 7, 9)), DataSpec((3, 8, 8, 8))], ids=str)
def test_data_that_is_not_an_image_of_at_least_8_pixels_raises_value_error(data):
    with pytest.raises(ValueError, match="stylegan2 takes images of at least 8×8 pixels"):
        build(data)


@pytest.mark.parametrize(
    "options",
    [{"width": 0}, {"w_dim": 0}, {"mapping_layers": 0}, {"style_mixing": 1.1}, {"style_mixing": -0.1}],
    ids=str,
)
def test_option_out_of_range_raises_value_error(options):
    with pytest.raises(ValueError, match=next(iter(options))):
        StyleGAN2Generator(**options)


def test_generator_is_registered():
    assert ganframe.component("generator", "stylegan2") is StyleGAN2Generator


# -------------------------------------------------------------------------------------------------------------- export


@pytest.mark.parametrize("options", [{"condition": "mapping"}, {"style": "instance"}], ids=str)
def test_generator_is_exported_with_a_free_batch_size(options):
    data = DataSpec((3, 20, 16), classes=4)
    G = build(data, **options).eval()
    batch = torch.export.Dim("batch", min=1)
    two, seven = inputs(2, data), inputs(7, data)
    graph = torch.export.export(G, two, dynamic_shapes=({0: batch}, {0: batch})).module()
    for run in (graph, torch.jit.trace(G, two)):
        torch.testing.assert_close(run(*seven), G(*seven), rtol=1e-4, atol=1e-5)
