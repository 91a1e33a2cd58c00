"""Arrays of numpy as a dataset."""

from __future__ import annotations

import functools
import hashlib
import math
from collections.abc import Sequence
from pathlib import Path
from typing import Any, Literal

import attrs
import numpy as np
import torch
from attrs.validators import ge
from torch import Tensor
from torch.utils.data import Dataset as TorchDataset
from torch.utils.data import TensorDataset

from ganframe import Dataset, DataSpec, option, warn
from ganframe.builtin.array_files import Array, ArrayFile, array_files

Layout = Literal["auto", "nchw", "nhwc", "nhw", "none"]
CHANNELS = (1, 3, 4)  # by which the axis of channels is found
LOOKED_AT = 64  # samples in which values are looked at where data is mapped
MOST = 2**20  # bytes of an .npy that identify it, at the beginning and at the end
_warn_once = functools.cache(warn)  # a dataset may be built several times


@attrs.frozen
class Npz(Dataset):
    """Arrays of numpy: samples, and labels or conditions, by their names in an .npz, or the samples alone in an .npy.

    Images are uint8, or floats in [-1, 1]: (N, C, H, W), (N, H, W, C), or (N, H, W) for grey ones. With layout = "auto"
    four axes, and three of uint8, are images; where both axes could be the channels the layout must be given. Other
    arrays (N, …) are floats and stay as they are. Labels are integers (N,) from 0, or texts, whose sorted names are the
    classes. Conditions (N, …) are as samples.

    Data larger than `memory` is mapped: read from the file where it is needed. That of np.savez_compressed cannot be.
    """

    file: str = option(help="path of the .npz or .npy")
    x: str | None = option(None, help='name of the samples; by default the only array, or "x"')
    labels: str | None = option(None, help="name of the labels; by default there are none")
    conditions: str | None = option(None, help="name of the conditions; by default there are none")
    layout: Layout = option("auto", help='axes of images: "nchw", "nhwc", "nhw" (grey), or "none" where x is no images')
    memory: float = option(
        2.0, help="GiB up to which arrays are kept in memory; larger ones are read from the file", validator=ge(0)
    )

    def __attrs_post_init__(self) -> None:
        if self.labels is not None and self.conditions is not None:
            raise ValueError("labels and conditions: data has one of them, not both")

    @property
    def spec(self) -> DataSpec:
        arrays = self._arrays()
        shape, is_image = self._sample(arrays["x"])
        if "conditions" in arrays:
            return DataSpec(shape, condition=self._sample(arrays["conditions"])[0], is_image=is_image)
        if "labels" not in arrays:
            return DataSpec(shape, is_image=is_image)
        labels, names = _labels(arrays["labels"])
        classes = int(labels.max()) + 1 if names is None else len(names)
        return DataSpec(shape, classes, is_image=is_image, class_names=names)

    def build(self) -> TorchDataset[Any]:
        arrays = self._arrays()
        x, given = arrays["x"], arrays.get("conditions")
        sides = [self._side(side) for side in (x, given) if side is not None]
        if len(sides) == 1:
            labels = _labels(arrays["labels"])[0] if "labels" in arrays else np.zeros(x.shape[0], np.int64)
            sides.append(_Side(torch.from_numpy(labels)))
        held = [side.values for side in sides if side.values is not None]
        data: TorchDataset[Any] = TensorDataset(*held) if len(held) == 2 else _Mapped(sides)
        looked = sides[0][np.linspace(0, len(sides[0]) - 1, LOOKED_AT).astype(int).tolist()]
        if self.spec.is_image and looked.is_floating_point() and looked.min() >= 0 and looked.max() > 0:
            _warn_once(f"{x.name}: no value is below 0; if they are in [0, 1], scale them to [-1, 1]: 2 * x - 1")
        if not self.spec.is_image and _looks_like_bytes(looked):
            _warn_once(
                f"{x.name}: whole numbers from 0 to 255, of the shape {tuple(looked.shape[1:])}; if these are grey "
                "images, save them as uint8: x.astype('uint8')"
            )
        return data

    def fingerprint(self) -> dict[str, str | int]:
        """Checksums of the arrays, which an .npz has; of an .npy a hash of its beginning and end."""
        found: dict[str, str | int] = {}
        for name, array in self._arrays().items():
            if array.crc is not None:
                found[f"checksum of {name}"] = array.crc
                continue
            with array.file.open("rb") as stream:
                digest = hashlib.sha256(stream.read(MOST))
                stream.seek(max(0, array.file.stat().st_size - MOST))
                digest.update(stream.read(MOST))
            found[f"hash of {name}"] = digest.hexdigest()[:32]
        return found

    def _arrays(self) -> dict[str, ArrayFile]:
        """The arrays by the options that name them, of the same length. Raises ValueError."""
        file = Path(self.file).expanduser()
        there = array_files(file)
        found = {"x": self._samples(file, there)}
        for role in ("labels", "conditions"):
            name = getattr(self, role)
            if name is not None:
                found[role] = _named(file, there, role, name)
        for role, array in found.items():
            if array.dtype.hasobject or array.dtype.names is not None:
                raise ValueError(f"{array.name}: holds Python's objects or records; save it as an array of numbers")
            if not array.shape:
                raise ValueError(f"{array.name}: a single number; its first axis must be that of the samples")
            if array.shape[0] != found["x"].shape[0]:
                raise ValueError(f"{file}: {array.shape[0]} {role} for {found['x'].shape[0]} samples")
        if not found["x"].shape[0]:
            raise ValueError(f"{found['x'].name}: is empty")
        return found

    def _samples(self, file: Path, there: dict[str, ArrayFile]) -> ArrayFile:
        if self.x is not None and "" not in there:
            return _named(file, there, "x", self.x)
        if len(there) == 1:
            return next(iter(there.values()))
        if "x" in there:
            return there["x"]
        raise ValueError(f"{file}: set x to the name of the samples: {_listed(there)}")

    def _axes(self, array: ArrayFile) -> Layout:
        """The layout of an array, "none" where it is no images. Raises ValueError where it cannot be told."""
        axes = len(array.shape)
        if self.layout == "auto":
            if axes == 3 and array.dtype == np.uint8:
                return "nhw"
            if axes != 4:
                return "none"
            first, last = (array.shape[axis] in CHANNELS for axis in (1, 3))
            if first == last:
                raise ValueError(
                    f"{array.name}: of the shape {array.shape}, where are the channels? set layout to nchw or nhwc, or "
                    "to none if these are no images"
                )
            return "nchw" if first else "nhwc"
        if self.layout != "none" and axes != len(self.layout):
            if self.conditions is not None and array.member == f"{self.conditions}.npy":
                return "none"  # vectors beside images
            raise ValueError(f"{array.name}: its shape is {array.shape}, which layout = {self.layout} does not fit")
        return self.layout

    def _sample(self, array: ArrayFile) -> tuple[tuple[int, ...], bool]:
        """The shape of one sample, and whether it is an image."""
        axes = self._axes(array)
        if array.dtype.kind != "f" and not (array.dtype == np.uint8 and axes != "none"):
            raise ValueError(
                f"{array.name}: holds {array.dtype}; give floats{', or uint8' if axes != 'none' else ''}: "
                "values.astype('float32')"
            )
        shape = array.shape[1:] or (1,)  # numbers (N,) are points on a line
        shape = {"nhwc": (shape[-1], *shape[:-1]), "nhw": (1, *shape)}.get(axes, shape)
        if not all(shape):
            raise ValueError(f"{array.name}: its shape is {array.shape}: samples without values")
        return tuple(map(int, shape)), axes != "none"

    def _side(self, array: ArrayFile) -> _Side:
        axes = self._axes(array)
        self._sample(array)
        large = array.nbytes > self.memory * 2**30
        if large and array.offset is not None:
            return _Side(None, array, axes)
        if large:
            size = array.nbytes / 2**30
            _warn_once(f"{array.name}: is compressed, so all {size:.1f} GiB are read into memory; save it by np.savez")
        return _Side(_as_tensor(array.read(), axes).contiguous())


