"""The WGAN-div penalty: values by hand, where points are taken, and edge cases."""

import pytest
import torch
from ganframe_balance import WGANDiv
from torch import nn

from ganframe import Scored


def penalty(constraint, D, x, fake):
    y = torch.zeros(len(x), dtype=torch.long)
    return constraint.penalty(D, Scored(x, y, D(x, y)), Scored(fake, y, D(fake, y)))


@pytest.mark.parametrize("n", [1, 4, 64])
@pytest.mark.parametrize("power", [2.0, 6.0])
def test_value_and_gradient_by_hand(linear, n, power):
    D = linear([0.6, 0.8])
    with torch.no_grad():
        D.weight.mul_(1.5)
    value = penalty(WGANDiv(weight=2.0, power=power), D, torch.randn(n, 2), torch.randn(n, 2))
    assert value.item() == pytest.approx(2 * 1.5**power, rel=1e-5)
    value.backward()
    torch.testing.assert_close(D.weight.grad, 2 * power * 1.5 ** (power - 1) * torch.tensor([0.6, 0.8]))


def test_points_are_uniform_between_real_and_fake():
    class Square(nn.Module):
        """D(x) = x²/2 in one dimension, with gradient x."""

        def forward(self, x, y):
            return x.square().sum(1) / 2

    # x̂ is uniform between 0 and 3: E x̂² = 3.
    value = penalty(WGANDiv(weight=1.0, power=2.0), Square(), torch.zeros(200_000, 1), torch.full((200_000, 1), 3.0))
    assert value.item() == pytest.approx(3, rel=0.01)


@pytest.mark.parametrize("power", [1.0, 2.0, 6.0])
def test_critic_of_zeros_has_a_finite_gradient(linear, power):
    D = linear([0.0, 0.0])
    penalty(WGANDiv(power=power), D, torch.randn(4, 2), torch.randn(4, 2)).backward()
    assert D.weight.grad.isfinite().all()


@pytest.mark.parametrize("options", [{"weight": -1.0}, {"power": 0.5}])
def test_options_out_of_range_raise_value_error(options):
    with pytest.raises(ValueError, match=next(iter(options))):
        WGANDiv(**options)
