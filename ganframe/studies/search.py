"""A search: workers take trials from Optuna, whose storage is a database in the study's folder.

A trial is the runs of its seeds, in folders as any run of a study has. One whose worker was killed is tried again: it
has the same values, so it resumes the same folders. Optuna knows by a heartbeat in the database who is alive.
"""

from __future__ import annotations

import functools
import hashlib
import json
import sqlite3
import time
import warnings
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import attrs
from filelock import FileLock

from ganframe.engine.state import Callback, State
from ganframe.errors import RecipeError, RequestError, note
from ganframe.judging.best import Best
from ganframe.judging.judge import named
from ganframe.judging.protocol import is_of_training
from ganframe.recipes.tables import Recipe
from ganframe.storage.evaluations import read_evaluations
from ganframe.storage.run_folder import InUse, RunFolder
from ganframe.studies.outcomes import Outcome, Status, read_outcome, run_folder_of
from ganframe.studies.plan import Planned, Study
from ganframe.studies.presence import present
from ganframe.studies.ranges import Choices
from ganframe.studies.trials import Found, Trial, goal, searched, shown_values, trial_runs
from ganframe.studies.work import PAUSE, EndedEarly, threads_of, work_on

DATABASE, LOCK = "search.db", ".search.lock"
ENDED = ("finished", "failed", "pruned")
SELDOM = 5.0  # seconds between two looks at the database
HEARTBEAT, GRACE = 15, 60
"""Seconds between two signs of life of a worker, and after which it is taken for dead without one."""


class _Failed(Exception):
    """A trial has failed for a reason that its message explains."""


def search(study: Study, folder: Path, stopped: Callable[[], bool] = lambda: False) -> None:
    """Works on the trials of a study's search in its folder until all are done, those of other workers too.

    Raises RequestError where Optuna is not installed; KeyboardInterrupt after an interrupted run has saved.
    """
    trials = _open(study, folder)
    with threads_of(study), present(folder):
        while not stopped():
            more = _take(study, folder, trials)
            if more is False:
                return
            if more is None:
                time.sleep(PAUSE)
    raise KeyboardInterrupt


def _take(study: Study, folder: Path, trials: Any) -> bool | None:
    """Works on a trial that Optuna proposes. False where all are done, None where others work on what is left."""
    optuna = require_optuna()
    taking = FileLock(folder / LOCK)  # until a trial has its values: none too many, and each knows of the others
    current: list[int] = []

    def objective(trial: Any) -> float:
        current.append(trial.number)
        try:
            # Each trial has its own seed, so that workers that begin at the same time do not propose the same.
            trial.study.sampler = optuna.samplers.TPESampler(seed=trial.number)
            values = {place: _suggest(trial, place, found) for place, found in searched(study).ranges.items()}
        finally:
            taking.release()
        note(
            f"trial {trial.number}: {', '.join(f'{place} = {value}' for place, value in shown_values(values).items())}"
        )
        try:
            return _work_on_trial(study, folder, trial, trial_runs(study, trial.number, values))
        except (_Failed, RecipeError) as error:
            message = " ".join(str(error).split())
            trial.set_user_attr("message", message)
            note(f"trial {trial.number}: failed: {message}")
            raise _Failed from None
        except EndedEarly:
            note(f"trial {trial.number}: ended early, as it was worse than half of the others")
            raise optuna.TrialPruned from None

    taking.acquire()
    try:
        with _quiet():
            optuna.storages.fail_stale_trials(trials)
        for trial in trials.get_trials(deepcopy=False, states=[optuna.trial.TrialState.RUNNING]):
            if not _is_proposed(study, trial):  # its worker was killed while it held the lock
                trials.tell(trial.number, state=optuna.trial.TrialState.FAIL)
        states = [trial.state.name for trial in _counted(study, trials)]
        if "WAITING" not in states and len(states) >= searched(study).trials:
            return None if "RUNNING" in states else False
        with _quiet():
            trials.optimize(objective, n_trials=1, catch=(_Failed,))
        return True
    except BaseException as error:  # interrupted, or a full disk: another worker, or the next call, goes on from there
        taken_over = current and current[0] not in {trial.number for trial in _counted(study, trials)}
        if taken_over and isinstance(error, Exception):  # this process slept, and was taken for dead
            note(f"trial {current[0]}: another worker makes it again")
            return True
        if current and not taken_over:
            with _quiet():
                _retry()(trials, trials.get_trials()[current[0]])
        raise
    finally:
        taking.release()  # does nothing where it is released