def _looks_like_bytes(x: Tensor) -> bool:
    """Whether floats (n, H, W) are the pixels of grey images, by their values."""
    return x.ndim == 3 and bool((x == x.round()).all()) and x.min().item() >= 0 and 100 < x.max().item() <= 255


class _Side:
    """x or y of samples: in memory, or mapped from a file. Each process that reads data maps the file itself."""

    def __init__(self, values: Tensor | None, file: ArrayFile | None = None, axes: Layout = "none") -> None:
        self.values, self.file, self.axes = values, file, axes
        self.map: Array | None = None

    def __len__(self) -> int:
        return len(self.values) if self.values is not None else self.file.shape[0]  # type: ignore[union-attr]

    def __getstate__(self) -> dict[str, Any]:
        return {**vars(self), "map": None}  # it would be sent with all its values

    def __getitem__(self, rows: Sequence[int]) -> Tensor:
        if self.values is not None:
            return self.values[rows]
        if self.map is None:
            assert self.file is not None
            self.map = self.file.mapped()
        return _as_tensor(self.map[rows], self.axes)


def _as_tensor(values: Array, axes: Layout) -> Tensor:
    """Values (N, …) as samples (N, *shape), uint8 or float32, in memory."""
    if values.dtype != np.uint8:
        values = values.astype(np.float32)
    if values.ndim == 1:
        values = values[:, None]
    if axes == "nhw":
        values = values[:, None]
    elif axes == "nhwc":
        values = np.moveaxis(values, -1, 1)
    return torch.from_numpy(np.ascontiguousarray(values))


