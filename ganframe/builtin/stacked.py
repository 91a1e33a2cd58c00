"""The dataset `stacked`: triples of images of another dataset, drawn at random, as the channels of one image."""

from __future__ import annotations

import functools
import hashlib
import weakref
from typing import Any

import attrs
import torch
from attrs.validators import ge
from torch import Tensor
from torch.utils.data import Dataset as TorchDataset
from torch.utils.data import IterableDataset, TensorDataset

from ganframe import Dataset, DataSpec, Distribution, option

MOST_CLASSES = 100_000  # of stacks: names, embeddings and histograms have an entry for each


@attrs.frozen
class Stacked(Dataset):
    """Images of a labelled dataset, drawn at random and stacked as channels (Metz et al. 2016; Srivastava et al. 2017).

    With `channels` = 3, images of C classes give C³ classes: y = a·C² + b·C + c for the labels a, b, c of the channels;
    `parts` returns these. Where the dataset is in memory, or is drawn itself, every batch has new stacks, drawn on the
    device. Data that is read from disk gives as many stacks as it has images; the first channel of each is that image.
    """

    dataset: Dataset = option(help="a dataset of labelled images of one channel")
    channels: int = option(3, help="images in each stack", validator=ge(1))

    @property
    def spec(self) -> DataSpec:
        inner = self.dataset.spec
        if not inner.is_image or inner.shape[0] != 1:
            what = "shape" if inner.is_image else "no images but samples of shape"
            raise ValueError(
                f"stacks are made of images of one channel, and `dataset` has {what} {inner.shape}; image_folder "
                "reads images as grey with channels = 1"
            )
        if inner.classes is None:
            raise ValueError("stacks are made of images with labels, and `dataset` has none")
        classes = inner.classes**self.channels
        if classes > MOST_CLASSES:
            raise ValueError(
                f"{inner.classes} classes in {self.channels} channels are {classes:,} classes of stacks, more than "
                f"{MOST_CLASSES:,}; set fewer channels"
            )
        names = _joined(inner.class_names, self.channels) if inner.class_names else None
        return DataSpec((self.channels, *inner.shape[1:]), classes, class_names=names)

    def parts(self, y: Tensor) -> Tensor:
        """The labels (n, channels) of the images in stacks with labels y (n,)."""
        classes = self.dataset.spec.classes or 1
        return y[:, None] // _places(classes, self.channels, y.device) % classes

    def build(self) -> TorchDataset[Any]:
        stacked = self._stacked(self.dataset.build())
        _OPEN[repr(self)] = stacked
        return stacked

    def held_out(self) -> TorchDataset[Any] | None:
        """Stacks of the images that the dataset holds out; None where it holds out none."""
        data = self.dataset.held_out()
        return None if data is None else self._stacked(data)

    def fingerprint(self) -> dict[str, str]:
        """A hash of the images in memory that `build` has read. What else identifies them, their dataset says."""
        stacked = _OPEN.get(repr(self)) or self.build()
        return {"stacked values": stacked.hash()} if isinstance(stacked, InMemory) else {}

    def _stacked(self, data: TorchDataset[Any]) -> TorchDataset[Any]:
        inner = self.dataset.spec
        if isinstance(data, IterableDataset):
            raise ValueError("images of a stream cannot be drawn at random to be stacked; give a dataset with a length")
        if isinstance(data, Distribution):
            return Drawn(data, inner, self.channels)
        if isinstance(data, TensorDataset) and type(data).__getitem__ is TensorDataset.__getitem__:
            return InMemory(*_checked(data, inner), inner, self.channels)
        return Items(data, inner, self.channels)


_OPEN: weakref.WeakValueDictionary[str, Any] = weakref.WeakValueDictionary()
"""What `build` returned and is still in use, by the options, so that a fingerprint does not read the data again."""


