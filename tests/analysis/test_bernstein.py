"""The empirical Bernstein bound: against values by hand, and its coverage."""

from __future__ import annotations

import math

import pytest
import torch

from ganframe.analysis.bernstein import Mean, can_differ, clamp, difference, radius, samples_needed


def test_radius_equals_a_value_by_hand():
    """n = 50, V = 1/4, R = 2, δ = .05: ln 60 = 4.0943445622; √(2 · .25 · ln 60 / 50) + 3 · 2 · ln 60 / 50."""
    assert radius(Mean(50, 0.0, 0.25), 2.0, 0.05) == pytest.approx(0.2023448680402 + 0.4913213474667, abs=1e-9)


def test_difference_gives_each_mean_half_of_the_risk():
    """3/δ' = 6/δ: ln 120 = 4.7874917428. Radii: √(2 · .04 · ln 120 / 100) + 3 ln 120 / 100 and 3 ln 120 / 400."""
    one, other = Mean(100, 0.9, 0.04), Mean(400, 0.1, 0.0)
    radii = math.sqrt(2 * 0.04 * 4.7874917427820458 / 100) + 3 * 4.7874917427820458 * (1 / 100 + 1 / 400)
    assert difference(one, other, 1.0, 0.05) == pytest.approx(0.8 - radii, abs=1e-9)
    assert difference(one, other, 1.0, 0.05) == pytest.approx(0.5585821192283, abs=1e-9)


def test_mean_and_variance_are_those_of_the_paper():
    found = Mean.of(torch.tensor([0.0, 0.0, 1.0, 3.0]))
    assert (found.samples, found.mean, found.variance) == (4, 1.0, 1.5)  # divided by n, not n - 1


@pytest.mark.parametrize(("p", "n"), [(0.02, 20), (0.1, 10), (0.1, 40), (0.5, 15), (0.97, 60)])
def test_coverage_of_skewed_bernoulli_variables(p, n):
    """The exact probability, by the binomial law, that the true mean is outside of the interval, at δ = .1 and .5."""
    for risk in (0.1, 0.5):
        outside = 0.0
        for k in range(n + 1):
            m = k / n
            if abs(m - p) > radius(Mean(n, m, m * (1 - m)), 1.0, risk):
                outside += math.comb(n, k) * p**k * (1 - p) ** (n - k)
        assert outside <= risk


def test_variance_alone_would_not_cover():
    """The second term is what covers samples without variance: ten zeros of ten happen with .9^10 = 35 %."""
    found = Mean(10, 0.0, 0.0)
    assert math.sqrt(2 * found.variance * math.log(3 / 0.1) / 10) < 0.1 < radius(found, 1.0, 0.1)


@pytest.mark.parametrize("risk", [0.5, 0.05, 0.05 / 3, 1e-6])
def test_samples_needed_is_the_fewest_that_can_show_a_difference(risk):
    n = samples_needed(risk)
    assert can_differ(n, n, risk)
    assert not can_differ(n - 1, n - 1, risk)


def test_clamp_keeps_all_scores_where_they_tell_the_sides_apart():
    one, other = torch.linspace(2, 3, 1000), torch.linspace(0, 1, 1000)
    low, high = clamp(one, other, (10_000, 10_000), 0.05)
    assert low == pytest.approx(0, abs=0.2)
    assert high == pytest.approx(3, abs=0.2)


def test_clamp_gives_up_outliers_for_a_narrow_interval():
    """One score of 1,000 at 100 would make the range a hundred times wider, and its term with it."""
    one, other = torch.ones(1000), torch.zeros(1000)
    one[0] = 100.0
    assert clamp(one, other, (200, 200), 0.05) == (0.0, 1.0)


def test_clamp_of_equal_scores_is_a_point():
    assert clamp(torch.ones(5), torch.ones(5), (5, 5), 0.05) == (1.0, 1.0)
