"""What a folder of images holds: its files with their classes, sizes and times, and what their headers say.

The newest index is used again while no folder and no file has changed, so that a dataset whose `spec`, `build` and
`fingerprint` are asked for lists its folder once.
"""

from __future__ import annotations

import collections
import hashlib
import os
import re
import time
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import attrs
import numpy as np
from torch import Tensor

from ganframe import list_images
from ganframe.builtin.archive import Archive

SETTLED = 2 * 10**9  # nanoseconds: what changed so lately may change again without another time, as FAT counts


@attrs.frozen
class Headers:
    """Shape (C, H, W) of all images, whether one has more than 8 bits, and how many have pages that are not read."""

    shape: tuple[int, int, int]
    deep: bool
    paged: int


@attrs.define(eq=False)
class Index:
    """Image files sorted by name, with their labels, the names of classes, and how many files of each kind are none.

    `labels` are a number for each file, or conditions (n, k). Of an archive `files` are the paths below its own path.
    `stats` (n, 3) are sizes in bytes, and times of the last change of content and of attributes in nanoseconds.
    """

    root: Path
    files: list[str]
    labels: list[int] | Tensor
    names: tuple[str, ...] | None
    left_out: collections.Counter[str]
    folders: dict[str, int]
    stats: np.ndarray[Any, Any]
    settled: bool
    headers: dict[object, Headers] = attrs.field(factory=dict)
    """By the `size` to which images are scaled, for which fewer headers are read."""
    classes: int | None = None
    archive: Archive | None = None

    def unchanged(self) -> bool:
        """Whether no folder and no file has changed since. Also False where that could not be seen yet."""
        try:
            same = all(os.stat(folder).st_mtime_ns == then for folder, then in self.folders.items())
            if self.archive is not None:
                return self.settled and same
            return self.settled and same and np.array_equal(_stats(self.files), self.stats)
        except OSError:
            return False

    def key(self, *options: object) -> str:
        """A hash of the files' names below the root, their sizes and times, and of what they are read with."""
        above = len(os.path.join(self.root, ""))
        digest = hashlib.sha256(repr(options).encode("utf-8", "surrogateescape"))
        digest.update("\0".join([file[above:] for file in self.files]).encode("utf-8", "surrogateescape"))
        digest.update(self.stats.astype("<i8").tobytes())
        return digest.hexdigest()[:32]


def index_of(root: Path, channels: int, read: Callable[[Path, int], Index] | None = None) -> Index:
    """The index of a folder now, or as `read` reads it. Raises ValueError where there are no images to train on."""
    global _newest
    asked = (os.path.abspath(root), str(root), channels)
    if _newest is not None and _newest[0] == asked and _newest[1].unchanged():
        return _newest[1]
    _newest = None  # frees the memory of the last one
    index = (read or _indexed)(root, channels)
    _newest = asked, index
    return index


_newest: tuple[object, Index] | None = None


def _indexed(root: Path, channels: int) -> Index:
    now = time.time_ns()
    if not root.is_dir():
        raise ValueError(f"{root}: no such folder")
    own = list_images(root, channels)
    left_out, listed = collections.Counter(own.others), dict(own.folders)
    folders = [folder for folder in map(Path, own.below) if not _is_above(folder, root)]
    folders.sort(key=lambda folder: natural(folder.name))
    inside = {}
    for folder in folders:
        found = list_images(folder, channels, deep=True)
        left_out.update(found.others)
        listed.update(found.folders)
        inside[folder.name] = found.files
    files, labels, names = divided(root, own.files, inside, left_out, channels)
    stats = _stats(files)
    newest = max(int(stats[:, 1].max()), *listed.values())
    classes = None if names is None else len(names)
    return Index(root, files, labels, names, left_out, listed, stats, settled=newest < now - SETTLED, classes=classes)


def divided(
    root: Path,
    own: list[str],
    inside: Mapping[str, list[str]],
    left_out: collections.Counter[str],
    channels: int,
) -> tuple[list[str], list[int], tuple[str, ...] | None]:
    """The files, their labels and the names of classes, of images in the root itself or in its subfolders.

    Raises ValueError where they are in both, or where there are none.
    """
    if own and any(inside.values()):
        raise ValueError(f"{root}: images both in the folder itself and in its subfolders; move one of the two groups")
    files, labels, names = own, [0] * len(own), None
    if not files and inside:
        files = [file for found in inside.values() for file in found]
        labels = [label for label, found in enumerate(inside.values()) for _ in found]
        names = tuple(inside)
    if not files:
        kinds = ".png, .jpg, .webp, .tif, .npy and others" if channels in (1, 3, 4) else ".npy, .npz, .tif"
        there = f"; the folder has {counted(left_out)}" if left_out else ""
        raise ValueError(f"{root}: no images found; image names end in {kinds}{there}")
    if names is not None and not all(inside.values()):
        empty = ", ".join(name for name, found in inside.items() if not found)
        raise ValueError(f"{root}: classes without images: {empty}; fill these folders or remove them")
    return files, labels, names


def _stats(files: Sequence[str]) -> np.ndarray[Any, Any]:
    """(n, 3), int64: sizes and times of files. Raises OSError."""
    stats = map(os.stat, files)
    values = (value for stat in stats for value in (stat.st_size, stat.st_mtime_ns, stat.st_ctime_ns))
    return np.fromiter(values, np.int64, 3 * len(files)).reshape(-1, 3)


def natural(name: str) -> tuple[list[str | int], str]:
    """A key that sorts names with numbers by their numbers: kind2 before kind10."""
    return [int(part) if part.isdecimal() else part for part in re.split(r"(\d+)", name)], name


def _is_above(link: Path, root: Path) -> bool:
    return root.resolve().is_relative_to(link.resolve())


def counted(left_out: collections.Counter[str]) -> str:
    """ "5 files that are no images (3 .txt, 2 .mp4)"."""
    kinds = ", ".join(f"{count} {kind}" for kind, count in left_out.most_common(5))
    total = left_out.total()
    return f"{total} {'file that is no image' if total == 1 else 'files that are no images'} ({kinds})"
