"""Errors that a user can correct. The command line prints their message, without a traceback."""

from __future__ import annotations

import difflib
import os
import sys
import threading
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager


class RequestError(Exception):
    """The request was wrong: a recipe, a name, a flag, a file. The command line prints it and exits with 2."""


class RecipeError(RequestError):
    """A recipe with mistakes. `problems` holds each of them, one line with its place."""

    def __init__(self, problems: Iterable[str]) -> None:
        self.problems = tuple(" ".join(problem.splitlines()) for problem in problems)  # a name may hold line breaks
        super().__init__("\n".join(self.problems))


class RunError(Exception):
    """The run failed for a reason that its message explains. The command line prints it and exits with 1."""


def did_you_mean(name: str, known: Iterable[str]) -> str:
    """`; did you mean 'x'?` for the most similar known name, or `; known: …` with all of them."""
    known = sorted(known)
    close = difflib.get_close_matches(name, known, n=1, cutoff=0.6)
    if close:
        return f"; did you mean '{close[0]}'?"
    return f"; known: {', '.join(known)}" if known else ""


def counted(number: int, noun: str, plural: str = "") -> str:
    """A number with its noun: `1 sample`, `1,797 samples`. `plural` is for nouns that do not add an s."""
    return f"{number:,} {noun if number == 1 else plural or f'{noun}s'}"


def note(message: str) -> None:
    """Prints a line on standard error that says what is being done."""
    print(message, file=sys.stderr, flush=True)


@contextmanager
def noted_if_slow(message: str, seconds: float = 2.0) -> Iterator[None]:
    """Notes what is being done if it takes longer than some seconds."""
    timer = threading.Timer(seconds, note, [message])
    timer.daemon = True  # a program that is killed does not wait for it
    timer.start()
    try:
        yield
    finally:
        timer.cancel()


_listeners: list[Callable[[str], object]] = []


def warn(message: str) -> None:
    """Prints a warning for the user on standard error; of several processes on a machine, only the first does."""
    if os.environ.get("LOCAL_RANK", "0") == "0":
        print(f"warning: {message}", file=sys.stderr, flush=True)
    for listener in tuple(_listeners):
        listener(message)


@contextmanager
def heard_warnings(listener: Callable[[str], object]) -> Iterator[None]:
    """Calls `listener` with every warning too, also with those of other threads."""
    _listeners.append(listener)
    try:
        yield
    finally:
        _listeners.remove(listener)
