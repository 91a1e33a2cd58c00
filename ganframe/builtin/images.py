"""Image datasets: scikit-learn's handwritten digits, and torchvision's datasets by name; `image_folder` is beside.

A dataset that fits in memory is one uint8 tensor. torchvision, PIL and scikit-learn are imported only when images are
read.
"""

from __future__ import annotations

import functools
import gzip
import zlib
from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

import attrs
import numpy as np
import torch
from attrs.validators import optional
from torch import Tensor
from torch.nn import functional as F
from torch.utils.data import Dataset as TorchDataset
from torch.utils.data import TensorDataset

from ganframe import Dataset, DataSpec, option
from ganframe.builtin.class_names import NAMES
from ganframe.builtin.image_folder import ImageFolder as ImageFolder
from ganframe.builtin.image_folder import Size, height_and_width, sides_of_at_least

if TYPE_CHECKING:
    from PIL.Image import Image

_PREFIX = {"train": "train", "test": "t10k"}
DEBIAN_FASHION_MNIST = Path("/usr/share/datasets/fashion-mnist")


def _resized(images: Tensor, size: Size | None) -> Tensor:
    """uint8 (N, C, H, W) -> uint8 (N, C, *size), bilinear with antialiasing; unchanged if size is None.

    Images of other proportions are scaled until they cover the size, and the centre is cropped.
    """
    if size is None or images.shape[2:] == height_and_width(size):
        return images
    height, width = height_and_width(size)
    scale = max(height / images.shape[2], width / images.shape[3])
    covering = max(height, round(scale * images.shape[2])), max(width, round(scale * images.shape[3]))
    top, left = (covering[0] - height) // 2, (covering[1] - width) // 2
    chunks = images.split(4096)  # limits memory: float32 needs four times the bytes of uint8
    resized = (F.interpolate(c.float(), covering, mode="bilinear", antialias=True) for c in chunks)
    cropped = (r[..., top : top + height, left : left + width] for r in resized)
    return torch.cat([r.round().clamp_(0, 255).to(torch.uint8) for r in cropped])


