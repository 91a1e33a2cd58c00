"""The dataset `frames_folder`: the next frame of real sequences, one folder a sequence."""

from __future__ import annotations

import collections
import hashlib
import itertools
import math
import re
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any, Literal

import attrs
import torch
from attrs.validators import and_, ge, gt, lt, optional
from torch import Tensor
from torch.utils.data import Dataset as TorchDataset
from torch.utils.data import TensorDataset

from ganframe import Dataset, DataSpec, RunError, find_images, is_hidden, option, read_image, read_image_header, warn
from ganframe_translate.changed import as_kind

SHOWN = 5  # sequences that a message names


def _check_size(_: Any, __: Any, size: int | tuple[int, int]) -> None:
    if min((size,) if isinstance(size, int) else size) < 1:
        raise ValueError(f"'size' must be at least 1 pixel along each side, not {size}")


@attrs.frozen
class FramesFolder(Dataset):
    """Sequences of frames; y are `past` frames, oldest first, in the channels of one image, and x is the next one.

    Each folder in `root` is a sequence, its images the frames, in natural order: 2 before 10. Each window of past + 1
    frames is a sample, and no window crosses sequences. Images are read as those of `image_folder` are.

    The last number in a frame's name is its place in time. Where one is missing, or a sequence is shorter than a
    window, or its frames have several sizes, a ValueError names the sequence and the frame. Names without numbers are
    taken as they are sorted. Whole sequences are held out, chosen at random once and for all: `share` of them.
    """

    root: str = option(help="folder with a folder for each sequence")
    past: int = option(2, help="frames in y", validator=ge(1))
    size: int | tuple[int, int] | None = option(
        None,
        help="pixels along each side after scaling and cropping, or [height, width]",
        validator=optional(_check_size),
    )
    channels: int = option(3, help="of each frame: 3 for colour, 1 for greyscale", validator=ge(1))
    skip: int = option(1, help="each skip-th frame is taken: a longer time between frames", validator=ge(1))
    gaps: Literal["refuse", "split", "ignore"] = option(
        "refuse", help="missing frames: an error; windows do not cross them; or numbers in names are not looked at"
    )
    share: float = option(0.2, help="share of the sequences that is held out of training", validator=and_(ge(0), lt(1)))
    background: str = option("white", help='what transparent frames are laid on: a colour by name or "#rrggbb"')
    white: float | None = option(None, help="value of white in frames of more than 8 bits", validator=optional(gt(0)))
    memory: float = option(
        2.0, help="GiB up to which windows are kept in memory; larger data is read from disk", validator=ge(0)
    )

    @property
    def spec(self) -> DataSpec:
        if self.size is None:
            header = self._header(next(iter(self._sequences().values()))[0])
            height, width = header.height, header.width
        else:
            height, width = (self.size, self.size) if isinstance(self.size, int) else self.size
        return DataSpec((self.channels, height, width), condition=(self.past * self.channels, height, width))

    def build(self) -> TorchDataset[Any]:
        left_out = collections.Counter[str]()
        for name in self._sequences():
            left_out.update(find_images(Path(self.root).expanduser() / name, self.channels)[1])
        if left_out:
            kinds = ", ".join(f"{count} {kind}" for kind, count in left_out.most_common(SHOWN))
            warn(f"{self.root}: files that are no images are not read ({kinds})")
        return self._windows(self._parts()[0])

    def held_out(self) -> TorchDataset[Any] | None:
        """The windows of sequences that are held out; None where there are none."""
        held_out = self._parts()[1]
        return self._windows(held_out) if held_out else None

    def fingerprint(self) -> dict[str, str]:
        names = "\0".join(f"{name}/{file.name}" for name, files in self._sequences().items() for file in files)
        return {"frame names": hashlib.sha256(names.encode("utf-8", "surrogateescape")).hexdigest()[:32]}

    def _sequences(self) -> dict[str, list[Path]]:
        """The frames of each sequence in order, sequences by name. Raises ValueError for an unusable folder."""
        root = Path(self.root).expanduser()
        if not root.is_dir():
            raise ValueError(f"{root}: no such folder")
        if loose := find_images(root, self.channels)[0]:
            raise ValueError(
                f"{root}: {len(loose)} images are in no sequence ({loose[0].name}); give each sequence a folder in it"
            )
        folders = [path for path in root.iterdir() if path.is_dir() and not is_hidden(path.name)]
        found = {
            folder.name: sorted(find_images(folder, self.channels)[0], key=lambda file: _natural(file.name))
            for folder in sorted(folders, key=lambda folder: _natural(folder.name))
        }
        if not found:
            raise ValueError(f"{root}: no folders in it; each sequence needs one, with its frames")
        length = self.past * self.skip + 1
        short = [f"{name} ({len(files)})" for name, files in found.items() if len(files) < length]
        if short:
            raise ValueError(
                f"{root}: {len(short)} of {len(found)} sequences are shorter than the {length} frames that past = "
                f"{self.past} and skip = {self.skip} need: {_shown(short)}; remove them or lower past or skip"
            )
        return found

    def _parts(self) -> tuple[dict[str, list[Path]], dict[str, list[Path]]]:
        """The sequences to train on, and those held out: at least one of two or more, unless share is 0."""
        found = self._sequences()
        count = max(round(self.share * len(found)), 1) if self.share and len(found) > 1 else 0
        order = torch.randperm(len(found), generator=torch.Generator().manual_seed(0)).tolist()
        names = list(found)
        apart = {names[index] for index in order[:count]}
        return tuple({n: found[n] for n in names if (n in apart) == held} for held in (False, True))  # type: ignore[return-value]

    def _windows(self, sequences: dict[str, list[Path]]) -> TorchDataset[Any]:
        frames: list[Path] = []
        starts: list[int] = []
        length = self.past * self.skip + 1
        for name, files in sequences.items():
            for run in [files] if self.gaps == "ignore" else self._runs(name, files):
                starts += range(len(frames), len(frames) + len(run) - length + 1)
                frames += run
        if not starts:
            raise ValueError(f"{self.root}: no {length} frames follow each other without a gap; lower past or skip")
        deep = self._check_sizes(sequences)
        windows = Windows(self, frames, starts, deep)
        if len(starts) * (self.past + 1) * math.prod(self.spec.shape) * (4 if deep else 1) > self.memory * 2**30:
            return windows
        try:
            return windows.in_memory()
        except RunError as error:
            raise ValueError(f"{error}; remove or replace it") from error

    def _runs(self, name: str, files: list[Path]) -> list[list[Path]]:
        """The frames of a sequence, cut where numbers are missing. With gaps = "refuse" ValueError names the first."""
        places = [_place(file) for file in files]
        if None in places:
            if any(place is not None for place in places):
                odd = files[places.index(None)].name
                raise ValueError(f"{self.root}: sequence {name}: {odd} has no number, as other frames have; rename it")
            return [files]
        steps = [after - before for before, after in itertools.pairwise(places)]  # type: ignore[operator]
        if (index := next((i for i, step in enumerate(steps) if step <= 0), None)) is not None:
            pair = f"{files[index].name} and {files[index + 1].name}"
            raise ValueError(
                f"{self.root}: sequence {name}: the numbers of {pair} do not rise; keep one sequence a folder, or "
                'set gaps = "ignore"'
            )
        usual = min(steps, default=1)
        # Times in whole milliseconds rise by 33 and 34: less than half a frame more is no gap.
        cuts = [index + 1 for index, step in enumerate(steps) if 2 * step >= 3 * usual]
        if cuts and self.gaps == "refuse":
            before, after = files[cuts[0] - 1], files[cuts[0]]
            more = f", the first of {len(cuts)} gaps" if len(cuts) > 1 else ""
            raise ValueError(
                f"{self.root}: sequence {name}: a frame is missing between {before.name} and {after.name}{more}; add "
                'it, or set gaps = "split" (windows do not cross it) or gaps = "ignore"'
            )
        return [files[a:b] for a, b in itertools.pairwise([0, *cuts, len(files)])]

    def _check_sizes(self, sequences: dict[str, list[Path]]) -> bool:
        """Whether frames have more than 8 bits. Raises ValueError for sequences of several sizes."""
        deep, all_sizes = False, collections.Counter[tuple[int, int]]()
        first: dict[tuple[int, int], str] = {}
        for name, files in sequences.items():
            sizes: dict[tuple[int, int], Path] = {}
            for file in files:
                header = self._header(file)
                deep = deep or header.deep
                sizes.setdefault((header.width, header.height), file)
            if len(sizes) > 1:
                shown = ", ".join(f"{w}×{h} ({file.name})" for (w, h), file in itertools.islice(sizes.items(), 3))
                raise ValueError(f"{self.root}: sequence {name}: frames have different sizes: {shown}; make them equal")
            all_sizes.update(sizes.keys())
            first.setdefault(next(iter(sizes)), name)
        if self.size is None and len(all_sizes) > 1:
            shown = ", ".join(f"{w}×{h} ({first[w, h]})" for (w, h), _ in all_sizes.most_common(3))
            raise ValueError(f"{self.root}: sequences have different sizes: {shown}; set `size` to resize them")
        return deep

    def _header(self, file: Path) -> Any:
        try:
            return read_image_header(file, self.channels)
        except ValueError as error:
            raise ValueError(f"{error}; remove or replace it") from error


