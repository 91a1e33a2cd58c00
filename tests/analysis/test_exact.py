"""Exact divergences, against values known in closed form."""

from __future__ import annotations

import math

import attrs
import pytest
import torch
from torch.utils.data import TensorDataset

import ganframe
from ganframe import DataSpec
from ganframe.analysis.exact import (
    distances,
    exact_value,
    is_difference_of_means,
    on_the_line,
    optimal_critic,
    steepest_pair,
    transport_distance,
)
from ganframe.components import Objective
from ganframe.plugins.registry import load

LINE, PLANE = DataSpec((1,)), DataSpec((2,))
vanilla, wgan = (ganframe.component("objective", name)() for name in ("vanilla", "wgan"))


def gaussians(means, stds=(1.0,), weights=None):
    return ganframe.component("dataset", "gaussian_1d")(means=means, stds=stds, weights=weights).build()


def value(objective, p, q):
    return exact_value(objective, on_the_line(p, q, LINE))


@pytest.mark.parametrize(("mean", "std", "expected"), [(1.0, 1.0, -1.1634514), (1.0, 1.2, -1.1895600)])
def test_vanilla_value_is_2_jsd_minus_log_4(mean, std, expected):
    assert value(vanilla, gaussians((0.0,)), gaussians((mean,), (std,))) == pytest.approx(expected, abs=1e-6)


def test_vanilla_value_of_equal_and_of_disjoint_densities():
    p = gaussians((-1.0, 2.0), (0.5, 0.1))
    assert value(vanilla, p, p) == pytest.approx(-math.log(4), abs=1e-6)
    assert value(vanilla, p, gaussians((60.0,))) == pytest.approx(0.0, abs=1e-6)


@pytest.mark.parametrize("std", [1.0, 0.01])
@pytest.mark.parametrize("apart", [0.0, 0.5, 3.0, 40.0])
def test_w1_of_gaussians_with_equal_std_is_the_distance_of_their_means(std, apart):
    assert value(wgan, gaussians((0.0,), (std,)), gaussians((apart,), (std,))) == pytest.approx(apart, abs=1e-4)


def test_w1_of_gaussians_with_equal_mean_is_the_difference_of_stds_times_e_abs_z():
    exact = value(wgan, gaussians((2.0,), (1.0,)), gaussians((2.0,), (3.0,)))
    assert exact == pytest.approx(2 * math.sqrt(2 / math.pi), abs=1e-5)


def test_w1_of_shifted_mixtures_is_the_shift():
    p, q = (gaussians((shift, 10.0 + shift), (0.1, 0.1), (0.25, 0.75)) for shift in (0.0, 1.0))
    assert value(wgan, p, q) == pytest.approx(1.0, abs=1e-4)


def test_transport_distance_is_w1_between_samples():
    x, y = torch.tensor([[0.0, 0.0], [1.0, 0.0]]), torch.tensor([[1.0, 2.0], [0.0, 1.0]])
    assert transport_distance(x, y) == pytest.approx(1.5)
    assert transport_distance(x, x.flip(0)) == 0
    noise = torch.randn(500, 1, generator=torch.Generator().manual_seed(0))
    assert transport_distance(noise, 3 + noise) == pytest.approx(3.0, abs=1e-5)


def test_difference_of_means_is_at_most_slope_times_w1_of_the_samples():
    x, y = torch.randn(40, 3) + 1, torch.randn(40, 3)
    for score in (lambda x: 5 * x[:, 0], lambda x: x.square().sum(1), lambda x: x.sin().prod(1)):
        a, b = score(x).double(), score(y).double()
        slope = steepest_pair(distances(x, y), a, b)
        assert 0 < (a.mean() - b.mean()).abs() <= slope * transport_distance(x, y)
    assert steepest_pair(distances(x, y), 5 * x[:, 0], 5 * y[:, 0]) <= 5.001


