"""Judges generated samples by metrics: those of a run, or of files that any program has made."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

import attrs
import numpy as np
import torch
from torch import Tensor

from ganframe.analysis.standing_statistics import BATCH_SIZE
from ganframe.analysis.trained import Precision, load_generator
from ganframe.components import DataSpec
from ganframe.data.arrays import as_samples, in_order_of_axes, open_array
from ganframe.data.checks import check_data, check_samples
from ganframe.data.real import judging_data
from ganframe.errors import RecipeError, RequestError, note, warn
from ganframe.judging.generated import generate
from ganframe.judging.judge import SEED, Against, Judge, JudgedData, named, unsuited
from ganframe.judging.protocol import Score, recipe_hash
from ganframe.plugins.registry import Registry, load
from ganframe.recipes.problems import Problems, is_out_of_memory
from ganframe.recipes.reading import load_metrics, load_recipe
from ganframe.recipes.tables import Evaluation, Recipe
from ganframe.storage import provenance
from ganframe.storage.evaluations import append_evaluations
from ganframe.storage.run_folder import RunFolder, step_of
from ganframe.storage.weights import how_chosen


def evaluate(
    path: str | Path,
    metrics: Iterable[str | Mapping[str, Any]] = (),
    *,
    data: str | Path | None = None,
    samples: int | None = None,
    against: Against | None = None,
    step: int | None = None,
    truncation: float | Iterable[float] | None = None,
    standing_statistics: int | None = None,
    precision: Precision = "no",
    device: torch.device | str | None = None,
) -> list[Score]:
    """The scores of a run by its own data, or of a file or folder of samples by the data of the recipe `data`.

    A file is an array .npy of samples (n, *shape), with values as the data has them; images also in uint8, and with
    channels last. A folder holds images of the size of the data. `metrics` are names, or tables as of [[metrics]]; a
    name has the options that it has in the recipe, if it is there. By default they are those of the recipe, or else
    `modes`, or `frechet` and `precision_recall`, as the data suits; `kernel` takes the place of `frechet` where there
    are too few real samples for that. `samples` is the number of generated samples, `against` the split of real ones
    ("test" where there is one). `step` is that of a checkpoint of a run. `truncation` is a ψ of its generator's
    `truncated`, or several, each judged in turn; with `standing_statistics` its BatchNorm has those of so many batches.
    `precision` is that of its `with_precision`. All three stand in the protocol. Scores of a run are also added to its
    evaluations.jsonl.

    Raises RequestError where anything does not fit, or a metric finds no score; then nothing is written.
    """
    registry = load()
    folder = RunFolder(Path(path).expanduser())
    is_run = folder.recipe.is_file()
    if not is_run and data is None:
        if folder.path.exists():
            raise RequestError(f"{path}: not the folder of a run; for samples give the recipe of their data: --data")
        raise RequestError(f"{path}: there is no such file or folder")
    if not is_run and step is not None:
        raise RequestError(f"{path}: not the folder of a run, so it has no checkpoint of step {step}")
    several = truncation if isinstance(truncation, Iterable) else (truncation,)
    truncations = tuple(None if psi is None else float(psi) for psi in several) or (None,)
    if not is_run and (truncations != (None,) or standing_statistics is not None or precision != "no"):
        unused = "truncation, standing statistics and precision"
        raise RequestError(f"{path}: not the folder of a run, so {unused} have no generator")
    with provenance.naming_missing_plugins(folder):
        recipe = load_recipe(folder.recipe if data is None else data, registry=registry)
    judge = judge_for(recipe, registry, metrics, samples, against, device)
    try:
        if is_run:
            own_recipe = recipe if data is None else None
            scores = scores_of_run(folder, judge, step, own_recipe, truncations, standing_statistics, precision)
        else:
            scores = _of_files(folder.path, judge)
    except (MemoryError, RuntimeError) as error:
        if not is_out_of_memory(error):
            raise
        raise RequestError(f"{path}: there is not enough memory for {judge.wanted():,} samples; judge fewer") from error
    failed = [f"{path}: {score['metric']}: {score['error']}" for score in scores if "error" in score]
    if failed:
        raise RequestError("\n".join(failed))
    if is_run:
        keep(folder, scores)
    return scores


def judge_for(
    recipe: Recipe,
    registry: Registry,
    metrics: Iterable[str | Mapping[str, Any]] = (),
    samples: int | None = None,
    against: Against | None = None,
    device: torch.device | str | None = None,
) -> Judge:
    """A judge by the data of a recipe and by `metrics`; by default those of the recipe, or what suits the data."""
    judged = _open(recipe)
    where = torch.device(device) if device is not None else _device()

    def make(chosen: tuple[Evaluation, ...]) -> Judge:
        place = "metrics[{index}]" if chosen == recipe.metrics else "metric {name}"
        return Judge(named(chosen, registry), judged, registry, where, recipe.title, against, samples, place)

    own = named(recipe.metrics, registry)
    chosen = [own.get(given, given) if isinstance(given, str) else given for given in metrics]
    others = iter(load_metrics([given for given in chosen if not isinstance(given, Evaluation)], registry))
    asked = tuple(given if isinstance(given, Evaluation) else next(others) for given in chosen)
    return make(asked or recipe.metrics) if asked or own else _default(judged, registry, make)


def keep(folder: RunFolder, scores: list[Score]) -> None:
    """Adds the scores to the run's own, or warns where its folder cannot be written, as somebody else's."""
    try:
        append_evaluations(folder, scores)
    except OSError as error:
        warn(f"{folder.evaluations}: cannot be written: {error.strerror or error}; the scores are not kept")


def _device() -> torch.device:
    return torch.device("cuda" if torch.cuda.is_available() else "cpu")


def _open(recipe: Recipe) -> JudgedData:
    """The recipe's dataset, opened and checked. Raises RecipeError where it cannot be."""
    problems = Problems(recipe.title)
    spec = problems.attempt("dataset", lambda: recipe.dataset.spec)
    problems.raise_any()

    def build() -> Any:
        built = recipe.dataset.build()
        check_data(built, spec)
        return built

    built = problems.attempt("dataset", build)
    problems.raise_any()
    held_out = problems.attempt("dataset: held_out", lambda: judging_data(recipe.dataset, spec, built))
    problems.raise_any()
    return JudgedData(recipe.dataset, spec, built, None if held_out is built else held_out)


