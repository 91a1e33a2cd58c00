"""Compares runs: their curves in one picture, samples of the same seed beside real data, their scores in one table."""

from __future__ import annotations

import json
import os
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any
from urllib.parse import quote

import attrs
from torch import Tensor

from ganframe.analysis.compare_page import write_compare_page
from ganframe.analysis.differing import (
    Option,
    differing_options,
    document_of,
    in_words,
    other_data_warning,
    trained_on_other_data,
)
from ganframe.analysis.evaluate import judge_for, keep, sampled_step, scores_of_run
from ganframe.analysis.trained import TrainedGenerator, load_generator
from ganframe.components import DataSpec
from ganframe.data.latents import fixed_latents
from ganframe.data.randomness import own_random_state
from ganframe.data.real import at_most
from ganframe.errors import RequestError, counted, note, warn
from ganframe.judging.best import score_curves
from ganframe.judging.judge import Judge, named
from ganframe.judging.protocol import Score, called, described, differences, numbers, recipe_hash
from ganframe.plugins.registry import load
from ganframe.recipes.problems import Problems
from ganframe.recipes.reading import load_recipe
from ganframe.recipes.tables import Recipe
from ganframe.report import curves, pictures
from ganframe.storage import provenance, run_folder
from ganframe.storage.evaluations import read_evaluations
from ganframe.storage.files import write_text
from ganframe.storage.log import Record, read_log
from ganframe.storage.run_folder import RunFolder
from ganframe.storage.weights import generator_spec
from ganframe.training.progress import clock

RESULT = "compare.json"
ARROWS = {"lower": " ↓", "higher": " ↑", None: ""}
POINTS = 1_000  # samples of each run in a picture of points
WIDE = 6  # images in a row of each run
PIXELS = 1_024  # along a side of the images of each run at most, unless one has more
UNDER_CONDITIONS = 8  # conditions, each with a sample of each run


@attrs.frozen
class Line:
    """A row of the table: a number of a metric, with the value of each run, None where there is none."""

    metric: str
    number: str
    better: str | None
    values: tuple[float | None, ...]

    @property
    def title(self) -> str:
        """The number with its metric, and an arrow that says which direction is better."""
        name = self.number if self.number.startswith(self.metric) else f"{self.metric}: {self.number}"
        return name + ARROWS[self.better]


@attrs.frozen
class Compared:
    """What was found of runs, in the order in which they were given, and the folder with its pictures.

    `names` are the shortest that tell the runs apart. `steps` are those of their weights, `seconds` the time that
    training took, None where the log does not say. `scores` has a list for each run, each score with its protocol.
    `lines` are the numbers in rows; runs whose protocols differ are never in one row, and `unlike` says what differs.
    `seeds` are those of the recipes, `options` the options in which the recipes differ. `own_data` says whether a run
    was trained on the data that judges it; where one was not, `warning` says on what.
    """

    folder: Path
    runs: tuple[Path, ...]
    names: tuple[str, ...]
    steps: tuple[int, ...]
    seconds: tuple[float | None, ...]
    scores: tuple[list[Score], ...]
    lines: tuple[Line, ...]
    unlike: tuple[str, ...]
    seeds: tuple[int, ...]
    options: tuple[Option, ...]
    own_data: tuple[bool, ...]
    warning: str | None

    @property
    def protocols(self) -> list[str]:
        """How numbers were found: a line for each metric, or several where runs differ."""
        lines = (f"{score['metric']}: {described(score['protocol'])}" for scores in self.scores for score in scores)
        return list(dict.fromkeys(lines))


