"""Decoded images and headers of a folder, kept in the cache folder for the next start.

They are found again by a hash of the files' names, sizes and times, of the options they were read with, and of the
versions that read them. So a folder that has changed is read anew, and one that was moved is not. The name of a file
of images has their CRC-32: a damaged one is read anew and replaced.
"""

from __future__ import annotations

import contextlib
import json
import time
import zlib
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np

from ganframe.builtin import cache
from ganframe.builtin.image_index import Headers, Index

VERSION = 1  # of what is kept, and of how ganframe reads images
WORTH = 1.0  # seconds from which on what was read is kept

Array = np.ndarray[Any, Any]


class Kept:
    """What is kept of a folder under the name `kind`, read with these options."""

    def __init__(self, index: Index, kind: str, *options: object) -> None:
        from PIL import __version__

        self.index, self.kind, self.took = index, kind, 0.0
        self.folder = cache.cache_folder() if index.settled else None
        self.key = index.key(VERSION, kind, options, __version__, np.__version__) if self.folder else ""

    @contextlib.contextmanager
    def timed(self) -> Iterator[None]:
        """Measures how long reading takes."""
        start = time.monotonic()
        yield
        self.took = time.monotonic() - start

    def worth_it(self) -> bool:
        """Whether reading took so long that it is worth keeping, and no file has changed meanwhile."""
        return self.folder is not None and self.took >= WORTH and self.index.unchanged()

    def array(self, shape: tuple[int, ...], dtype: type) -> Array | None:
        """The kept images, mapped from their file into memory, in which they may be changed; None if there are none."""
        for file in sorted(self.folder.glob(f"{self.kind}-{self.key}-*.npy")) if self.folder else ():
            try:
                found: Array = np.load(file, mmap_mode="c", allow_pickle=False)
                if found.shape == shape and found.dtype == dtype and file.name == self._name(found):
                    cache.used(file)
                    return np.asarray(found)
            except (OSError, ValueError, EOFError):  # damaged, or removed meanwhile
                continue
        return None

    def keep_array(self, x: Array) -> None:
        """Raises OSError where it cannot be written."""
        assert self.folder is not None
        if x.nbytes <= cache.LARGEST:
            cache.keep(self.folder / self._name(x), x.nbytes, lambda file: _save(file, x))

    def headers(self) -> Headers | None:
        """The kept headers; None if there are none."""
        if self.folder is None:
            return None
        try:
            said = json.loads(self._json().read_text(encoding="utf-8"))
            channels, height, width = map(int, said["shape"])
            return Headers((channels, height, width), bool(said["deep"]), int(said["paged"]))
        except (OSError, ValueError, LookupError, TypeError):  # damaged, or not there
            return None

    def keep_headers(self, headers: Headers) -> None:
        """Raises OSError where they cannot be written."""
        said = json.dumps({"shape": headers.shape, "deep": headers.deep, "paged": headers.paged})
        cache.keep(self._json(), len(said), lambda file: file.write_text(said, encoding="utf-8"))

    def _name(self, x: Array) -> str:
        return f"{self.kind}-{self.key}-{zlib.crc32(x.data):08x}.npy"

    def _json(self) -> Path:
        assert self.folder is not None
        return self.folder / f"{self.kind}-{self.key}.json"


def _save(file: Path, x: Array) -> None:
    with file.open("wb") as stream:
        np.save(stream, x)
