"""Tests of the metric `wasserstein`: closed forms, POT's own numbers, floors, caps."""

from __future__ import annotations

import math

import attrs
import numpy as np
import ot
import pytest
import torch
from torch.utils.data import TensorDataset

from ganframe import Dataset, DataSpec
from ganframe.builtin.distributions import Gaussian1D, Grid, Ring
from ganframe.builtin.transport import Wasserstein, exact, sliced
from ganframe.data.real import real_samples


def drawn(dataset, n, seed=5):
    return dataset.build().draw(n, torch.Generator().manual_seed(seed))[0]


@pytest.mark.parametrize("order", [1.0, 2.0, 3.0])
@pytest.mark.parametrize("n", [2, 100, 777])
def test_on_the_line_both_are_the_closed_form_of_sorted_samples(judged, order, n):
    """W_p^p = mean |x_(i) - x'_(i)|^p, with the real samples that the judge draws."""
    line = Gaussian1D(means=(-1.0, 2.0), stds=(0.5, 1.0))
    x = drawn(line, n) * 1.3 + 0.2
    found = judged(Wasserstein(order=order), line, x, samples=n)
    real = real_samples(line.build(), line.spec, 2 * n, 1, torch.device("cpu"))[0].double()
    one, other = (side.sort(0).values for side in (x.double(), real[:n]))
    expected = (one - other).abs().pow(order).mean().item() ** (1 / order)
    assert found["exact"] == pytest.approx(expected, rel=1e-12)
    assert found["sliced"] == pytest.approx(expected, rel=1e-12)
    halves = (real[:n].sort(0).values - real[n:].sort(0).values).abs().pow(order).mean().item() ** (1 / order)
    assert found["exact_floor"] == pytest.approx(halves, rel=1e-12)
    assert found["sliced_floor"] == pytest.approx(halves, rel=1e-12)


@pytest.mark.parametrize("order", [1.0, 2.0])
def test_numbers_are_those_of_pot(order):
    x, others = torch.randn(300, 5), torch.randn(300, 5) * 2
    cost = ot.dist(x.double().numpy(), others.double().numpy(), metric="euclidean") ** order
    assert exact(x, others, order) == pytest.approx(ot.emd2([], [], cost) ** (1 / order), rel=1e-9)
    directions = ot.sliced.get_random_projections(5, 40, seed=3)
    expected = ot.sliced_wasserstein_distance(
        x.double().numpy(), others.double().numpy(), n_projections=40, p=order, projections=directions
    )
    assert sliced(x, others, torch.from_numpy(directions), order) == pytest.approx(expected, rel=1e-9)


def test_gaussians_have_the_closed_form_within_sampling_error(judged):
    """Equal covariances, W_2 = W_1 = ‖m - m'‖; of scaled ones on the line W_2 = √((m - m')² + (s - s')²)."""
    line = Gaussian1D()
    found = judged(Wasserstein(order=2.0, exact_samples=500), line, 2.0 + 3.0 * drawn(line, 4_000))
    assert found["sliced"] == pytest.approx(math.hypot(2.0, 2.0), abs=0.1)
    assert found["exact"] == pytest.approx(math.hypot(2.0, 2.0), abs=0.4)
    ring = Ring()
    moved = judged(Wasserstein(exact_samples=400), ring, drawn(ring, 2_000) + torch.tensor([30.0, 40.0]))
    assert moved["exact"] == pytest.approx(50.0, abs=0.3)
    assert moved["sliced"] == pytest.approx(50.0 * 2 / math.pi, rel=0.1)  # E |cos|


@pytest.mark.parametrize("dataset", [Ring(), Grid()])
def test_perfect_sampler_is_at_the_floor_and_a_lost_mode_is_not(judged, dataset):
    metric = Wasserstein(exact_samples=500, projections=50)
    found = judged(metric, dataset, drawn(dataset, 2_000))
    scale = dataset.build().means.norm(dim=1).max().item()
    assert found["exact"] == pytest.approx(found["exact_floor"], abs=0.1 * scale)
    assert found["sliced"] == pytest.approx(found["sliced_floor"], abs=0.05 * scale)
    x, y = dataset.build().draw(4_000, torch.Generator().manual_seed(5))
    lost = judged(metric, dataset, x[y > dataset.spec.classes // 2][:1_500])
    assert lost["exact"] > 2 * found["exact_floor"]
    assert lost["sliced"] > 2 * found["sliced_floor"]


def test_cap_is_in_the_score_and_the_rest_of_the_samples_counts_in_the_sliced_distance(judged):
    ring = Ring()
    x = drawn(ring, 3_000)
    metric = Wasserstein(exact_samples=100)
    found = judged(metric, ring, x, score=True)
    assert found["protocol"]["options"] == {"order": 1.0, "exact_samples": 100, "projections": 200}
    assert Wasserstein().exact_samples == 2_000
    x[100:] += 1
    later = judged(metric, ring, x)
    assert later["exact"] == found["exact"]
    assert later["sliced"] > found["sliced"] + 0.3


@attrs.frozen
class Few(Dataset):
    """Few images."""

    count: int

    spec = DataSpec((1, 4, 4))

    def build(self):
        x = torch.rand(self.count, 1, 4, 4, generator=torch.Generator().manual_seed(0)) * 2 - 1
        return TensorDataset(x, torch.zeros(self.count, dtype=torch.long))


def test_few_real_samples_limit_the_generated_ones_so_that_the_floor_has_the_same_size(judged):
    data = Few(61)
    x = torch.rand(500, 1, 4, 4, generator=torch.Generator().manual_seed(1)) * 2 - 1
    found = judged(Wasserstein(), data, x)
    assert judged(Wasserstein(), data, x[:30]) == found
    assert found["exact"] == pytest.approx(found["exact_floor"], rel=0.1)


def test_too_few_samples_are_refused(judged):
    with pytest.raises(ValueError, match="two halves of real samples, and there are 3 of them"):
        judged(Wasserstein(), Few(3), torch.zeros(10, 1, 4, 4))
    with pytest.raises(ValueError, match="at least two samples"):
        judged(Wasserstein(), Few(30), torch.zeros(1, 1, 4, 4))


def test_sliced_distance_in_parts_is_the_same(monkeypatch):
    x, others, directions = torch.randn(50, 6), torch.randn(50, 6), torch.randn(6, 33, dtype=torch.float64)
    whole = sliced(x, others, directions, 1.0)
    monkeypatch.setattr("ganframe.builtin.transport.NUMBERS", 60)
    assert sliced(x, others, directions, 1.0) == pytest.approx(whole, rel=1e-12)
    assert np.isfinite(whole)
