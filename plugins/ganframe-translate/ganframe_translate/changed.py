"""Datasets whose samples are those of another dataset, changed: in memory, drawn, or item by item.

A change is a function (x, y, generator) -> (x', y') of batches, x as the other dataset has them, uint8 or float. What
it draws at random it draws with `generator`, on the device of x; None means torch's global generator.
"""

from __future__ import annotations

import hashlib
import weakref
from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor
from torch.utils.data import Dataset as TorchDataset
from torch.utils.data import TensorDataset

from ganframe import Dataset, Distribution

Change = Callable[[Tensor, Tensor, torch.Generator | None], tuple[Tensor, Tensor]]

CHUNK = 256  # samples changed at a time: small images then stay in the cache of a processor
SEED = 0  # of what is drawn once for each sample that is held out


def changed(data: TorchDataset[Any], change: Change, *, random: bool, fixed: bool = False) -> TorchDataset[Any]:
    """The samples of `data`, changed. `random`: whether the change draws; `fixed`: whether it does so only once.

    Data in memory stays there. Where each sample is to be changed anew each time, it becomes a distribution, which
    moves the samples to the device once and changes them there.
    """
    if isinstance(data, Distribution):
        return _Drawn(data, change)
    if not isinstance(data, TensorDataset) or type(data).__getitem__ is not TensorDataset.__getitem__:
        return _Items(data, change, fixed or not random)
    if random and not fixed:
        return Redrawn(data, change)
    x, y = data.tensors
    generator = torch.Generator().manual_seed(SEED)
    parts = [change(*part, generator) for part in zip(x.split(CHUNK), y.split(CHUNK), strict=True)]
    xs, ys = zip(*parts, strict=True)
    same = all(new.data_ptr() == old.data_ptr() for new, old in zip(xs, x.split(CHUNK), strict=True))
    return TensorDataset(x if same else torch.cat(xs), torch.cat(ys))


_OPEN: weakref.WeakValueDictionary[str, TorchDataset[Any]] = weakref.WeakValueDictionary()
"""What `opened` was given and is still in use, by the options, so that a fingerprint does not read the data again."""


def opened(dataset: Dataset, data: TorchDataset[Any]) -> TorchDataset[Any]:
    """`data`, which `dataset.build` returns, for `fingerprint_of` to find."""
    _OPEN[repr(dataset)] = data
    return data


def fingerprint_of(dataset: Dataset, name: str) -> dict[str, str]:
    """A hash of the samples in memory that are changed anew each time, of which a run keeps no values to compare."""
    data = _OPEN.get(repr(dataset)) or dataset.build()
    return {name: data.hash()} if isinstance(data, Redrawn) else {}


class Redrawn(Distribution):
    """Samples in memory, of which each draw takes some at random and changes them.

    As a torch dataset it has as many items as there are samples, each changed in one way.
    """

    def __init__(self, data: TensorDataset, change: Change) -> None:
        self.change = change
        self.home = self.here = data.tensors

    def draw(self, n: int, generator: torch.Generator) -> tuple[Tensor, Tensor]:
        device = generator.device
        x, y = self._on(device)
        rows = torch.randint(len(x), (n,), generator=generator, device=device).to(x.device)
        return _as_floats(*self.change(x[rows].to(device), y[rows].to(device), generator))

    def __len__(self) -> int:
        return len(self.home[0])

    def __getitem__(self, index: int) -> tuple[Tensor, Tensor]:
        if not 0 <= index < len(self):
            raise IndexError(index)
        x, y = (side[index : index + 1] for side in self.home)
        x, y = _as_floats(*self.change(x, y, torch.Generator().manual_seed(index)))
        return x[0], y[0]

    def hash(self) -> str:
        """32 hexadecimal digits that identify the samples before they are changed."""
        found = hashlib.sha256()
        for tensor in self.home:
            found.update(tensor.cpu().contiguous().flatten().view(torch.uint8).numpy().data)
        return found.hexdigest()[:32]

    def _on(self, device: torch.device) -> tuple[Tensor, ...]:
        """The samples on this device, if they fit there."""
        x, y = self.here
        if x.device != device and (device.type != "cuda" or x.nbytes < torch.cuda.mem_get_info(device)[0] / 4):
            self.here = self.home if self.home[0].device == device else (x.to(device), y.to(device))
        return self.here


class _Drawn(Distribution):
    """Samples of another distribution, changed as they are drawn."""

    def __init__(self, data: Distribution, change: Change) -> None:
        self.data, self.change = data, change

    def draw(self, n: int, generator: torch.Generator) -> tuple[Tensor, Tensor]:
        return _as_floats(*self.change(*self.data.draw(n, generator), generator))

    def __len__(self) -> int:
        return len(self.data)


class _Items(TorchDataset[tuple[Tensor, Tensor]]):
    """Items of data that is read one by one, changed as they are read. If `fixed`, an item is always changed alike."""

    def __init__(self, data: TorchDataset[Any], change: Change, fixed: bool) -> None:
        self.data, self.change, self.fixed = data, change, fixed

    def __len__(self) -> int:
        return len(self.data)  # type: ignore[arg-type]

    def __getitem__(self, index: int) -> tuple[Tensor, Tensor]:
        x, y = self.data[index]
        generator = torch.Generator().manual_seed(index) if self.fixed else None
        x, y = self.change(x[None], torch.as_tensor(y)[None], generator)
        return x[0], y[0]


def as_signed(x: Tensor) -> Tensor:
    """Images as floats in [-1, 1], of uint8 in 0..255; floats as they are."""
    return x.float().div_(127.5).sub_(1) if x.dtype == torch.uint8 else x


def as_pixels(x: Tensor) -> Tensor:
    """Images in [-1, 1] as uint8 in 0..255."""
    return x.add(1).mul_(127.5).round_().clamp_(0, 255).to(torch.uint8)


def as_kind(x: Tensor, deep: bool) -> Tensor:
    """Floats in [-1, 1] if images are `deep`, else uint8: a file may have other bits than its header or name says."""
    if deep:
        return as_signed(x)
    return x if x.dtype == torch.uint8 else as_pixels(x)


def _as_floats(x: Tensor, y: Tensor) -> tuple[Tensor, Tensor]:
    """x and a condition y as floats; a label y as it is."""
    return as_signed(x), as_signed(y)
