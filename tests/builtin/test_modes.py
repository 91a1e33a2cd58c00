"""Tests of the metric `modes`: perfect samplers, lost and unbalanced modes, other mixtures, what it refuses."""

from __future__ import annotations

import math

import attrs
import pytest
import torch

from ganframe import Dataset, DataSpec, component
from ganframe.builtin.distributions import Gaussian1D, Grid, Mixture, Ring
from ganframe.builtin.modes import Modes


def drawn(dataset, n=2_500, seed=0):
    return dataset.build().draw(n, torch.Generator().manual_seed(seed))


@pytest.fixture
def count(judged):
    """count(dataset, x, **options): the numbers of `modes`, without the protocol."""
    return lambda dataset, x, **options: judged(Modes(**options), dataset, x)


@pytest.mark.parametrize(("dataset", "modes"), [(Ring(), 8), (Grid(), 25), (Grid(side=10), 100)])
@pytest.mark.parametrize("seed", [0, 1, 2])
def test_perfect_sampler_captures_all_modes_with_98_9_percent_high_quality(count, dataset, modes, seed):
    found = count(dataset, drawn(dataset, seed=seed)[0])
    assert found.keys() == {"modes", "high_quality", "kl"}
    assert found["modes"] == modes
    assert found["high_quality"] == pytest.approx(0.989, abs=0.006)
    assert 0 < found["kl"] < 3 * (modes - 1) / (2 * 2_500)  # its mean is (K - 1) / 2n


@attrs.frozen
class Mixed(Dataset):
    """A mixture with means (K, *shape), of other shapes than points too."""

    shape: tuple[int, ...]
    means: tuple[float, ...] = (-5.0, 0.0, 5.0)
    stds: tuple[float, ...] = (0.1, 1.0, 0.3)
    weights: tuple[float, ...] = (0.2, 0.3, 0.5)

    @property
    def spec(self):
        return DataSpec(self.shape, is_image=False)

    def build(self):
        means = torch.tensor(self.means).view(-1, *[1] * len(self.shape)).expand(-1, *self.shape)
        return Shaped(means, torch.tensor(self.stds), torch.tensor(self.weights))


class Shaped(Mixture):
    def draw(self, n, generator):
        y = torch.multinomial(self.weights, n, replacement=True, generator=generator)
        noise = torch.randn(n, *self.means.shape[1:], generator=generator)
        stds = self.stds[y].view(-1, *[1] * (self.means.ndim - 1))
        return self.means[y] + stds * noise, torch.zeros_like(y)


@pytest.mark.parametrize("shape", [(1,), (2,), (3,), (2, 2), (1, 2, 2)])
def test_unequal_stds_and_weights_in_any_shape(count, shape):
    """The share within 3 σ is that of a χ² variable with as many degrees of freedom as numbers in a sample."""
    dataset = Mixed(shape)
    found = count(dataset, drawn(dataset, 20_000)[0])
    size = torch.tensor(math.prod(shape) / 2.0, dtype=torch.float64)
    expected = torch.special.gammainc(size, torch.full_like(size, 4.5)).item()
    assert found["modes"] == 3
    assert found["high_quality"] == pytest.approx(expected, abs=5 * (expected * (1 - expected) / 20_000) ** 0.5)
    assert found["kl"] < 0.002  # to its own weights; to equal ones it would be 0.07


def test_known_numbers_of_lost_shifted_and_unbalanced_modes(count):
    ring, means = Ring(), Ring().build().means
    assert count(ring, means[[0, 3]].repeat(50, 1)) == {
        "modes": 2,
        "high_quality": 1.0,
        "kl": pytest.approx(math.log(4)),
    }
    beside = count(ring, means + 0.05)
    assert (beside["modes"], beside["high_quality"], beside["kl"]) == (0, 0.0, pytest.approx(0.0))
    three_to_one = count(ring, means[[0, 0, 0, 1]].repeat(20, 1))["kl"]
    assert three_to_one == pytest.approx(0.75 * math.log(6) + 0.25 * math.log(2))
    line = Gaussian1D(means=(-1.0, 1.0), stds=(0.1, 0.1), weights=(3.0, 1.0))
    assert count(line, torch.tensor([[-1.0], [-1.0], [-1.0], [1.0]]))["kl"] == pytest.approx(0.0, abs=1e-7)
    assert count(line, torch.tensor([[1.0]] * 4))["kl"] == pytest.approx(math.log(4))


