"""The discriminator: its blocks, sums over positions, projection, and the constraint `spectral_norm` around it."""

import pytest
import torch
from ganframe_biggan import BigGANDiscriminator
from ganframe_biggan.discriminator import _DownBlock
from torch import nn
from torch.nn import functional as F

import ganframe
from ganframe import DataSpec, mixes_samples
from ganframe.layers import downsampled, resolutions


def make(data, **options):
    return BigGANDiscriminator(**{"width": 4, **options}).build(data)


def channels(D):
    return [(block.conv1.in_channels, block.conv2.out_channels, block.halves) for block in reversed(D.blocks)]


def test_channels_of_the_paper_at_128_pixels():
    """Brock et al. 2019, table 4b: both convolutions of a block have its number of output channels."""
    D = make(DataSpec((3, 128, 128)), width=2, attention=64)
    assert channels(D) == [
        *((a, b, True) for a, b in [(3, 2), (2, 4), (4, 8), (8, 16), (16, 32)]),
        (32, 32, False),
    ]
    assert all(block.conv1.out_channels == block.conv2.out_channels for block in D.blocks)
    assert [type(block.attention).__name__ for block in reversed(D.blocks)] == ["SelfAttention"] + 5 * ["Identity"]


def test_channels_at_28_pixels():
    assert channels(make(DataSpec((1, 28, 28)))) == [(1, 16, True), (16, 16, True), (16, 16, True), (16, 16, False)]


@pytest.mark.parametrize("first", [True, False])
@pytest.mark.parametrize("size", [(8, 6), (7, 5)])
def test_block_is_its_definition(size, first):
    """Figure 15c; maps of odd size repeat their last row and column."""
    block = _DownBlock(3, 4, nn.Identity(), first)
    x = torch.randn(2, 3, *size)
    padded = torch.cat([x, x[:, :, -1:]], 2) if size[0] % 2 else x
    padded = torch.cat([padded, padded[..., -1:]], 3) if size[1] % 2 else padded
    branch = F.conv2d(padded if first else padded.relu(), block.conv1.weight, block.conv1.bias, padding=1)
    branch = F.avg_pool2d(F.conv2d(branch.relu(), block.conv2.weight, block.conv2.bias, padding=1), 2)
    shortcut = downsampled(F.conv2d(x, block.shortcut.weight, block.shortcut.bias))
    torch.testing.assert_close(block(x), branch + shortcut, rtol=1e-4, atol=1e-5)


def test_last_block_keeps_the_size():
    block = _DownBlock(3, 3, None)
    x = torch.randn(2, 3, 5, 4)
    branch = F.conv2d(x.relu(), block.conv1.weight, block.conv1.bias, padding=1).relu()
    expected = x + F.conv2d(branch, block.conv2.weight, block.conv2.bias, padding=1)
    torch.testing.assert_close(block(x), expected, rtol=1e-4, atol=1e-5)


def test_every_pixel_of_an_image_of_odd_size_counts():
    D, x = make(DataSpec((1, 29, 37))), torch.randn(2, 1, 29, 37, requires_grad=True)
    (slope,) = torch.autograd.grad(D(x, torch.zeros(2, dtype=torch.long)).sum(), x)
    assert slope.ne(0).all()


def test_score_is_a_linear_layer_and_a_projection_of_the_sum_of_features():
    data = DataSpec((1, 8, 8), classes=3)
    D, x, y = make(data, condition="projection"), torch.randn(3, 1, 8, 8), torch.tensor([2, 0, 2])
    extras = {}
    scores = D(x, y, extras)
    h = x
    for block in reversed(D.blocks):
        h = block(h)
    h = h.relu().flatten(2).sum(2)
    torch.testing.assert_close(extras["features"], h)
    expected = [D.linear(h[n]).item() + (D.embedding.weight[y[n]] @ h[n]).item() for n in range(3)]
    torch.testing.assert_close(scores, torch.tensor(expected), rtol=1e-4, atol=1e-4)


def test_vectors_are_projected():
    D, x = make(DataSpec((1, 8, 8), condition=(5,)), condition="projection"), torch.randn(2, 1, 8, 8)
    y, extras = torch.randn(2, 5), {}
    difference = D(x, y, extras) - D(x, torch.zeros(2, 5))
    torch.testing.assert_close(
        difference, ((y @ D.embedding.weight.T) * extras["features"]).sum(1), rtol=1e-3, atol=1e-4
    )


def test_spectral_norm_of_the_recipe_reaches_every_layer_and_the_embedding():
    D = make(DataSpec((1, 16, 16), classes=3), condition="projection", attention=8)
    wrapped = ganframe.component("constraint", "spectral_norm")().wrap(D)
    kinds = (nn.Conv2d, nn.Linear, nn.Embedding)
    layers = {name: module for name, module in wrapped.named_modules() if isinstance(module, kinds)}
    assert {"embedding", "linear", "blocks.0.conv2", "blocks.2.attention.query"} <= layers.keys()
    for name, module in layers.items():
        assert hasattr(module, "parametrizations"), name


def test_samples_of_a_batch_are_independent():
    assert not mixes_samples(make(DataSpec((1, 8, 8))))


def test_component_is_registered():
    assert ganframe.component("discriminator", "biggan") is BigGANDiscriminator


def test_blocks_are_numbered_from_the_smallest_grid_up():
    """So that `train.from` a run at half the size finds the same resolutions under the same names."""
    seen = []
    for size in (16, 32):
        D = BigGANDiscriminator(width=4).build(DataSpec((3, size, size)))
        heights = [0] * len(D.blocks)
        for i, block in enumerate(D.blocks):
            block.register_forward_hook(
                lambda _, given, __, i=i, heights=heights: heights.__setitem__(i, given[0].shape[2])
            )
        D(torch.zeros(4, 3, size, size), torch.zeros(4, dtype=torch.long))
        seen.append(heights)
    small, large = seen
    assert large[: len(small)] == small
    assert large[-1] == 32


@pytest.mark.parametrize("size", [(25, 13), (27, 35), (101, 67)])
def test_odd_sizes_are_halved_upwards_so_that_no_row_or_column_is_left_out(size):
    data = DataSpec((1, *size))
    D, ends = make(data, width=1), []
    for block in reversed(D.blocks):
        block.register_forward_hook(lambda _, __, out: ends.append(tuple(out.shape[2:])))
    D(torch.zeros(2, 1, *size), torch.zeros(2, dtype=torch.long))
    smaller = resolutions("biggan", data)[-2::-1]
    assert ends == [*smaller, smaller[-1]]
