"""Tests of the built-in objectives against the papers' formulas and against quadrature."""

from __future__ import annotations

import pytest
import torch

import ganframe

VANILLA, NON_SATURATING, WGAN = (ganframe.component("objective", n)() for n in ("vanilla", "non_saturating", "wgan"))
ALL = [VANILLA, NON_SATURATING, WGAN]


def normal(mean: float, std: float, n: int = 200_000) -> torch.Tensor:
    """Quantiles of a Gaussian at equal steps of probability: their mean is an integral by the midpoint rule."""
    return mean + std * torch.special.ndtri((torch.arange(n, dtype=torch.float64) + 0.5) / n)


def log_density(x: torch.Tensor, mean: float, std: float) -> torch.Tensor:
    return torch.distributions.Normal(mean, std).log_prob(x)


@pytest.mark.parametrize("objective", [VANILLA, NON_SATURATING])
@pytest.mark.parametrize(("mean", "std", "value"), [(1.0, 1.0, -1.1634514), (1.0, 1.2, -1.1895600)])
def test_value_at_optimal_discriminator_is_2_jsd_minus_log_4(objective, mean, std, value):
    def optimal(x):  # a* = log p/q for p = N(0, 1)
        return log_density(x, 0.0, 1.0) - log_density(x, mean, std)

    loss = objective.discriminator_loss(optimal(normal(0, 1)), optimal(normal(mean, std)))
    assert -loss.item() == pytest.approx(value, abs=1e-4)


def test_loss_of_constant_zero_discriminator_is_log_4():
    zeros = torch.zeros(8, dtype=torch.float64)
    assert VANILLA.discriminator_loss(zeros, zeros).item() == pytest.approx(2 * torch.log(torch.tensor(2.0)).item())


def test_wgan_with_optimal_critic_is_distance_of_means():
    # W1 of two Gaussians with the same deviation. The Wasserstein critic x -> -x has slope 1 and falls from p to q.
    assert -WGAN.discriminator_loss(-normal(0, 1), -normal(1, 1)).item() == pytest.approx(1.0, abs=1e-6)


@pytest.mark.parametrize(
    ("objective", "slope"),
    [
        (VANILLA, lambda b: -b.sigmoid()),
        (NON_SATURATING, lambda b: -(-b).sigmoid()),
        (WGAN, lambda b: -torch.ones_like(b)),
    ],
)
def test_derivatives_of_generator_losses(objective, slope):
    """The figure "comparison of generator losses" of the 2016 tutorial."""
    b = torch.tensor([-10.0, -1.0, 0.0, 1.0, 10.0], dtype=torch.float64, requires_grad=True)
    (gradient,) = torch.autograd.grad(objective.generator_loss(b), b)
    torch.testing.assert_close(gradient * len(b), slope(b.detach()))


def test_vanilla_generator_loss_saturates_and_non_saturating_does_not():
    b = torch.full((1,), -10.0, requires_grad=True)
    slopes = [torch.autograd.grad(o.generator_loss(b), b)[0].item() for o in (VANILLA, NON_SATURATING)]
    assert slopes[0] == pytest.approx(-4.54e-5, rel=1e-2)
    assert slopes[1] == pytest.approx(-1.0, rel=1e-3)


@pytest.mark.parametrize("score", [-100.0, -30.0, 30.0, 100.0])
def test_losses_and_derivatives_in_float32_at_extreme_scores(score):
    """-log(σ(b) + 1e-8) would saturate at 18.4."""
    for objective in ALL:
        values = []
        for dtype in (torch.float32, torch.float64):
            s = torch.full((4,), score, dtype=dtype, requires_grad=True)
            losses = objective.discriminator_loss(s, -s) + 2 * objective.generator_loss(s)
            (gradient,) = torch.autograd.grad(losses, s)
            values.append((losses.detach().double(), gradient.double()))
        torch.testing.assert_close(values[0][0], values[1][0], rtol=1e-6, atol=1e-40)
        torch.testing.assert_close(values[0][1], values[1][1], rtol=1e-6, atol=1e-40)


@pytest.mark.parametrize("objective", ALL)
def test_losses_are_scalar_means_at_any_batch_size(objective):
    real, fake = torch.randn(3, dtype=torch.float64), torch.randn(3, dtype=torch.float64)
    for n in (1, 5):
        loss = objective.discriminator_loss(real.repeat(n), fake.repeat(n))
        assert loss.shape == ()
        torch.testing.assert_close(loss, objective.discriminator_loss(real, fake))
        torch.testing.assert_close(objective.generator_loss(fake.repeat(n)), objective.generator_loss(fake))


@pytest.mark.parametrize("objective", ALL)
def test_losses_have_gradients_of_the_right_sign(objective):
    real, fake = torch.randn(6, requires_grad=True), torch.randn(6, requires_grad=True)
    up, down = torch.autograd.grad(objective.discriminator_loss(real, fake), (real, fake))
    assert (up < 0).all()  # descending the loss raises the scores
    assert (down > 0).all()
    (own,) = torch.autograd.grad(objective.generator_loss(fake), fake)
    assert (own < 0).all()
