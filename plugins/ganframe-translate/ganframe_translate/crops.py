"""Random parts of the images of a folder, whatever their sizes: the dataset `crops`, for super-resolution."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import attrs
from attrs.validators import and_, ge, lt
from torch import Tensor
from torch.utils.data import Dataset as TorchDataset

from ganframe import Dataset, DataSpec, RunError, find_images, option, read_image, read_image_header
from ganframe_translate.changed import as_kind
from ganframe_translate.pair_files import cropped


@attrs.frozen
class Crops(Dataset):
    """Random squares of the images of a folder and its subfolders, at their own scale: SRGAN trains on such parts.

    Images may differ in size. Each is one sample of an epoch, with another part each time; images held out are cropped
    in the centre. They are read as `image_folder` reads them: turned as EXIF says, transparent ones on white.
    """

    root: str = option(help="path of the folder")
    crop: int = option(96, help="pixels along each side of a part", validator=ge(1))
    flip: bool = option(True, help="whether half of the parts are mirrored, left to right")
    channels: int = option(3, help="3 for colour, 1 for greyscale, 4 with opacity", validator=ge(1))
    hold_out: float = option(0.0, help="share of the images that is kept for judging", validator=and_(ge(0), lt(1)))
    memory: float = option(
        2.0, help="GiB up to which images are kept in memory; larger datasets are read from disk", validator=ge(0)
    )

    @property
    def spec(self) -> DataSpec:
        return DataSpec((self.channels, self.crop, self.crop))

    def build(self) -> TorchDataset[Any]:
        return self._open(training=True)

    def held_out(self) -> TorchDataset[Any] | None:
        """The share `hold_out` of the images, which their names decide; None where it is 0."""
        return self._open(training=False) if self.hold_out else None

    def fingerprint(self) -> dict[str, str]:
        files = self._files()
        text = repr([(name, file.stat().st_size) for name, file in files.items()])
        return {"names and sizes of files": hashlib.sha256(text.encode("utf-8", "surrogateescape")).hexdigest()[:32]}

    def _files(self) -> dict[str, Path]:
        """The images by their paths in the folder, sorted."""
        root = Path(self.root).expanduser()
        if not root.is_dir():
            raise ValueError(f"{self.root}: no such folder")
        found, _ = find_images(root, self.channels, deep=True)
        if not found:
            raise ValueError(f"{self.root}: no images found")
        return dict(sorted((file.relative_to(root).as_posix(), file) for file in found))

    def _open(self, training: bool) -> TorchDataset[Any]:
        files = self._files()
        deep, pixels, small = False, 0, []
        for name, file in files.items():
            try:
                header = read_image_header(file, self.channels)
            except ValueError as error:
                raise ValueError(f"{error}; remove or replace it") from error
            deep, pixels = deep or header.deep, pixels + header.width * header.height
            if min(header.width, header.height) < self.crop:
                small.append(f"{name} ({header.width}×{header.height})")
        if small:
            shown = ", ".join(small[:5]) + (", …" if len(small) > 5 else "")
            raise ValueError(
                f"crop: {len(small)} of {len(files)} images are smaller than {self.crop}×{self.crop}: {shown}; set a "
                "smaller crop, or remove them"
            )
        apart = self._apart(list(files))
        chosen = [file for name, file in files.items() if (name in apart) != training]
        data = _Crops(chosen, self, deep, training)
        if pixels * self.channels * (4 if deep else 1) <= self.memory * 2**30:
            data.keep()
        return data

    def _apart(self, names: list[str]) -> set[str]:
        """Names that are held out: those whose hashes come first, so that new images move few others."""
        count = round(self.hold_out * len(names))
        if self.hold_out and not 0 < count < len(names):
            raise ValueError(
                f"hold_out: a share of {self.hold_out} of {len(names)} images leaves one part empty; set another share"
            )
        return set(sorted(names, key=lambda name: hashlib.sha256(name.encode("utf-8", "replace")).digest())[:count])


class _Crops(TorchDataset[tuple[Tensor, int]]):
    """Parts (C, crop, crop), uint8 or, if an image is deep, floats. Random ones are drawn by torch's generator."""

    def __init__(self, files: Sequence[Path], options: Crops, deep: bool, training: bool) -> None:
        self.files, self.options, self.deep, self.training = files, options, deep, training
        self.kept: list[Tensor] | None = None

    def __len__(self) -> int:
        return len(self.files)

    def __getitem__(self, index: int) -> tuple[Tensor, int]:
        try:
            x = self._read(self.files[index]) if self.kept is None else self.kept[index]
        except ValueError as error:
            raise RunError(str(error)) from error
        flip = self.options.flip and self.training
        return cropped((x,), self.options.crop, flip, self.training)[0], 0

    def keep(self) -> None:
        """Reads all images into memory. Raises ValueError for the first that cannot be read."""
        self.kept = [self._read(file) for file in self.files]

    def _read(self, file: Path) -> Tensor:
        return as_kind(read_image(file, self.options.channels), self.deep)
