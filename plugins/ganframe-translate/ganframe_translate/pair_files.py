"""Pairs of image files: their sizes, and the pairs as tensors, cut, scaled and mirrored alike."""

from __future__ import annotations

import collections
import math
from collections.abc import Sequence
from pathlib import Path
from typing import Any, Literal

import attrs
import torch
from torch import Tensor
from torch.utils.data import Dataset as TorchDataset
from torch.utils.data import TensorDataset

from ganframe import RunError, read_image, read_image_header
from ganframe_translate.changed import as_kind

Halves = Literal["input_left", "input_right"] | None
"""Which half of an image is y, where one file has both."""

Size = tuple[int, int]  # height, width


@attrs.frozen
class Pair:
    """The name of a pair, and its files: of x and of y, which are the same where both stand side by side."""

    name: str
    files: tuple[Path, Path]


@attrs.frozen
class Reading:
    """How files become pairs: the channels of x and of y, and the options of the same names."""

    channels: tuple[int, int]
    halves: Halves
    size: int | None
    crop: int | None
    flip: bool


@attrs.frozen
class Sizes:
    """Sizes of the targets x by the names of pairs, how many times those of y they are, and which sides are deep."""

    targets: dict[str, Size]
    factor: int
    deep: tuple[bool, bool]

    def common(self, place: str) -> Size:
        """The size of all targets. Raises ValueError where they differ."""
        counts = collections.Counter(self.targets.values())
        if len(counts) > 1:
            first = {size: name for name, size in reversed(self.targets.items())}
            shown = ", ".join(f"{n} of {w}×{h} ({first[h, w]})" for (h, w), n in counts.most_common(3))
            raise ValueError(f"{place}: targets have {len(counts)} different sizes: {shown}; set `size` or `crop`")
        return next(iter(counts))

    def refuse_smaller_than(self, crop: int) -> None:
        small = [name for name, size in self.targets.items() if min(size) < crop]
        if small:
            height, width = self.targets[small[0]]
            raise ValueError(
                f"crop: {len(small)} of {len(self.targets)} targets are smaller than {crop}×{crop}, as {small[0]} of "
                f"{width}×{height}; set `size`, a smaller crop, or remove them"
            )


