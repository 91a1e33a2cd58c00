"""Fits the metrics of a recipe to its data, and judges samples by them."""

from __future__ import annotations

import functools
import hashlib
import json
import math
from collections.abc import Callable, Iterable, Mapping
from typing import Any, Literal

import attrs
import torch
from torch import Tensor
from torch.utils.data import Dataset as TorchDataset

from ganframe.components import Dataset, DataSpec, Distribution, Judging, Measure, Metric
from ganframe.data.fingerprint import fingerprint
from ganframe.data.randomness import own_random_state
from ganframe.data.real import real_samples
from ganframe.errors import noted_if_slow
from ganframe.judging.features import Extractor, find_features, known_name
from ganframe.judging.protocol import OWN, Score
from ganframe.plugins.registry import Registry
from ganframe.recipes.problems import Problems
from ganframe.recipes.tables import Evaluation
from ganframe.recipes.writing import to_table

Against = Literal["test", "train"]
CPU = torch.device("cpu")
SEED = 0  # of all that is drawn for judging: the same for every run, so that scores of runs can be compared


@attrs.define(eq=False, slots=False)
class JudgedData:
    """Real data to judge by. `held_out` is None where the data holds out none; a distribution needs none."""

    dataset: Dataset
    spec: DataSpec
    data: TorchDataset[Any]
    held_out: TorchDataset[Any] | None

    @functools.cached_property
    def fingerprint(self) -> dict[str, Any]:
        """As a run's checkpoints have it."""
        return fingerprint(self.dataset, self.spec, self.data)

    @functools.cached_property
    def hash(self) -> str:
        """12 hexadecimal digits that identify the data by its options, its form and its values."""
        options = repr(self.dataset) if isinstance(self.data, Distribution) else ""  # else paths, which may differ
        return hashlib.sha256(json.dumps([options, self.fingerprint], sort_keys=True).encode()).hexdigest()[:12]

    def has_test(self) -> bool:
        return self.held_out is not None or isinstance(self.data, Distribution)

    def drawn(self, split: Against, n: int, seed: int) -> tuple[Tensor, Tensor]:
        """n real samples of a split, or fewer; those of a smaller n are the first of them."""
        source = self.held_out if split == "test" and self.held_out is not None else self.data
        return real_samples(source, self.spec, n, 2 * seed + (split == "test"), CPU)


@attrs.frozen(eq=False)
class Fitted:
    """A metric fitted to data: its measure, the number of samples it wants, and its protocol."""

    metric: Metric
    measure: Measure
    samples: int
    protocol: dict[str, Any]