def _work_on_trial(study: Study, folder: Path, trial: Any, runs: Sequence[Planned]) -> float:
    """Makes the runs of a trial, and returns the mean of their numbers. Raises _Failed, or EndedEarly."""
    best, values = goal(study), list[float]()
    for index, run in enumerate(runs):
        path = run_folder_of(folder, run)
        prune = [_prune(trial, best, run, path, index, tuple(values))] if searched(study).prune else []
        while True:
            try:
                work_on(run, path, folder, prune)
                break
            except InUse:  # a trial with the same values, or this one by a worker that was taken for dead
                time.sleep(PAUSE)
        outcome = read_outcome(run, folder)
        value = _value(outcome, best)
        if value is None:
            errors = [score["error"] for score in outcome.scores if "error" in score]
            raise _Failed(outcome.message or "; ".join(errors) or f"{run.title}: it has no score by {best.metric}")
        values.append(value)
    return sum(values) / len(values)


def _prune(trial: Any, best: Best, run: Planned, path: RunFolder, index: int, before: Sequence[float]) -> Callback:
    """Reports the scores of a trial's run to Optuna as they come, in the mean with those of the seeds `before`.

    The callback raises EndedEarly where the trial should end. Steps are counted over all seeds.
    """
    assert isinstance(run.recipe, Recipe)
    steps, reported = run.recipe.train.steps, set[int]()
    every = named(run.recipe.metrics, run.recipe.registry)[best.metric].every
    assert every is not None

    def callback(state: State) -> None:
        if state.step % every or state.step == steps:
            return
        for score in read_evaluations(path):
            step, value = score["judged"]["step"], score.get(best.number)
            plain = score["metric"] == best.metric and is_of_training(score)
            if plain and value is not None and step not in reported:
                reported.add(step)
                with _quiet():  # a resumed run reports some steps again
                    trial.report((sum(before) + value) / (len(before) + 1), index * steps + step)
        if trial.should_prune():
            raise EndedEarly

    return callback


def _value(outcome: Outcome, best: Best) -> float | None:
    return next((s[best.number] for s in outcome.scores if s["metric"] == best.metric and best.number in s), None)


def _suggest(trial: Any, place: str, found: Any) -> Any:
    if isinstance(found, Choices):
        return trial.suggest_categorical(place, list(found.values))
    suggest = trial.suggest_int if isinstance(found.low, int) else trial.suggest_float
    return suggest(place, found.low, found.high, log=found.log)


@contextmanager
def watching_trials(study: Study, folder: Path) -> Iterator[Callable[[], None]]:
    """Yields a function that shows trials as they end, on standard error; it looks at the database now and then."""
    told = {trial.number for trial in read_trials(study, folder).trials if trial.state in ENDED}
    due = 0.0

    def look() -> None:
        nonlocal due
        if time.monotonic() < due:
            return
        due = time.monotonic() + SELDOM
        found = read_trials(study, folder)
        ended = [trial for trial in found.trials if trial.state in ENDED]
        best = "" if found.best is None else f", the best is {found.best.value:.5g} of trial {found.best.number}"
        for trial in ended:
            if trial.number not in told:
                told.add(trial.number)
                value = "" if trial.value is None else f" with {trial.value:.5g}"
                note(f"trial {trial.number}: {trial.state}{value}; {len(ended)}/{searched(study).trials} done{best}")

    try:
        yield look
    finally:
        due = 0.0
        look()


# -------------------------------------------------------------------------------------------------------------- storage


