"""Precision, recall, density and coverage: of a set with itself, of known sets, against torch-fidelity, and speed."""

from __future__ import annotations

import attrs
import pytest
import torch
from torch.utils.data import TensorDataset

from ganframe import Dataset, DataSpec, option
from ganframe.builtin import neighbours
from ganframe.builtin.neighbours import PrecisionRecall


@attrs.frozen
class Given(Dataset):
    """Points on the line."""

    values: tuple[float, ...] = option((), help="the points")

    @property
    def spec(self):
        return DataSpec((1,))

    def build(self):
        return TensorDataset(column(self.values), torch.zeros(len(self.values), dtype=torch.long))


def column(values):
    return torch.tensor(values, dtype=torch.float)[:, None]


def normal(n, seed=0, dimensions=4):
    return torch.randn(n, dimensions, generator=torch.Generator().manual_seed(seed))


def sets(kind, dimensions):
    x = normal(300, dimensions=dimensions)
    made = {
        "different": x,
        "each twice": x[:150].repeat(2, 1),
        "one many times": torch.cat([x[:1].repeat(20, 1), x]),
        "all the same": x[:1].repeat(300, 1),
        "far from zero": x + 10_000,
    }
    return made[kind]


@pytest.mark.parametrize("kind", ["different", "each twice", "one many times", "all the same", "far from zero"])
@pytest.mark.parametrize("dimensions", [1, 32, 33, 784])
def test_a_set_against_itself_has_precision_recall_and_coverage_one(kind, dimensions):
    x = sets(kind, dimensions)
    order = torch.randperm(len(x))
    balls = neighbours.radii(x, (3, 5))
    assert neighbours.inside(x[order], x, balls, 5)[0::2] == (1.0, 1.0)
    assert neighbours.covered(x, x[order], neighbours.radii(x[order], (3,))[0]) == 1.0


def test_the_numbers_of_a_small_set_are_those_counted_by_hand(judged):
    """Real 0, 1, 3, 7 with k = 1: radii 1, 1, 2, 4. Generated 2, 2.5, 20: radii .5, .5, 17.5."""
    found = judged(PrecisionRecall(k=1, density_k=1), Given((0.0, 1.0, 3.0, 7.0)), column([2.0, 2.5, 20.0]))
    assert found["precision"] == pytest.approx(2 / 3)  # 2 is in the balls of 1 and 3, 2.5 in that of 3
    assert found["recall"] == pytest.approx(2 / 4)  # 3 is in the ball of 2.5, and 3 and 7 in that of 20
    assert found["density"] == pytest.approx(3 / 3)
    assert found["coverage"] == pytest.approx(2 / 4)


def test_edges_of_balls_belong_to_them(judged):
    """Real 0, 2, 9 with k = 1 have radii 2, 2, 7; generated 4 is on the edge of the ball of 2."""
    found = judged(PrecisionRecall(k=1, density_k=1), Given((0.0, 2.0, 9.0)), column([4.0, -2.0]))
    assert found["precision"] == 1.0
    assert found["density"] == pytest.approx(3 / 2)


def test_a_collapsed_generator_has_precision_without_recall_and_noise_neither():
    real, k = normal(1000), 5
    balls = neighbours.radii(real, (3, k))
    collapsed = real[:1] * 0.1 + 0.01 * normal(1000, 1)
    assert neighbours.inside(collapsed, real, balls, k)[0] > 0.99
    assert neighbours.inside(collapsed, real, balls, k)[2] < 0.1
    assert neighbours.covered(real, collapsed, neighbours.radii(collapsed, (3,))[0]) < 0.05
    assert neighbours.inside(normal(1000, 2) + 20, real, balls, k) == (0.0, 0.0, 0.0)


def test_density_and_coverage_of_a_perfect_sampler_are_near_one():
    """Naeem et al. 2020: E density = 1, and E coverage = 1 - 2^-k for large equal sets; k = 5: .969."""
    real = normal(2000, dimensions=8)
    _, density, coverage = neighbours.inside(normal(2000, 1, 8), real, neighbours.radii(real, (3, 5)), 5)
    assert density == pytest.approx(1, abs=0.1)
    assert coverage == pytest.approx(1 - 2**-5, abs=0.015)


@pytest.mark.parametrize("dimensions", [2, 32, 33, 300])
@pytest.mark.parametrize("shift", [0.0, 1000.0])
def test_distances_are_euclidean_and_zero_for_equal_rows_alone(dimensions, shift):
    x, y = normal(40, 0, dimensions) + shift, normal(30, 1, dimensions) + shift
    y[:5] = x[:5]
    y[5] = x[5] * (1 + 1e-3)
    found = neighbours.distances(x, y)
    exact = (x.double()[:, None] - y.double()).norm(dim=2)
    assert torch.allclose(found.double(), exact, rtol=1e-5, atol=0)
    assert found.dtype == torch.float32


def test_precision_and_recall_are_those_of_torch_fidelity():
    prc = pytest.importorskip("torch_fidelity.metric_prc")
    real, x = normal(700), 1.3 * normal(600, 1) + 0.3
    theirs = prc.prc_features_to_metric(
        x.double(), real.double(), prc_neighborhood=3, save_cpu_ram=False, verbose=False
    )
    assert neighbours.inside(x, real, neighbours.radii(real, (3, 5)), 5)[0] == pytest.approx(theirs["precision"])
    assert neighbours.covered(real, x, neighbours.radii(x, (3,))[0]) == pytest.approx(theirs["recall"])


@pytest.mark.parametrize(("real", "generated", "kind"), [(5, 50, "real"), (50, 5, "generated")])
def test_fewer_samples_than_neighbours_are_refused(judged, real, generated, kind):
    data = Given(tuple(range(real)))
    try:
        text = judged(PrecisionRecall(), data, column(list(range(generated))), score=True)["error"]
    except ValueError as error:
        text = str(error)
    assert f"5 {kind} samples have no 5 neighbours each; it needs more than 5" in text


def test_memory_is_bounded_by_a_part_of_the_rows(monkeypatch):
    shapes = []
    whole = neighbours.distances
    monkeypatch.setattr(neighbours, "distances", lambda x, y: shapes.append((len(x), len(y))) or whole(x, y))
    monkeypatch.setattr(neighbours, "ROWS", 64)
    x = normal(300)
    balls = neighbours.radii(x, (3, 5))
    assert neighbours.inside(x, x, balls, 5)[2] == 1.0
    assert {rows for rows, _ in shapes} == {64, 300 % 64}
