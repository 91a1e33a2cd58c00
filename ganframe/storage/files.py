"""Atomic files: a file or folder is complete under its name, or not there."""

from __future__ import annotations

import errno
import hashlib
import os
import shutil
import sys
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    import numpy as np


def write_text(file: Path, text: str) -> None:
    """Writes a text file atomically."""
    write_atomically(file, lambda partial: partial.write_text(text, encoding="utf-8"))


def append_lines(file: Path, lines: Iterable[str]) -> None:
    """Adds lines in one write, so that those of several processes do not mix.

    A last line that a killed process left half written is ended before, so that it takes none of these with it.
    """
    text = "".join(f"{line}\n" for line in lines).encode()
    with file.open("ab+") as stream:
        if stream.tell():
            stream.seek(-1, os.SEEK_END)
            text = text if stream.read(1) == b"\n" else b"\n" + text
        stream.write(text)


def write_array(file: Path, values: np.ndarray[Any, Any]) -> None:
    """Writes an array under this very name; `np.save` adds .npy to names that end in .NPY."""
    import numpy as np

    with file.open("wb") as stream:
        np.save(stream, values)


def write_atomically(file: Path, write: Callable[[Path], object]) -> None:
    """Writes to a temporary file beside `file`, syncs it to the disk, then renames it."""
    partial = file.with_name(f".{file.name}.partial")
    with removed_on_failure(partial):
        write(partial)
        sync(partial)
        partial.replace(file)


@contextmanager
def removed_on_failure(partial: Path) -> Iterator[None]:
    """A path to write to: nothing is there before, and nothing is left where writing fails, as on a full disk."""
    delete(partial)
    try:
        yield
    except BaseException:
        with suppress(OSError):
            delete(partial)
        raise


def sync(path: Path) -> None:
    """Waits until a file or folder is on the disk. Where the system does not do this for folders, it does nothing."""
    windows = (
        sys.platform == "win32"
    )  # there, folders cannot be opened, and only what is open for writing can be synced
    if windows and path.is_dir():
        return
    descriptor = os.open(path, os.O_RDWR if windows else os.O_RDONLY)
    try:
        os.fsync(descriptor)
    except OSError as error:  # some network file systems refuse it for folders
        if error.errno not in (errno.EINVAL, errno.ENOTSUP) or not path.is_dir():
            raise
    finally:
        os.close(descriptor)


def delete(path: Path) -> None:
    """Removes a file, a link itself or a folder, if it exists."""
    if path.is_dir() and not path.is_symlink():
        shutil.rmtree(path, ignore_errors=True)
    else:
        path.unlink(missing_ok=True)


_UMASK = os.umask(0)  # it can be read only by setting it, which threads would see, so at the import
os.umask(_UMASK)


def as_any_new_file(file: Path) -> None:
    """Gives a file the permissions of any new one. safetensors makes files that nobody but their owner can read.

    Where the file system knows no permissions, as that of a network drive may, it does nothing.
    """
    with suppress(OSError):
        file.chmod(0o666 & ~_UMASK)


def checksum(file: Path) -> str:
    """The SHA-256 of a file, in hexadecimal."""
    with file.open("rb") as opened:
        return hashlib.file_digest(opened, "sha256").hexdigest()


def first_line(error: Exception) -> str:
    """The first line of a message, and the second where the first only announces it."""
    lines = [line.strip() for line in str(error).splitlines() if line.strip()] or [type(error).__name__]
    return " ".join(lines[:2]) if lines[0].endswith(":") else lines[0]
