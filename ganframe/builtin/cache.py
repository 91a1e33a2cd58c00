"""The cache folder, where components keep what takes long to make: it may be removed at any time."""

from __future__ import annotations

import contextlib
import os
import shutil
import threading
import time
from collections.abc import Callable
from pathlib import Path

OFF = "off"
LARGEST = 16 * 2**30  # bytes of images that are kept together; those used longest ago are removed
SPARE = 2**30  # bytes that are left free on the disk
DAY = 24 * 3600.0


def cache_folder() -> Path | None:
    """GANFRAME_CACHE, by default `ganframe` in XDG_CACHE_HOME or ~/.cache; None where GANFRAME_CACHE is "off"."""
    given = os.environ.get("GANFRAME_CACHE")
    if given == OFF:
        return None
    if given:
        return Path(given).expanduser()
    home = os.environ.get("XDG_CACHE_HOME") or ""
    return (Path(home) if os.path.isabs(home) else Path("~/.cache").expanduser()) / "ganframe"


def keep(file: Path, size: int, write: Callable[[Path], object]) -> None:
    """Writes a file of the cache atomically, also where other processes do the same.

    First files of the same suffix are removed, those used longest ago, until they have at most LARGEST bytes together.
    Raises OSError where it cannot be written, or the disk would be all but full.
    """
    file.parent.mkdir(parents=True, exist_ok=True)
    _make_room(file, size)
    if shutil.disk_usage(file.parent).free < size + SPARE:
        raise OSError(f"{file.parent}: less than {SPARE >> 30} GiB of the disk would be left")
    partial = file.with_name(f".{file.name}.{os.getpid()}-{threading.get_ident()}.partial")
    try:
        write(partial)
        os.replace(partial, file)
    except BaseException:
        with contextlib.suppress(OSError):
            partial.unlink(missing_ok=True)
        raise


def used(file: Path) -> None:
    """Marks a file of the cache as used now."""
    with contextlib.suppress(OSError):
        os.utime(file)


def _make_room(file: Path, size: int) -> None:
    """Removes leftovers of killed processes, and files used longest ago."""
    with contextlib.suppress(OSError):
        for partial in file.parent.glob(".*.partial"):
            if time.time() - partial.stat().st_mtime > DAY:
                partial.unlink(missing_ok=True)
        stats = {other: other.stat() for other in file.parent.glob(f"*{file.suffix}") if other != file}
        total = sum(stat.st_size for stat in stats.values())
        for other in sorted(stats, key=lambda other: stats[other].st_mtime):
            if total + size > LARGEST:
                other.unlink(missing_ok=True)
                total -= stats[other].st_size
