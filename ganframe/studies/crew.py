"""The workers of a study on this machine: each a process of its own, whose threads do not depend on their number."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import IO, Any

import attrs
import torch

from ganframe.errors import note
from ganframe.studies.folder import STUDY
from ganframe.training.accelerator import LAUNCHERS, TORCHRUN

INTERVAL = 0.5
"""Seconds between two looks at the workers."""

THREADS = ("OMP_NUM_THREADS", "MKL_NUM_THREADS", "OPENBLAS_NUM_THREADS", "VECLIB_MAXIMUM_THREADS")


@attrs.define
class Worker:
    """A process that works on a study. It saves and ends once its standard input is closed, as where this one dies."""

    process: subprocess.Popen[bytes]
    said: IO[bytes]

    def new_lines(self) -> list[str]:
        """What it has written on standard error since the last call."""
        return self.said.read().decode("utf-8", "replace").splitlines()


def employ(folder: Path, jobs: int, threads: int, look: Callable[[], None]) -> list[str]:
    """Lets `jobs` processes work on the study in a folder until they end. Returns why some failed.

    `look` is called now and then. After Ctrl-C or SIGTERM the workers save; a second one ends them at once.
    """
    workers: list[Worker] = []
    failures: list[str] = []
    warned: set[str] = set()
    try:
        with _terminating():
            for index in range(jobs):
                workers.append(_start(folder, threads, index))
            while workers:
                look()
                for worker in [worker for worker in workers if worker.process.poll() is not None]:
                    workers.remove(worker)
                    failures += _failure(worker)
                for worker in workers:
                    for line in worker.new_lines():
                        if line.startswith("warning: ") and line not in warned:
                            warned.add(line)
                            note(line)
                if workers:
                    time.sleep(INTERVAL)
    except KeyboardInterrupt:
        note("saving")
        for worker in workers:
            _close(worker)
        for worker in workers:
            worker.process.wait()
        raise
    finally:
        for worker in workers:
            worker.process.kill()
            worker.process.wait()
            worker.said.close()
    return failures


def _start(folder: Path, threads: int, index: int) -> Worker:
    """Starts a worker with the packages of this process, out of reach of the terminal's Ctrl-C."""
    descriptor, file = tempfile.mkstemp(prefix="ganframe-worker-")  # a pipe would break where this process dies
    try:
        process = subprocess.Popen(
            [sys.executable, "-P", "-m", "ganframe", "study", str(folder / STUDY), "--out", str(folder), "--worker"],
            stdin=subprocess.PIPE,
            stdout=subprocess.DEVNULL,
            stderr=descriptor,
            env=_environment(os.environ, threads, index),
            start_new_session=True,
        )
        return Worker(process, open(file, "rb"))
    finally:
        os.close(descriptor)
        with suppress(OSError):  # Windows removes no open file
            os.unlink(file)


def _environment(own: Mapping[str, str], threads: int, index: int) -> dict[str, str]:
    """The environment of a worker: it trains alone, with its threads, and with one of the GPUs where there are more."""
    launched = {*LAUNCHERS, *LAUNCHERS.values(), *TORCHRUN}
    environment = {name: value for name, value in own.items() if name not in launched}
    environment |= dict.fromkeys(THREADS, str(threads))
    environment["PYTHONPATH"] = os.pathsep.join(path or os.getcwd() for path in sys.path)
    devices = own.get("CUDA_VISIBLE_DEVICES", ",".join(map(str, range(torch.cuda.device_count())))).split(",")
    if len(devices) > 1:
        environment["CUDA_VISIBLE_DEVICES"] = devices[index % len(devices)]
    return environment


def _close(worker: Worker) -> None:
    assert worker.process.stdin is not None
    worker.process.stdin.close()


def _failure(worker: Worker) -> Iterator[str]:
    """Why a worker ended before the study was done, in a line."""
    code = worker.process.returncode
    lines = [line for line in worker.new_lines() if line.strip()]
    worker.said.close()
    if code < 0:
        yield f"a worker was ended by {signal.Signals(-code).name}"
    elif code:
        yield lines[-1] if lines else f"a worker ended with code {code}"


@contextmanager
def _terminating() -> Iterator[None]:
    """Makes SIGTERM a Ctrl-C."""
    if threading.current_thread() is not threading.main_thread():
        yield
        return
    before: Any = signal.signal(signal.SIGTERM, signal.default_int_handler)
    try:
        yield
    finally:
        signal.signal(signal.SIGTERM, before)