def test_slope_of_samples_that_both_sides_have_is_not_one_of_rounding():
    x = torch.randn(20, 50)
    assert steepest_pair(distances(x, x), x[:, 0], x[:, 0] + 1e-3) < 2
    assert steepest_pair(torch.zeros(3, 3), torch.ones(3), torch.zeros(3)) == 0


def test_optimal_critic_has_w1_as_its_difference_of_means_and_slope_1():
    for p, q in ((gaussians((0.0,)), gaussians((3.0,))), (gaussians((0.0,), (1.0,)), gaussians((0.0,), (3.0,)))):
        line = on_the_line(p, q, LINE)
        critic = optimal_critic(line)
        apart = torch.trapezoid(critic * (line.log_p.exp() - line.log_q.exp()), line.x).item()
        assert apart == pytest.approx(exact_value(wgan, line), rel=1e-4)
        assert (critic.diff() / line.x.diff()).abs().max().item() == pytest.approx(1, rel=1e-6)


def test_only_wgan_is_a_difference_of_means():
    for plugin, kind, name, cls in load():
        if plugin.name == "builtin" and kind == "objective":
            assert is_difference_of_means(cls()) == (name == "wgan")


@attrs.frozen
class Paired(Objective):
    """Not a sum of a term for each side."""

    def discriminator_loss(self, real, fake):
        return torch.nn.functional.softplus(fake - real).mean()

    def optimal_score(self, log_ratio):
        return log_ratio


@attrs.frozen
class Unknown(Objective):
    """Does not say what its optimal discriminator is."""

    def discriminator_loss(self, real, fake):
        return fake.square().mean() - real.mean()


def test_exact_value_is_none_where_it_is_unknown():
    assert value(Unknown(), gaussians((0.0,)), gaussians((1.0,))) is None
    # A relativistic loss is not a sum of two integrals.
    assert value(Paired(), gaussians((0.0,)), gaussians((1.0,))) is None
    ring = ganframe.component("dataset", "ring")().build()
    roll = ganframe.component("dataset", "swiss_roll")().build()
    assert on_the_line(ring, ring, PLANE) is None
    assert on_the_line(roll, roll, PLANE) is None
    assert on_the_line(TensorDataset(torch.zeros(3, 1)), gaussians((1.0,)), LINE) is None


def test_mixture_density_matches_its_samples():
    """In two dimensions: by the entropy of one Gaussian, E -log p over samples, and by counting samples in a square."""
    one = ganframe.component("dataset", "grid")(side=1, std=0.5).build()
    x, _ = one.draw(200_000, torch.Generator().manual_seed(0))
    entropy = 1 + math.log(2 * math.pi * 0.25)
    assert -one.log_density(x).mean().item() == pytest.approx(entropy, abs=0.01)
    grid = ganframe.component("dataset", "grid")(side=2, std=0.4).build()
    x, _ = grid.draw(200_000, torch.Generator().manual_seed(0))
    inside = ((x[:, 0] - 0.7).abs() < 0.05) & ((x[:, 1] - 0.9).abs() < 0.05)
    density = grid.log_density(torch.tensor([[0.7, 0.9]], dtype=torch.float64)).exp().item()
    assert inside.float().mean().item() / 0.01 == pytest.approx(density, rel=0.05)


def test_optimal_score_minimises_each_discriminator_loss():
    """L_D at the optimal scores is smaller than at scores a little off, on two Gaussians."""
    p, q = gaussians((0.0,)), gaussians((1.0,))
    x, y = (side.draw(100_000, torch.Generator().manual_seed(0))[0].double() for side in (p, q))
    for plugin, kind, name, cls in load():
        if plugin.name != "builtin" or kind != "objective" or cls.optimal_score is Objective.optimal_score:
            continue
        a, b = (cls().optimal_score(p.log_density(side) - q.log_density(side)) for side in (x, y))
        best = cls().discriminator_loss(a, b)
        for shift, scale in ((0.1, 1.0), (-0.1, 1.0), (0.0, 1.2), (0.0, 0.8)):
            assert cls().discriminator_loss(a * scale + shift, b * scale + shift) > best, name
