"""Relativistic average GAN: values by hand, properties of the losses, and the conformance kit."""

import math

import pytest
import torch
from ganframe_losses import RelativisticAverage
from torch.nn.functional import binary_cross_entropy_with_logits as bce

import ganframe
from ganframe.testing import check_objective

GAME = RelativisticAverage()


def scores(n, seed):
    return torch.randn(n, dtype=torch.float64, generator=torch.Generator().manual_seed(seed))


def test_losses_by_hand():
    a, b = torch.tensor([0.0, 2 * math.log(3)]), torch.tensor([-math.log(2), math.log(2)])
    # mean a = log 3, mean b = 0. D: softplus of -a is log 2 and log(10/9), of b - log 3 log(7/6) and log(5/3).
    by_hand = (math.log(2) + math.log(10 / 9) + math.log(7 / 6) + math.log(5 / 3)) / 4
    assert GAME.discriminator_loss(a, b).item() == pytest.approx(by_hand)
    # G: softplus of a is log 2 and log 10, of log 3 - b log 7 and log(5/2).
    by_hand = (math.log(2) + math.log(10) + math.log(7) + math.log(5 / 2)) / 4
    assert GAME.generator_loss(b, a).item() == pytest.approx(by_hand)


def test_losses_are_cross_entropy_of_score_minus_mean_opposite_score():
    a, b = scores(8, 0), scores(8, 1)
    one, zero = torch.ones_like(a), torch.zeros_like(a)
    expected = (bce(a - b.mean(), one) + bce(b - a.mean(), zero)) / 2
    torch.testing.assert_close(GAME.discriminator_loss(a, b), expected)
    expected = (bce(a - b.mean(), zero) + bce(b - a.mean(), one)) / 2
    torch.testing.assert_close(GAME.generator_loss(b, a), expected)


def test_loss_is_log_2_for_equal_scores_and_invariant_to_a_shift():
    equal, a, b = torch.full((8,), 3.0), scores(8, 0), scores(8, 1)
    for loss in (GAME.discriminator_loss, lambda a, b: GAME.generator_loss(b, a)):
        assert loss(equal, equal).item() == pytest.approx(math.log(2))
        torch.testing.assert_close(loss(a + 7, b + 7), loss(a, b))


def test_constant_discriminator_is_stationary_for_equal_distributions():
    a, b = torch.zeros(6, requires_grad=True), torch.zeros(6, requires_grad=True)
    gradient_a, gradient_b = torch.autograd.grad(GAME.discriminator_loss(a, b), (a, b))
    torch.testing.assert_close(gradient_a, -gradient_b)  # the real and fake terms cancel


def test_gradients_flow_through_both_means():
    """Each score is in the mean of its batch too, so the gradient is that of the full formula."""
    a, b = scores(5, 0).requires_grad_(), scores(4, 1).requires_grad_()
    assert torch.autograd.gradcheck(GAME.discriminator_loss, (a, b))
    assert torch.autograd.gradcheck(GAME.generator_loss, (b, a))
    (gradient,) = torch.autograd.grad(GAME.discriminator_loss(a, b), a)
    # ½ [-σ(mean b - a_i) - mean σ(b - mean a)] / N
    with torch.no_grad():
        expected = -(torch.sigmoid(b.mean() - a) + torch.sigmoid(b - a.mean()).mean()) / 2 / len(a)
    torch.testing.assert_close(gradient, expected)


def test_gradients_do_not_saturate_for_the_losing_player():
    high, low = torch.full((2,), 100.0, requires_grad=True), torch.full((2,), -100.0, requires_grad=True)
    assert torch.autograd.grad(GAME.discriminator_loss(low, high), low)[0].tolist() == [-0.5, -0.5]
    assert torch.autograd.grad(GAME.generator_loss(low, high), low)[0].tolist() == [-0.5, -0.5]


def test_generator_loss_without_real_scores_raises_value_error():
    with pytest.raises(ValueError, match="got no real scores"):
        GAME.generator_loss(torch.zeros(2))


def test_conformance():
    check_objective(RelativisticAverage)


def test_component_is_registered():
    assert ganframe.component("objective", "relativistic_average") is RelativisticAverage