def test_option_sigmas_and_the_nearest_mode_in_standard_deviations(count):
    line = Gaussian1D(means=(0.0, 1.0), stds=(1.0, 0.01))
    assert count(line, torch.tensor([[0.9]] * 3)) == {"modes": 1, "high_quality": 1.0, "kl": pytest.approx(math.log(2))}
    near = torch.tensor([[0.97], [0.98]])  # 3 and 2 standard deviations from the second, .97 and .98 from the first
    assert count(line, near)["high_quality"] == 1.0
    assert count(line, near, sigmas=0.5)["high_quality"] == 0.0


def test_differences_keep_the_digits_of_narrow_modes_far_from_0(count):
    """‖a‖² - 2 ab + ‖b‖² in float32 would lose a distance of .02 at 1,000."""
    far = Gaussian1D(means=(1000.0, 1001.0), stds=(0.01, 0.01))
    found = count(far, drawn(far)[0])
    assert found["modes"] == 2
    assert found["high_quality"] == pytest.approx(0.9973, abs=0.004)


def test_memory_is_bounded_for_many_modes(count, monkeypatch):
    """The same numbers in parts, of which none has more than the given number of distances."""
    import ganframe.builtin.distances as parts

    grid = Grid(side=10)
    x = drawn(grid)[0]
    whole = count(grid, x)
    seen, cdist = [], torch.cdist
    monkeypatch.setattr(parts, "NUMBERS", 1_000)
    monkeypatch.setattr(torch, "cdist", lambda a, b, **how: seen.append(len(a) * len(b)) or cdist(a, b, **how))
    assert count(grid, x) == whole
    assert max(seen) <= 1_000


def test_modes_without_weight_do_not_count(count):
    mixture = Mixed((2,), weights=(0.5, 0.5, 0.0))
    found = count(mixture, drawn(mixture)[0])
    assert found["modes"] == 2
    assert found["kl"] < 0.002


@pytest.mark.parametrize(
    ("dataset", "message"),
    [
        (Mixed((2,), stds=(1.0, 1.0)), r"modes\(\) must return means \(K, 2\)"),
        (Mixed((2,), weights=(1.0,)), r"must return .* not shapes \(3, 2\), \(3,\), \(1,\)"),
        (Mixed((2,), stds=(0.0, 1.0, 1.0)), "must be finite, with positive standard deviations"),
        (Mixed((2,), means=(0.0, math.nan, 1.0)), "must be finite"),
        (Mixed((2,), weights=(math.inf, 1.0, 1.0)), "must be finite"),
        (Mixed((1, 4, 4)), r"in 16 dimensions only 8\.\d% of a Gaussian is within 3 .* set sigmas = 5\.6"),
    ],
)
def test_wrong_modes_and_many_dimensions_are_refused(count, dataset, message):
    with pytest.raises(ValueError, match=message):
        count(dataset, torch.zeros(4, *dataset.shape))


@pytest.mark.parametrize("dataset", [component("dataset", "swiss_roll")(), component("dataset", "digits")()])
def test_data_without_modes_is_refused(count, dataset):
    with pytest.raises(ValueError, match="needs a mixture whose modes are known"):
        count(dataset, torch.zeros(4, *dataset.spec.shape))


@pytest.mark.parametrize("sigmas", [0.0, -1.0])
def test_sigmas_must_be_positive(sigmas):
    with pytest.raises(ValueError, match="sigmas"):
        Modes(sigmas=sigmas)
