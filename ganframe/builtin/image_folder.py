"""Images of your own, from a folder. PIL is imported only when images are read."""

from __future__ import annotations

import collections
import functools
import math
import os
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import attrs
import numpy as np
import torch
from attrs.validators import ge, gt, optional
from torch import Tensor
from torch.utils.data import Dataset as TorchDataset
from torch.utils.data import TensorDataset

from ganframe import Dataset, DataSpec, RunError, option, read_image, read_image_header, warn
from ganframe.builtin import kept_images
from ganframe.builtin.archive import Archive, Member
from ganframe.builtin.files import file_fingerprint
from ganframe.builtin.image_index import Headers, Index, counted, index_of

THREADS = 4
PHOTOGRAPH, VERY_LARGE = 2**16, 2**24  # bytes of a file
_JPEG = (".jpg", ".jpeg", ".jpe", ".jfif")
_warn_once = functools.cache(warn)  # a dataset may be built several times, as by `divergence`


Size = int | tuple[int, int]
"""Pixels along each side, or (height, width)."""


def height_and_width(size: Size) -> tuple[int, int]:
    return (size, size) if isinstance(size, int) else size


def sides_of_at_least(pixels: int) -> Callable[[Any, Any, Size], None]:
    """A validator of an option `size`."""

    def check(_: Any, __: Any, size: Size) -> None:
        if min(height_and_width(size)) < pixels:
            shown = size if isinstance(size, int) else list(size)
            raise ValueError(f"'size' must be at least {pixels} pixels along each side, not {shown}")

    return check


def check_colour(_: Any, __: Any, name: str) -> None:
    """A validator of an option that names a colour."""
    from PIL.ImageColor import getrgb

    try:
        getrgb(name)
    except (ValueError, AttributeError):
        raise ValueError(f'{name!r} is no colour: write a name, as "white", or "#rrggbb"') from None


