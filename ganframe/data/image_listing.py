"""Which files of a folder are images, and which are left out."""

from __future__ import annotations

import collections
import os
import warnings
from collections.abc import Iterator
from pathlib import Path

from ganframe.data.deep_images import ARRAYS
from ganframe.data.image_files import MODES

SUFFIXES = (
    *(".png", ".apng", ".jpg", ".jpeg", ".jpe", ".jfif", ".mpo", ".gif", ".bmp", ".dib", ".webp", ".avif"),
    *(".tif", ".tiff", ".ppm", ".pgm", ".pbm", ".pnm", ".pfm", ".jp2", ".j2k", ".tga", ".qoi", ".pcx", ".sgi"),
)
_PAGED = (".tif", ".tiff")
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
    pictures, arrays, others = [], [], collections.Counter[str]()
    for file in _files(os.fspath(folder), deep, (os.path.realpath(folder),), others):
        suffix = file.suffix.lower()
        if suffix in ARRAYS:
            arrays.append(file)
        elif suffix in SUFFIXES or is_image(file):
            pictures.append(file)
        else:
            others[suffix or "without suffix"] += 1
    if channels not in MODES:
        others.update(file.suffix.lower() for file in pictures if file.suffix.lower() not in _PAGED)
        return sorted([*arrays, *(file for file in pictures if file.suffix.lower() in _PAGED)]), others
    if not pictures:
        return sorted(arrays), others
    others.update(file.suffix.lower() for file in arrays)
    return sorted(pictures), others


def _files(folder: str, deep: bool, chain: tuple[str, ...], others: collections.Counter[str]) -> Iterator[Path]:
    """Files that are not hidden. `chain` are the real paths of the folders walked through, against endless links."""
    with os.scandir(folder) as entries:
        found = [entry for entry in entries if not is_hidden(entry.name)]
    for entry in found:
        if entry.is_dir():
            if not deep:
                continue
            real = os.path.realpath(entry.path)
            if any(Path(above).is_relative_to(real) for above in chain):
                others["links to a folder above"] += 1
            else:
                yield from _files(entry.path, deep, (*chain, real), others)
        elif entry.is_file():
            yield Path(entry.path)
        elif entry.is_symlink():
            others["broken links"] += 1


def is_image(file: Path) -> bool:
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
