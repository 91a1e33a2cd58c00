"""Which files of a folder are images, and which are left out."""

from __future__ import annotations

import collections
import os
import warnings
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path
from typing import IO

import attrs

from ganframe.data.deep_images import ARRAYS
from ganframe.data.image_files import MODES

SUFFIXES = (
    *(".png", ".apng", ".jpg", ".jpeg", ".jpe", ".jfif", ".mpo", ".gif", ".bmp", ".dib", ".webp", ".avif"),
    *(".tif", ".tiff", ".ppm", ".pgm", ".pbm", ".pnm", ".pfm", ".jp2", ".j2k", ".tga", ".qoi", ".pcx", ".sgi"),
)
_PAGED = (".tif", ".tiff")
_KNOWN = frozenset(SUFFIXES)
_BY_CONTENT = ("AVIF", "BMP", "GIF", "JPEG", "JPEG2000", "PNG", "PPM", "TIFF", "WEBP")
_LEFT_BY_SYSTEMS = {"thumbs.db", "ehthumbs.db", "desktop.ini", "__macosx", "@eadir", "icon\r"}


def is_hidden(name: str) -> bool:
    """Whether a file or folder of this name is what systems and programs leave: .DS_Store, ._x.png, Thumbs.db."""
    return name.startswith(".") or name.lower() in _LEFT_BY_SYSTEMS


def find_images(
    folder: str | Path, channels: int = 3, deep: bool = False
) -> tuple[list[Path], collections.Counter[str]]:
    """The image files of a folder, sorted by name, and how many files of each kind are no images.

    With `deep` those in its subfolders too. Linked files and folders are followed; hidden ones are passed by. A file of
    an unknown suffix is an image if its content is. Arrays (.npy, .npz) are images where there are no others, and with
    them TIFF files are where `channels` are not 1, 3 or 4. Raises OSError for folders that cannot be read.
    """
    listing = list_images(Path(folder), channels, deep)
    return [Path(file) for file in listing.files], listing.others


@attrs.frozen
class Listing:
    """What `list_images` found: image files, how many files of each kind are no images, and the folders it read.

    `folders` has the time at which each was changed last, in nanoseconds: while these are the same, no file was added,
    removed or renamed. `below` are the subfolders that were not read, unsorted.
    """

    files: list[str]
    others: collections.Counter[str]
    folders: dict[str, int]
    below: list[str]


def list_images(folder: Path, channels: int = 3, deep: bool = False) -> Listing:
    """As `find_images`, for folders of very many files: a Path for each takes most of the time."""
    others = collections.Counter[str]()
    folders: dict[str, int] = {}
    below: list[str] = []
    found = _files(str(folder), None if deep else below, (os.path.realpath(folder),), others, folders)
    files, no_images = choose_images(found, channels)
    return Listing(files, others + no_images, folders, below)


def choose_images(
    files: Iterable[str], channels: int = 3, is_image: Callable[[str], bool] | None = None
) -> tuple[list[str], collections.Counter[str]]:
    """Those of some files that are images, in their order, and how many of each kind are none, as `find_images` says.

    `is_image` decides by the content of a file of an unknown suffix; by default it is read from the disk.
    """
    is_image = is_image or _is_image_file
    pictures: list[str] = []
    arrays: list[str] = []
    paged: list[str] = []  # arrays, and TIFF files
    others = collections.Counter[str]()
    for file in files:
        suffix = _suffix(file)
        if suffix in ARRAYS:
            arrays.append(file)
            paged.append(file)
        elif suffix in _KNOWN or is_image(file):
            pictures.append(file)
            if suffix in _PAGED:
                paged.append(file)
        else:
            others[suffix or "without suffix"] += 1
    if channels not in MODES:
        others.update(suffix for suffix in map(_suffix, pictures) if suffix not in _PAGED)
        return paged, others
    if not pictures:
        return arrays, others
    others.update(map(_suffix, arrays))
    return pictures, others


def _is_image_file(file: str) -> bool:
    return is_image(Path(file))


def _suffix(file: str) -> str:
    """As Path.suffix, in lower case: strings are faster where there are a million files."""
    return os.path.splitext(file)[1].lower().removesuffix(".")


def _files(
    folder: str,
    below: list[str] | None,
    chain: tuple[str, ...],
    others: collections.Counter[str],
    folders: dict[str, int],
) -> Iterator[str]:
    """Files that are not hidden, in the order of their paths, part by part.

    Subfolders are added to `below`, or walked through where it is None. `chain` are the real paths of the folders above
    and of this one, against endless links.
    """
    folders[folder] = os.stat(folder).st_mtime_ns  # before its files: what comes later changes the time again
    with os.scandir(folder) as entries:
        found = [entry for entry in entries if not is_hidden(entry.name)]
    for entry in sorted(found, key=lambda entry: os.path.normcase(entry.name)):
        if entry.is_dir():
            if below is not None:
                below.append(entry.path)
                continue
            real = os.path.realpath(entry.path)
            if any(Path(above).is_relative_to(real) for above in chain):
                others["links to a folder above"] += 1
            else:
                yield from _files(entry.path, None, (*chain, real), others, folders)
        elif entry.is_file():
            yield entry.path
        elif entry.is_symlink():
            others["broken links"] += 1


def is_image(file: Path | IO[bytes]) -> bool:
    """Whether the content of a file is that of an image, whatever its name."""
    from PIL import Image

    Image.init()
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", Image.DecompressionBombWarning)
            with Image.open(file, formats=[name for name in _BY_CONTENT if name in Image.OPEN]):
                return True
    except Image.DecompressionBombError:  # reading it says so
        return True
    except Exception:  # PIL raises many kinds for what is none
        return False