def _default(data: JudgedData, registry: Registry, make: Callable[[tuple[Evaluation, ...]], Judge]) -> Judge:
    """A judge by the metrics that are used where nobody named one."""

    def metric(name: str) -> Evaluation:
        return Evaluation(registry.find("metric", f"builtin:{name}")())

    if unsuited((modes := metric("modes")).metric, data) is None:
        return make((modes,))
    judge = make((metric("frechet"), metric("precision_recall")))
    try:
        judge.fit()
    except RecipeError as error:
        note(f"{error}; kernel takes its place")
        judge = make((metric("kernel"), metric("precision_recall")))
    return judge


def scores_of_run(
    folder: RunFolder,
    judge: Judge,
    step: int | None = None,
    recipe: Recipe | None = None,
    truncations: Sequence[float | None] = (None,),
    batches: int | None = None,
    precision: Precision = "no",
) -> list[Score]:
    """The scores of a run's generator, at each truncation, with standing statistics of so many batches if given.

    `recipe` is its own, or None where it is judged by other data.
    """
    own = recipe or load_recipe(folder.recipe, registry=judge.registry)
    generator = load_generator(folder.path, judge.registry, step).to(judge.device).with_precision(precision)
    _refuse_other_shape(str(folder.path), generator.spec.shape, judge.data.spec)
    heeds_y = generator.heeds_y and generator.spec.classes == judge.data.spec.classes
    heeds_y = heeds_y and generator.spec.condition == judge.data.spec.condition
    if generator.heeds_y and not heeds_y:
        raise RequestError(f"{folder.path}: the generator heeds other labels or conditions than this data has")
    at, chosen_by = (step, None) if step is not None else sampled_step(folder)
    sides = [(psi, generator if psi is None else generator.truncated(psi)) for psi in truncations]
    about = {
        "step": at,
        "by": "evaluate",
        "recipe": recipe_hash(own),
        "seed": own.seed,
        "averaged": own.train.ema is not None,
        "versions": provenance.versions(own.components(), own.registry, own.optimizer.of_plugins()),
    }
    scores = []
    for psi, G in sides:
        G = G if batches is None else G.with_standing_statistics(batches)
        x, y = generate(judge, G.prior, G.decode, judge.wanted(), heeds_y)
        more: dict[str, Any] = {"chosen_by": chosen_by}
        more |= {} if psi is None else {"truncation": psi}
        more |= {} if batches is None else {"standing_statistics": {"batches": batches, "batch_size": BATCH_SIZE}}
        more |= {} if precision == "no" else {"precision": precision}
        scores += [
            {**score, "protocol": {**score["protocol"], **more}, "judged": about} for score in judge.scores(x, y)
        ]
    return scores