@attrs.frozen
class Digits(Dataset):
    """1,797 scans of handwritten digits, 8×8 pixels, greyscale, ten classes: scikit-learn's `load_digits` (UCI).

    The data has no test split of its own. "test" is a fifth of the scans, chosen at random once and for all: the first
    359 of `numpy.random.RandomState(0).permutation(1797)`; "train" is the rest, in the order of the data.
    """

    size: Size = option(
        8,
        help="pixels along each side, or [height, width]; sizes other than 8 are resized",
        validator=sides_of_at_least(8),
    )
    split: Literal["all", "train", "test"] = option(
        "all", help="part of the scans: a fixed fifth is for testing, and is held out of training on the rest"
    )

    @property
    def spec(self) -> DataSpec:
        return DataSpec((1, *height_and_width(self.size)), classes=10, class_names=NAMES["digits"])

    def build(self) -> TensorDataset:
        scans, classes = _scans()
        images = torch.from_numpy(np.rint(scans * (255 / 16)).astype(np.uint8))
        labels = torch.from_numpy(classes).long()
        if self.split != "all":
            test = np.random.RandomState(0).permutation(len(images))[: len(images) // 5]
            rows = torch.from_numpy(np.isin(np.arange(len(images)), test) == (self.split == "test"))
            images, labels = images[rows], labels[rows]
        return TensorDataset(_resized(images[:, None], self.size), labels)

    def held_out(self) -> TensorDataset | None:
        """The test split, for training on the rest; None for the other splits."""
        return attrs.evolve(self, split="test").build() if self.split == "train" else None


def _scans() -> tuple[np.ndarray, np.ndarray]:
    """The images (1797, 8, 8), from 0 to 16, and labels (1797,) of scikit-learn's `load_digits`.

    They are read from its file where that is as expected: importing scikit-learn takes as long as importing torch.
    """
    package = find_spec("sklearn")
    file = Path(package.origin or "").parent / "datasets" / "data" / "digits.csv.gz" if package else None
    if file is not None and file.is_file():
        with gzip.open(file, "rt", encoding="ascii") as lines:
            table = np.loadtxt(lines, delimiter=",", dtype=np.float64)
        if table.shape == (1797, 65):
            return table[:, :64].reshape(-1, 8, 8), table[:, 64].astype(np.int64)
    from sklearn.datasets import load_digits

    digits = load_digits()
    return digits.images, digits.target


def _pixels(image: Image, size: Size | None) -> Tensor:
    """uint8 (C, H, W); with a size, scales the image until it covers it and crops the centre."""
    from PIL.ImageOps import fit

    if size is not None and image.size[::-1] != height_and_width(size):
        image = fit(image, height_and_width(size)[::-1])
    pixels = torch.from_numpy(np.array(image))
    return pixels[None] if pixels.ndim == 2 else pixels.permute(2, 0, 1).contiguous()


def _unlabelled(target: object) -> int:
    return 0


TorchvisionName = Literal["MNIST", "FashionMNIST", "KMNIST", "CIFAR10", "CIFAR100", "SVHN", "STL10", "CelebA"]
_SHAPES: dict[str, tuple[tuple[int, int, int], int | None]] = {
    "MNIST": ((1, 28, 28), 10),
    "FashionMNIST": ((1, 28, 28), 10),
    "KMNIST": ((1, 28, 28), 10),
    "CIFAR10": ((3, 32, 32), 10),
    "CIFAR100": ((3, 32, 32), 100),
    "SVHN": ((3, 32, 32), 10),
    "STL10": ((3, 96, 96), 10),
    "CelebA": ((3, 218, 178), None),
}


@attrs.frozen
class TorchvisionDataset(Dataset):
    """A torchvision dataset by name, read from `root`; downloaded only if `download` is true.

    FashionMNIST is also read from Debian's package dataset-fashion-mnist if it is installed.
    """

    name: TorchvisionName = option(help="torchvision's name of the dataset")
    root: str = option("data", help="folder of the dataset, or where to download it")
    download: bool = option(False, help="download the dataset if it is not in root")
    split: Literal["train", "test"] = option("train", help="part of the dataset")
    size: Size | None = option(
        None,
        help="pixels along each side, or [height, width]; by default those of the dataset",
        validator=optional(sides_of_at_least(1)),
    )

    @property
    def spec(self) -> DataSpec:
        shape, classes = _SHAPES[self.name]
        shape = shape if self.size is None else (shape[0], *height_and_width(self.size))
        return DataSpec(shape, classes, class_names=NAMES.get(self.name))

    def build(self) -> TorchDataset[Any]:
        root = Path(self.root).expanduser()
        if self.name == "FashionMNIST" and (folder := _idx_folder(root)) is not None:
            images, labels = _read_idx_pair(folder, self.split)
            return self._tensors(images[:, None], labels, folder / f"{_PREFIX[self.split]}-labels-idx1-ubyte.gz")
        opened = self._open(root)
        if self.name == "CelebA":
            return opened  # 200,000 large images: read from disk
        images = torch.as_tensor(opened.data)
        if images.ndim == 3:
            images = images[:, None]
        elif images.shape[-1] == 3:
            images = images.permute(0, 3, 1, 2).contiguous()
        labels = torch.as_tensor(opened.labels if hasattr(opened, "labels") else opened.targets).long()
        return self._tensors(images, labels, root)

    def held_out(self) -> TorchDataset[Any] | None:
        """The test split, for training on the other; None where it is not there. It is never downloaded."""
        if self.split == "test":
            return None
        try:
            return attrs.evolve(self, split="test", download=False).build()
        except ValueError:
            return None

    def _tensors(self, images: Tensor, labels: Tensor, source: Path) -> TensorDataset:
        if len(images) != len(labels):
            raise ValueError(f"{source}: {len(labels)} labels for {len(images)} images; download {self.name} again")
        return TensorDataset(_resized(images, self.size), labels)

    def _open(self, root: Path) -> Any:
        from torchvision import datasets

        known = getattr(datasets, self.name)
        options: dict[str, Any] = {"root": root, "download": self.download}
        if self.name in ("SVHN", "STL10", "CelebA"):
            options["split"] = self.split
        else:
            options["train"] = self.split == "train"
        if self.name == "CelebA":
            options |= {"transform": functools.partial(_pixels, size=self.size), "target_transform": _unlabelled}
        try:
            return known(**options)
        except Exception as error:  # torchvision raises different types for missing and damaged data
            cause = str(error).split(". ")[0] or type(error).__name__
            package = ", install Debian's package dataset-fashion-mnist" if self.name == "FashionMNIST" else ""
            raise ValueError(
                f"{self.name} cannot be opened in {root}: {cause}; set download = true to download it"
                f"{package}, or set root to the folder that contains it"
            ) from error


def _idx_folder(root: Path) -> Path | None:
    """The folder with Fashion-MNIST's idx.gz files: `root`, else Debian's; None if neither contains them."""
    if (root / "FashionMNIST" / "raw").is_dir():
        return None  # torchvision's layout, which torchvision reads
    return next((f for f in (root, DEBIAN_FASHION_MNIST) if (f / "train-images-idx3-ubyte.gz").is_file()), None)


def _read_idx_pair(folder: Path, split: str) -> tuple[Tensor, Tensor]:
    images = _read_idx(folder / f"{_PREFIX[split]}-images-idx3-ubyte.gz")
    return images, _read_idx(folder / f"{_PREFIX[split]}-labels-idx1-ubyte.gz").long()


def _read_idx(file: Path) -> Tensor:
    """Reads a gzipped idx file of bytes: magic number 0x0000080d for d dimensions, then sizes, then values."""
    try:
        raw = gzip.decompress(file.read_bytes())
        if raw[:3] != b"\x00\x00\x08":
            raise ValueError("not an idx file of bytes")
        shape = np.frombuffer(raw, ">i4", count=raw[3], offset=4)
        values = np.frombuffer(raw, np.uint8, offset=4 + 4 * raw[3]).reshape(shape)
    except (OSError, EOFError, ValueError, IndexError, zlib.error) as error:
        raise ValueError(f"{file}: {error}") from error
    return torch.from_numpy(values.copy())
