"""A study from beginning to end: read, checked, worked on by processes, and what has become of it."""

from __future__ import annotations

import functools
import signal
import sys
from collections.abc import Callable, Iterable
from pathlib import Path

import attrs

from ganframe.analysis.divergence import prepare_sides
from ganframe.errors import RecipeError, RequestError, RunError, note, warn
from ganframe.judging.protocol import Score
from ganframe.recipes.tables import Comparison, Recipe
from ganframe.studies import comparisons
from ganframe.studies.cluster import Cluster, attend, read_options, submit
from ganframe.studies.crew import employ
from ganframe.studies.folder import STUDY, default_folder, is_new, keep_study
from ganframe.studies.outcomes import Outcome, read_outcomes
from ganframe.studies.plan import Study, at_fault, load_study
from ganframe.studies.progress import summary, watching
from ganframe.studies.search import read_trials, require_optuna, search, watching_trials
from ganframe.studies.table import Table, make_search_table, make_table, refuse_unlike
from ganframe.studies.trials import Found, check_search, searched
from ganframe.studies.work import forget_failures, stop_with, threads_of, work
from ganframe.training.accelerator import process_state_kept
from ganframe.training.prepare import prepare


@attrs.frozen
class Studied:
    """A study that was worked on: its plan, its folder, what has become of each run, and of the trials of a search."""

    study: Study
    folder: Path
    outcomes: tuple[Outcome, ...]
    search: Found | None = None

    @property
    def left(self) -> bool:
        """Whether there is anything left to do."""
        if self.search is not None:
            return self.search.left(searched(self.study))
        return any(outcome.status in ("running", "waiting") for outcome in self.outcomes)

    @property
    def summary(self) -> str:
        """How many runs or trials there are, and what became of them."""
        return summary(self.outcomes) if self.search is None else self.search.summary

    def table(self) -> Table:
        """The table of what has been found so far. Raises RequestError where scores were made by unlike protocols."""
        registry = self.study.runs[0].recipe.registry
        if self.search is not None:
            return make_search_table(self.search, registry)
        return make_table(self.outcomes, self.study.baseline, registry)


def _read(loaded: Study, folder: Path) -> Studied:
    """What has become of a study so far."""
    if loaded.file.search is None:
        return Studied(loaded, folder, tuple(read_outcomes(loaded, folder)))
    found = read_trials(loaded, folder)
    return Studied(loaded, folder, tuple(outcome for trial in found.trials for outcome in trial.outcomes), found)


def study(
    path: str | Path,
    out: str | Path | None = None,
    *,
    jobs: int = 1,
    overrides: Iterable[str] = (),
    retry: bool = False,
    cluster: Cluster | None = None,
    cluster_options: Iterable[str] = (),
) -> Studied:
    """Makes the runs of a study in `out` or studies/<name>/, by `jobs` processes, or continues it.

    Any number of processes may do this at once. `overrides` are texts such as "train.steps=100". With `retry`, runs
    that have failed are resumed. With `cluster` the processes are jobs of a cluster, with options such as
    "partition=gpu" and those of the study's table [cluster].

    Raises RequestError before anything is written where the study or a recipe of it is wrong, where the folder holds
    another study, and where locks do not hold in it; RunError where runs are left that could not be made.
    """
    loaded = load_study(path, overrides)
    if loaded.file.search is not None:
        require_optuna()
        if retry:
            raise RequestError("--retry: the failed trials of a search are not made again; Optuna has counted them")
    settings = None if cluster is None else read_options(cluster, loaded.file.cluster, cluster_options)
    folder = folder_for(loaded, out)
    if is_new(folder, loaded.file):
        check(loaded)
    keep_study(folder, loaded.file)
    if retry:
        forget_failures(loaded, folder)
    found = _read(loaded, folder)
    failures: list[str] = []
    if found.left:
        jobs = min(jobs, len(loaded.runs) if loaded.file.search is None else loaded.file.search.trials)
        try:
            watch = watching if loaded.file.search is None else watching_trials
            with watch(loaded, folder) as look:
                if cluster is None or settings is None:
                    failures = employ(folder, jobs, loaded.file.threads, look)
                else:
                    job = functools.partial(work_in_job, folder.absolute())
                    attend(submit(job, jobs, cluster, settings, loaded.name, folder / "jobs"), look)
        except KeyboardInterrupt as interrupt:
            said = f"; {interrupt}" if interrupt.args else ""
            raise KeyboardInterrupt(f"{folder}: {_read(loaded, folder).summary}; {AGAIN}{said}") from None
        found = _read(loaded, folder)
    if found.left:
        raise RunError("\n".join([*dict.fromkeys(failures), f"{folder}: {found.summary}; {AGAIN}"]))
    for line in dict.fromkeys(failures):
        warn(line)
    _note_others(loaded, folder)
    return found


