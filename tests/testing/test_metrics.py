"""check_metric accepts right metrics, and refuses metrics with one mistake each with the reason."""

from __future__ import annotations

import random
import time

import attrs
import pytest
import torch
from torch.utils.data import TensorDataset

from ganframe import Dataset, DataSpec, Metric, option
from ganframe.testing import check_metric


@attrs.frozen
class MeanDistance(Metric):
    """‖E x - E real‖ of features (the example of ganframe_metrics)."""

    features: str = option("pixels", help="name of the features")

    better = {"mean_distance": "lower"}
    samples = 200

    def build(self, judging):
        extract = judging.features(self.features)
        real = extract(judging.real(judging.samples)[0]).mean(0)
        return lambda x, y: {"mean_distance": (extract(x).mean(0) - real).norm().item()}


def measuring(function, **declared):
    """A metric whose measure is function(judging, x, y) -> numbers."""

    def build(self, judging):
        return lambda x, y: function(judging, x, y)

    return metric(build, **declared)


def metric(build, **declared):
    body = {"better": {"distance": "lower"}, "samples": 200, "build": build, "__doc__": "A metric.", **declared}
    return attrs.frozen(type("Made", (Metric,), {k: v for k, v in body.items() if v is not None}))


def distance(judging, x, y):
    return {"distance": float((x.mean(0) - judging.real(200)[0].mean(0)).norm())}


def per_label(judging, x, y):
    """Wants labels: the mean distance of samples to the mean of their class."""
    real, labels = judging.real(200)
    assert judging.spec.classes, "no classes"
    if y is None:
        raise ValueError("needs the labels that the samples were made for")
    means = torch.stack([real[labels == k].mean(0) for k in range(judging.spec.classes)])
    return {"distance": float((x - means[y]).square().mean())}


def per_label_always(judging, x, y):
    means = torch.stack([judging.real(200)[0][judging.real(200)[1] == k].mean(0) for k in range(4)])
    return {"distance": float((x - means.index_select(0, y)).square().mean())}


def partners(judging, x, y):
    """Wants conditions: the mean distance of samples to the real ones with the same y."""
    real, theirs = judging.real(3_000)
    if y is None:
        raise ValueError("needs the conditions that the samples were made for")
    rows = torch.cdist(y.flatten(1), theirs.flatten(1)).argmin(1)
    return {"distance": float((x - real[rows]).square().mean())}


def copied(judging, x, y):
    """Share of samples that are training samples."""
    training = judging.training(3_000)[0].flatten(1)
    return {"distance": float((torch.cdist(x.flatten(1), training).min(1).values < 1e-6).double().mean())}


def held_out(judging, x, y):
    judging.held_out(10)
    return copied(judging, x, y)


def few(judging, x, y):
    if len(x) < 10:
        raise ValueError("needs at least ten samples")
    return distance(judging, x, y)


def modes(judging, x, y):
    means, *_ = judging.data.modes()
    return {"distance": float(torch.cdist(x.flatten(1), means.flatten(1)).min(1).values.mean())}


def images(judging, x, y):
    rows = x.mean((0, 1)).sum(1)
    return {"distance": float((rows - judging.real(200)[0].mean((0, 1)).sum(1)).norm())}


def left_out(judging, x, y):
    """A number that exists only for samples near the real ones."""
    found = distance(judging, x, y)
    return {**found, "inverse": 1 / (1 + found["distance"])} if found["distance"] < 0.5 else found


def drawing(judging, x, y):
    """Draws from the global generator, which the judge seeds."""
    rows = torch.randn(1, len(x)).softmax(1) * 0 + 1 / len(x)
    return {"distance": float((rows @ x.flatten(1) - judging.real(200)[0].flatten(1).mean(0)).norm())}


