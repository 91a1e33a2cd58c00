"""Workers of a study show that they are there, so that others can test whether locks hold between machines.

    .worker-<host>-<process>-<number>

Each holds the lock of its file, and touches it now and then. Who finds such a file free, though it is still touched,
knows that its own machine does not see the locks of the other one.
"""

from __future__ import annotations

import os
import socket
import threading
import time
import uuid
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from filelock import FileLock, Timeout

from ganframe.errors import RequestError

PREFIX = ".worker-"
BEAT = 5.0
"""Seconds between two touches."""

SILENCE = 4 * BEAT
"""Seconds without a touch after which a worker is dead."""

NO_LOCKS = "locks do not hold in this folder, so processes would train the same run; choose --out on another disk"


@contextmanager
def present(folder: Path) -> Iterator[None]:
    """Shows that this process works on the study in a folder. Raises RequestError where locks of others do not hold."""
    own = folder / f"{PREFIX}{socket.gethostname()}-{os.getpid()}-{uuid.uuid4().hex[:8]}"
    folder.mkdir(parents=True, exist_ok=True)
    ended = threading.Event()

    def beat() -> None:
        while not ended.wait(BEAT):
            with suppress(OSError):
                os.utime(own)

    with FileLock(own).acquire(timeout=BEAT):  # another worker may have it for a moment, to test it
        beating = threading.Thread(target=beat, daemon=True)
        beating.start()
        try:
            refuse_unseen_locks(folder, own)
            yield
        finally:
            ended.set()
            beating.join()
            _remove(own)


def refuse_unseen_locks(folder: Path, own: Path | None = None) -> None:
    """Raises RequestError where a worker of another machine is there, and this one does not see its lock.

    Removes the files of dead workers.
    """
    here = f"{PREFIX}{socket.gethostname()}-"
    for file in sorted(folder.glob(f"{PREFIX}*")):
        if file == own:
            continue
        try:
            with FileLock(file).acquire(timeout=0):
                if not file.name.startswith(here) and _is_touched(file):
                    host = file.name.removeprefix(PREFIX).rsplit("-", 2)[0]
                    raise RequestError(f"{folder}: {NO_LOCKS}: the locks of {host} are not seen here")
                _remove(file)
        except (Timeout, FileNotFoundError):
            continue


def _is_touched(file: Path) -> bool:
    """Whether the worker of a file is alive: it touches it within a while."""
    first = _touched(file)
    probe = file.with_name(f".probe-{uuid.uuid4().hex}")
    probe.touch()  # its time is that of the server, whose clock may be another
    silent = _touched(probe) - first
    _remove(probe)
    deadline = time.monotonic() + SILENCE - silent
    while time.monotonic() < deadline:
        time.sleep(BEAT / 10)
        if _touched(file) != first:
            return True
    return False


def _touched(file: Path) -> float:
    """When a file was touched last, as its server has it: opening it brings what a client keeps of it up to date."""
    with file.open("rb") as opened:
        return os.fstat(opened.fileno()).st_mtime


def _remove(file: Path) -> None:
    with suppress(OSError):
        file.unlink()