@attrs.frozen
class ImageFolder(Dataset):
    """Images from a folder; if it contains only subfolders, each subfolder is a class, in natural order: 2 before 10.

    All images must have the same size unless `size` is set: they are then scaled until they cover it, and the centre is
    cropped. They are read as a viewer shows them: turned as EXIF says, transparent ones on `background`. With 4
    channels opacity is the fourth. Images of more than 8 bits keep their levels, as floats. Other numbers of channels
    are read from arrays (.npy, .npz), (channels, H, W) or (H, W, channels), and from TIFF files in which each page is a
    channel.

    Hidden files are passed by, and linked folders followed. What is no image is counted in a warning.
    """

    root: str = option(help="path of the folder")
    size: Size | None = option(
        None,
        help="pixels along each side after scaling and cropping, or [height, width]",
        validator=optional(sides_of_at_least(1)),
    )
    channels: int = option(
        3, help="3 for colour, 1 for greyscale, 4 for colour and opacity; others from arrays and TIFF", validator=ge(1)
    )
    background: str = option(
        "white", help='what transparent images are laid on: a colour by name or "#rrggbb"', validator=check_colour
    )
    white: float | None = option(
        None,
        help="value of white in images of more than 8 bits; by default the largest that the file declares",
        validator=optional(gt(0)),
    )
    memory: float = option(
        2.0, help="GiB up to which images are kept in memory; larger datasets are read from disk", validator=ge(0)
    )

    def __attrs_post_init__(self) -> None:
        if self.background != "white" and self.channels not in (1, 3):
            raise ValueError(f"background: with {self.channels} channels nothing is laid on it; leave it out")

    @property
    def spec(self) -> DataSpec:
        index = self._index()
        shape = self._sized() if self.size is not None else self._headers(index).shape
        condition = tuple(index.labels.shape[1:]) if isinstance(index.labels, Tensor) else None
        return DataSpec(shape, index.classes, condition, class_names=index.names)

    def build(self) -> TorchDataset[Any]:
        index = self._index()
        headers = self._headers(index)
        shape, deep = headers.shape, headers.deep
        self._tell(index.left_out, headers.paged)
        if self.white is not None and not deep:
            _warn_once(f"{self.root}: no image has more than 8 bits, so dataset.white does nothing")
        lazy = _Files(index, self, deep)
        if len(lazy) * math.prod(shape) * (4 if deep else 1) > self.memory * 2**30:
            return lazy
        kept = kept_images.Kept(index, "images", self.size, self.channels, self.background, self.white, deep)
        x = kept.array((len(lazy), *shape), np.float32 if deep else np.uint8)
        if x is None:
            with kept.timed():
                x = _read_all(lazy, shape, _threads(index)).numpy()
            self._keep(kept, lambda: kept.keep_array(x))
        pixels = torch.from_numpy(x)
        if deep and (largest := pixels.max().item()) < -0.75:
            share = (largest + 1) / 2
            _warn_once(
                f"{self.root}: no value is above {share:.1%} of white, so all images are dark; if they hold fewer bits "
                "than their files declare, set dataset.white to the value that is white"
            )
        return TensorDataset(pixels, torch.as_tensor(lazy.labels))

    def fingerprint(self) -> dict[str, str]:
        index = self._index()
        labels = torch.as_tensor(index.labels).tolist()
        return file_fingerprint(index.root, index.files, index.stats[:, 0].tolist(), labels)

    def _index(self) -> Index:
        return index_of(Path(self.root).expanduser(), self.channels)

    def _sized(self) -> tuple[int, int, int]:
        assert self.size is not None
        return self.channels, *height_and_width(self.size)

    def _headers(self, index: Index) -> Headers:
        """What the headers of all images say: known already, kept from an earlier start, or read."""
        if self.size not in index.headers:
            kept = kept_images.Kept(index, "headers", self.size, self.channels)
            found = kept.headers()
            if found is None:
                with kept.timed():
                    headers = self._read_headers(index)
                    deep, paged = any(header.deep for header in headers), sum(header.unread > 0 for header in headers)
                    found = Headers(self._shape(index.files, headers), deep, paged)
                self._keep(kept, functools.partial(kept.keep_headers, found))
            index.headers[self.size] = found
        return index.headers[self.size]

    def _keep(self, kept: kept_images.Kept, keep: Callable[[], object]) -> None:
        """Keeps what was read for the next start, where it took long."""
        try:
            if kept.worth_it():
                keep()
        except OSError as error:
            _warn_once(
                f"{self.root}: what was read is not kept for the next start: {error}; set GANFRAME_CACHE to a folder "
                'that can be written, or to "off"'
            )

    def _read_headers(self, index: Index) -> list[Any]:
        """The header of each image. With a `size`, of those that have one: reading the others says what is wrong.

        With a `size` those of JPEG files are not read: they have 8 bits and one page, and a folder may have a million.
        """
        headers = []
        for file in index.files:
            if self.size is not None and file.lower().endswith(_JPEG):
                continue
            try:
                headers.append(read_image_header(opened(file, index.archive), self.channels))
            except ValueError as error:
                if self.size is None:
                    raise ValueError(f"{error}; remove or replace it") from error
        return headers

    def _shape(self, files: list[str], headers: list[Any]) -> tuple[int, int, int]:
        """(C, H, W) of all images."""
        if self.size is not None:
            return self._sized()
        sizes: dict[tuple[int, int], list[str]] = collections.defaultdict(list)
        for file, header in zip(files, headers, strict=True):
            sizes[header.width, header.height].append(file)
        if len(sizes) > 1:
            common = sorted(sizes.items(), key=lambda item: -len(item[1]))[:3]
            shown = ", ".join(f"{len(paths)} of {w}×{h} ({Path(paths[0]).name})" for (w, h), paths in common)
            raise ValueError(
                f"{self.root}: images have {len(sizes)} different sizes: {shown}; set `size` to resize them"
            )
        width, height = next(iter(sizes))
        return self.channels, height, width

    def _tell(self, left_out: collections.Counter[str], paged: int) -> None:
        """Counts in one line what the folder has and is not read."""
        parts = [counted(left_out)] if left_out else []
        if paged:
            parts.append(f"all but the first page or frame of {paged} {'image' if paged == 1 else 'images'}")
        if parts:
            _warn_once(f"{self.root}: not read: {'; '.join(parts)}")