RIGHT = {
    "the example": MeanDistance,
    "an instance": MeanDistance("pixels"),
    "a function": measuring(distance),
    "labels": measuring(per_label, needs=("labels",)),
    "conditions": measuring(partners, needs=("conditions",)),
    "conditions of images": measuring(partners, needs=("images", "conditions", "held_out")),
    "modes": measuring(modes, needs=("modes",)),
    "images": measuring(images, needs=("images",)),
    "copies": measuring(held_out, needs=("held_out",)),
    "refuses few samples": measuring(few),
    "a number that is left out": measuring(left_out),
    "draws of a seeded generator": measuring(drawing),
    "modes and labels": measuring(modes, needs=("modes", "labels")),
    "higher is better": measuring(
        lambda j, x, y: {"likeness": -distance(j, x, y)["distance"]}, better={"likeness": "higher"}
    ),
}


@pytest.mark.parametrize("name", RIGHT)
def test_right_metrics_are_accepted(name):
    check_metric(RIGHT[name])


class Counter:
    """A measure that remembers how often it was called."""

    def __init__(self, judging):
        self.judging, self.calls = judging, 0

    def __call__(self, x, y):
        self.calls += 1
        return {"distance": distance(self.judging, x, y)["distance"] + self.calls}


def stateful_generator(self, judging):
    generator = torch.Generator().manual_seed(judging.seed)
    return lambda x, y: {"distance": distance(judging, x + 0.1 * torch.randn(2, generator=generator)[0], y)["distance"]}


def by_the_clock(self, judging):
    offset = time.perf_counter()
    return lambda x, y: {"distance": distance(judging, x, y)["distance"] + offset}


def centring(judging, x, y):
    x -= x.mean(0)
    return distance(judging, x, y)


def real_in_place(judging, x, y):
    judging.real(200)[0].mul_(0.5)
    return distance(judging, x, y)


def plus(**numbers):
    return measuring(lambda j, x, y: {**distance(j, x, y), **numbers})


def with_option(name):
    @attrs.frozen
    class Optioned(MeanDistance):
        """Has an option of that name."""

        locals()[name] = option(1, help="a number")
        __annotations__ = {name: int}

    return Optioned


