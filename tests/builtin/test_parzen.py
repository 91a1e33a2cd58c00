"""Tests of the metric `parzen`: scikit-learn's number, the choice of σ, the scale of pixels, what it refuses."""

from __future__ import annotations

import math

import attrs
import numpy as np
import pytest
import torch
from sklearn.neighbors import KernelDensity
from torch.utils.data import TensorDataset

from ganframe import Dataset, DataSpec
from ganframe.builtin.distributions import Gaussian1D, Ring
from ganframe.builtin.images import Digits
from ganframe.builtin.parzen import Parzen, log_densities
from ganframe.data.real import real_samples

SIGMAS = np.logspace(-1, 0, 10)


def by_sklearn(points, x, sigma):
    """log p of points. A leaf holds all samples: with more leaves, their bounds cost tens of nats of 64 dimensions."""
    return KernelDensity(bandwidth=sigma, kernel="gaussian", leaf_size=len(x)).fit(x).score_samples(points)


def expected(real, x, validation, sigmas=SIGMAS):
    """(log-likelihood, standard error, σ) by scikit-learn."""

    def densities(points, sigma):
        return by_sklearn(points, x, sigma)

    sigma = max(sigmas, key=lambda s: densities(real[:validation], s).mean())
    found = densities(real[validation:], sigma)
    return found.mean(), found.std(ddof=1) / math.sqrt(len(found)), sigma


@pytest.mark.parametrize("dimensions", [1, 2, 40, 200])
@pytest.mark.parametrize("sigma", [0.1, 1.0, 3.0])
def test_log_densities_are_those_of_scikit_learn(dimensions, sigma):
    points, x = torch.randn(30, dimensions) * 2 + 1, torch.randn(50, dimensions)
    (found,) = log_densities(points, x, [sigma])
    sklearn = by_sklearn(points.double().numpy(), x.double().numpy(), sigma)
    np.testing.assert_allclose(found.numpy(), sklearn, rtol=1e-6, atol=1e-6)


def test_numbers_of_digits_are_those_of_scikit_learn_with_pixels_from_0_to_1(judged):
    digits = Digits()
    real = real_samples(digits.build(), digits.spec, 1_797, 0, torch.device("cpu"))[0]
    x = (real[:300] + 0.3 * torch.randn(300, 1, 8, 8)).clamp(-1, 1)
    found = judged(Parzen(real=600), digits, x)
    sides = [((side + 1) / 2).flatten(1).double().numpy() for side in (real[:600], x)]
    mean, error, sigma = expected(*sides, validation=60)
    assert found["sigma"] == pytest.approx(sigma, rel=1e-6)
    assert found["log_likelihood"] == pytest.approx(mean, rel=1e-6)
    assert found["standard_error"] == pytest.approx(error, rel=1e-6)


def test_points_are_not_scaled_and_options_of_sigma_are_used(judged):
    line = Gaussian1D(means=(-3.0, 3.0), stds=(0.5, 0.5))
    x = line.build().draw(400, torch.Generator().manual_seed(5))[0]
    metric = Parzen(real=500, validation=0.2, smallest=0.02, largest=0.5, widths=7)
    found = judged(metric, line, x)
    real = real_samples(line.build(), line.spec, 500, 1, torch.device("cpu"))[0]
    mean, error, sigma = expected(
        real.double().numpy(), x.double().numpy(), 100, np.logspace(*np.log10([0.02, 0.5]), 7)
    )
    assert (found["sigma"], found["log_likelihood"]) == (pytest.approx(sigma, 1e-6), pytest.approx(mean, rel=1e-6))
    assert found["standard_error"] == pytest.approx(error, rel=1e-6)
    entropy = 0.5 * math.log(2 * math.pi * math.e * 0.25) + math.log(2)
    assert found["log_likelihood"] == pytest.approx(-entropy, abs=0.1)


def test_perfect_sampler_is_better_than_lost_modes_and_noise(judged):
    ring = Ring(radius=3.0, std=0.3)
    x, y = ring.build().draw(800, torch.Generator().manual_seed(5))
    metric = Parzen(real=500)
    perfect = judged(metric, ring, x)["log_likelihood"]
    lost = judged(metric, ring, x[y < 4])["log_likelihood"]
    noise = judged(metric, ring, 6 * torch.rand(800, 2) - 3)["log_likelihood"]
    assert perfect > lost + 1
    assert perfect > noise + 0.3


@attrs.frozen
class Some(Dataset):
    """A few points."""

    count: int
    spec = DataSpec((2,))

    def build(self):
        return TensorDataset(torch.randn(self.count, 2), torch.zeros(self.count, dtype=torch.long))


def test_too_few_real_samples_are_refused(judged):
    with pytest.raises(ValueError, match="of 94 real samples 9 are to choose σ and 85 to judge"):
        judged(Parzen(), Some(94), torch.randn(50, 2))
    assert judged(Parzen(), Some(100), torch.randn(50, 2))["standard_error"] > 0
    with pytest.raises(ValueError, match="and each needs at least 10"):
        judged(Parzen(validation=0.95), Some(100), torch.randn(50, 2))


def test_options_that_do_not_fit_are_refused():
    with pytest.raises(ValueError, match="smallest must be <= largest"):
        Parzen(smallest=2.0)
    for options in ({"validation": 1.0}, {"smallest": 0.0}, {"widths": 0}):
        with pytest.raises(ValueError, match=next(iter(options))):
            Parzen(**options)


def test_far_samples_have_a_finite_likelihood(judged):
    found = judged(Parzen(real=200), Ring(), torch.full((50, 2), 1e4))
    assert found["log_likelihood"] < -1e6
    assert found["sigma"] == pytest.approx(1.0)
