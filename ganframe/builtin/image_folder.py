"""Images of your own, from a folder. PIL is imported only when images are read."""

from __future__ import annotations

import collections
import functools
import math
import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import attrs
import torch
from attrs.validators import ge, gt, optional
from torch import Tensor
from torch.utils.data import Dataset as TorchDataset
from torch.utils.data import TensorDataset

from ganframe import (
    Dataset,
    DataSpec,
    RunError,
    find_images,
    is_hidden,
    option,
    read_image,
    read_image_header,
    warn,
)
from ganframe.builtin.files import file_fingerprint

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


def _check_colour(_: Any, __: Any, name: str) -> None:
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
        "white", help='what transparent images are laid on: a colour by name or "#rrggbb"', validator=_check_colour
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
        files, names = self._files()
        shape = self._shape(files, [] if self.size else self._headers(files))
        return DataSpec(shape, None if names is None else len(names), class_names=names)

    def build(self) -> TorchDataset[Any]:
        left_out = collections.Counter[str]()
        files, _ = self._files(left_out)
        headers = self._headers(files)
        shape, deep = self._shape(files, headers), any(header.deep for header in headers)
        self._tell(left_out, sum(header.unread > 0 for header in headers))
        if self.white is not None and not deep:
            _warn_once(f"{self.root}: no image has more than 8 bits, so dataset.white does nothing")
        lazy = _Files([file for file, _ in files], [label for _, label in files], self, deep)
        if len(files) * math.prod(shape) * (4 if deep else 1) > self.memory * 2**30:
            return lazy
        images, broken, reasons = [], [], []
        for index, (file, _) in enumerate(files):
            try:
                images.append(lazy[index][0])
            except RunError as error:
                broken.append(file)
                reasons.append(str(error).removeprefix(f"{file}: "))
        if broken:
            named = ", ".join(map(str, broken[:5])) + (", …" if len(broken) > 5 else "")
            raise ValueError(
                f"{len(broken)} of {len(files)} images cannot be read: {named} ({reasons[0]}); remove or replace them"
            )
        x = torch.stack(images)
        if deep and (largest := x.max().item()) < -0.75:
            share = (largest + 1) / 2
            _warn_once(
                f"{self.root}: no value is above {share:.1%} of white, so all images are dark; if they hold fewer bits "
                "than their files declare, set dataset.white to the value that is white"
            )
        return TensorDataset(x, torch.tensor(lazy.labels))

    def fingerprint(self) -> dict[str, str]:
        return file_fingerprint(Path(self.root).expanduser(), self._files()[0])

    def _files(
        self, left_out: collections.Counter[str] | None = None
    ) -> tuple[list[tuple[Path, int]], tuple[str, ...] | None]:
        """Image files with their labels, sorted by name, and the names of classes. Adds to `left_out` by kind."""
        root = Path(self.root).expanduser()
        if not root.is_dir():
            raise ValueError(f"{root}: no such folder")
        left_out = collections.Counter() if left_out is None else left_out

        def images_in(folder: Path, deep: bool = False) -> list[Path]:
            found, others = find_images(folder, self.channels, deep)
            left_out.update(others)
            return found

        files = [(file, 0) for file in images_in(root)]
        folders = [p for p in root.iterdir() if p.is_dir() and not is_hidden(p.name) and not _is_above(p, root)]
        folders.sort(key=lambda folder: _natural(folder.name))
        inside = [images_in(folder, deep=True) for folder in folders]
        if files and any(inside):
            raise ValueError(
                f"{root}: images both in the folder itself and in its subfolders; move one of the two groups"
            )
        if files or not folders:
            names = None
        else:
            files = [(file, label) for label, found in enumerate(inside) for file in found]
            names = tuple(folder.name for folder in folders)
        if not files:
            kinds = ".png, .jpg, .webp, .tif, .npy and others" if self.channels in (1, 3, 4) else ".npy, .npz, .tif"
            there = f"; the folder has {_counted(left_out)}" if left_out else ""
            raise ValueError(f"{root}: no images found; image names end in {kinds}{there}")
        if names is not None and (empty := {*range(len(names))} - {label for _, label in files}):
            named = ", ".join(names[label] for label in sorted(empty))
            raise ValueError(f"{root}: classes without images: {named}; fill these folders or remove them")
        return files, names

    def _headers(self, files: list[tuple[Path, int]]) -> list[Any]:
        """The header of each image. With a `size`, of those that have one: reading the others says what is wrong.

        With a `size` those of JPEG files are not read: they have 8 bits and one page, and a folder may have a million.
        """
        headers = []
        for file, _ in files:
            if self.size is not None and file.suffix.lower() in _JPEG:
                continue
            try:
                headers.append(read_image_header(file, self.channels))
            except ValueError as error:
                if self.size is None:
                    raise ValueError(f"{error}; remove or replace it") from error
        return headers

    def _shape(self, files: list[tuple[Path, int]], headers: list[Any]) -> tuple[int, int, int]:
        """(C, H, W) of all images."""
        if self.size is not None:
            return self.channels, *height_and_width(self.size)
        sizes: dict[tuple[int, int], list[Path]] = collections.defaultdict(list)
        for (file, _), header in zip(files, headers, strict=True):
            sizes[header.width, header.height].append(file)
        if len(sizes) > 1:
            common = sorted(sizes.items(), key=lambda item: -len(item[1]))[:3]
            shown = ", ".join(f"{len(paths)} of {w}×{h} ({paths[0].name})" for (w, h), paths in common)
            raise ValueError(
                f"{self.root}: images have {len(sizes)} different sizes: {shown}; set `size` to resize them"
            )
        width, height = next(iter(sizes))
        return self.channels, height, width

    def _tell(self, left_out: collections.Counter[str], paged: int) -> None:
        """Counts in one line what the folder has and is not read."""
        parts = [_counted(left_out)] if left_out else []
        if paged:
            parts.append(f"all but the first page or frame of {paged} {'image' if paged == 1 else 'images'}")
        if parts:
            _warn_once(f"{self.root}: not read: {'; '.join(parts)}")