WRONG = {
    # declarations
    "no build": (metric(None), "has no build"),
    "no better": (metric(distance, better=None), "better must name its numbers"),
    "nothing better": (measuring(distance, better={}), "better must name its numbers"),
    "better as a word": (measuring(distance, better="lower"), "better must name its numbers"),
    "an unknown direction": (measuring(distance, better={"distance": "smaller"}), "better must name its numbers"),
    "better of the protocol": (
        measuring(distance, better={"protocol": "lower"}),
        "better names protocol, which scores use",
    ),
    "needs as a text": (measuring(distance, needs="labels"), "needs must be a tuple of some of modes, labels"),
    "needs of both kinds of y": (measuring(distance, needs=("labels", "conditions")), "one of them at most"),
    "needs of something else": (measuring(distance, needs=("masks",)), "needs must be a tuple of some of modes"),
    "a share of samples": (measuring(distance, samples=0.5), "samples must be a number of samples"),
    "one sample": (measuring(distance, samples=1), "samples must be a number of samples, at least 2"),
    "an option every": (with_option("every"), "every in .* rename the option"),
    "an option samples": (with_option("samples"), "samples in .* rename the option"),
    "an option use": (with_option("use"), "rename the option"),
    # numbers
    "no function": (metric(lambda self, j: {"distance": 1.0}), "build must return a function"),
    "a number": (measuring(lambda j, x, y: 1.0), "must return {name: number}, not 1.0"),
    "nothing": (measuring(lambda j, x, y: {}), "must return {name: number}"),
    "a tensor": (measuring(lambda j, x, y: {"distance": x.mean()}), r"distance = tensor\(.* must be a finite float"),
    "NaN": (plus(other=float("nan")), "other = nan for real samples, which must be a finite float"),
    "a bool": (plus(fine=True), "fine = True"),
    "a key of scores": (plus(protocol=1.0), "a number under 'protocol'"),
    "another name than in better": (measuring(distance, better={"distnace": "lower"}), "better names distnace"),
    # the same numbers for the same samples
    "a counter": (metric(lambda self, j: Counter(j)), "after others, not .* it must keep no state"),
    "a generator of its own": (metric(stateful_generator), "it must keep no state"),
    "the clock": (metric(by_the_clock), "built again from the same seed"),
    "the first sample": (measuring(lambda j, x, y: distance(j, x[:1], y)), "in another order"),
    "in place": (measuring(centring), "changes samples in place"),
    "real samples in place": (measuring(real_in_place), "changes real samples in place"),
    # directions
    "reversed": (measuring(distance, better={"distance": "higher"}), "no damaged samples are worse"),
    "a constant": (measuring(lambda j, x, y: {"distance": 1.0}), "no damaged samples are worse"),
    "larger values are better": (
        measuring(lambda j, x, y: {"size": float(x.norm() + 99 * x.var(0).sum())}, better={"size": "higher"}),
        "shifted samples are better than real ones",
    ),
    # needs
    "labels without needs": (measuring(per_label), "raised AssertionError: no classes"),
    "conditions without needs": (measuring(partners), "needs the conditions that"),
    "held-out samples without needs": (measuring(held_out), "holds out no samples"),
    "modes without needs": (measuring(modes), "has no attribute 'modes'"),
    "images without needs": (measuring(images), "Dimension out of range"),
    "refuses all data": (metric(lambda self, j: 1 / 0), "raised ZeroDivisionError"),
    "refuses what it declares": (measuring(lambda j, x, y: (_ for _ in ()).throw(ValueError("no"))), "raised ValueErr"),
    # few samples
    "the deviation of one": (
        measuring(
            lambda j, x, y: {
                "distance": distance(j, x, y)["distance"] + 0.0 * (1 / (len(x) - 1) if len(x) > 1 else float("nan"))
            }
        ),
        "a set of 1, .* raise ValueError where there is no number",
    ),
    "a label of each sample": (
        measuring(per_label_always, needs=("labels",)),
        "samples with y = None, .* raise ValueError where there is no number",
    ),
    # options
    "not a metric": (TensorDataset, r"must be a subclass of ganframe\.Metric"),
}


@pytest.mark.parametrize("name", WRONG)
def test_wrong_metrics_are_refused(name):
    wrong, cause = WRONG[name]
    with pytest.raises(AssertionError, match=cause):
        check_metric(wrong)


def test_other_data_must_be_judged_or_refused_by_value_error():
    def flat(judging, x, y):
        if x.ndim != 2:
            raise RuntimeError("x is not a matrix")
        return distance(judging, x, y)

    with pytest.raises(AssertionError, match=r"of shape \(5, 3\) raised RuntimeError: .* or raise ValueError"):
        check_metric(measuring(flat))


@attrs.frozen
class Audio(Dataset):
    """Sequences of 50 numbers, none held out."""

    spec = DataSpec((1, 50))

    def build(self):
        return TensorDataset(torch.randn(400, 1, 50), torch.zeros(400, dtype=torch.long))


def test_data_that_is_passed_is_used_and_must_suit():
    def sequences(judging, x, y):
        if x.shape[1:] != (1, 50):
            raise ValueError("needs sequences of 50 numbers")
        return distance(judging, x, y)

    made = measuring(sequences)
    with pytest.raises(AssertionError, match="needs sequences of 50 numbers"):
        check_metric(made)
    check_metric(made, Audio())
    with pytest.raises(AssertionError, match="does not have what `needs` says: it needs data with labels"):
        check_metric(measuring(distance, needs=("labels",)), Audio())


def test_random_state_is_restored():
    before = torch.get_rng_state(), random.getstate()
    check_metric(MeanDistance)
    assert torch.equal(torch.get_rng_state(), before[0])
    assert random.getstate() == before[1]
