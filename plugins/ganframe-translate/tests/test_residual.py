"""The generator residual."""

import pytest
import torch
from ganframe_translate import Residual

from ganframe import DataSpec
from ganframe.testing import check_generator


def data(x, y):
    return DataSpec(x, condition=y)


@pytest.mark.parametrize(
    ("config", "spec"),
    [
        (Residual(width=8, blocks=2), data((1, 8, 8), (1, 8, 8))),
        (Residual(width=8, blocks=1, z="modulate"), data((3, 13, 9), (6, 13, 9))),
        (Residual(width=8, blocks=0, z="none", norm="batch"), data((1, 16, 8), (3, 16, 8))),
        (Residual(width=8, blocks=2, norm="none"), data((3, 11, 17), (1, 11, 17))),
    ],
)
def test_conformance(config, spec):
    check_generator(config, spec)


def test_network_of_the_paper():
    """c7s1-64, d128, d256, R256 × 9, u128, u64, c7s1-3: 11.4 million weights."""
    with torch.device("meta"):
        G = Residual(z="none").build(data((3, 256, 256), (3, 256, 256)), 8)
    assert len(G.blocks) == 9
    assert abs(sum(parameter.numel() for parameter in G.parameters()) - 11.38e6) < 0.03e6


@pytest.mark.parametrize(("side", "blocks"), [(128, 6), (256, 9)])
def test_blocks_follow_the_size(side, blocks):
    with torch.device("meta"):
        G = Residual(width=1).build(data((1, side, side), (1, side, side)), 8)
    assert len(G.blocks) == blocks


def test_without_norm_many_blocks_do_not_saturate():
    G = Residual(width=8, blocks=16, norm="none").build(data((1, 16, 16), (1, 16, 16)), 4)
    samples = G(torch.randn(8, 4), torch.rand(8, 1, 16, 16) * 2 - 1)
    assert samples.abs().mean() < 0.9


def test_negative_blocks_are_refused():
    with pytest.raises(ValueError, match="must be >= 0, not -1"):
        Residual(blocks=-1)
