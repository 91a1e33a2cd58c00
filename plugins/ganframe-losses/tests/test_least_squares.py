"""Least squares GAN: values by hand, the paper's optimal discriminator and divergence, and the conformance kit."""

import math

import pytest
import torch
from ganframe_losses import LeastSquares
from scipy.integrate import quad
from scipy.stats import norm

import ganframe
from ganframe.testing import check_objective

PEARSON = LeastSquares(fake=-1.0, real=1.0, wanted=0.0)
GAMES = [LeastSquares(), PEARSON, LeastSquares(fake=-0.6, real=0.9, wanted=0.7)]
# ∫(q - p)²/(p + q) of p = N(0, 1) against N(1, 1) and N(1, 1.2²).
REFERENCE = {1.0: 0.4081085, 1.2: 0.3583251}
X = torch.linspace(-16, 18, 17_001, dtype=torch.float64)
STEP = 34 / 17_000


def normal(mean, std):
    return torch.exp(-((X - mean) ** 2) / (2 * std**2)) / (std * math.sqrt(2 * math.pi))


P = normal(0, 1)


def optimum(game, q):
    return (game.real * P + game.fake * q) / (P + q)


def expected_discriminator_loss(game, scores, q):
    """L_D of a discriminator with `scores` on X: the term of a integrated under p, the term of b under q."""
    zero = torch.zeros(1, dtype=torch.float64)
    of_real = torch.vmap(lambda score: game.discriminator_loss(score[None], zero))(scores)
    of_fake = torch.vmap(lambda score: game.discriminator_loss(zero, score[None]))(scores)
    return (P * of_real + q * of_fake).sum() * STEP - game.discriminator_loss(zero, zero)


def test_losses_by_hand():
    a, b = torch.tensor([0.0, 3.0]), torch.tensor([-1.0, 2.0])
    assert LeastSquares().discriminator_loss(a, b).item() == pytest.approx((1 + 4) / 4 + (1 + 4) / 4)
    assert LeastSquares().generator_loss(b).item() == pytest.approx((4 + 1) / 4)
    assert PEARSON.discriminator_loss(a, b).item() == pytest.approx((1 + 4) / 4 + (0 + 9) / 4)
    assert PEARSON.generator_loss(b).item() == pytest.approx((1 + 4) / 4)


def test_generator_gradient_does_not_saturate():
    """It grows with the distance of the score from `wanted` on both sides; after a sigmoid it would vanish."""
    b = torch.tensor([-100.0, 0.0, 100.0], requires_grad=True)
    (gradient,) = torch.autograd.grad(LeastSquares().generator_loss(b) * 3, b)
    assert gradient.tolist() == [-101, -1, 99]


@pytest.mark.parametrize("std", REFERENCE)
@pytest.mark.parametrize("game", GAMES, ids=str)
def test_optimal_discriminator_is_density_weighted_mean_of_codes(game, std):
    q = normal(1, std)
    scores = optimum(game, q).requires_grad_()
    best = expected_discriminator_loss(game, scores, q)
    (gradient,) = torch.autograd.grad(best, scores)
    assert gradient.abs().max() < 1e-12
    for other in (scores + 0.05, 0.9 * scores, scores + 0.1 * torch.sin(3 * X)):
        assert expected_discriminator_loss(game, other, q) > best + 1e-4


def test_optimal_discriminator_of_codes_0_and_1_is_probability_of_data():
    q = normal(1, 1.2)
    torch.testing.assert_close(optimum(LeastSquares(), q), P / (P + q))


@pytest.mark.parametrize("std", REFERENCE)
def test_codes_minus_1_1_0_measure_pearson_divergence_of_p_plus_q_from_2q(std):
    q = normal(1, std)
    losses = torch.vmap(lambda score: PEARSON.generator_loss(score[None]))(optimum(PEARSON, q))
    twice = 2 * ((P + q) * losses).sum().item() * STEP
    assert twice == pytest.approx(REFERENCE[std], abs=1e-6)

    def integrand(x):
        p_x, q_x = norm.pdf(x), norm.pdf(x, 1, std)
        return (2 * q_x - (p_x + q_x)) ** 2 / (p_x + q_x)

    assert twice == pytest.approx(quad(integrand, -16, 18, limit=500)[0], abs=1e-6)
    # L_D at the optimum is 2 ∫ pq/(p + q) = 1 - ½ ∫(q - p)²/(p + q).
    assert expected_discriminator_loss(PEARSON, optimum(PEARSON, q), q).item() == pytest.approx(
        1 - REFERENCE[std] / 2, abs=1e-6
    )


def test_optimal_discriminator_loss_is_a_quarter_for_equal_distributions():
    # a* = ½ everywhere: ½ · ¼ for each distribution.
    assert expected_discriminator_loss(LeastSquares(), optimum(LeastSquares(), P), P).item() == pytest.approx(0.25)


@pytest.mark.parametrize("game", GAMES, ids=str)
def test_conformance(game):
    check_objective(game)


@pytest.mark.parametrize("codes", [{"real": 0.0}, {"fake": 1.0, "real": 0.0, "wanted": 2.0}, {"wanted": -1.0}])
def test_codes_not_above_fake_raise_value_error(codes):
    with pytest.raises(ValueError, match="above fake"):
        LeastSquares(**codes)


def test_component_is_registered():
    assert ganframe.component("objective", "least_squares") is LeastSquares
