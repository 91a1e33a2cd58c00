"""The generator unet."""

import pytest
import torch
from ganframe_translate import UNet
from torch import nn

from ganframe import DataSpec
from ganframe.testing import check_generator


def data(x, y):
    return DataSpec(x, condition=y)


@pytest.mark.parametrize(
    ("config", "spec"),
    [
        (UNet(width=4), data((1, 8, 8), (1, 8, 8))),
        (UNet(width=4, z="modulate"), data((3, 28, 28), (6, 28, 28))),
        (UNet(width=4, z="none"), data((1, 16, 16), (3, 16, 16))),
        (UNet(width=4, norm="instance"), data((3, 13, 9), (1, 13, 9))),
        (UNet(width=4, norm="none", z="modulate"), data((1, 12, 31), (1, 12, 31))),
        (UNet(width=4, depth=2, dropout=0.0), data((1, 16, 16), (1, 16, 16))),
    ],
)
def test_conformance(config, spec):
    check_generator(config, spec)


def test_network_of_the_paper():
    """C64-C128-C256-C512 ×5 down, and up with skips: the 54.4 million weights of pix2pix's generator."""
    with torch.device("meta"):
        G = UNet(z="none").build(data((3, 256, 256), (3, 256, 256)), 8)
    assert [layer.conv.out_channels for layer in G.down] == [64, 128, 256, 512, 512, 512, 512, 512]
    assert [layer.conv.out_channels for layer in G.up] == [512, 512, 512, 512, 256, 128, 64]
    assert [layer.conv.in_channels for layer in G.up] == [512, 1024, 1024, 1024, 1024, 512, 256]
    assert abs(sum(parameter.numel() for parameter in G.parameters()) - 54.41e6) < 0.02e6


@pytest.mark.parametrize(
    ("size", "depth"), [((8, 8), 3), ((9, 64), 4), ((28, 28), 5), ((256, 256), 8), ((1024, 512), 8)]
)
def test_depth_follows_the_size(size, depth):
    with torch.device("meta"):
        G = UNet(width=1).build(data((1, *size), (1, *size)), 8)
    assert len(G.down) == depth


@pytest.mark.parametrize(("depth", "dropped"), [(2, 0), (3, 1), (4, 2), (5, 3), (8, 3)])
def test_dropout_acts_in_the_innermost_layers_up_in_training_only(depth, dropped):
    G = UNet(width=2, depth=depth).build(data((1, 256, 256), (1, 256, 256)), 4)
    has = [any(isinstance(module, nn.Dropout) for module in layer.modules()) for layer in G.up]
    assert has == [True] * dropped + [False] * (depth - 1 - dropped)
    if dropped:
        z, y = torch.randn(2, 4), torch.rand(2, 1, 256, 256)
        G.train()
        assert not torch.equal(G(z, y), G(z, y))
        G.eval()
        assert torch.equal(G(z, y), G(z, y))


def test_batches_of_one_train_with_every_norm():
    for norm in ("batch", "instance", "none"):
        G = UNet(width=2, norm=norm).build(data((1, 17, 8), (1, 17, 8)), 4).train()
        assert G(torch.randn(1, 4), torch.rand(1, 1, 17, 8)).isfinite().all()


def test_more_depth_than_the_size_allows_is_refused():
    with pytest.raises(ValueError, match=r"depth = 6 is too much for images of 28×40.*use depth = 5 or less"):
        UNet(depth=6).build(data((1, 28, 40), (1, 28, 40)), 4)


def test_identity_is_learnt_in_few_steps():
    """Skips carry the input to the output."""
    G = UNet(width=8, dropout=0.0).build(data((1, 16, 16), (1, 16, 16)), 4)
    optimizer = torch.optim.Adam(G.parameters(), 3e-3)
    for _ in range(100):
        y = torch.rand(16, 1, 16, 16) * 2 - 1
        loss = (G(torch.randn(16, 4), y) - y).abs().mean()
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
    assert loss < 0.25  # the mean absolute value of y is 0.5
