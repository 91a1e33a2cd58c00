"""A worker of a study: makes one run after the other, each under the lock of its folder.

Any number of workers may work on a study, on machines that share its folder. A run that another one holds is passed by.
One whose worker has died is resumed, and one that is done is not touched. There is no list of who does what: the
folders and their locks say it.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

import attrs
import torch

from ganframe.analysis.divergence import measure_in
from ganframe.analysis.evaluate import evaluate
from ganframe.engine.state import Callback
from ganframe.errors import RequestError, RunError, note, warn
from ganframe.recipes.problems import unexpected
from ganframe.recipes.tables import Comparison
from ganframe.recipes.writing import to_table
from ganframe.storage import run_folder
from ganframe.storage.files import write_text
from ganframe.storage.run_folder import InUse, RunFolder
from ganframe.studies.outcomes import FAILURE, failure, final_scores, is_done, is_trained, run_folder_of
from ganframe.studies.plan import Planned, Study
from ganframe.studies.presence import present
from ganframe.training.run import resume
from ganframe.training.run import run as train

PAUSE = 1.0
"""Seconds between two looks at runs that other workers hold."""


@attrs.define
class Worked:
    """What a worker did: how many runs, and why some could not be worked on here, by the names of their folders."""

    runs: int = 0
    refused: dict[str, str] = attrs.field(factory=dict)


class EndedEarly(Exception):
    """A callback has ended a run before its last step."""


def work(study: Study, folder: Path, wait: bool = True, stopped: Callable[[], bool] = lambda: False) -> Worked:
    """Makes the runs of a study in its folder until none is left.

    With `wait` it stays until the runs that other workers hold are done, and takes over those whose worker dies. A run
    that fails is recorded in its folder, and the others are made. One that cannot be started here, as where its data is
    not on this machine, is not recorded, and may be made elsewhere. `stopped` ends the work before the next run.

    Raises KeyboardInterrupt after an interrupted run has saved; RunError where the folder cannot be written;
    RequestError where locks of workers on other machines do not hold.
    """
    worked = Worked()
    done: set[str] = set()
    with threads_of(study), present(folder):
        while True:
            held = False
            for run in study.runs:
                if stopped():
                    raise KeyboardInterrupt
                if run.name in worked.refused or run.name in done:
                    continue
                if is_done(run, folder):
                    done.add(run.name)
                    continue
                try:
                    worked.runs += work_on(run, run_folder_of(folder, run), folder)
                except InUse:
                    held = True
                except RequestError as error:
                    worked.refused[run.name] = str(error)
                    warn(f"{run.title}: {error}")
            if not (held and wait):
                return worked
            time.sleep(PAUSE)


def work_on(run: Planned, path: RunFolder, folder: Path, callbacks: Sequence[Callback] = ()) -> bool:
    """Makes or resumes a run and judges it. Returns whether there was anything to do.

    Raises InUse where another worker holds it, RequestError where it cannot be made here, EndedEarly as `callbacks`
    raise it.
    """
    try:
        with run_folder.claimed(path):
            if is_done(run, folder):
                return False
            note(f"{run.title}: {path.path}")
            try:
                _make(run, path, callbacks)
            except RunError as error:
                if isinstance(error.__cause__, OSError):  # a full disk would end the next runs too
                    raise
                _record(path, str(error))
            except (RequestError, OSError, EndedEarly):
                raise
            except Exception as error:
                _record(path, unexpected(error))
            return True
    except OSError as error:
        raise RunError(f"{path.path}: cannot be written: {error.strerror or error}") from error


def _make(run: Planned, path: RunFolder, callbacks: Sequence[Callback]) -> None:
    """Trains a run to its last step, from where a dead worker left it, and judges it. A comparison begins again."""
    recipe = run.recipe
    if isinstance(recipe, Comparison):
        measure_in(path.path, recipe)
        return
    if not is_trained(path, recipe):
        if path.recipe.is_file():
            resume(path.path, callbacks=callbacks)
        else:
            train(recipe, path.path, callbacks)
    if final_scores(path, recipe) is None:
        evaluate(path.path, [to_table(entry, recipe.registry) for entry in recipe.metrics])


def _record(path: RunFolder, message: str) -> None:
    """Records in its folder that a run failed."""
    write_text(path.path / FAILURE, f"{message}\n")
    warn(message)


def forget_failures(study: Study, folder: Path) -> int:
    """Lets failed runs be resumed from their last checkpoints. Returns how many there were."""
    found = [path for run in study.runs if failure(path := run_folder_of(folder, run)) is not None]
    for path in found:
        (path.path / FAILURE).unlink(missing_ok=True)
    return len(found)


@contextmanager
def threads_of(study: Study) -> Iterator[None]:
    """The study's number of threads for the computations of this process: sums, and so weights, depend on it."""
    before = torch.get_num_threads()
    torch.set_num_threads(study.file.threads)
    try:
        yield
    finally:
        torch.set_num_threads(before)


def stop_with(stream: Callable[[], object], interrupt: Callable[[], None]) -> Callable[[], bool]:
    """Interrupts this process once `stream` has returned. Returns whether that has happened."""
    ended = threading.Event()

    def watch() -> None:
        stream()
        ended.set()
        interrupt()

    threading.Thread(target=watch, daemon=True).start()
    return ended.is_set
