"""A progress bar on a terminal or in a notebook; a line now and then elsewhere."""

from __future__ import annotations

import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager

from ganframe.engine.state import Callback, State
from ganframe.report.notebook import in_notebook, live_bar
from ganframe.storage.log import Record


@contextmanager
def progress(
    steps: int, done: int, records: list[Record], shown: bool, scores: Callable[[], str] = lambda: ""
) -> Iterator[Callback]:
    """Yields a callback that shows the step, the last record's losses, the speed and the time.

    On standard error; in a notebook, below the cell.

    `scores` returns the latest scores as a text.
    """
    if not shown:
        yield lambda state: None
        return
    if in_notebook():
        yield _bar(steps, done, records, scores, live_bar(steps))
        return
    if not sys.stderr.isatty():
        yield _lines(steps, done, records, scores)
        return
    from rich.console import Console
    from rich.progress import BarColumn, Progress, TextColumn
    from rich.table import Column

    # The bar is what is left of the width, and the last text is what a narrow terminal cuts.
    columns = (
        BarColumn(None, table_column=Column(min_width=4, ratio=1)),
        TextColumn("{task.fields[text]}", table_column=Column(no_wrap=True, overflow="ellipsis")),
    )
    with Progress(*columns, console=Console(stderr=True), auto_refresh=False, expand=True) as bar:
        task = bar.add_task("", total=steps, completed=done, text="")

        def show(step: int, text: str) -> None:
            bar.update(task, completed=step, text=text, refresh=True)

        yield _bar(steps, done, records, scores, show)


def _bar(
    steps: int, done: int, records: list[Record], scores: Callable[[], str], show: Callable[[int, str], None]
) -> Callback:
    """Shows the step four times a second."""
    begun, due = time.monotonic(), 0.0

    def callback(state: State) -> None:
        nonlocal due
        now = time.monotonic()
        if now >= due or state.step == steps:
            due = now + 0.25
            pace = _pace(now - begun, state.step - done, steps - state.step)
            show(state.step, f"{state.step}/{steps}  {pace}  {scores()}  {_losses(records)}")

    return callback


def _lines(steps: int, done: int, records: list[Record], scores: Callable[[], str]) -> Callback:
    begun = time.monotonic()
    due = begun + 10

    def callback(state: State) -> None:
        nonlocal due
        now = time.monotonic()
        if now >= due or state.step == steps:
            due = now + 10
            pace = _pace(now - begun, state.step - done, steps - state.step)
            found = "  ".join(filter(None, [_losses(records), scores(), pace]))
            print(f"step {state.step}/{steps}  {found}", file=sys.stderr, flush=True)

    return callback


def _pace(seconds: float, steps: int, left: int) -> str:
    """The speed over these seconds, the seconds, and what is left at this speed."""
    speed = steps / seconds if seconds else 0.0
    if steps and speed < 0.1:
        shown = f"{seconds / steps:.3g} s/step"
    else:
        shown = f"{speed:,.0f} steps/s" if speed >= 100 else f"{speed:.3g} steps/s"
    return f"{shown}  {clock(seconds)} elapsed  {clock(left * seconds / max(1, steps))} left"


def clock(seconds: float) -> str:
    """0:07, 12:34, 1:02:03, 3 d 1:02:03."""
    minutes, rest = divmod(round(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    days, hours = divmod(hours, 24)
    start = f"{days} d " if days else ""
    return start + (f"{hours}:{minutes:02}:{rest:02}" if days or hours else f"{minutes}:{rest:02}")


def _losses(records: list[Record]) -> str:
    if not records:
        return ""
    shown = {"D": "loss_discriminator", "G": "loss_generator"}
    last = {player: records[-1][key] for player, key in shown.items() if key in records[-1]}  # not before their start
    return "  ".join(f"loss {player} {'not finite' if v is None else f'{v:+.3f}'}" for player, v in last.items())