def require_optuna() -> Any:
    """Optuna. Raises RequestError, with the command that installs it, where it is not there."""
    try:
        import optuna
    except ImportError:
        raise RequestError("[search] needs Optuna; install it with: pip install 'ganframe[search]'") from None
    optuna.logging.set_verbosity(optuna.logging.ERROR)
    return optuna


def read_trials(study: Study, folder: Path) -> Found:
    """The trials of a study's search so far, each once: those that were tried again in the place of the first."""
    counted = _counted(study, _open(study, folder)) if (folder / DATABASE).is_file() else []
    return Found(goal(study), tuple(_read_trial(study, folder, trial) for trial in counted))


def _read_trial(study: Study, folder: Path, trial: Any) -> Trial:
    state, message = _STATES[trial.state.name], trial.user_attrs.get("message", "")
    try:
        runs = trial_runs(study, trial.number, trial.params)
        error = ""
    except RecipeError as problem:
        runs, error = (), str(problem)
    cell = {"trial": str(trial.number), "state": state, **shown_values(trial.params)}
    outcomes = []
    for run in runs:
        if run_folder_of(folder, run).path.exists():
            outcome = read_outcome(run, folder)
            ended = state == "pruned" and outcome.status != "finished"
            outcomes.append(attrs.evolve(outcome, cell=cell, status="pruned" if ended else outcome.status))
    if not outcomes:
        outcomes = [Outcome(cell, study.file.seeds[0], folder / "runs", state, message=message or error)]
    return Trial(trial.number, state, dict(trial.params), trial.value, message, tuple(outcomes))


_STATES: dict[str, Status] = {
    "COMPLETE": "finished",
    "PRUNED": "pruned",
    "FAIL": "failed",
    "RUNNING": "running",
    "WAITING": "waiting",
}


def _open(study: Study, folder: Path) -> Any:
    """Optuna's study in the folder, which is created where there is none."""
    optuna = require_optuna()
    from sqlalchemy.pool import NullPool

    connect = functools.partial(sqlite3.connect, folder / DATABASE, timeout=60, check_same_thread=False)
    with FileLock(folder / LOCK), _quiet():  # two processes may create it at once
        storage = optuna.storages.RDBStorage(
            "sqlite://",  # a file's name in its place may not have every character
            engine_kwargs={"creator": connect, "poolclass": NullPool},
            heartbeat_interval=HEARTBEAT,
            grace_period=GRACE,
            heartbeat_stale_trial_callback=_retry(),
        )
        return optuna.create_study(
            storage=storage,
            study_name=_name(study),
            direction="maximize" if goal(study).higher else "minimize",
            pruner=optuna.pruners.MedianPruner() if searched(study).prune else optuna.pruners.NopPruner(),
            load_if_exists=True,
        )


def _name(study: Study) -> str:
    """What a search is called in the database: a hash of all but the number of trials, which may grow."""
    document = {**study.file.document, "search": {**study.file.document["search"], "trials": None}}
    return hashlib.sha256(json.dumps(document, sort_keys=True, default=str).encode()).hexdigest()[:12]


def _retry() -> Any:
    """Lets a trial whose worker has died be tried again, with the same values and what it has reported."""
    with _quiet():
        return require_optuna().storages.RetryHeartbeatStaleTrialCallback(inherit_intermediate_values=True)


def _counted(study: Study, trials: Any) -> list[Any]:
    """Optuna's trials but those that were tried again later, or have ended before they had values."""
    found = trials.get_trials(deepcopy=False)
    again = {number for trial in found for number in trial.system_attrs.get("retry_history", ())}
    return [t for t in found if t.number not in again and (t.state.name != "FAIL" or _is_proposed(study, t))]


def _is_proposed(study: Study, trial: Any) -> bool:
    """Whether a trial has a value from each range."""
    return trial.params.keys() >= searched(study).ranges.keys()


@contextmanager
def _quiet() -> Iterator[None]:
    """Without Optuna's warnings that heartbeats are experimental."""
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", module="optuna")
        warnings.filterwarnings("ignore", category=require_optuna().exceptions.ExperimentalWarning)
        yield