AGAIN = "the same command continues"


def folder_for(loaded: Study, out: str | Path | None) -> Path:
    """The folder of a study: `out`, or studies/<name>."""
    return default_folder(loaded.file) if out is None else Path(out).expanduser()


@process_state_kept()
def check(loaded: Study) -> None:
    """Builds everything of each cell, and writes nothing.

    Raises RecipeError with all that is wrong, and RequestError where the cells would not be judged alike.
    """
    if loaded.file.search is not None:
        check_search(loaded)
    found = []
    cells = [run for run in loaded.runs if run.seed == loaded.file.seeds[0]]
    note(f"{loaded.file.title}: building {len(cells)} cells")
    judged = []
    for run in cells:
        try:
            with threads_of(loaded):  # a classifier may be trained for features, and kept
                scores = _built(run.recipe)
            judged.append(Outcome(run.cell, run.seed, Path(), "waiting", tuple(scores)))
        except RecipeError as error:
            found += [(run.cell, problem.removeprefix(f"{run.recipe.title}: ")) for problem in error.problems]
    if found:
        raise RecipeError(at_fault(loaded.file, found))
    refuse_unlike(judged)


def _built(recipe: Recipe | Comparison) -> list[Score]:
    """Builds everything of a recipe. Returns the scores that a run of it will have, without their numbers."""
    if isinstance(recipe, Comparison):
        prepare_sides(recipe)
        return [{"metric": comparisons.METRIC, "protocol": comparisons.protocol(recipe)}]
    judge = prepare(recipe).judge
    protocols = {} if judge is None else judge.protocols()
    chosen = {"chosen_by": recipe.log.keep_best}
    return [{"metric": name, "protocol": {**protocol, **chosen}} for name, protocol in protocols.items()]


def work_for_parent(path: str | Path, out: str | Path) -> None:
    """Works on a study until none of it is left, or standard input is closed: then it saves and ends.

    Raises KeyboardInterrupt in that case, RunError where some runs could not be made here.
    """
    signal.signal(signal.SIGINT, signal.default_int_handler)  # it is ignored where a shell started us in the background
    stopped = stop_with(sys.stdin.read, lambda: signal.raise_signal(signal.SIGINT))
    _work(load_study(path), Path(out), stopped)


def work_in_job(folder: Path) -> None:
    """Works on the study in a folder until none of it is left, as a job of a cluster. Raises as `work_for_parent`."""
    _work(load_study(folder / STUDY), folder, lambda: False)


def _work(loaded: Study, folder: Path, stopped: Callable[[], bool]) -> None:
    if loaded.file.search is not None:
        search(loaded, folder, stopped)
        return
    worked = work(loaded, folder, stopped=stopped)
    if worked.refused:
        raise RunError(next(iter(worked.refused.values())))


def _note_others(loaded: Study, folder: Path) -> None:
    """Says so where the folder has runs that do not belong to this study, as of other versions of a plugin."""
    if loaded.file.search is not None:
        return
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
    return _read(loaded, folder)
