"""A progress bar on a terminal; a line now and then elsewhere."""

from __future__ import annotations

import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager

from ganframe.engine.state import Callback, State
from ganframe.storage.log import Record


@contextmanager
def progress(steps: int, done: int, records: list[Record], shown: bool) -> Iterator[Callback]:
    """Yields a callback that shows the step, the last record's losses and the time left, on standard error."""
    if not shown:
        yield lambda state: None
        return
    if not sys.stderr.isatty():
        yield _lines(steps, done, records)
        return
    from rich.console import Console
    from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

    columns = (BarColumn(), MofNCompleteColumn(), TimeRemainingColumn(), TextColumn("{task.fields[losses]}"))
    with Progress(*columns, console=Console(stderr=True), auto_refresh=False) as bar:
        task = bar.add_task("", total=steps, completed=done, losses="")
        due = 0.0

        def callback(state: State) -> None:
            nonlocal due
            now = time.monotonic()
            if now >= due or state.step == steps:
                due = now + 0.25
                bar.update(task, completed=state.step, losses=_losses(records), refresh=True)

        yield callback


def _lines(steps: int, done: int, records: list[Record]) -> Callback:
    begun = time.monotonic()
    due = begun + 10

    def callback(state: State) -> None:
        nonlocal due
        now = time.monotonic()
        if now >= due or state.step == steps:
            due = now + 10
            left = (now - begun) / max(1, state.step - done) * (steps - state.step)
            print(f"step {state.step}/{steps}  {_losses(records)}  {left:.0f} s left", file=sys.stderr, flush=True)

    return callback


def _losses(records: list[Record]) -> str:
    if not records:
        return ""
    shown = {"D": "loss_discriminator", "G": "loss_generator"}
    last = {player: records[-1].get(key) for player, key in shown.items()}
    return "  ".join(f"loss {player} {'not finite' if v is None else f'{v:+.3f}'}" for player, v in last.items())
