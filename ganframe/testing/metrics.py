"""Checks of metrics: their numbers on real, damaged, reordered and few samples, and what data they are honest about."""

from __future__ import annotations

import functools
import math
from collections.abc import Mapping
from typing import Any, Literal

import torch
from torch import Tensor

from ganframe.components import Dataset, Judging, Metric
from ganframe.data.randomness import own_random_state
from ganframe.errors import RequestError
from ganframe.judging.features import find_features
from ganframe.judging.judge import JudgedData, unsuited
from ganframe.judging.protocol import OWN
from ganframe.plugins.registry import load
from ganframe.testing.clusters import Clusters
from ganframe.testing.common import calling, checked, configured, require

NEEDS = ("modes", "labels", "conditions", "images", "held_out")
DEVICE = torch.device("cuda" if torch.cuda.is_available() else "cpu")
MOST, FEWER = 1_000, 250  # samples that are judged, and of other data than `needs` says: checks must be fast
SEED = 0
Numbers = dict[str, float]
Samples = tuple[Tensor, Tensor]
Generated = tuple[Tensor, Tensor | None]


@checked
def check_metric(metric: Metric | type[Metric], data: Dataset | None = None) -> None:
    """Checks a metric on clusters of points or small images, or on `data`.

    It is built on data that has exactly what `needs` says. Other data it accepts, or refuses by ValueError, as it may
    refuse samples that are too few, or made for no y. The measure returns finite numbers by free names, those of
    `better` among them. It is called as by `ganframe evaluate`, with y = None where the data has no labels or
    conditions. The same samples have the same numbers, also after other samples, when it is built again, and in another
    order; no sample is changed. Real samples judged by themselves are better in each number of `better` than some
    damaged ones: shifted, one of them repeated, noise, or copies of training samples. Shifted ones are not better than
    real ones, unless the metric needs held-out samples: it may look for copies alone. No option is called `use`,
    `every` or `samples`.

    Raises AssertionError for the first property that is violated.
    """
    config = configured(metric, Metric)
    name = type(config).__qualname__
    _check_declared(name, config)
    if data is not None:
        _check_on(name, config, Judged(config, data), "the data passed")
        return
    needs, shape = config.needs, (1, 8, 8) if "images" in config.needs else (2,)
    conditions = "conditions" in needs
    exact = Judged(config, Clusters(shape, "modes" in needs, "labels" in needs, "held_out" in needs, conditions))
    _check_on(name, config, exact, f"data with {', '.join(needs) or 'samples alone'}, as `needs` says,")
    others: tuple[tuple[tuple[int, ...], bool], ...] = (((3, 8, 8), False), ((3, 8, 8), True))
    if "images" not in needs:
        others = (((1,), False), ((5, 3), False), ((2,), True), ((3, 8, 8), True))
    for other, rich in others:
        labels = "labels" in needs or (rich and not conditions)
        dataset = Clusters(other, "modes" in needs, labels, rich or "held_out" in needs, conditions)
        _check_other(name, config, Judged(config, dataset, FEWER))


