"""Worker processes that read data: how they are started, and how they leave signals to the run.

A terminal sends Ctrl-C to all processes of a run. The run itself stops after its step and saves, for which it needs its
workers. A worker that is forked has the run's way with signals; one that is spawned, or forked from a server as Python
3.14 does by default, would die.
"""

from __future__ import annotations

import pickle
import signal
import threading
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from multiprocessing import active_children, current_process, get_start_method
from types import FrameType
from typing import Any

from torch.utils.data import DataLoader

from ganframe.errors import RequestError, RunError

SIGNALS = (signal.SIGINT, signal.SIGTERM)


def refuse_in_worker() -> None:
    """Raises RequestError in a process that is being spawned to read data, and has come to start a run.

    It imports the script that started it: a run outside of `if __name__ == "__main__":` would start again in each.
    """
    if getattr(current_process(), "_inheriting", False):
        raise RequestError(
            "a process that reads data has imported this script, which starts the run again; put the call under "
            "if __name__ == '__main__':"
        )


def leave_signals_to_the_run(worker: int) -> None:
    """Ignores Ctrl-C and the first SIGTERM in a worker: for DataLoader's `worker_init_fn`."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    signal.signal(signal.SIGTERM, _ignore_once)
    if hasattr(signal, "pthread_sigmask"):
        signal.pthread_sigmask(signal.SIG_UNBLOCK, SIGNALS)


def _ignore_once(number: int, frame: FrameType | None) -> None:
    signal.signal(number, signal.SIG_DFL)


def start(loader: DataLoader[Any]) -> Iterator[Any]:
    """iter(loader), whose workers start with signals blocked: a spawned one imports for seconds before it ignores any.

    Signals to this process are delivered afterwards. Raises RunError where the dataset cannot be sent to a worker.
    """
    before = {*active_children()}
    try:
        with _signals_blocked() if loader.num_workers else _nothing(), warnings.catch_warnings():
            warnings.filterwarnings("ignore", "Got pickle error")  # the RunError says the same
            return iter(loader)
    except OSError as error:
        for started in {*active_children()} - before:  # not those of a program that calls this
            started.terminate()
        raise RunError(
            f"the processes that read data cannot be started: {error.strerror or error}; use fewer train.workers (0 "
            "reads in the run's own process)"
        ) from error
    except (pickle.PicklingError, AttributeError, TypeError) as error:
        if loader.num_workers == 0 or "pickle" not in f"{type(error).__name__} {error}":
            raise
        raise RunError(
            f"the dataset cannot be sent to the processes that read it: {error}; define its classes and functions at "
            "the top of a module, without lambda, or set train.workers = 0"
        ) from error


@contextmanager
def _nothing() -> Iterator[None]:
    yield


@contextmanager
def _signals_blocked() -> Iterator[None]:
    if not hasattr(signal, "pthread_sigmask") or threading.current_thread() is not threading.main_thread():
        yield  # Windows has no such mask
        return
    if get_start_method() != "fork":
        from multiprocessing import resource_tracker

        resource_tracker.ensure_running()  # some versions of Python unblock signals as they start it
    before = signal.pthread_sigmask(signal.SIG_BLOCK, SIGNALS)
    try:
        yield
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, before)