class Judge:
    """Metrics, fitted to the same data, that judge samples.

    `evaluations` are by the names of their scores, as `named` gives them. `against` is the split of real samples to
    compare with: by default "test" where there is one. `samples` is another number of generated samples than that of
    the recipe. Raises RecipeError, with each metric that does not suit the data and before anything is computed, where
    its `needs` say so. `title` is what messages call the recipe, and `place` where the metric of an `index` and
    `name` stands in it.
    """

    def __init__(
        self,
        evaluations: Mapping[str, Evaluation],
        data: JudgedData,
        registry: Registry,
        device: torch.device,
        title: str,
        against: Against | None = None,
        samples: int | None = None,
        place: str = "metrics[{index}]",
    ) -> None:
        self.evaluations, self.data, self.registry, self.device = evaluations, data, registry, device
        self.title, self.samples, self.place = title, samples, place
        self.against: Against = against or ("test" if data.has_test() else "train")
        self._real: dict[tuple[str, int], tuple[int, tuple[Tensor, Tensor]]] = {}
        self._extractors: dict[str, Extractor] = {}
        self._fitted: dict[str, Fitted] = {}
        problems = Problems(title)
        if against == "test" and not data.has_test():
            problems.add("dataset: it holds out no samples; judge against its training data: --against train")
        for index, (name, evaluation) in enumerate(evaluations.items()):
            if fault := unsuited(evaluation.metric, data):
                problems.add(f"{place.format(index=index, name=name)}: {fault}")
        problems.raise_any()

    def wanted(self, names: Iterable[str] | None = None) -> int:
        """The number of generated samples to give to `scores` for these metrics; by default for all."""
        chosen = self.evaluations if names is None else names
        return max((self._samples(self.evaluations[name]) for name in chosen), default=0)

    def conditions(self, n: int) -> Tensor:
        """y of n generated samples: those of real samples of the split, taken in turn where they are fewer.

        Labels are then as frequent as in the data; uniform ones would count against a good generator.
        """
        y = self.real(n, seed=3)[1]
        return y[torch.arange(n) % len(y)]

    def scores(self, x: Tensor, y: Tensor | None, names: Iterable[str] | None = None) -> list[Score]:
        """The scores of generated samples x (n, *shape), made for y, by these metrics or all.

        Each metric judges the first of them, as many as it wants. A score that there is none of, as where samples are
        too few, has "error" in the place of numbers. Raises RecipeError where a metric does not suit the data.
        """
        self.fit()
        chosen = self.evaluations if names is None else names
        return [self._score(name, x, y) for name in chosen]

    def fit(self) -> None:
        """Fits the metrics to the data, if that is not done yet. Raises RecipeError with each that does not suit it."""
        problems = Problems(self.title)
        for index, (name, evaluation) in enumerate(self.evaluations.items()):
            if name not in self._fitted:
                where = self.place.format(index=index, name=name)
                with noted_if_slow(f"{self.title}: fitting the metric {name} to the data"):
                    fitted = problems.attempt(where, functools.partial(self._fit, evaluation))
                self._fitted |= {} if fitted is None else {name: fitted}
        problems.raise_any()

    def protocols(self) -> dict[str, dict[str, Any]]:
        """The protocol of each metric, as its scores will have it."""
        self.fit()
        return {name: {**fitted.protocol, "samples": fitted.samples} for name, fitted in self._fitted.items()}

    def _score(self, name: str, x: Tensor, y: Tensor | None) -> Score:
        fitted = self._fitted[name]
        x, y = x[: fitted.samples], None if y is None else y[: fitted.samples]
        problems = Problems(name)
        with own_random_state(SEED, self.device), torch.no_grad():
            values = problems.attempt("samples", lambda: _checked(fitted.measure(_finite(x), y), fitted.metric))
        error = "; ".join(problem.removeprefix(f"{name}: samples: ") for problem in problems.found)
        found = values if values is not None else {"error": error}
        return {"metric": name, **found, "protocol": {**fitted.protocol, "samples": len(x)}}

    def _fit(self, evaluation: Evaluation) -> Fitted:
        metric = evaluation.metric
        used: dict[str, Any] = {}
        counts: dict[str, int] = {}
        samples = self._samples(evaluation)

        def features(name: str) -> Extractor:
            known = known_name(name, self.registry)
            if known not in self._extractors:
                # What features are made from is not what the metric that names them first compares with, nor kept.
                apart = attrs.evolve(
                    judging,
                    real=functools.partial(fresh, self.against, 0),
                    training=functools.partial(fresh, "train", 1),
                    held_out=functools.partial(held_out, fresh),
                )
                with own_random_state(SEED, self.device), torch.enable_grad():  # a classifier is trained
                    self._extractors[known] = find_features(name, apart, self.registry)
            used[known] = self._extractors[known].described()
            return self._extractors[known]

        def drawn(split: Against, seed: int, n: int) -> tuple[Tensor, Tensor]:
            x, y = self.real(n, split, seed)
            kind = "real" if split == self.against else {"train": "training", "test": "held_out"}[split]
            counts[kind] = max(counts.get(kind, 0), len(x))
            return x, y

        def fresh(split: Against, seed: int, n: int) -> tuple[Tensor, Tensor]:
            return self.data.drawn(split, n, seed)

        def held_out(draw: Callable[[Against, int, int], tuple[Tensor, Tensor]], n: int) -> tuple[Tensor, Tensor]:
            if not self.data.has_test():
                raise ValueError("the dataset holds out no samples")
            return draw("test", 2, n)

        judging = Judging(
            dataset=self.data.dataset,
            spec=self.data.spec,
            data=self.data.data,
            against=self.against,
            samples=samples,
            seed=SEED,
            device=self.device,
            real=functools.partial(drawn, self.against, 0),
            training=functools.partial(drawn, "train", 1),
            held_out=functools.partial(held_out, drawn),
            features=features,
        )
        with own_random_state(SEED, self.device):
            measure = metric.build(judging)
        plugin, _ = self.registry.locate(type(metric))
        table = to_table(metric, self.registry)
        protocol = {
            "metric": table.pop("use"),
            "version": plugin.version,
            "options": table,
            "features": used,
            "against": self.against,
            "counts": counts,
            "data": self.data.hash,
            "seed": SEED,
        }
        return Fitted(metric, measure, samples, protocol)

    def real(self, n: int, split: Against | None = None, seed: int = 0) -> tuple[Tensor, Tensor]:
        """n real samples (x, y) of a split, or fewer; kept, so that metrics share them and their features."""
        key = split or self.against, seed
        if key not in self._real or self._real[key][0] < n:
            self._real[key] = n, self.data.drawn(*key[:1], n, seed)
        x, y = self._real[key][1]
        return x[:n], y[:n]

    def _samples(self, evaluation: Evaluation) -> int:
        return self.samples or evaluation.samples or evaluation.metric.samples


