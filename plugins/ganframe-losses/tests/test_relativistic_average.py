"""The relativistic average game: values by hand, what it compares, and the promises of its kind."""

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


def test_values_by_hand():
    a, b = torch.tensor([0.0, 2 * math.log(3)]), torch.tensor([-math.log(2), math.log(2)])
    # mean a = log 3, mean b = 0. D: softplus of -a is log 2 and log(10/9), of b - log 3 log(7/6) and log(5/3).
    by_hand = (math.log(2) + math.log(10 / 9) + math.log(7 / 6) + math.log(5 / 3)) / 4
    assert GAME.discriminator_loss(a, b).item() == pytest.approx(by_hand)
    # G: softplus of a is log 2 and log 10, of log 3 - b log 7 and log(5/2).
    by_hand = (math.log(2) + math.log(10) + math.log(7) + math.log(5 / 2)) / 4
    assert GAME.generator_loss(b, a).item() == pytest.approx(by_hand)


def test_it_is_cross_entropy_against_the_other_sides_average():
    a, b = scores(8, 0), scores(8, 1)
    one, zero = torch.ones_like(a), torch.zeros_like(a)
    expected = (bce(a - b.mean(), one) + bce(b - a.mean(), zero)) / 2
    torch.testing.assert_close(GAME.discriminator_loss(a, b), expected)
    expected = (bce(a - b.mean(), zero) + bce(b - a.mean(), one)) / 2
    torch.testing.assert_close(GAME.generator_loss(b, a), expected)


def test_equal_scores_cost_log_2_and_a_constant_changes_nothing():
    even, a, b = torch.full((8,), 3.0), scores(8, 0), scores(8, 1)
    for loss in (GAME.discriminator_loss, lambda a, b: GAME.generator_loss(b, a)):
        assert loss(even, even).item() == pytest.approx(math.log(2))
        torch.testing.assert_close(loss(a + 7, b + 7), loss(a, b))


def test_equal_distributions_leave_an_even_critic_at_rest():
    a, b = torch.zeros(6, requires_grad=True), torch.zeros(6, requires_grad=True)
    slope_a, slope_b = torch.autograd.grad(GAME.discriminator_loss(a, b), (a, b))
    torch.testing.assert_close(slope_a, -slope_b)  # what is real by one half of the samples is fake by the other


def test_both_averages_learn():
    """Each score moves its own side's average too: the slopes are those of the whole formula."""
    a, b = scores(5, 0).requires_grad_(), scores(4, 1).requires_grad_()
    assert torch.autograd.gradcheck(GAME.discriminator_loss, (a, b))
    assert torch.autograd.gradcheck(GAME.generator_loss, (b, a))
    (slope,) = torch.autograd.grad(GAME.discriminator_loss(a, b), a)
    # ½ [-σ(mean b - a_i) - mean σ(b - mean a)] / N
    with torch.no_grad():
        expected = -(torch.sigmoid(b.mean() - a) + torch.sigmoid(b - a.mean()).mean()) / 2 / len(a)
    torch.testing.assert_close(slope, expected)


def test_slopes_do_not_saturate_where_a_player_loses():
    high, low = torch.full((2,), 100.0, requires_grad=True), torch.full((2,), -100.0, requires_grad=True)
    assert torch.autograd.grad(GAME.discriminator_loss(low, high), low)[0].tolist() == [-0.5, -0.5]
    assert torch.autograd.grad(GAME.generator_loss(low, high), low)[0].tolist() == [-0.5, -0.5]


def test_without_real_scores_it_says_what_is_missing():
    with pytest.raises(ValueError, match="real"):
        GAME.generator_loss(torch.zeros(2))


def test_it_keeps_the_promises_of_its_kind():
    check_objective(RelativisticAverage)


def test_it_is_found_by_its_name():
    assert ganframe.component("objective", "relativistic_average") is RelativisticAverage
