"""Fisher and Sobolev GAN: the augmented Lagrangian and its multiplier by hand, and the optimum in closed form."""

import pytest
import torch
from ganframe_balance import Fisher, Sobolev
from torch import nn

from ganframe import DataSpec

X, FAKE = torch.tensor([[3.0], [1.0]]), torch.tensor([[-1.0], [0.5]])
SECOND = (5 + 0.625) / 2  # ½ (E x² + E f²)


@pytest.fixture
def parts():
    return Fisher().prepare(None, None, None)


@pytest.mark.parametrize("weight", [0.0, 0.5, 2.0])
def test_fisher_by_hand(turn, linear, parts, weight):
    parts.discriminator.value.fill_(0.7)
    term = Fisher(rho=0.1)
    moment = weight**2 * SECOND
    D = linear([weight])
    value = term.discriminator_term(turn(D, X, FAKE, parts))
    # D descends: the Lagrangian λ (1 - Ω) - ρ/2 (Ω - 1)² with its sign changed.
    assert value.item() == pytest.approx(-0.7 * (1 - moment) + 0.05 * (moment - 1) ** 2, abs=1e-6)
    assert parts.discriminator.value.item() == pytest.approx(0.7 + 0.1 * (moment - 1))
    value.backward()  # with the λ of before the step
    expected = (0.7 + 0.1 * (moment - 1)) * 2 * weight * SECOND
    assert D.weight.grad.item() == pytest.approx(expected, abs=1e-5)


@pytest.mark.parametrize("n", [1, 4, 64])
def test_sobolev_by_hand_at_any_batch_size(turn, linear, parts, n):
    parts.discriminator.value.fill_(0.7)
    term, D = Sobolev(rho=0.1), linear([1.2, 1.6])
    value = term.discriminator_term(turn(D, torch.randn(n, 2), torch.randn(n, 2), parts))
    assert value.item() == pytest.approx(0.7 * 3 + 0.05 * 9, rel=1e-5)  # Ω = ‖w‖² = 4
    assert parts.discriminator.value.item() == pytest.approx(0.7 + 0.1 * 3, rel=1e-5)
    value.backward()
    torch.testing.assert_close(D.weight.grad, (0.7 + 0.1 * 3) * 2 * torch.tensor([1.2, 1.6]))


def test_sobolev_moment_is_half_of_each_side(turn, parts):
    class Square(nn.Module):
        """D(x) = x²/2 with gradient x."""

        def forward(self, x, y):
            return x.square().sum(1) / 2

    moment = Sobolev().moment(turn(Square(), X, FAKE, parts))
    assert moment.item() == pytest.approx(SECOND)


@pytest.mark.parametrize("term", [Fisher(rho=0.1), Sobolev(rho=0.1)])
def test_critic_of_zeros_has_a_finite_gradient(turn, linear, parts, term):
    D = linear([0.0])
    term.discriminator_term(turn(D, X, FAKE, parts)).backward()
    assert D.weight.grad.isfinite().all()


def test_fisher_converges_to_the_ipm_of_a_linear_critic(turn, linear, parts):
    """sup over w of w·Δ under w²·Ω₁ = 1 is |Δ|/√Ω₁, and λ is half of it."""
    D, term = linear([0.1]), Fisher(rho=0.05)
    optimizer = torch.optim.SGD(D.parameters(), lr=0.05)
    for _ in range(3000):
        seen = turn(D, X, FAKE, parts)
        loss = seen.fake.scores.mean() - seen.real.scores.mean() + term.discriminator_term(seen)
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
    difference = 2 - (-0.25)
    assert D.weight.item() == pytest.approx(SECOND**-0.5, rel=1e-3)
    assert parts.discriminator.value.item() == pytest.approx(difference * SECOND**-0.5 / 2, rel=1e-2)


def test_multiplier_is_linear_in_the_batch(turn, linear):
    """So that the average over processes is that of one process with the whole batch."""
    term, found = Fisher(rho=0.1), []
    for rows in (slice(0, 2), slice(0, 1), slice(1, 2)):
        parts = term.prepare(None, None, None)
        term.discriminator_term(turn(linear([1.0]), X[rows], FAKE[rows], parts))
        found.append(parts.discriminator.value.item())
    assert found[0] == pytest.approx((found[1] + found[2]) / 2)


def test_sobolev_refuses_batchnorm():
    D = nn.Sequential(nn.BatchNorm1d(1))
    with pytest.raises(ValueError, match="mixes samples"):
        Sobolev().prepare(None, D, DataSpec((1,)))


@pytest.mark.parametrize("term", [Fisher, Sobolev])
def test_rho_of_zero_raises_value_error(term):
    with pytest.raises(ValueError, match="rho"):
        term(rho=0.0)