class Windows(TorchDataset[tuple[Tensor, Tensor]]):
    """Windows that begin at `starts` of the frames, read from disk at each access; floats if one frame is deep."""

    def __init__(self, options: FramesFolder, frames: Sequence[Path], starts: Sequence[int], deep: bool) -> None:
        self.options, self.frames, self.starts, self.deep = options, frames, starts, deep

    def __len__(self) -> int:
        return len(self.starts)

    def __getitem__(self, index: int) -> tuple[Tensor, Tensor]:
        return self._window(index, self._read)

    def in_memory(self) -> TensorDataset:
        """All windows as tensors; each frame is read once."""
        frames = [self._read(row) for row in range(len(self.frames))]
        x, y = zip(*(self._window(index, frames.__getitem__) for index in range(len(self))), strict=True)
        return TensorDataset(torch.stack(x), torch.stack(y))

    def _window(self, index: int, frame: Any) -> tuple[Tensor, Tensor]:
        own = self.options
        start = self.starts[index]
        *past, x = (frame(start + step * own.skip) for step in range(own.past + 1))
        return x, torch.cat(past)

    def _read(self, row: int) -> Tensor:
        own = self.options
        try:
            x = read_image(self.frames[row], own.channels, own.size, own.background, own.white)
        except ValueError as error:
            raise RunError(str(error)) from error
        return as_kind(x, self.deep)


def _natural(name: str) -> tuple[list[str | int], str]:
    """A key that sorts names with numbers by their numbers: frame2 before frame10."""
    return [int(part) if part.isdecimal() else part for part in re.split(r"(\d+)", name)], name


def _place(file: Path) -> int | None:
    """The last number in a file's name, without its suffix."""
    numbers = re.findall(r"\d+", file.stem)
    return int(numbers[-1]) if numbers else None


def _shown(names: Iterable[str]) -> str:
    first = list(itertools.islice(names, SHOWN + 1))
    return ", ".join(first[:SHOWN]) + (", …" if len(first) > SHOWN else "")
