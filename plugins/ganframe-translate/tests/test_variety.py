"""The term `variety`: the nearest of several samples counts."""

import pytest
import torch
from ganframe_translate import Variety
from torch import nn

from ganframe import DataSpec, Objective, Parts, Scored, Turn
from ganframe.testing import check_term

DATA = DataSpec((1, 4, 4), condition=(1, 4, 4))


class Constant(nn.Module):
    """G(z, y) = z everywhere."""

    def __init__(self):
        super().__init__()
        self.scale = nn.Parameter(torch.ones(()))

    def forward(self, z, y):
        return self.scale * z[:, :1, None, None].expand(len(z), 1, 4, 4)


def turn(z, x):
    G, y = Constant(), torch.zeros(len(z), 1, 4, 4)
    fake = Scored(G(z, y), y, torch.zeros(len(z)), z)
    return Turn(G, nn.Identity(), Scored(x, y, None), fake, Objective(), 0, Parts())


def test_variety_passes_the_kit():
    check_term(Variety)
    check_term(Variety(samples=4))


def test_variety_is_the_distance_of_the_nearest_sample():
    z = torch.tensor([[-1.0], [1.0], [1.0], [-1.0]])  # a shift by half of the batch pairs each with its opposite
    x = torch.tensor([1.0, 1.0, -1.0, -0.5]).view(4, 1, 1, 1).expand(4, 1, 4, 4)
    found = Variety(weight=2.0, samples=2).generator_term(turn(z, x))
    assert found.item() == pytest.approx(2 * (0 + 0 + 0 + 0.5) / 4)
    found.backward()


def test_variety_of_equal_samples_is_the_l1_distance():
    z, x = torch.full((4, 1), 0.25), torch.rand(4, 1, 4, 4)
    assert Variety(weight=1.0).generator_term(turn(z, x)).item() == pytest.approx((x - 0.25).abs().mean().item())


def test_variety_refuses_data_without_conditions():
    with pytest.raises(ValueError, match="no conditions"):
        Variety().prepare(nn.Identity(), nn.Identity(), DataSpec((1, 4, 4)))
