"""Ctrl-C and SIGTERM stop a run between two steps, after it has saved."""

from __future__ import annotations

import signal
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from types import FrameType

from ganframe.engine.state import Callback, State


class Interrupted(Exception):
    """The run was asked to stop, and stopped between two steps."""


@contextmanager
def interrupts(agree: Callable[[bool], bool], save: Callback) -> Iterator[Callback]:
    """Turns SIGINT and SIGTERM into a stop between two steps. A second signal ends the process at once.

    Yields the callback that stops: it calls `save`, then raises Interrupted. `agree` says whether any process was
    asked to stop.
    """
    asked = False

    def ask(number: int, frame: FrameType | None) -> None:
        nonlocal asked
        if asked:
            signal.signal(number, signal.SIG_DFL)
            signal.raise_signal(number)
        asked = True

    def callback(state: State) -> None:
        if agree(asked):
            save(state)
            raise Interrupted

    if threading.current_thread() is not threading.main_thread():
        yield callback  # Python delivers signals to the main thread only
        return
    before = {number: signal.signal(number, ask) for number in (signal.SIGINT, signal.SIGTERM)}
    try:
        yield callback
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