def named(evaluations: Iterable[Evaluation], registry: Registry) -> dict[str, Evaluation]:
    """Evaluations by the names of their metrics. The second of one name ends in _2."""
    found: dict[str, Evaluation] = {}
    for evaluation in evaluations:
        name = free = registry.locate(type(evaluation.metric))[1]
        number = 2
        while free in found:
            free, number = f"{name}_{number}", number + 1
        found[free] = evaluation
    return found


def unsuited(metric: Metric, data: JudgedData) -> str | None:
    """Why the data does not have what a metric needs; None where it does."""
    spec = data.spec
    if "modes" in metric.needs:
        try:
            assert isinstance(data.data, Distribution)
            data.data.modes()
        except (AssertionError, NotImplementedError):
            return "it needs a mixture whose modes are known, as ring and grid are; this dataset does not tell them"
    if "labels" in metric.needs and spec.classes is None:
        return "it needs data with labels, and this dataset has none"
    if "conditions" in metric.needs and spec.condition is None:
        return "it needs data with conditions, and this dataset has none"
    if "images" in metric.needs and not spec.is_image:
        return f"it needs images, and samples have shape {spec.shape}"
    if "held_out" in metric.needs and not data.has_test():
        return "it needs samples held out of training, and this dataset has none"
    return None


def _finite(x: Tensor) -> Tensor:
    if not x.isfinite().all():
        raise ValueError("samples are not finite: the generator has diverged, so there is no score")
    return x


def _checked(values: Any, metric: Metric) -> dict[str, float]:
    """The numbers of a measure. Raises ValueError where they are no finite numbers under free names."""
    name = type(metric).__qualname__
    if not isinstance(values, Mapping) or not values:
        raise ValueError(f"{name}: its measure must return {{name: number}}, not {values!r:.60}")
    for key, value in values.items():
        if not isinstance(key, str) or key in OWN:
            raise ValueError(f"{name}: its measure returned a number under {key!r}, which scores use otherwise")
        if not isinstance(value, (int, float)) or isinstance(value, bool) or not math.isfinite(value):
            raise ValueError(f"{name}: its measure returned {key} = {value!r:.40}, which is no finite number")
    return dict(values)