def sampled_step(folder: RunFolder) -> tuple[int, str | None]:
    """The step of the weights in generator.safetensors, and the metric that chose it, None for the last ones."""
    chosen = how_chosen(folder.generator)
    if chosen:
        return chosen["step"], chosen["by"]
    newest = folder.checkpoints()[-1:]
    return step_of(newest[0]) if newest else folder.published_step or 0, None


def _of_files(path: Path, judge: Judge) -> list[Score]:
    """The scores of samples in a file or folder."""
    x = _read(path, judge)
    scores = judge.scores(x, None)
    for score in scores:
        score["protocol"]["chosen_by"] = None
    return [{**score, "judged": {"file": str(path)}} for score in scores]


def _read(path: Path, judge: Judge) -> Tensor:
    """Samples of a file or folder, as many as the metrics want, from all of it, as floats (n, *shape).

    Raises RequestError where they are not samples of the data.
    """
    spec, n = judge.data.spec, judge.wanted()
    try:
        if path.is_dir():
            x = _images(path, judge)
        elif path.suffix.lower() == ".npy":
            x = _array(open_array(path), spec, n)
        else:
            raise ValueError("not an array (.npy), nor a folder of images")
        if len(x) == 0:
            raise ValueError("it has no samples")
        check_samples(x, spec.blank(len(x)), spec)
    except (ValueError, OSError, EOFError) as error:
        raise RequestError(f"{path}: {error}") from None
    if spec.is_image and x.min() >= 0 and judge.real(100)[0].min() < -0.5:
        raise RequestError(
            f"{path}: its values are from {x.min():.3g} to {x.max():.3g}, and those of the data from -1 to 1: give "
            "images in [-1, 1], or in uint8"
        )
    return x


def _array(found: Any, spec: DataSpec, n: int) -> Tensor:
    found = in_order_of_axes(found, spec)
    rows = torch.randperm(len(found), generator=torch.Generator().manual_seed(SEED))[:n]  # a file may be in an order
    return as_samples(np.array(found[rows.numpy()]), spec)


def _images(path: Path, judge: Judge) -> Tensor:
    spec = judge.data.spec
    if not spec.is_image:
        raise ValueError(f"a folder holds images, and samples of the data have shape {spec.shape}: give a file .npy")
    opened = judge.registry.find("dataset", "builtin:image_folder")(root=str(path), channels=spec.shape[0])
    _refuse_other_shape(str(path), opened.spec.shape, spec)
    data = JudgedData(opened, attrs.evolve(spec, classes=None, condition=None, class_names=None), opened.build(), None)
    return data.drawn("train", judge.wanted(), 0)[0]


def _refuse_other_shape(path: str, shape: tuple[int, ...], spec: DataSpec) -> None:
    if shape != spec.shape:
        raise RequestError(f"{path}: its samples have shape {shape}, and those of the data {spec.shape}")
