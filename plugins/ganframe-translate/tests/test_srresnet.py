"""The generator srresnet."""

import pytest
import torch
from ganframe_translate import SRResNet
from torch.nn import functional as F

from ganframe import DataSpec
from ganframe.testing import check_generator


def data(x, y):
    return DataSpec(x, condition=y)


@pytest.mark.parametrize(
    ("config", "spec"),
    [
        (SRResNet(width=8, blocks=2), data((1, 32, 32), (1, 8, 8))),
        (SRResNet(width=8, blocks=1, z="modulate", norm="instance"), data((3, 27, 18), (1, 9, 6))),
        (SRResNet(width=8, blocks=1, z="none", norm="none"), data((3, 10, 14), (3, 5, 7))),
        (SRResNet(width=8, blocks=1, residual=True), data((1, 12, 12), (1, 6, 6))),
        (SRResNet(width=8, blocks=1), data((1, 8, 8), (3, 8, 8))),
    ],
)
def test_conformance(config, spec):
    check_generator(config, spec)


@pytest.mark.parametrize(("factor", "steps"), [(1, []), (2, [2]), (3, [3]), (4, [2, 2]), (6, [2, 3]), (8, [2, 2, 2])])
def test_factor_is_that_of_the_data(factor, steps):
    spec = data((3, 5 * factor, 4 * factor), (3, 5, 4))
    G = SRResNet(width=4, blocks=1).build(spec, 4).eval()
    assert [up.shuffle.upscale_factor for up in G.up] == steps
    assert G(torch.randn(2, 4), torch.rand(2, 3, 5, 4)).shape == (2, *spec.shape)


@pytest.mark.parametrize("x", [(1, 40, 40), (1, 33, 32), (1, 16, 32), (1, 4, 4)])
def test_other_factors_are_refused(x):
    with pytest.raises(ValueError, match=rf"product of 2 and 3.*{x[1]}×{x[2]} for an input of 8×8; set size or factor"):
        SRResNet().build(data(x, (1, 8, 8)), 4)


def test_network_of_the_paper():
    """16 blocks of 64 channels, 4 times: 1.55 million weights."""
    with torch.device("meta"):
        G = SRResNet(z="none").build(data((3, 96, 96), (3, 24, 24)), 8)
    # The paper's has one PReLU slope for each layer, too; its biases before BatchNorm are left out here.
    assert abs(sum(parameter.numel() for parameter in G.parameters()) - 1.547e6) < 0.01e6


def test_pixel_shuffle_starts_without_checkerboard():
    G = SRResNet(width=8, blocks=1).build(data((1, 16, 16), (1, 8, 8)), 4)
    up = G.up[0](torch.randn(2, 8, 8, 8))
    torch.testing.assert_close(up, F.interpolate(up[:, :, ::2, ::2], scale_factor=2))


def test_residual_starts_near_the_enlarged_input():
    spec = data((1, 32, 32), (1, 8, 8))
    G = SRResNet(width=8, blocks=1, residual=True).build(spec, 4)
    with torch.no_grad():
        G.last.weight.zero_()
    y = torch.rand(2, 1, 8, 8) * 2 - 1
    enlarged = F.interpolate(y, (32, 32), mode="bilinear")
    torch.testing.assert_close(G(torch.randn(2, 4), y), 0.98 * enlarged, atol=1e-5, rtol=1e-4)
    assert G(torch.randn(2, 4), 3 * torch.randn(2, 1, 8, 8)).isfinite().all()  # conditions out of range
    y.fill_(-1).requires_grad_()
    G(torch.randn(2, 4), y).sum().backward()
    assert y.grad.isfinite().all()  # at black, where the inverse of tanh itself is infinite


def test_residual_with_other_channels_is_refused():
    with pytest.raises(ValueError, match="the data has 1 and 3 channels; set it to false"):
        SRResNet(residual=True).build(data((3, 8, 8), (1, 4, 4)), 4)