class _Mapped(TorchDataset[tuple[Tensor, Tensor]]):
    """Samples of which a side at least is read from a file at each access."""

    def __init__(self, sides: Sequence[_Side]) -> None:
        self.x, self.y = sides

    def __len__(self) -> int:
        return len(self.x)

    def __getitem__(self, index: int) -> tuple[Tensor, Tensor]:
        if not 0 <= index < len(self):
            raise IndexError(index)
        return self.x[[index]][0], self.y[[index]][0]

    def __getitems__(self, rows: list[int]) -> list[tuple[Tensor, Tensor]]:
        """A batch at once, as a DataLoader asks for it."""
        return [*zip(self.x[rows], self.y[rows], strict=True)]


def _named(file: Path, there: dict[str, ArrayFile], role: str, name: str) -> ArrayFile:
    if "" in there:
        raise ValueError(f"{file}: an .npy has one array, without names, so there is no '{name}' for {role}")
    if name not in there:
        raise ValueError(f"{file}: no array is called '{name}' ({role}); there are {_listed(there)}")
    return there[name]


def _listed(there: dict[str, ArrayFile]) -> str:
    shown = [f"'{name}' {array.shape}" for name, array in [*there.items()][:8]]
    return ", ".join(shown) + (", …" if len(there) > 8 else "")


def _labels(array: ArrayFile) -> tuple[Array, tuple[str, ...] | None]:
    """Labels (N,), int64, with the names of classes where they are texts. Raises ValueError for others."""
    shape = array.shape
    if len(shape) == 2 and shape[1] > 1:
        raise ValueError(f"{array.name}: labels of the shape {shape}; of one-hot labels take labels.argmax(1)")
    if math.prod(shape) != shape[0]:
        raise ValueError(f"{array.name}: labels of the shape {shape}; they must have the shape ({shape[0]},)")
    if array.dtype.kind not in "iubUS":
        raise ValueError(f"{array.name}: labels are {array.dtype}; give integers from 0, or texts")
    values = array.read().reshape(-1)
    if values.dtype.kind in "US":
        names, labels = np.unique(values, return_inverse=True)
        texts = [name.decode("utf-8", "replace") if isinstance(name, bytes) else str(name) for name in names]
        return labels.astype(np.int64), tuple(text or "(empty)" for text in texts)
    low, high = int(values.min()), int(values.max())
    if low < 0 or high >= max(len(values), 2):
        raise ValueError(
            f"{array.name}: labels are {low} to {high} of {len(values)} samples; they must count classes from 0"
        )
    return values.astype(np.int64), None
