"""Pairs of images from folders: `paired_images`, whose two halves belong together, and `unpaired_images`."""

from __future__ import annotations

import collections
import functools
import hashlib
import os
import unicodedata
from pathlib import Path
from typing import Any, Literal

import attrs
import torch
from attrs.validators import and_, ge, lt, optional
from torch import Tensor
from torch.utils.data import Dataset as TorchDataset

from ganframe import Dataset, DataSpec, component, find_images, option, warn
from ganframe_translate.pair_files import Pair, Reading, cropped, open_pairs, read_sizes

SHOWN = 5  # names in a message
_warn_once = functools.cache(warn)  # a dataset is read several times


@attrs.frozen
class PairedImages(Dataset):
    """Images x with their conditions y: from two folders, `inputs` and `targets`, or the halves of images in `root`.

    In two folders the names decide, with those of subfolders and without suffixes: inputs/a/1.png belongs to
    targets/a/1.jpg. Each input has the size of its target, or in all pairs 1/k of it with the same whole k, as in
    super-resolution. Images are read as `image_folder` reads them: turned as EXIF says, transparent ones on white.

    With `size` the centre is cut to a square and scaled. `crop` and `flip` change both images of a pair alike, anew
    each time; pairs held out are cropped in the centre. size = 286, crop = 256, flip = true is what pix2pix does.
    """

    inputs: str | None = option(None, help="folder of the conditions y")
    targets: str | None = option(None, help="folder of the images x, with the names of their inputs")
    root: str | None = option(None, help="in the place of both: a folder of images that show input and target abreast")
    order: Literal["input_left", "input_right"] = option("input_left", help="root: which half is the input")
    size: int | None = option(None, help="pixels along each side of x after scaling", validator=optional(ge(1)))
    crop: int | None = option(None, help="pixels along each side of a random part of x", validator=optional(ge(1)))
    flip: bool = option(False, help="whether half of the pairs are mirrored, left to right")
    channels: int = option(3, help="of x: 3 for colour, 1 for greyscale, 4 with opacity", validator=ge(1))
    condition_channels: int | None = option(None, help="of y; by default as `channels`", validator=optional(ge(1)))
    hold_out: float = option(0.0, help="share of the pairs that is kept for judging", validator=and_(ge(0), lt(1)))
    memory: float = option(
        2.0, help="GiB up to which images are kept in memory; larger datasets are read from disk", validator=ge(0)
    )

    def __attrs_post_init__(self) -> None:
        both = self.inputs is not None and self.targets is not None
        if (self.root is None) != both or (self.root is not None and (self.inputs or self.targets) is not None):
            raise ValueError("set `inputs` and `targets`, two folders, or `root`, a folder of images side by side")
        if self.order != "input_left" and self.root is None:
            raise ValueError("order is for `root`, images side by side; leave it out")
        if self.size is not None and self.crop is not None and self.crop > self.size:
            raise ValueError(f"crop: must be at most size, {self.size}, not {self.crop}")

    @property
    def spec(self) -> DataSpec:
        pairs = self._pairs()
        sides = self.crop or self.size
        # Where the sides are known, one pair tells how much smaller y is; `build` compares all.
        read = read_sizes(pairs[:1] if sides else pairs, self._reading)
        height, width = (sides, sides) if sides else read.common(self._place)
        for name in ("size", "crop"):
            value = getattr(self, name)
            if value is not None and value % read.factor:
                raise ValueError(
                    f"{name}: targets have {read.factor} times the size of their inputs, so it must be a multiple of "
                    f"{read.factor}, not {value}"
                )
        x, y = self._reading.channels
        return DataSpec((x, height, width), condition=(y, height // read.factor, width // read.factor))

    def build(self) -> TorchDataset[Any]:
        return self._open(training=True)

    def held_out(self) -> TorchDataset[Any] | None:
        """The share `hold_out` of the pairs, which their names decide; None where it is 0."""
        return self._open(training=False) if self.hold_out else None

    def fingerprint(self) -> dict[str, str]:
        pairs = self._pairs()
        sizes = [(pair.name, [os.stat(file).st_size for file in pair.files]) for pair in pairs]
        text = repr(sizes).encode("utf-8", "surrogateescape")
        return {"names and sizes of files": hashlib.sha256(text).hexdigest()[:32]}

    @property
    def _reading(self) -> Reading:
        channels = self.channels, self.condition_channels or self.channels
        return Reading(channels, None if self.root is None else self.order, self.size, self.crop, self.flip)

    @property
    def _place(self) -> str:
        return self.root or f"{self.inputs}, {self.targets}"

    def _open(self, training: bool) -> TorchDataset[Any]:
        pairs = self._pairs()
        read = read_sizes(pairs, self._reading)
        if self.size is None and self.crop is None:
            read.common(self._place)
        elif self.size is None:
            read.refuse_smaller_than(self.crop or 0)
        apart = self._names_apart(pairs)
        chosen = [pair for pair in pairs if (pair.name in apart) != training]
        return open_pairs(chosen, read, self._reading, self.memory * 2**30, training)

    def _pairs(self) -> list[Pair]:
        """All pairs, sorted by name."""
        if self.root is not None:
            found = _by_name(self.root, self.channels)
            return [Pair(name, (file, file)) for name, file in found.items()]
        assert self.inputs is not None
        assert self.targets is not None
        _refuse_overlap(self.inputs, self.targets)
        y = _by_name(self.inputs, self.condition_channels or self.channels)
        x = _by_name(self.targets, self.channels)
        lonely = []
        for folder, names, other in (
            (self.inputs, y.keys() - x.keys(), "target"),
            (self.targets, x.keys() - y.keys(), "input"),
        ):
            if names:
                has = "has" if len(names) == 1 else "have"
                lonely.append(f"{len(names)} in {folder} {has} no {other} of this name: {_listed(names)}")
        if lonely:
            raise ValueError(f"{'; '.join(lonely)}; give both images of a pair the same name")
        return [Pair(name, (x[name], y[name])) for name in x]

    def _names_apart(self, pairs: list[Pair]) -> set[str]:
        """Names of the pairs that are held out: those whose hashes come first, so that new pairs move few others."""
        count = round(self.hold_out * len(pairs))
        if self.hold_out and not 0 < count < len(pairs):
            raise ValueError(
                f"hold_out: a share of {self.hold_out} of {len(pairs)} pairs leaves one part empty; set another share"
            )
        names = [pair.name for pair in pairs]
        return set(sorted(names, key=lambda name: hashlib.sha256(name.encode("utf-8", "replace")).digest())[:count])


@attrs.frozen
class UnpairedImages(Dataset):
    """Images x from the folder `targets` and images y from `inputs`, drawn independently: no x belongs to a y.

    Each folder is read as `image_folder` reads it; its subfolders tell nothing. `crop` and `flip` change each image by
    itself, anew each time; size = 286, crop = 256, flip = true is what CycleGAN does.
    """

    inputs: str = option(help="folder of the conditions y")
    targets: str = option(help="folder of the images x")
    size: int | None = option(None, help="pixels along each side after scaling", validator=optional(ge(1)))
    crop: int | None = option(None, help="pixels along each side of a random part", validator=optional(ge(1)))
    flip: bool = option(False, help="whether half of the images are mirrored, left to right")
    channels: int = option(3, help="of x: 3 for colour, 1 for greyscale, 4 with opacity", validator=ge(1))
    condition_channels: int | None = option(None, help="of y; by default as `channels`", validator=optional(ge(1)))
    memory: float = option(
        2.0, help="GiB for each folder up to which images are kept in memory, else read from disk", validator=ge(0)
    )

    @property
    def spec(self) -> DataSpec:
        x, y = (folder.spec.shape for folder in self._folders)
        if self.crop is None:
            return DataSpec(x, condition=y)
        smallest = min(*x[1:], *y[1:])
        if self.crop > smallest:
            raise ValueError(f"crop: must be at most the side of the images, {smallest}, not {self.crop}")
        return DataSpec((x[0], self.crop, self.crop), condition=(y[0], self.crop, self.crop))

    def build(self) -> TorchDataset[Any]:
        x, y = (folder.build() for folder in self._folders)
        return _Unpaired(x, y, self.crop, self.flip)

    def fingerprint(self) -> dict[str, str]:
        return {
            f"{side}: {name}": str(value)
            for side, folder in zip(("targets", "inputs"), self._folders, strict=True)
            for name, value in folder.fingerprint().items()
        }

    @property
    def _folders(self) -> tuple[Dataset, Dataset]:
        """The folders of x and of y."""
        _refuse_overlap(self.inputs, self.targets)
        image_folder: Any = component("dataset", "builtin:image_folder")
        options = {"size": self.size, "memory": self.memory}
        return (
            image_folder(root=self.targets, channels=self.channels, **options),
            image_folder(root=self.inputs, channels=self.condition_channels or self.channels, **options),
        )


class _Unpaired(TorchDataset[tuple[Tensor, Tensor]]):
    """Items (x, y) where y is chosen by torch's global generator."""

    def __init__(self, x: Any, y: Any, crop: int | None, flip: bool) -> None:
        self.x, self.y, self.crop, self.flip = x, y, crop, flip

    def __len__(self) -> int:
        return len(self.x)

    def __getitem__(self, index: int) -> tuple[Tensor, Tensor]:
        x, y = self.x[index][0], self.y[int(torch.randint(len(self.y), ()))][0]
        return cropped((x,), self.crop, self.flip)[0], cropped((y,), self.crop, self.flip)[0]


def _by_name(folder: str, channels: int) -> dict[str, Path]:
    """The images below a folder by their paths in it, without suffixes, sorted."""
    root = Path(folder).expanduser()
    if not root.is_dir():
        raise ValueError(f"{folder}: no such folder")
    files, others = find_images(root, channels, deep=True)
    if not files:
        kinds = ".png, .jpg, .webp, .tif, .npy and others" if channels in (1, 3, 4) else ".npy, .npz, .tif"
        there = f"; it has {others.total()} other files" if others else ""
        raise ValueError(f"{folder}: no images found; image names end in {kinds}{there}")
    if others:
        kinds = ", ".join(f"{count} {kind}" for kind, count in others.most_common(SHOWN))
        _warn_once(f"{folder}: not read: {others.total()} files that are no images ({kinds})")
    named = collections.defaultdict(list)
    for file in files:
        place = file.relative_to(root)
        # An image without a suffix may be called "shot 10.30".
        name = (place if file.suffix[1:].isdecimal() else place.with_suffix("")).as_posix()
        named[unicodedata.normalize("NFC", name)].append(file)  # é may be one character or two
    twice = {name: found for name, found in named.items() if len(found) > 1}
    if twice:
        first = ", ".join(file.name for file in next(iter(twice.values())))
        raise ValueError(
            f"{folder}: {len(twice)} names belong to more than one image: {_listed(twice)} ({first}); keep one of each"
        )
    return {name: named[name][0] for name in sorted(named)}


def _refuse_overlap(inputs: str, targets: str) -> None:
    y, x = (Path(folder).expanduser().resolve() for folder in (inputs, targets))
    if x == y:
        raise ValueError(f"inputs and targets are the same folder, {inputs}; name that of the conditions and that of x")
    if x.is_relative_to(y) or y.is_relative_to(x):
        inner, outer = (targets, inputs) if x.is_relative_to(y) else (inputs, targets)
        raise ValueError(f"{inner} lies inside {outer}, which is read with its subfolders; put them side by side")


def _listed(names: Any) -> str:
    found = sorted(names)
    return ", ".join(found[:SHOWN]) + (", …" if len(found) > SHOWN else "")
