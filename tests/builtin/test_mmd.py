"""Tests of the metric `mmd`: closed form, direct formula, scale, what it refuses."""

from __future__ import annotations

import math

import attrs
import pytest
import torch
from torch.utils.data import TensorDataset

from ganframe import Dataset, DataSpec
from ganframe.builtin.distributions import Gaussian1D, Ring
from ganframe.builtin.mmd import MEDIAN_OF, MMD
from ganframe.data.real import real_samples


def drawn(dataset, n, seed=5):
    return dataset.build().draw(n, torch.Generator().manual_seed(seed))[0]


def by_definition(x, real, sigmas):
    """The sums over all pairs, one by one."""

    def k(a, b):
        return sum(math.exp(-(a - b).square().sum().item() / (2 * s**2)) for s in sigmas) / len(sigmas)

    n, m = len(x), len(real)
    within = sum(k(x[i], x[j]) for i in range(n) for j in range(n) if i != j) / (n * (n - 1))
    among = sum(k(real[i], real[j]) for i in range(m) for j in range(m) if i != j) / (m * (m - 1))
    return within + among - 2 * sum(k(a, b) for a in x for b in real) / (n * m)


@pytest.mark.parametrize("bandwidths", [(1.0,), (0.5, 1.0, 2.0)])
def test_number_is_that_of_the_definition(judged, bandwidths):
    ring = Ring(std=0.3)
    x = drawn(ring, 12) + 0.2
    real = real_samples(ring.build(), ring.spec, 12, 1, torch.device("cpu"))[0].double()
    apart = torch.stack([(a - b).norm() for i, a in enumerate(real) for j, b in enumerate(real) if i != j])
    sigmas = [b * apart.median().item() for b in bandwidths]
    found = judged(MMD(bandwidths=bandwidths), ring, x, samples=12)
    assert found == {"mmd2": pytest.approx(by_definition(x.double(), real, sigmas), rel=1e-9)}


def test_gaussians_have_the_closed_form_within_sampling_error(judged):
    """With k of width σ, E k(x, x') of N(m, s²) and N(m', s'²) is σ/√v · exp(-(m - m')² / 2v), v = σ² + s² + s'²."""
    line = Gaussian1D()
    m, s, n = 1.0, 0.5, 4_000
    found = judged(MMD(bandwidths=(1.0,)), line, m + s * drawn(line, n), samples=n)["mmd2"]
    sigma = 0.9539  # the median of |x - x'| of N(0, 1): .6745 √2

    def mean(apart, variances):
        v = sigma**2 + variances
        return sigma / math.sqrt(v) * math.exp(-(apart**2) / (2 * v))

    assert found == pytest.approx(mean(0, 2 * s**2) + mean(0, 2) - 2 * mean(m, 1 + s**2), abs=0.02)


def test_perfect_sampler_is_around_0_and_less_far_data_is_better(judged):
    ring = Ring(std=0.1)
    perfect = [judged(MMD(), ring, drawn(ring, 1_000, seed), samples=1_000)["mmd2"] for seed in range(8)]
    assert max(map(abs, perfect)) < 0.005
    assert min(perfect) < 0 < max(perfect)  # unbiased
    near, far = (judged(MMD(), ring, drawn(ring, 1_000) + shift, samples=1_000)["mmd2"] for shift in (0.3, 2.0))
    assert max(perfect) < near < far < 2


@pytest.mark.parametrize("scale", [1e-4, 1e4])
def test_number_does_not_depend_on_the_unit_of_the_data(judged, scale):
    unit, other = Gaussian1D(), Gaussian1D(stds=(scale,))
    x = drawn(unit, 300) + 1
    expected = judged(MMD(), unit, x, samples=300)["mmd2"]
    assert judged(MMD(), other, scale * x, samples=300)["mmd2"] == pytest.approx(expected, rel=1e-3)


@attrs.frozen
class Fixed(Dataset):
    """Given points, as often as given."""

    points: tuple[float, ...]

    spec = DataSpec((1,))

    def build(self):
        return TensorDataset(torch.tensor(self.points)[:, None], torch.zeros(len(self.points), dtype=torch.long))


def test_scale_where_most_real_samples_are_the_same(judged):
    data = Fixed((0.0,) * 30 + (1.0, 2.0))
    assert 0.1 < judged(MMD(), data, torch.full((20, 1), 2.0))["mmd2"] < 2


def test_median_is_of_at_most_a_thousand_samples(judged):
    line = Gaussian1D()
    assert judged(MMD(), line, drawn(line, MEDIAN_OF + 50), samples=MEDIAN_OF + 50)["mmd2"] < 0.01


@pytest.mark.parametrize(
    ("data", "n", "message"),
    [
        (Fixed((0.0,) * 9), 5, "of all real samples are the same"),
        (Fixed((0.0,)), 5, "at least two real samples, and there is 1"),
        (Fixed((0.0, 1.0)), 1, "at least two samples"),
    ],
)
def test_too_few_samples_and_no_scale_are_refused(judged, data, n, message):
    with pytest.raises(ValueError, match=message):
        judged(MMD(), data, torch.zeros(n, 1))


@pytest.mark.parametrize("bandwidths", [(), (0.0,), (1.0, -1.0)])
def test_bandwidths_must_be_positive(bandwidths):
    with pytest.raises(ValueError, match="bandwidths"):
        MMD(bandwidths=bandwidths)
