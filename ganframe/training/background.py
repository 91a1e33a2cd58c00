"""Writes files in a thread while training goes on."""

from __future__ import annotations

from collections.abc import Callable
from concurrent.futures import Future, ThreadPoolExecutor


class Writer:
    """Calls functions that write files in one thread, in the order in which they are given.

    At most one of each kind is waiting or at work, so what they hold is bounded: give the next one after `wait(kind)`.
    They must leave the random state and the device alone, which the training loop uses meanwhile.
    """

    def __init__(self) -> None:
        self._thread = ThreadPoolExecutor(1, "ganframe-writer")
        self._given: dict[str, Future[None]] = {}

    def wait(self, kind: str | None = None) -> None:
        """Waits until what was given of a kind, or of all, has been written. Raises what writing raised, once."""
        for name in [kind] if kind is not None else list(self._given):
            given = self._given.pop(name, None)
            if given is not None:
                given.result()

    def give(self, kind: str, write: Callable[[], None]) -> None:
        """Has `write` called in the thread, after those before it. Waits, and raises, as `wait(kind)` does."""
        self.wait(kind)
        self._given[kind] = self._thread.submit(write)

    def close(self) -> None:
        """Ends the thread, after all that was given."""
        self._thread.shutdown()
