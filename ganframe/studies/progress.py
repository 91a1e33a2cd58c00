"""How far a study is, read from its folder, so that the workers of other processes and machines count too."""

from __future__ import annotations

import sys
import time
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path

import attrs

from ganframe.errors import counted, note
from ganframe.storage.log import read_log
from ganframe.storage.run_folder import RunFolder
from ganframe.studies.outcomes import Outcome, read_outcome
from ganframe.studies.plan import Planned, Study, cell_title
from ganframe.training.progress import clock

OFTEN, SELDOM = 1.0, 30.0
"""Seconds between two looks at the folder, and between two lines where there is no terminal."""


@attrs.define
class Watched:
    """The outcomes of a study. Runs that are done are not looked at again."""

    study: Study
    folder: Path
    outcomes: dict[str, Outcome] = attrs.field(factory=dict)

    def look(self) -> None:
        for run in self.study.runs:
            known = self.outcomes.get(run.name)
            if known is None or known.status not in ("finished", "failed"):
                self.outcomes[run.name] = read_outcome(run, self.folder)

    def count(self, *statuses: str) -> int:
        return sum(outcome.status in statuses for outcome in self.outcomes.values())

    def running(self) -> dict[str, tuple[Planned, int]]:
        """The runs that a worker holds, each with its step of the last line of its log."""
        return {
            run.name: (run, _step(self.outcomes[run.name]))
            for run in self.study.runs
            if self.outcomes[run.name].status == "running"
        }

    def left(self) -> float | None:
        """Seconds until all is done, by the mean of the runs that have finished; None before the first has."""
        took = [o.seconds for o in self.outcomes.values() if o.status == "finished" and o.seconds is not None]
        running = self.running()
        if not took:
            return None
        partly = sum(step / run.recipe.train.steps for run, step in running.values())
        return sum(took) / len(took) * (self.count("running", "waiting") - partly) / max(1, len(running))

    def text(self) -> str:
        """How many runs are done, and the time left."""
        failed, left = self.count("failed"), self.left()
        parts = [f"{self.count('finished', 'failed')}/{len(self.outcomes)} runs done"]
        parts += [f"{failed} failed"] if failed else []
        parts += [f"about {clock(left)} left"] if left else []
        return "  ".join(parts)


@contextmanager
def watching(study: Study, folder: Path) -> Iterator[Callable[[], None]]:
    """Yields a function that shows how far the study is, on standard error; it looks at the folder now and then."""
    watched = Watched(study, folder)
    watched.look()
    if not sys.stderr.isatty():
        yield _seldom(OFTEN, _lines(watched))
        return
    from rich.console import Console
    from rich.progress import BarColumn, Progress, TaskID, TextColumn
    from rich.table import Column

    columns = (
        BarColumn(20),
        TextColumn("{task.description}", table_column=Column(ratio=1, no_wrap=True, overflow="ellipsis")),
    )
    with Progress(*columns, console=Console(stderr=True), auto_refresh=False, expand=True) as bar:
        whole = bar.add_task(watched.text(), total=len(study.runs))
        tasks: dict[str, TaskID] = {}

        def show() -> None:
            watched.look()
            bar.update(whole, completed=watched.count("finished", "failed"), description=watched.text())
            running = watched.running()
            for name in tasks.keys() - running.keys():
                bar.remove_task(tasks.pop(name))
            for name, (run, step) in running.items():
                steps = run.recipe.train.steps
                text = f"{run.title}  {step}/{steps}"
                if name not in tasks:
                    tasks[name] = bar.add_task(text, total=steps)
                bar.update(tasks[name], completed=step, description=text)
            bar.refresh()

        show()
        yield _seldom(OFTEN, show)
        show()


def _lines(watched: Watched) -> Callable[[], None]:
    """Shows a line for each run that is done, and now and then one with what is being done."""
    told = {name for name, outcome in watched.outcomes.items() if outcome.status in ("finished", "failed")}
    note(watched.text())

    def running() -> None:
        found = [f"{run.title}: step {step}/{run.recipe.train.steps}" for run, step in watched.running().values()]
        if found:
            note(f"{watched.text()}  ({'; '.join(found)})")

    seldom = _seldom(SELDOM, running)

    def show() -> None:
        watched.look()
        new = {n: o for n, o in watched.outcomes.items() if o.status in ("finished", "failed") and n not in told}
        told.update(new)
        for outcome in new.values():
            took = "" if outcome.seconds is None else f" after {clock(outcome.seconds)}"
            note(f"{cell_title(outcome.cell)}, seed {outcome.seed}: {outcome.status}{took}")
        if new:
            note(watched.text())
        seldom()

    return show


def _seldom(seconds: float, act: Callable[[], None]) -> Callable[[], None]:
    """A function that calls `act` at most once in so many seconds."""
    due = time.monotonic() + seconds

    def call() -> None:
        nonlocal due
        if time.monotonic() >= due:
            act()
            due = time.monotonic() + seconds

    return call


def _step(outcome: Outcome) -> int:
    records = read_log(RunFolder(outcome.folder))
    return int(records[-1]["step"]) if records else 0


def summary(outcomes: Iterable[Outcome]) -> str:
    """How many runs there are, and what became of them: "15 runs: 14 finished, 1 failed"."""
    statuses = [outcome.status for outcome in outcomes]
    each = [f"{statuses.count(status)} {status}" for status in ("finished", "failed", "running", "waiting")]
    return f"{counted(len(statuses), 'run')}: {', '.join(text for text in each if not text.startswith('0 '))}"
