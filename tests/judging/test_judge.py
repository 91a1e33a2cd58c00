"""Metrics fitted to data: which real samples they see, what they refuse, what a score says."""

from __future__ import annotations

import random

import attrs
import numpy as np
import pytest
import torch
from torch.utils.data import TensorDataset

import ganframe
from ganframe import Dataset, DataSpec, Metric, option
from ganframe.builtin.distributions import Ring, SwissRoll
from ganframe.builtin.images import Digits
from ganframe.judging.judge import Judge, JudgedData, named, unsuited
from ganframe.plugins.registry import Plugin, Registry
from ganframe.recipes.tables import Evaluation


@attrs.frozen
class Mean(Metric):
    """Distance between the means of generated and real features."""

    features: str = option("pixels", help="name of the features")
    real: int = option(40, help="real samples")

    better = {"mean": "lower"}
    samples = 20

    def build(self, judging):
        extract = judging.features(self.features)
        real = extract(judging.real(self.real)[0]).mean(0)
        return lambda x, y: {"mean": (extract(x).mean(0) - real).norm().item()}


@attrs.frozen
class Numbered(Dataset):
    """Points whose values are their numbers; a quarter has label 1. `held` more are held out."""

    count: int = option(100, help="training samples")
    held: int = option(0, help="held-out samples")
    labels: bool = option(True, help="whether it has labels")

    @property
    def spec(self):
        return DataSpec((1,), classes=2 if self.labels else None)

    def build(self):
        return self._part(0, self.count)

    def held_out(self):
        return self._part(self.count, self.held) if self.held else None

    def _part(self, start, n):
        x = torch.arange(start, start + n).float()[:, None]
        return TensorDataset(x, (torch.arange(n) % 4 == 0).long() if self.labels else torch.zeros(n).long())


@pytest.fixture
def registry():
    """A registry with the metrics and datasets of these tests."""
    components = {"metric": {"mean": Mean}, "dataset": {"numbered": Numbered}}
    return Registry((Plugin("own", "", "own", "1.0", status="loaded", components=components),))


@pytest.fixture
def judge_of(registry):
    """judge_of(dataset, *metrics, **options): a Judge of the dataset's data."""

    def make(dataset, *metrics, **options):
        data = JudgedData(dataset, dataset.spec, dataset.build(), dataset.held_out())
        for metric in metrics:
            if not registry.offers(type(metric)):
                registry.plugins[0].components["metric"][type(metric).__name__.lower()] = type(metric)
        evaluations = named([Evaluation(metric) for metric in metrics], registry)
        return Judge(evaluations, data, registry, torch.device("cpu"), "own.toml", **options)

    return make


def test_real_samples_are_those_that_are_held_out_where_there_are_some(judge_of):
    x, _ = judge_of(Numbered(held=30), Mean()).real(30)
    assert sorted(x.flatten().tolist()) == list(range(100, 130))
    x, _ = judge_of(Numbered(held=30), Mean(), against="train").real(200)
    assert sorted(x.flatten().tolist()) == list(range(100))
    assert judge_of(Numbered(), Mean()).against == "train"


def test_held_out_samples_are_not_asked_for_in_vain(judge_of):
    with pytest.raises(ganframe.RecipeError, match=r"own.toml: dataset: it holds out no samples.*--against train"):
        judge_of(Numbered(), Mean(), against="test")


@pytest.mark.parametrize("dataset", [Numbered(), Numbered(held=50), Ring(), Digits()], ids=repr)
def test_fewer_real_samples_are_the_first_of_more(judge_of, dataset):
    judge = judge_of(dataset, Mean())
    few = judge.real(7)[0]
    many = judge.real(40)[0]
    assert torch.equal(many[:7], few)
    assert torch.equal(judge.real(7)[0], few)
    assert torch.equal(judge_of(dataset, Mean()).real(40)[0], many)


def test_samples_of_a_distribution_are_other_ones_for_training_and_testing(judge_of):
    seen = []

    @attrs.frozen
    class Seen(Mean):
        def build(self, judging):
            seen.extend([judging.real(50)[0], judging.training(50)[0], judging.held_out(50)[0]])
            return lambda x, y: {"mean": 0.0}

    judge_of(Ring(), Seen()).fit()
    assert not any(torch.isin(one, other).all() for one in seen for other in seen if one is not other)


def test_labels_of_generated_samples_are_as_frequent_as_in_the_data(judge_of):
    y = judge_of(Numbered(), Mean()).conditions(1000)
    assert len(y) == 1000
    assert y.float().mean() == pytest.approx(0.25, abs=0.01)