def compare(
    runs: Sequence[str | Path],
    metrics: Iterable[str | Mapping[str, Any]] = (),
    *,
    data: str | Path | None = None,
    samples: int | None = None,
    n: int | None = None,
    seed: int = 0,
    out: str | Path | None = None,
) -> Compared:
    """Judges runs by the data of the first one, or of the recipe `data`, and draws them side by side.

    `metrics` and `samples` are those of `evaluate`. A score that a run has already, of these weights and by the same
    protocol, is used again; others are added to its evaluations.jsonl. `n` samples of `seed` are drawn of each run,
    from the same latents where priors are equal. Writes curves.png, samples.png, report.html, a page of all of it,
    and compare.json to `out`, or the next comparisons/<name>/<number>/.

    Raises RequestError before anything is written where a folder holds no run, where runs make samples of different
    shapes, where the data is missing, or a metric does not suit it.
    """
    folders = [run_folder.existing(path) for path in runs]
    specs = _same_shape(folders)
    registry = load()
    recipes = []
    for folder in folders:
        with provenance.naming_missing_plugins(folder):
            recipes.append(load_recipe(folder.recipe, registry=registry))
    judging = recipes[0] if data is None else load_recipe(data, registry=registry)
    problems = Problems(judging.title)
    spec = problems.attempt("dataset", lambda: judging.dataset.spec)
    problems.raise_any()
    if spec.shape != specs[0].shape:
        raise RequestError(f"{data}: its samples have shape {spec.shape}, and those of {runs[0]} {specs[0].shape}")
    judge = judge_for(judging, registry, metrics, samples)
    names = run_folder.short_names([folder.path for folder in folders])
    of_runs = zip(folders, recipes, strict=True)
    own_data = [not trained_on_other_data(folder, recipe, judging, judge.data) for folder, recipe in of_runs]
    apart = [(name, recipe) for name, recipe, own in zip(names, recipes, own_data, strict=True) if not own]
    warning = other_data_warning([name for name, _ in apart], [recipe for _, recipe in apart], judging)
    if warning is not None:
        warn(warning)
    judge.fit()
    generators = [load_generator(folder.path, registry) for folder in folders]
    made = run_folder.create_measurement(recipes[0].name, out, "comparisons")
    with run_folder.removed_without(RESULT, made):
        scores = [_scores(folder, recipe, judge) for folder, recipe in zip(folders, recipes, strict=True)]
        logs = [read_log(folder) for folder in folders]
        lines, unlike = _table(scores, judge)
        compared = Compared(
            folder=made,
            runs=tuple(folder.path for folder in folders),
            names=tuple(names),
            steps=tuple(sampled_step(folder)[0] for folder in folders),
            seconds=tuple(records[-1]["seconds"] if records else None for records in logs),
            scores=tuple(scores),
            lines=tuple(lines),
            unlike=tuple(unlike),
            seeds=tuple(recipe.seed for recipe in recipes),
            options=tuple(differing_options([document_of(folder) for folder in folders], registry)),
            own_data=tuple(own_data),
            warning=warning,
        )
        _draw_samples(made / "samples.png", dict(zip(names, generators, strict=True)), judge, n, seed)
        panels = _panels(names, folders, recipes, logs)
        if panels:
            curves.draw_curves(made / "curves.png", panels, "Curves of all runs")
        write_compare_page(
            made / "report.html",
            compared.names,
            [("step", compared.steps), *((line.title, line.values) for line in compared.lines)],
            [*compared.protocols, *compared.unlike],
            [
                *((option.place, in_words(option)) for option in compared.options),
                ("seed", compared.seeds),
                ("training time", [None if taken is None else clock(taken) for taken in compared.seconds]),
            ],
            [_page(folder, made) for folder in folders],
            made / "samples.png",
            panels,
            warning,
        )
        write_text(made / RESULT, json.dumps(as_json(compared), indent=2) + "\n")  # last: where it is, all is there
    return compared


def as_json(compared: Compared) -> list[dict[str, Any]]:
    """What compare.json holds: of each run its folder, step, seconds, and scores with their protocols.

    "options" are those in which the recipes differ, without those that the run's recipe does not have; "own_data" says
    whether the run was trained on the data that judges it.
    """
    return [
        {
            "run": str(run),
            "name": compared.names[i],
            "step": compared.steps[i],
            "seed": compared.seeds[i],
            "seconds": compared.seconds[i],
            "options": {option.place: option.values[i] for option in compared.options if option.is_in(i)},
            "own_data": compared.own_data[i],
            "scores": compared.scores[i],
        }
        for i, run in enumerate(compared.runs)
    ]


def _page(folder: RunFolder, made: Path) -> str | None:
    """The address of a run's page, relative to the folder of the comparison; None where it has none."""
    if not folder.report.is_file():
        return None
    return quote(Path(os.path.relpath(folder.report.resolve(), made.resolve())).as_posix())


def _same_shape(folders: Sequence[RunFolder]) -> list[DataSpec]:
    """What runs make samples of. Raises RequestError where shapes differ, or a run is given twice or alone."""
    if len(folders) < 2:
        raise RequestError("one run is nothing to compare: give two or more")
    again = next((folder for i, folder in enumerate(folders) if _same(folder, folders[:i])), None)
    if again is not None:
        raise RequestError(f"{again.path}: the same run twice; give different ones")
    specs = [generator_spec(folder.generator) for folder in folders]
    for folder, spec in zip(folders, specs, strict=True):
        for what, first, other in (
            ("samples", specs[0].shape, spec.shape),
            ("conditions", specs[0].condition, spec.condition),
        ):
            if first != other:
                raise RequestError(
                    f"{folder.path}: its {what} have shape {other}, and those of {folders[0].path} {first}: only runs "
                    "on data of one shape can be compared"
                )
    return specs