def read_sizes(pairs: Sequence[Pair], reading: Reading) -> Sizes:
    """What the headers of the files say. Raises ValueError where the sizes of a pair do not fit."""
    targets: dict[str, Size] = {}
    factors: dict[str, int | None] = {}
    shown: dict[str, str] = {}
    deep = [False, False]
    for pair in pairs:
        both = []
        for side, file in enumerate(pair.files):
            if side and reading.halves:
                continue
            try:
                header = read_image_header(file, reading.channels[side])
            except ValueError as error:
                raise ValueError(f"{error}; remove or replace it, and its partner") from error
            both.append((header.height, header.width))
            deep[side] = deep[side] or header.deep
        if reading.halves:
            height, width = both[0]
            if width % 2:
                raise ValueError(f"{pair.files[0]}: is {width} pixels wide, so it has no two halves of the same width")
            both = [(height, width // 2)] * 2
            deep[1] = deep[0]
        targets[pair.name] = both[0]
        factors[pair.name] = _factor(*both)
        shown[pair.name] = " and ".join(f"{w}×{h}" for h, w in reversed(both))
    common = collections.Counter(f for f in factors.values() if f).most_common(1)
    factor = common[0][0] if common else 1
    wrong = [name for name, found in factors.items() if found != factor]
    if wrong:
        count = "one pair has" if len(wrong) == 1 else f"{len(wrong)} of {len(pairs)} pairs have"
        named = ", ".join(f"{name} ({shown[name]})" for name in wrong[:5]) + (", …" if len(wrong) > 5 else "")
        wanted = (
            "the same size" if factor == 1 else f"targets of {factor} times the size of their inputs, as the others"
        )
        raise ValueError(f"{count} sizes of input and target that do not fit: {named}; give them {wanted}")
    return Sizes(targets, factor, (deep[0], deep[1]))


def _factor(x: Size, y: Size) -> int | None:
    """How many times the sides of y those of x are; None where that is no whole number, or two."""
    factor = x[0] // y[0]
    return factor if factor and x == (factor * y[0], factor * y[1]) else None


def open_pairs(
    pairs: Sequence[Pair], sizes: Sizes, reading: Reading, room: float, training: bool = True
) -> TorchDataset[Any]:
    """The pairs as a torch dataset, in memory if they need at most `room` bytes.

    In training crops are random and pairs are mirrored; else crops are of the centre. Raises ValueError where images
    that are kept cannot be read.
    """
    files = _Files(pairs, sizes, reading, training)
    pixels = sum(reading.size**2 if reading.size else math.prod(sizes.targets[pair.name]) for pair in pairs)
    x, y = (count * (4 if deep else 1) for count, deep in zip(reading.channels, sizes.deep, strict=True))
    if pixels * (x + y / sizes.factor**2) > room:
        return files
    files.keep()
    if training and (reading.crop or reading.flip):
        return files
    xs, ys = zip(*(files[index] for index in range(len(files))), strict=True)
    return TensorDataset(torch.stack(xs), torch.stack(ys))


class _Files(TorchDataset[tuple[Tensor, Tensor]]):
    """Pairs (x, y), each side uint8 or, if an image of it is deep, floats. What is random, torch's generator draws."""

    def __init__(self, pairs: Sequence[Pair], sizes: Sizes, reading: Reading, training: bool) -> None:
        self.pairs, self.sizes, self.reading, self.training = pairs, sizes, reading, training
        self.kept: list[tuple[Tensor, Tensor]] | None = None

    def __len__(self) -> int:
        return len(self.pairs)

    def __getitem__(self, index: int) -> tuple[Tensor, Tensor]:
        try:
            x, y = self.kept[index] if self.kept is not None else self._read(self.pairs[index])
        except ValueError as error:
            raise RunError(str(error)) from error
        x, y = cropped((x, y), self.reading.crop, self.reading.flip and self.training, self.training)
        return x, y

    def keep(self) -> None:
        """Reads all pairs into memory. Raises ValueError that names those which cannot be read."""
        kept, broken, reasons = [], [], []
        for pair in self.pairs:
            try:
                kept.append(self._read(pair))
            except ValueError as error:
                broken.append(pair.name)
                reasons.append(str(error))
        if broken:
            named = ", ".join(broken[:5]) + (", …" if len(broken) > 5 else "")
            raise ValueError(
                f"{len(broken)} of {len(self)} pairs cannot be read: {named} ({reasons[0]}); remove or replace them"
            )
        self.kept = kept

    def _read(self, pair: Pair) -> tuple[Tensor, Tensor]:
        (x_file, y_file), (x_channels, y_channels) = pair.files, self.reading.channels
        x = read_image(x_file, x_channels)
        halves = self.reading.halves
        y = x if halves and x_channels == y_channels else read_image(y_file, y_channels)
        if halves:
            half = x.shape[2] // 2
            left, right = slice(0, half), slice(half, None)
            x_half, y_half = (right, left) if halves == "input_left" else (left, right)
            x, y = x[:, :, x_half], y[:, :, y_half]
        if self.reading.size is not None:
            x, y = fitted(x, y, self.reading.size)
        x, y = (as_kind(side, deep) for side, deep in zip((x, y), self.sizes.deep, strict=True))
        return x.contiguous(), y.contiguous()


def fitted(x: Tensor, y: Tensor, size: int) -> tuple[Tensor, Tensor]:
    """The same square of the centre of x and y, scaled so that x has `size` pixels a side, and y in proportion."""
    height, width = y.shape[1:]
    side, factor = min(height, width), x.shape[1] // height
    top, left = (height - side) // 2, (width - side) // 2
    scaled = []
    for image, k, target in ((x, factor, size), (y, 1, size // factor)):
        square = image[:, k * top : k * (top + side), k * left : k * (left + side)]
        scaled.append(_scaled(square, target))
    return scaled[0], scaled[1]


def _scaled(x: Tensor, size: int) -> Tensor:
    """A square image in another size, bicubic and without aliasing."""
    from torchvision.transforms.v2.functional import InterpolationMode, resize

    if x.shape[1] == size:
        return x
    resized: Tensor = resize(x, [size, size], InterpolationMode.BICUBIC, antialias=True)
    return resized if resized.dtype == torch.uint8 else resized.clamp_(-1, 1)


def cropped(images: tuple[Tensor, ...], crop: int | None, flip: bool, random: bool = True) -> tuple[Tensor, ...]:
    """The same part of images (C, H, W) of one scene, mirrored with even odds if `flip`. The last is the smallest.

    `crop` is the side of the part of the first image. What is random is drawn from torch's global generator.
    """
    if crop is not None:
        height, width = images[-1].shape[1:]
        side = crop * height // images[0].shape[1]
        room = height - side, width - side
        top, left = (int(torch.randint(r + 1, ())) if random else r // 2 for r in room)
        parts = []
        for image in images:
            k = image.shape[1] // height
            parts.append(image[:, k * top : k * (top + side), k * left : k * (left + side)])
        images = tuple(parts)
    if flip and bool(torch.rand(()) < 0.5):
        images = tuple(image.flip(2) for image in images)
    return tuple(image.contiguous() for image in images)
