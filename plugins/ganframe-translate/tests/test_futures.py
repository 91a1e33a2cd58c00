"""The metric `futures`: samples that hit both futures, one, the mean of both, and what it refuses."""

from pathlib import Path

import attrs
import pytest
import torch
from ganframe_translate import Futures, MovingDigits
from torch.utils.data import TensorDataset

import ganframe
from ganframe import Judging
from ganframe.testing import check_metric

DATASET = MovingDigits()
PASTS, FUTURES = DATASET.held_out_futures()


@attrs.frozen
class Repeated(MovingDigits):
    """Pasts with both futures eight times each, as if a generator had made them."""

    def held_out_futures(self):
        return PASTS[:8], FUTURES[:8]

    def held_out(self):
        return TensorDataset(FUTURES[:8].repeat(1, 8, 1, 1, 1).flatten(0, 1), PASTS[:8].repeat_interleave(16, 0))


def judging(dataset=DATASET, against="test"):
    nothing = dict.fromkeys(("real", "training", "held_out", "features"))
    data = dataset.build()
    device = torch.device("cpu")
    return Judging(dataset, dataset.spec, data, against, samples=100, seed=0, device=device, **nothing)


def measured(x, y=None, each=16, **options):
    """The numbers of samples x (100, each, 1, 16, 16) for the held-out pasts."""
    y = PASTS[:, None].expand(-1, each, -1, -1, -1).flatten(0, 1) if y is None else y
    return Futures(**options).build(judging())(x.flatten(0, 1), y)


def futures_with(first, each=16):
    """Samples of which `first` of each past's are its first future."""
    side = (torch.arange(each) >= first).long()
    return FUTURES[:, side]


def test_conformance():
    check_metric(Futures(), Repeated())


def test_exact_samples_hit_both_futures():
    assert measured(futures_with(8)) == {"both": 1.0, "hit": 1.0, "nearest": 0.0}


@pytest.mark.parametrize(("first", "both"), [(0, 0.0), (3, 0.0), (4, 1.0), (12, 1.0), (13, 0.0), (16, 0.0)])
def test_shares_between_a_quarter_and_three_quarters_count(first, both):
    assert measured(futures_with(first)) == {"both": both, "hit": 1.0, "nearest": 0.0}


def test_mean_of_both_futures_hits_neither():
    found = measured(FUTURES.mean(1, keepdim=True).expand(-1, 16, -1, -1, -1))
    assert (found["both"], found["hit"]) == (0.0, 0.0)
    assert found["nearest"] == pytest.approx(0.5)


@pytest.mark.parametrize(("distance", "hit"), [(0.26, 1.0), (0.24, 0.0)])
def test_distance_is_in_units_of_that_between_the_futures(distance, hit):
    quarter = FUTURES[:, :1] + 0.25 * (FUTURES[:, 1:] - FUTURES[:, :1])
    found = measured(quarter.expand(-1, 16, -1, -1, -1), distance=distance)
    assert found["hit"] == hit
    assert found["nearest"] == pytest.approx(0.25)


def test_samples_of_other_pasts_do_not_count():
    x, y = DATASET.held_out().tensors
    exact = futures_with(8).flatten(0, 1)
    pasts = PASTS.repeat_interleave(16, 0)
    found = Futures().build(judging())(torch.cat([exact, -x[100:]]), torch.cat([pasts, y[100:]]))
    assert found == {"both": 1.0, "hit": 1.0, "nearest": 0.0}


def test_too_few_samples_are_refused():
    with pytest.raises(ValueError, match="a past has 15 samples, fewer than 16; raise samples"):
        measured(futures_with(8, each=15), each=15)


def test_samples_made_for_no_past_are_refused():
    with pytest.raises(ValueError, match="samples that were made for pasts"):
        Futures().build(judging())(FUTURES[:, 0], None)


@pytest.mark.parametrize(
    ("given", "message"),
    [
        (lambda: judging(ganframe.component("dataset", "digits")()), "futures are known; use it with .* moving_digits"),
        (lambda: judging(against="train"), "leave --against train out"),
        (lambda: judging(MovingDigits(ambiguous=0.0)), "raise ambiguous"),
    ],
)
def test_data_that_does_not_suit_is_refused(given, message):
    with pytest.raises(ValueError, match=message):
        Futures().build(given())


def test_run_is_evaluated_by_its_futures(tmp_path):
    small = ["train.steps=1", "train.batch_size=4", "generator.width=2", "discriminator.width=2", "metrics=[]"]
    recipe = ganframe.load_recipe(Path(__file__).parent.parent / "next_frame.toml", small)
    run = ganframe.run(recipe, out=tmp_path / "run").folder
    (score,) = ganframe.evaluate(run, ["futures"], samples=3200)
    assert {"both", "hit", "nearest"} < score.keys()
    assert score["protocol"]["samples"] == 3200
    with pytest.raises(ganframe.RequestError, match="fewer than 16; raise samples"):
        ganframe.evaluate(run, ["futures"], samples=3000)
