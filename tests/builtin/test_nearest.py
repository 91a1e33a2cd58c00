"""Tests of the metric `nearest`: it tells copies of training samples from new ones, in pixels and on points."""

from __future__ import annotations

import attrs
import pytest
import torch
from torch.utils.data import TensorDataset

from ganframe import Dataset, DataSpec
from ganframe.builtin import distances
from ganframe.builtin.distributions import Ring
from ganframe.builtin.images import Digits
from ganframe.builtin.nearest import Nearest

SCANS = torch.stack([x for x, _ in Digits().build()]).float() / 127.5 - 1


@attrs.frozen
class Split(Dataset):
    """Scans of digits: 1,000 to train on, some held out, the rest for a perfect generator."""

    held: int = 400
    twice: bool = False

    spec = DataSpec((1, 8, 8))

    def rows(self, rows):
        return TensorDataset(SCANS[rows], torch.zeros(len(SCANS[rows]), dtype=torch.long))

    def build(self):
        return self.rows(slice(0, 1_000))

    def held_out(self):
        return self.rows(slice(0, 400) if self.twice else slice(1_000, 1_000 + self.held))


TRAINING, NEW = SCANS[:1_000], SCANS[1_400:]


def test_new_samples_are_at_the_floor(judged):
    found = judged(Nearest(), Split(), NEW)
    assert found.keys() == {"copied", "copied_floor", "ratio"}
    assert found["copied_floor"] == pytest.approx(0.01, abs=0.005)
    assert found["copied"] < 0.04
    assert found["ratio"] == pytest.approx(1.0, abs=0.1)


@pytest.mark.parametrize("noise", [0.0, 0.01, 0.05])
def test_training_samples_are_found_also_with_a_little_noise(judged, noise):
    found = judged(Nearest(), Split(), TRAINING[:500] + noise * torch.randn(500, 1, 8, 8))
    assert found["copied"] > 0.95
    assert found["ratio"] < 0.3


def test_share_of_copies_among_new_samples(judged):
    mixed = torch.cat([TRAINING[:100], NEW[:300]])
    assert judged(Nearest(), Split(), mixed)["copied"] == pytest.approx(0.26, abs=0.02)


def test_noise_and_other_data_are_no_copies(judged):
    found = judged(Nearest(), Split(), torch.rand(300, 1, 8, 8) * 2 - 1)
    assert found["copied"] == 0
    assert found["ratio"] > 1.5


def test_all_training_samples_are_compared_unless_the_option_says_fewer(judged):
    last = TRAINING[-100:] + 0.01 * torch.randn(100, 1, 8, 8)
    whole = judged(Nearest(), Split(), last, score=True)
    assert whole["copied"] == 1
    assert whole["protocol"]["counts"] == {"training": 1_000, "real": 400}
    some = judged(Nearest(training=100), Split(), last, score=True)
    assert some["copied"] < 0.3
    assert some["protocol"]["counts"]["training"] == 100


def test_held_out_samples_that_are_training_samples_too_raise_the_floor_and_copies_are_found(judged):
    found = judged(Nearest(), Split(twice=True), TRAINING[500:])
    assert found == {"copied": 1.0, "copied_floor": 1.0}  # a ratio to 0 does not exist
    assert judged(Nearest(), Split(twice=True), NEW)["copied"] == 0


def test_narrow_points_far_from_0_keep_their_digits(judged):
    @attrs.frozen
    class Far(Dataset):
        """Points around (1000, 1000)."""

        spec = DataSpec((2,))

        def drawn(self, seed, n=500):
            x = 1_000 + 0.1 * torch.randn(n, 2, generator=torch.Generator().manual_seed(seed))
            return TensorDataset(x, torch.zeros(n, dtype=torch.long))

        def build(self):
            return self.drawn(0)

        def held_out(self):
            return self.drawn(1)

    assert judged(Nearest(), Far(), Far().build().tensors[0])["copied"] == 1
    assert judged(Nearest(quantile=0.05), Far(), Far().drawn(2).tensors[0])["copied"] == pytest.approx(0.05, abs=0.04)


@pytest.mark.parametrize("width", [3, 100])
def test_nearest_in_parts_is_exact_and_bounded(monkeypatch, width):
    x, others = torch.randn(37, width) + 50, torch.randn(53, width) + 50
    x[5] = others[7]
    expected = torch.stack([(others.double() - row.double()).norm(dim=1).min() for row in x])
    seen, cdist = [], torch.cdist
    monkeypatch.setattr(distances, "NUMBERS", 40)
    monkeypatch.setattr(distances, "VALUES", 11 * width)
    monkeypatch.setattr(torch, "cdist", lambda a, b, **how: seen.append(len(a) * len(b)) or cdist(a, b, **how))
    found = distances.nearest(x, others)
    torch.testing.assert_close(found, expected, rtol=1e-9, atol=1e-9)
    assert found[5] == 0
    assert max(seen) <= 40


@pytest.mark.parametrize(
    ("data", "message"),
    [
        (Ring(), "drawn anew for each batch, so that none can be memorised"),
        (Digits(), "needs samples held out of training, and this dataset has none"),
        (Split(held=19), "needs at least 20 held-out samples, and there are 19"),
    ],
)
def test_data_without_enough_held_out_samples_is_refused(judged, data, message):
    with pytest.raises(ValueError, match=message):
        judged(Nearest(), data, torch.zeros(30, *data.spec.shape))
