"""What became of the runs of a study, read from their folders."""

from __future__ import annotations

import functools
from collections.abc import Mapping
from pathlib import Path
from typing import Literal

import attrs

from ganframe.judging.judge import named
from ganframe.judging.protocol import Score, is_of_training
from ganframe.recipes.tables import Comparison, Recipe
from ganframe.recipes.writing import to_table
from ganframe.storage import run_folder
from ganframe.storage.evaluations import read_evaluations
from ganframe.storage.log import read_log
from ganframe.storage.run_folder import RunFolder
from ganframe.studies import comparisons
from ganframe.studies.plan import Planned, Study

FAILURE = "failure.txt"
"""In the folder of a run that failed: why."""

Status = Literal["finished", "failed", "pruned", "running", "waiting"]
"""A run is pruned where a search has ended it early."""


@attrs.frozen
class Outcome:
    """One run of a study: its cell, its seed, and what has become of it.

    `cell` maps each axis to the name of its choice. `folder` is that of the run, which exists unless it is waiting.
    `scores` are those of its [[metrics]] at the end, in their order, empty unless it has finished. `seconds` is the
    time that its training took, None where that is not known. `message` says why it failed.
    """

    cell: Mapping[str, str]
    seed: int
    folder: Path
    status: Status
    scores: tuple[Score, ...] = ()
    seconds: float | None = None
    message: str = ""


def run_folder_of(folder: Path, run: Planned) -> RunFolder:
    """The folder of a run in that of its study."""
    return RunFolder(folder / "runs" / run.name)


def read_outcomes(study: Study, folder: Path) -> list[Outcome]:
    """What has become of each run of a study in its folder, in the order of the study."""
    return [read_outcome(run, folder) for run in study.runs]


def read_outcome(run: Planned, folder: Path) -> Outcome:
    """What has become of a run of the study in `folder`."""
    path = run_folder_of(folder, run)
    outcome = functools.partial(Outcome, run.cell, run.seed, path.path)
    message = failure(path)
    if message is not None:
        return outcome("failed", seconds=_seconds(path), message=message)
    scores = _scores(path, run.recipe)
    if scores is not None:
        return outcome("finished", scores=scores, seconds=_seconds(path))
    return outcome("running" if run_folder.is_locked(path) else "waiting")


def is_done(run: Planned, folder: Path) -> bool:
    """Whether there is nothing left to do for a run: it has finished and has its scores, or it failed."""
    path = run_folder_of(folder, run)
    if (path.path / FAILURE).is_file():
        return True
    return _scores(path, run.recipe) is not None


def _scores(folder: RunFolder, recipe: Recipe | Comparison) -> tuple[Score, ...] | None:
    """The scores of a run that has finished; None where it has not."""
    if isinstance(recipe, Comparison):
        return comparisons.scores(folder, recipe)
    return final_scores(folder, recipe) if is_trained(folder, recipe) else None


def is_trained(folder: RunFolder, recipe: Recipe) -> bool:
    """Whether a run has reached its last step: that checkpoint is the last thing that training writes."""
    return folder.checkpoint(recipe.train.steps).is_dir()


def failure(folder: RunFolder) -> str | None:
    """Why a run failed; None where it did not."""
    try:
        return (folder.path / FAILURE).read_text(encoding="utf-8").strip()
    except FileNotFoundError:
        return None


def final_scores(folder: RunFolder, recipe: Recipe) -> tuple[Score, ...] | None:
    """The scores by a recipe's metrics of the generator that its run ends with; None where some are missing.

    Those of the training itself come first, as `ganframe evaluate` may have added others, of other protocols.
    """
    found = [score for score in read_evaluations(folder) if is_of_training(score)]
    chosen = [score for score in found if score["protocol"].get("chosen_by") == recipe.log.keep_best]
    if recipe.log.keep_best is None:
        chosen = [score for score in chosen if score["judged"]["step"] == recipe.train.steps]
    chosen.sort(key=lambda score: score["judged"].get("by") != "run")
    finals = []
    for name, evaluation in named(recipe.metrics, recipe.registry).items():
        options = to_table(evaluation.metric, recipe.registry)
        wanted = {"metric": options.pop("use"), "options": options}
        like = (s for s in chosen if all(s["protocol"].get(key) == value for key, value in wanted.items()))
        score = next(like, None)
        if score is None:
            return None
        finals.append({**score, "metric": name})
    return tuple(finals)


def _seconds(folder: RunFolder) -> float | None:
    """The seconds of training, by what a comparison has found, or by the last line of a run's log."""
    records = read_log(folder)
    found = comparisons.result(folder) or (records[-1] if records else {})
    return found.get("seconds")