def _same(folder: RunFolder, others: Sequence[RunFolder]) -> bool:
    return folder.path.resolve() in [other.path.resolve() for other in others]


# -------------------------------------------------------------------------------------------------------------- scores


def _scores(folder: RunFolder, recipe: Recipe, judge: Judge) -> list[Score]:
    """The scores of a run: those that it has already by the same protocol, else new ones, which it then has too."""
    known = _known(folder, recipe, judge)
    if len(known) == len(judge.evaluations):
        note(f"{folder.path}: its scores are in {folder.evaluations.name} already")
        return known
    note(f"{folder.path}: judging {counted(judge.wanted(), 'sample')}")
    found = scores_of_run(folder, judge, recipe=recipe)
    for score in found:
        if "error" in score:
            warn(f"{folder.path}: {score['metric']}: {score['error']}")
    sound = [score for score in found if "error" not in score]
    keep(folder, sound)
    return sound


def _known(folder: RunFolder, recipe: Recipe, judge: Judge) -> list[Score]:
    """The newest scores in evaluations.jsonl of the weights that are there now, for each metric that has one."""
    step, chosen_by = sampled_step(folder)
    kept, found = read_evaluations(folder), []
    for name, protocol in judge.protocols().items():
        wanted = json.loads(json.dumps({**protocol, "chosen_by": chosen_by}))  # as it is read from the file
        same = [
            score
            for score in kept
            if (score["metric"], score["judged"]["step"], score["judged"].get("recipe"))
            == (name, step, recipe_hash(recipe))
            and "error" not in score
            and score["protocol"] == wanted
        ]
        found += same[-1:]
    return found


def _table(scores: Sequence[list[Score]], judge: Judge) -> tuple[list[Line], list[str]]:
    """A row for each number of each protocol, and what differs where a metric has several."""
    lines, unlike = [], []
    for name, evaluation in judge.evaluations.items():
        of_runs = [next((score for score in found if score["metric"] == name), None) for found in scores]
        there = [score for score in of_runs if score is not None]
        protocols = list(dict.fromkeys(json.dumps(score["protocol"], sort_keys=True) for score in there))
        for protocol in protocols:
            alike = [
                score if score is not None and json.dumps(score["protocol"], sort_keys=True) == protocol else None
                for score in of_runs
            ]
            first = next(score for score in alike if score is not None)
            for number in dict.fromkeys(key for score in alike if score is not None for key in numbers(score)):
                values = tuple(None if score is None else numbers(score).get(number) for score in alike)
                lines.append(Line(name, called(first, number), evaluation.metric.better.get(number), values))
        if len(protocols) > 1:
            unlike += [f"{name}: not in one row, as {line}" for line in differences(there)]
    return lines, unlike


# ------------------------------------------------------------------------------------------------------------ pictures


def _draw_samples(
    file: Path, generators: Mapping[str, TrainedGenerator], judge: Judge, n: int | None, seed: int
) -> None:
    """Samples of each run, of latents of the same seed, and real samples."""
    spec = judge.data.spec
    count = n or _count(spec)
    real, y = judge.real(count)
    count = min(count, len(real)) if spec.condition is not None else count
    kinds: dict[str, Tensor] = {}
    for name, G in generators.items():
        z, labels = fixed_latents(G.prior, G.spec, count, seed)
        given = y[:count] if spec.condition is not None else labels
        with own_random_state(seed):
            kinds[name] = G.decode(z, given if G.heeds_y else None)
    title = f"{counted(count, 'sample')} of each run, from latents of seed {seed}"
    conditions = y[:count] if spec.condition is not None else None
    pictures.draw_side_by_side(file, spec, kinds, real[:count], conditions, title)


def _count(spec: DataSpec) -> int:
    """The number of samples of each run in a picture."""
    if not spec.is_image:
        return at_most(POINTS, spec)
    if spec.condition is not None:
        return UNDER_CONDITIONS
    columns = max(1, min(WIDE, PIXELS // max(spec.shape[1:])))
    return columns**2


def _panels(
    names: Sequence[str], folders: Sequence[RunFolder], recipes: Sequence[Recipe], logs: Sequence[list[Record]]
) -> list[curves.Curves]:
    """The curves of all runs; empty where no run has logged anything."""
    of_runs = {}
    for name, folder, recipe, records in zip(names, folders, recipes, logs, strict=True):
        evaluations = named(recipe.metrics, recipe.registry)
        of_runs[name] = records, score_curves(read_evaluations(folder), evaluations)
    return curves.of_runs(of_runs)
