"""Settings of the process that a command runs in. Calls from Python leave them to the caller."""

from __future__ import annotations

import atexit
import ctypes
import functools
import gc
import importlib
import io
import os
import platform
import sys
from pathlib import Path

THREADS = ("OMP_NUM_THREADS", "MKL_NUM_THREADS")
"""Variables that say how many threads torch uses on the CPU."""


def print_any_character() -> None:
    """Prints a question mark for what the terminal cannot show, as ∇ on a Windows one, in the place of failing.

    Standard error does so by itself.
    """
    if isinstance(sys.stdout, io.TextIOWrapper):  # not where a test or a notebook replaces it
        sys.stdout.reconfigure(errors="replace")


def import_torch() -> None:
    """Imports torch, of whose objects nearly all stay for good: Python's search for garbage leaves them out.

    It would look through them during the import, in training, and twice when the program ends. Nothing is done where
    torch is imported already: then this is not the first thing that the process does.
    """
    if "torch" in sys.modules:
        return
    gc.disable()
    try:
        importlib.import_module("torch")
    finally:
        gc.enable()
    gc.freeze()
    atexit.register(gc.freeze)


@functools.cache
def keep_freed_memory() -> None:
    """Tells glibc to keep freed memory: returning large activations costs half a million page faults a step.

    Only where training runs on the CPU; on a GPU, activations are not in this memory.
    """
    import torch

    use_cpu = os.environ.get("ACCELERATE_USE_CPU", "").lower() in ("1", "true", "yes", "on")
    if platform.libc_ver()[0] == "glibc" and (use_cpu or not torch.cuda.is_available()):
        libc = ctypes.CDLL(None)
        m_trim_threshold, m_mmap_max = -1, -4  # malloc.h
        libc.mallopt(m_mmap_max, 0)
        libc.mallopt(m_trim_threshold, -1)


def use_threads_of(run: str) -> None:
    """Trains on with as many threads as a run has had, so that its weights are those of an unbroken run to the byte.

    Not where a variable gives another number, nor where the machine has fewer processors.
    """
    import torch

    from ganframe.storage import provenance, run_folder

    threads = provenance.threads_of(run_folder.RunFolder(Path(run)))
    asked = any(os.environ.get(variable) for variable in THREADS)
    if threads is not None and not asked and threads <= (os.cpu_count() or 1):
        torch.set_num_threads(threads)


def leave_launch() -> None:
    """Forgets that srun or torchrun started several processes: each of them is to work by itself."""
    from ganframe.training.accelerator import LAUNCHERS, TORCHRUN

    for variable in {*LAUNCHERS, *LAUNCHERS.values(), *TORCHRUN}:
        os.environ.pop(variable, None)