def test_score_says_by_what_it_was_found(judge_of):
    judge = judge_of(Numbered(), Mean(), Mean(real=10))
    first, second = judge.scores(torch.zeros(50, 1), None)
    assert (first["metric"], second["metric"]) == ("mean", "mean_2")
    assert first["mean"] == pytest.approx(judge.real(40)[0].mean().item())
    protocol = first["protocol"]
    assert protocol["options"] == {"features": "pixels", "real": 40}
    assert protocol["counts"] == {"real": 40}
    assert second["protocol"]["counts"] == {"real": 10}
    assert (protocol["samples"], protocol["against"], protocol["version"]) == (20, "train", "1.0")
    assert list(protocol["features"]) == ["pixels"]
    assert (
        protocol["data"] != judge_of(Numbered(count=99), Mean()).scores(torch.zeros(9, 1), None)[0]["protocol"]["data"]
    )


def test_samples_of_a_recipe_or_command_take_the_place_of_a_metrics_own(judge_of):
    judge = judge_of(Numbered(), Mean(), samples=30)
    assert judge.wanted() == 30
    assert judge.scores(torch.zeros(50, 1), None)[0]["protocol"]["samples"] == 30


@pytest.mark.parametrize("value", [float("nan"), float("inf")])
def test_samples_that_are_not_finite_have_no_score(judge_of, value):
    x = torch.zeros(20, 1)
    x[3] = value
    (score,) = judge_of(Numbered(), Mean()).scores(x, None)
    assert "not finite" in score["error"]
    assert "mean" not in score


@pytest.mark.parametrize(
    ("returned", "message"),
    [
        ({}, "must return {name: number}"),
        (3.0, "must return {name: number}"),
        ({"mean": "low"}, "no finite number"),
        ({"mean": float("nan")}, "no finite number"),
        ({"mean": True}, "no finite number"),
        ({"protocol": 1.0}, "which scores use otherwise"),
    ],
)
def test_measures_must_return_finite_numbers(judge_of, returned, message):
    @attrs.frozen
    class Wrong(Mean):
        def build(self, judging):
            return lambda x, y: returned

    (score,) = judge_of(Numbered(), Wrong()).scores(torch.zeros(20, 1), None)
    assert message in score["error"]


def test_metric_that_refuses_the_data_is_named_with_its_place(judge_of):
    @attrs.frozen
    class Refusing(Mean):
        def build(self, judging):
            raise ValueError("there are too few samples")

    with pytest.raises(ganframe.RecipeError) as caught:
        judge_of(Numbered(), Mean(), Refusing(), Mean(features="nothing")).fit()
    assert caught.value.problems == (
        "own.toml: metrics[1]: there are too few samples",
        "own.toml: metrics[2]: unknown features 'nothing'; 'pixels' are the values themselves",
    )


def test_random_state_is_kept(judge_of):
    @attrs.frozen
    class Noisy(Mean):
        def build(self, judging):
            torch.rand(3), np.random.rand(3), random.random()
            return lambda x, y: {"mean": torch.rand(()).item() + np.random.rand() + random.random()}

    def drawn():
        return torch.rand(2).tolist(), np.random.rand(2).tolist(), random.random()

    torch.manual_seed(1), np.random.seed(1), random.seed(1)
    wanted = drawn()
    torch.manual_seed(1), np.random.seed(1), random.seed(1)
    judge = judge_of(Numbered(), Noisy())
    one, other = (judge.scores(torch.zeros(20, 1), None)[0]["mean"] for _ in range(2))
    assert one == other
    assert drawn() == wanted


@pytest.mark.parametrize(
    ("need", "dataset", "word"),
    [
        ("modes", SwissRoll(), "mixture"),
        ("modes", Digits(), "mixture"),
        ("labels", SwissRoll(), "labels"),
        ("conditions", Digits(), "conditions"),
        ("images", Ring(), "images"),
        ("held_out", Digits(), "held out"),
    ],
)
def test_data_that_lacks_what_a_metric_needs_is_refused(need, dataset, word):
    @attrs.frozen
    class Needing(Metric):
        needs = (need,)

    assert word in unsuited(Needing(), JudgedData(dataset, dataset.spec, dataset.build(), None))
    rich = Digits()
    given = JudgedData(rich, rich.spec, rich.build(), rich.build())
    ring = Ring()
    given = JudgedData(ring, ring.spec, ring.build(), None) if need == "modes" else given
    if need == "conditions":
        given = JudgedData(rich, DataSpec((1, 8, 8), condition=(1, 4, 8)), rich.build(), None)
    assert unsuited(Needing(), given) is None


def test_features_are_computed_once_for_real_samples_of_several_metrics(judge_of, registry):
    calls = []

    class Counting(torch.nn.Module):
        def forward(self, x):
            calls.append(len(x))
            return x

    registry.plugins[0].features["counting"] = lambda judging: ganframe.Features(Counting())
    judge = judge_of(Numbered(), Mean("counting"), Mean("counting", real=30))
    judge.scores(torch.zeros(20, 1), None)
    assert calls == [40, 20]
    assert judge.data.spec == DataSpec((1,), classes=2)
