"""A study from beginning to end: read, checked, worked on by processes, and what has become of it."""

from __future__ import annotations

import signal
import sys
from collections.abc import Iterable
from pathlib import Path

import attrs

from ganframe.errors import RecipeError, RequestError, RunError, note, warn
from ganframe.studies.crew import employ
from ganframe.studies.folder import default_folder, is_new, keep_study
from ganframe.studies.outcomes import Outcome, read_outcomes
from ganframe.studies.plan import Study, at_fault, load_study
from ganframe.studies.progress import summary, watching
from ganframe.studies.work import forget_failures, stop_with, work
from ganframe.training.accelerator import process_state_kept
from ganframe.training.prepare import prepare


@attrs.frozen
class Studied:
    """A study that was worked on: its plan, its folder, and what has become of each run."""

    study: Study
    folder: Path
    outcomes: tuple[Outcome, ...]


def study(
    path: str | Path,
    out: str | Path | None = None,
    *,
    jobs: int = 1,
    overrides: Iterable[str] = (),
    retry: bool = False,
) -> Studied:
    """Makes the runs of a study in `out` or studies/<name>/, by `jobs` processes, or continues it.

    Any number of processes may do this at once. `overrides` are texts such as "train.steps=100". With `retry`, runs
    that have failed are resumed.

    Raises RequestError before anything is written where the study or a recipe of it is wrong, where the folder holds
    another study, and where locks do not hold in it; RunError where runs are left that could not be made.
    """
    loaded = load_study(path, overrides)
    folder = folder_for(loaded, out)
    if is_new(folder, loaded.file):
        check(loaded)
    keep_study(folder, loaded.file)
    if retry:
        forget_failures(loaded, folder)
    outcomes = read_outcomes(loaded, folder)
    failures: list[str] = []
    if any(outcome.status in ("running", "waiting") for outcome in outcomes):
        try:
            with watching(loaded, folder) as look:
                failures = employ(folder, min(jobs, len(loaded.runs)), loaded.file.threads, look)
        except KeyboardInterrupt:
            raise KeyboardInterrupt(f"{folder}: {summary(read_outcomes(loaded, folder))}; {AGAIN}") from None
        outcomes = read_outcomes(loaded, folder)
    if any(outcome.status in ("running", "waiting") for outcome in outcomes):
        raise RunError("\n".join([*dict.fromkeys(failures), f"{folder}: {summary(outcomes)}; {AGAIN}"]))
    for line in dict.fromkeys(failures):
        warn(line)
    _note_others(loaded, folder)
    return Studied(loaded, folder, tuple(outcomes))


AGAIN = "the same command continues"


def folder_for(loaded: Study, out: str | Path | None) -> Path:
    """The folder of a study: `out`, or studies/<name>."""
    return default_folder(loaded.file) if out is None else Path(out).expanduser()


@process_state_kept()
def check(loaded: Study) -> None:
    """Builds everything of each cell, and writes nothing. Raises RecipeError with all that is wrong."""
    found = []
    cells = [run for run in loaded.runs if run.seed == loaded.file.seeds[0]]
    note(f"{loaded.file.title}: building {len(cells)} cells")
    for run in cells:
        try:
            prepare(run.recipe)
        except RecipeError as error:
            found += [(run.cell, problem.removeprefix(f"{run.recipe.title}: ")) for problem in error.problems]
    if found:
        raise RecipeError(at_fault(loaded.file, found))


def work_for_parent(path: str | Path, out: str | Path) -> None:
    """Works on a study until none of it is left, or standard input is closed: then it saves and ends.

    Raises KeyboardInterrupt in that case, RunError where some runs could not be made here.
    """
    signal.signal(signal.SIGINT, signal.default_int_handler)  # it is ignored where a shell started us in the background
    stopped = stop_with(sys.stdin.read, lambda: signal.raise_signal(signal.SIGINT))
    worked = work(load_study(path), Path(out), stopped=stopped)
    if worked.refused:
        raise RunError(next(iter(worked.refused.values())))


def _note_others(loaded: Study, folder: Path) -> None:
    """Says so where the folder has runs that do not belong to this study, as of other versions of a plugin."""
    names = {run.name for run in loaded.runs}
    others = [path for path in (folder / "runs").iterdir() if path.is_dir() and path.name not in names]
    if others:
        note(f"{folder}: {len(others)} more in runs/ are of other versions or another study; they are not counted")


def status(path: str | Path, out: str | Path | None = None, overrides: Iterable[str] = ()) -> Studied:
    """What has become of a study so far. Raises RequestError where its folder holds none."""
    loaded = load_study(path, overrides)
    folder = folder_for(loaded, out)
    if is_new(folder, loaded.file):
        raise RequestError(f"{folder}: there is no study yet")
    return Studied(loaded, folder, tuple(read_outcomes(loaded, folder)))