class InMemory(Distribution):
    """Stacks of images x (N, 1, H, W) with labels y (N,) that are held in memory, in the type that they have there."""

    def __init__(self, x: Tensor, y: Tensor, inner: DataSpec, channels: int) -> None:
        self.inner, self.channels = inner, channels
        self.home = self.here = x[:, 0].contiguous(), y

    def draw(self, n: int, generator: torch.Generator) -> tuple[Tensor, Tensor]:
        device = generator.device
        x, y = self._on(device)
        rows = torch.randint(len(x), (n, self.channels), generator=generator, device=device).to(x.device)
        return _as_float(x[rows].to(device)), _label(y[rows].to(device), self.inner)

    def hash(self) -> str:
        """32 hexadecimal digits that identify the images and their labels."""
        found = hashlib.sha256()
        for tensor in self.home:
            found.update(tensor.cpu().contiguous().flatten().view(torch.uint8).numpy().data)
        return found.hexdigest()[:32]

    def _on(self, device: torch.device) -> tuple[Tensor, Tensor]:
        """The images and labels on this device, if they fit there."""
        x, y = self.here
        if x.device != device and (device.type != "cuda" or x.nbytes < torch.cuda.mem_get_info(device)[0] / 4):
            self.here = self.home if self.home[0].device == device else (x.to(device), y.to(device))
        return self.here


class Drawn(Distribution):
    """Stacks of images that another distribution draws."""

    def __init__(self, images: Distribution, inner: DataSpec, channels: int) -> None:
        self.images, self.inner, self.channels = images, inner, channels

    def draw(self, n: int, generator: torch.Generator) -> tuple[Tensor, Tensor]:
        x, y = self.images.draw(n * self.channels, generator)
        return _as_float(x.reshape(n, self.channels, *x.shape[2:])), _label(y.reshape(n, self.channels), self.inner)


class Items(TorchDataset[tuple[Tensor, Tensor]]):
    """Stacks of images that are read one by one. All but the first of each are chosen by torch's global generator."""

    def __init__(self, images: Any, inner: DataSpec, channels: int) -> None:
        self.images, self.inner, self.channels = images, inner, channels

    def __len__(self) -> int:
        return len(self.images)

    def __getitem__(self, index: int) -> tuple[Tensor, Tensor]:
        others = torch.randint(len(self), (self.channels - 1,)).tolist()
        images, labels = zip(*(self.images[row] for row in (index, *others)), strict=True)
        y = torch.tensor([int(label) for label in labels])
        _check_labels(y, self.inner)
        return torch.cat(images), _label(y, self.inner)


def _as_float(x: Tensor) -> Tensor:
    """Images as floats in [-1, 1], of uint8 in 0..255."""
    return x.float().div_(127.5).sub_(1) if x.dtype == torch.uint8 else x.float()


def _label(labels: Tensor, inner: DataSpec) -> Tensor:
    """The label y (…) of stacks of images with these labels (…, channels)."""
    return (labels * _places(inner.classes or 1, labels.shape[-1], labels.device)).sum(-1)


@functools.lru_cache(maxsize=16)
def _places(classes: int, channels: int, device: torch.device) -> Tensor:
    """What a label of each channel (channels,) counts: C², C, 1."""
    return torch.tensor([classes**place for place in reversed(range(channels))], device=device)


@functools.lru_cache(maxsize=4)
def _joined(names: tuple[str, ...], channels: int) -> tuple[str, ...] | None:
    """The names of all classes, as "7/3/1", in the order of their labels; None where two would be the same."""
    found = [""]
    for _ in range(channels):
        found = [f"{first}/{name}" if first else name for first in found for name in names]
    return tuple(found) if len(set(found)) == len(found) else None


def _checked(data: TensorDataset, inner: DataSpec) -> tuple[Tensor, Tensor]:
    """Images x (N, 1, H, W) and labels y (N,) in memory, if they are what the spec says; else raises ValueError."""
    x, y = data.tensors
    if tuple(x.shape[1:]) != inner.shape or y.shape != x.shape[:1] or not len(x):
        raise ValueError(f"images to stack have shape {tuple(x.shape)} and labels {tuple(y.shape)}, not {inner.shape}")
    if x.dtype != torch.uint8 and not bool((x.isfinite() & (x.abs() < 1.001)).all()):
        raise ValueError("images to stack must have finite values in [-1, 1], or dtype uint8")
    if y.dtype != torch.long:
        raise ValueError(f"labels of images to stack must be int64, not {y.dtype}")
    _check_labels(y, inner)
    return x, y


def _check_labels(y: Tensor, inner: DataSpec) -> None:
    low, high = (int(value) for value in y.aminmax())
    if low < 0 or high >= (inner.classes or 1):
        raise ValueError(f"labels of images to stack must be 0 to {(inner.classes or 1) - 1}; found {low} to {high}")