class Judged:
    """Data to judge by, and the real samples that are judged by themselves."""

    def __init__(self, config: Metric, dataset: Dataset, most: int = MOST) -> None:
        self.config, self.count = config, min(config.samples, most)
        with own_random_state(SEED):
            self.data = JudgedData(dataset, dataset.spec, dataset.build(), dataset.held_out())
        self.drawn = functools.lru_cache(self.data.drawn)  # metrics share real samples, and may not change them
        self.against: Literal["test", "train"] = "test" if self.data.has_test() else "train"
        self.x, y = self.drawn(self.against, self.count, 0)
        spec = dataset.spec
        self.y = None if spec.classes is None and spec.condition is None else y  # as for a generator that heeds none

    def build(self) -> Any:
        """The measure, built as the judge does."""

        def held_out(n: int) -> Samples:
            if not self.data.has_test():
                raise ValueError("the dataset holds out no samples")
            return self.drawn("test", n, 2)

        judging = Judging(
            dataset=self.data.dataset,
            spec=self.data.spec,
            data=self.data.data,
            against=self.against,
            samples=self.count,
            seed=SEED,
            device=DEVICE,
            real=lambda n: self.drawn(self.against, n, 0),
            training=lambda n: self.drawn("train", n, 1),
            held_out=held_out,
            features=lambda name: found(name),
        )

        @functools.cache
        def found(name: str) -> Any:
            with torch.enable_grad():
                return find_features(name, judging, load())

        with own_random_state(SEED, DEVICE):
            return self.config.build(judging)

    def rows(self, which: Any) -> Generated:
        """Some of the real samples."""
        return self.x[which], None if self.y is None else self.y[which]

    def damaged(self) -> dict[str, Generated]:
        """Samples that a good metric tells from the real ones, by what was done to them."""
        x, y = self.x, self.y
        image = self.data.spec.is_image
        low, high = (-1.0, 1.0) if image else (x.min().item() - 1, x.max().item() + 1)
        quarter = [size // 4 for size in x.shape[2:]]
        made = {
            "shifted": x.roll(quarter, tuple(range(2, x.ndim))) if image else x + (high - low),
            "all the same": x[:1].expand_as(x).clone(),
            "noise": torch.rand(x.shape, generator=torch.Generator().manual_seed(1)) * (high - low) + low,
        }
        found: dict[str, Generated] = {damage: (samples, y) for damage, samples in made.items()}
        if "held_out" in self.config.needs:
            copies, its_y = self.drawn("train", self.count, 1)
            found["copies of training samples"] = copies, None if y is None else its_y
        return found


def _check_declared(name: str, config: Any) -> None:
    """`needs`, `better`, `samples`, and names of options that a table of [[metrics]] uses itself."""
    taken = [key for key in ("every", "samples") if any(field.name == key for field in _options(config))]
    require(not taken, f"{name}: {', '.join(taken)} in [[metrics]] says when and on how many; rename the option")
    require(type(config).build is not Metric.build, f"{name} has no build")
    needs = config.needs
    right = isinstance(needs, tuple) and all(need in NEEDS for need in needs)
    require(right, f"{name}: needs must be a tuple of some of {', '.join(NEEDS)}, not {needs!r}")
    both = "labels" in needs and "conditions" in needs
    require(not both, f"{name}: needs names labels and conditions, and data has one of them at most")
    better = getattr(config, "better", None)
    right = isinstance(better, Mapping) and bool(better) and all(d in ("lower", "higher") for d in better.values())
    require(right, f"{name}: better must name its numbers, as in {{'distance': 'lower'}}, not {better!r}")
    taken = [key for key in OWN if key in config.better]
    require(not taken, f"{name}: better names {', '.join(taken)}, which scores use otherwise")
    count = config.samples
    require(
        type(count) is int and count >= 2, f"{name}: samples must be a number of samples, at least 2, not {count!r}"
    )


def _options(config: Any) -> Any:
    return type(config).__attrs_attrs__


def _build(name: str, judged: Judged, hint: str) -> Any:
    """The measure, or an AssertionError with what the metric raised."""
    with calling(f"{name}: build(judging)", hint):
        measure = judged.build()
    require(callable(measure), f"{name}: build must return a function measure(x, y), not {type(measure).__name__}")
    return measure


def _measured(name: str, measure: Any, samples: Generated, what: str) -> Numbers:
    """The numbers of samples, called as the judge does; they must be finite, and the samples unchanged."""
    given, kept = ([None if side is None else side.clone() for side in samples] for _ in range(2))
    x, y = given
    with own_random_state(SEED, DEVICE), torch.no_grad(), calling(f"{name}: measure(x, y) of {what}"):
        values = measure(x, y)
    same = all(a is None or b is None or torch.equal(a, b) for a, b in zip(given, kept, strict=True))
    require(same, f"{name}: measure changes samples in place")
    require(
        isinstance(values, Mapping) and bool(values),
        f"{name}: measure must return {{name: number}}, not {values!r:.60}",
    )
    for key, value in values.items():
        free = isinstance(key, str) and key not in OWN
        require(free, f"{name}: measure returns a number under {key!r}; names are texts, and not {', '.join(OWN)}")
        right = isinstance(value, (int, float)) and not isinstance(value, bool) and math.isfinite(value)
        require(right, f"{name}: measure returns {key} = {value!r:.40} for {what}, which must be a finite float")
    return dict(values)


def _check_on(name: str, config: Any, judged: Judged, what: str) -> None:
    """All that is checked on data which the metric must accept."""
    fault = unsuited(config, judged.data)
    require(fault is None, f"{name}: {what} does not have what `needs` says: {fault}")
    hint = f"it was built on {what} so declare in `needs` what else it must have" if what.endswith(",") else ""
    before = judged.x.clone()
    measure = _build(name, judged, hint)
    real = _measured(name, measure, (judged.x, judged.y), "real samples")
    absent = [key for key in config.better if key not in real]
    require(not absent, f"{name}: better names {', '.join(absent)}, and real samples have only {', '.join(real)}")
    damaged = {
        damage: _measured(name, measure, samples, f"samples that are {damage}")
        for damage, samples in judged.damaged().items()
    }
    require(torch.equal(before, judged.x), f"{name}: it changes real samples in place; other metrics share them")
    again = _measured(name, measure, (judged.x, judged.y), "real samples")
    require(again == real, f"{name}: the same samples have {again} after others, not {real}; it must keep no state")
    rebuilt = _measured(name, _build(name, judged, hint), (judged.x, judged.y), "real samples")
    require(rebuilt == real, f"{name}: built again from the same seed, the same samples have {rebuilt}, not {real}")
    _check_order(name, measure, judged, real, damaged)
    _check_directions(name, config, real, damaged)
    _check_few(name, measure, judged)
    if judged.y is not None:
        _or_refused(name, measure, (judged.x, None), "samples with y = None, of a generator that heeds no labels")


def _check_order(name: str, measure: Any, judged: Judged, real: Numbers, damaged: dict[str, Numbers]) -> None:
    """Samples in another order must have the same numbers, but for rounding."""
    order = torch.randperm(len(judged.x), generator=torch.Generator().manual_seed(1))
    other = _measured(name, measure, judged.rows(order), "real samples in another order")
    for key, value in real.items():
        spread = max(abs(value - numbers.get(key, value)) for numbers in damaged.values())
        near = abs(other.get(key, math.inf) - value) <= 1e-9 + 1e-3 * max(abs(value), spread)
        require(near, f"{name}: {key} of the same samples in another order is {other.get(key)}, not {value}")


def _check_directions(name: str, config: Any, real: Numbers, damaged: dict[str, Numbers]) -> None:
    """Each number of `better` must get worse by some damage, and not better by a shift."""
    for key, direction in config.better.items():
        sign = 1 if direction == "higher" else -1
        losses = {damage: sign * (real[key] - numbers[key]) for damage, numbers in damaged.items() if key in numbers}
        found = ", ".join(f"{damage}: {numbers.get(key)}" for damage, numbers in damaged.items())
        worst = max(losses.values(), default=0.0)
        require(
            worst > 0,
            f"{name}: {key} should be {direction}, but no damaged samples are worse than the real ones, judged by "
            f"themselves: real: {real[key]}, {found}",
        )
        require(
            "held_out" in config.needs or losses.get("shifted", 0.0) >= -0.05 * worst,
            f"{name}: {key} should be {direction}, but shifted samples are better than real ones: real: {real[key]}, "
            f"{found}",
        )


def _check_few(name: str, measure: Any, judged: Judged) -> None:
    """One or two samples must have finite numbers, or be refused by ValueError."""
    for count in (1, 2):
        _or_refused(name, measure, judged.rows(slice(count)), f"a set of {count}")


def _or_refused(name: str, measure: Any, samples: Generated, what: str) -> None:
    try:
        _measured(name, measure, samples, what)
    except AssertionError as error:
        require(isinstance(error.__cause__, ValueError), f"{error}; raise ValueError where there is no number")


def _check_other(name: str, config: Any, judged: Judged) -> None:
    """Other data that has what the metric needs: it is judged, or refused by ValueError."""
    spec = judged.data.spec
    what = f"samples of shape {spec.shape}{'' if spec.classes is None else ' with labels'}"
    try:
        with calling(f"{name}: build(judging) for {what}"):
            measure = judged.build()
        _measured(name, measure, (judged.x, judged.y), what)
    except AssertionError as error:
        if not isinstance(error.__cause__, (ValueError, RequestError)):
            hint = "declare what it needs in `needs`, or raise ValueError for what it does not suit"
            raise AssertionError(f"{error}; {hint}") from error