def _read_all(images: _Files, shape: tuple[int, int, int], threads: int = 1) -> Tensor:
    """All images as x (N, *shape). Raises ValueError that counts those which cannot be read."""

    def read(index: int) -> Tensor | RunError:
        try:
            image = images[index][0]
        except RunError as error:
            return error
        if image.shape == shape:
            return image
        return RunError(f"{images.files[index]}: its shape is {tuple(image.shape)}, and its header says {shape}")

    x = torch.empty(len(images), *shape, dtype=torch.float32 if images.deep else torch.uint8)
    broken, reasons = [], []
    for index, found in enumerate(_mapped(read, len(images), threads)):
        if isinstance(found, Tensor):
            x[index] = found
        else:
            broken.append(Path(images.files[index]))
            reasons.append(str(found).removeprefix(f"{broken[-1]}: "))
    if broken:
        named = ", ".join(map(str, broken[:5])) + (", …" if len(broken) > 5 else "")
        raise ValueError(
            f"{len(broken)} of {len(images)} images cannot be read: {named} ({reasons[0]}); remove or replace them"
        )
    return x


def _threads(index: Index) -> int:
    """How many threads read: several for photographs, whose pixels PIL decodes and scales without Python's lock.

    Small images would only wait for it, and of very large ones several would need much memory.
    """
    size = index.stats[:, 0]
    return min(THREADS, torch.get_num_threads()) if size.mean() >= PHOTOGRAPH and size.max() <= VERY_LARGE else 1


def _mapped(read: Callable[[int], Tensor | RunError], count: int, threads: int) -> Iterator[Tensor | RunError]:
    """read(0), …, read(count - 1), in order."""
    if threads == 1:
        yield from map(read, range(count))
        return
    few = 16 * threads  # that an interruption waits for
    with ThreadPoolExecutor(threads) as pool:
        for start in range(0, count, few):
            yield from pool.map(read, range(start, min(start + few, count)))


def opened(file: str, archive: Archive | None) -> str | Member:
    """What is read as an image: the file itself, or a member of an archive."""
    return file if archive is None else Member(archive, file[len(os.path.join(archive.file, "")) :])


def in_depth(x: Tensor, deep: bool) -> Tensor:
    """An image as floats in [-1, 1] where one of its dataset has more than 8 bits, else as uint8."""
    if deep and x.dtype == torch.uint8:
        return x.float().div_(127.5).sub_(1)
    if not deep and x.dtype != torch.uint8:  # another format under the name of a JPEG
        return x.add(1).mul_(127.5).round_().to(torch.uint8)
    return x


class _Files(TorchDataset[tuple[Tensor, int | Tensor]]):
    """Images read from disk at each access: x (C, H, W), uint8 or floats if one is deep; y the index of the folder."""

    def __init__(self, index: Index, options: ImageFolder, deep: bool) -> None:
        self.files, self.labels, self.archive = index.files, index.labels, index.archive
        self.options, self.deep = options, deep

    def __len__(self) -> int:
        return len(self.files)

    def __getitem__(self, index: int) -> tuple[Tensor, int | Tensor]:
        own = self.options
        try:
            file = opened(self.files[index], self.archive)
            x = read_image(file, own.channels, own.size, own.background, own.white)
        except ValueError as error:
            raise RunError(str(error)) from error
        return in_depth(x, self.deep), self.labels[index]
