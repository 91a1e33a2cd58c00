"""The terms on the generator's samples: values and gradients by hand, and what they refuse."""

import pytest
import torch
from ganframe_terms import L1, ModeSeeking
from torch import nn

from ganframe import DataSpec, Parts, Scored, Turn


class Slope(nn.Module):
    """G(z, y) = slope · z + y, and counts its calls."""

    def __init__(self, slope=3.0):
        super().__init__()
        self.slope = nn.Parameter(torch.tensor(slope))
        self.calls = 0

    def forward(self, z, y):
        self.calls += 1
        return self.slope * z + y[:, None]


def turn(G, z, y, real=None):
    fake = Scored(G(z, y), y, torch.zeros(len(z)), z)
    return Turn(G, nn.Identity(), real, fake, None, 0, Parts())


def test_l1_is_weight_times_mean_absolute_difference():
    x = torch.tensor([[1.0, 2.0], [3.0, 4.0]])
    fake = torch.tensor([[0.0, 4.0], [3.0, 9.0]], requires_grad=True)
    y = torch.zeros(2, 1)
    sides = Scored(x, y, None), Scored(fake, y, torch.zeros(2))
    value = L1(weight=10.0).generator_term(Turn(None, None, *sides, None, 0, Parts()))
    assert value.item() == pytest.approx(10 * (1 + 2 + 0 + 5) / 4)
    (gradient,) = torch.autograd.grad(value, fake)
    torch.testing.assert_close(gradient, 2.5 * torch.tensor([[-1.0, 1.0], [0.0, 1.0]]))


@pytest.mark.parametrize("data", [DataSpec((2,)), DataSpec((2,), classes=3)], ids=str)
def test_l1_without_conditions_raises_value_error(data):
    with pytest.raises(ValueError, match="no conditions; choose a dataset of pairs"):
        L1().prepare(None, None, data)


@pytest.mark.parametrize("n", [2, 3, 8])
def test_mode_seeking_is_reciprocal_of_distance_ratio(n):
    """G(z₁, y) - G(z₂, y) = 3 (z₁ - z₂) whatever y is, so the ratio is 3; its reciprocal has the slope -1/9."""
    G, z, y = Slope(), torch.randn(n, 2), torch.randn(n)
    value = ModeSeeking(weight=6.0).generator_term(turn(G, z, y))
    assert value.item() == pytest.approx(2, rel=1e-4)
    (gradient,) = torch.autograd.grad(value, G.slope)
    assert gradient.item() == pytest.approx(-6 / 9, rel=1e-4)
    assert G.calls == 2


def test_mode_seeking_of_equal_samples_is_finite():
    G = Slope(0.0)
    value = ModeSeeking().generator_term(turn(G, torch.randn(4, 2), torch.zeros(4)))
    assert value.item() == pytest.approx(1e5, rel=1e-3)
    assert torch.autograd.grad(value, G.slope)[0].isfinite()


def test_mode_seeking_of_one_sample_raises_value_error():
    with pytest.raises(ValueError, match="compares pairs of fakes"):
        ModeSeeking().generator_term(turn(Slope(), torch.randn(1, 2), torch.zeros(1)))


def test_mode_seeking_pairs_the_same_latents_in_two_processes():
    """Process r of P has the rows r, r + P, …: its half-batch shift pairs what the shift of the whole batch pairs."""
    rows = torch.arange(8)
    whole = dict(zip(rows.tolist(), rows.roll(4).tolist(), strict=True))
    for rank in range(2):
        own = rows[rank::2]
        assert all(whole[a] == b for a, b in zip(own.tolist(), own.roll(2).tolist(), strict=True))