def _natural(name: str) -> tuple[list[str | int], str]:
    """A key that sorts names with numbers by their numbers: kind2 before kind10."""
    return [int(part) if part.isdecimal() else part for part in re.split(r"(\d+)", name)], name


def _is_above(link: Path, root: Path) -> bool:
    return root.resolve().is_relative_to(link.resolve())


def _counted(left_out: collections.Counter[str]) -> str:
    """ "5 files that are no images (3 .txt, 2 .mp4)"."""
    kinds = ", ".join(f"{count} {kind}" for kind, count in left_out.most_common(5))
    total = left_out.total()
    return f"{total} {'file that is no image' if total == 1 else 'files that are no images'} ({kinds})"


class _Files(TorchDataset[tuple[Tensor, int]]):
    """Images read from disk at each access: x (C, H, W), uint8 or floats if one is deep; y the index of the folder."""

    def __init__(self, files: list[Path], labels: list[int], options: ImageFolder, deep: bool) -> None:
        self.files, self.labels, self.options, self.deep = files, labels, options, deep

    def __len__(self) -> int:
        return len(self.files)

    def __getitem__(self, index: int) -> tuple[Tensor, int]:
        own = self.options
        try:
            x = read_image(self.files[index], own.channels, own.size, own.background, own.white)
        except ValueError as error:
            raise RunError(str(error)) from error
        if self.deep and x.dtype == torch.uint8:
            x = x.float().div_(127.5).sub_(1)
        if not self.deep and x.dtype != torch.uint8:  # another format under the name of a JPEG
            x = x.add(1).mul_(127.5).round_().to(torch.uint8)
        return x, self.labels[index]
