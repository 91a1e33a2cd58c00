"""Datasets made of other datasets: samples held out, labels left out, and images to complete."""

from __future__ import annotations

from typing import Any

import attrs
import torch
from attrs.validators import and_, ge, gt, lt
from torch import Tensor
from torch.utils.data import Dataset as TorchDataset
from torch.utils.data import IterableDataset, Subset, TensorDataset

from ganframe import Dataset, DataSpec, Distribution, option


def _finite(data: TorchDataset[Any], what: str) -> TorchDataset[Any]:
    if isinstance(data, Distribution):
        raise ValueError(f"{what} needs a finite dataset, and its `of` draws new samples for each batch; use another")
    if isinstance(data, IterableDataset):
        raise ValueError(f"{what} needs a dataset with a length, and its `of` is a stream; use another")
    return data


@attrs.frozen
class HoldOut(Dataset):
    """Another dataset without a random part of its samples, which are held out of training, for judging."""

    of: Dataset = option(help="the dataset to divide")
    share: float = option(0.25, help="share of the samples that is held out", validator=and_(gt(0), lt(1)))
    seed: int = option(0, help="seed of the division", validator=and_(ge(0), lt(2**63)))

    @property
    def spec(self) -> DataSpec:
        return self.of.spec

    def build(self) -> TorchDataset[Any]:
        return self._parts()[1]

    def held_out(self) -> TorchDataset[Any]:
        return self._parts()[0]

    def decode(self, x: Tensor, y: Tensor | None = None) -> Any:
        return self.of.decode(x, y)

    def _parts(self) -> tuple[TorchDataset[Any], TorchDataset[Any]]:
        """Samples held out, and the others."""
        data = _finite(self.of.build(), "hold_out")
        count = len(data)  # type: ignore[arg-type]
        first = round(self.share * count)
        if not 0 < first < count:
            raise ValueError(f"a share of {self.share} of {count} samples leaves one part empty; set another share")
        rows = torch.randperm(count, generator=torch.Generator().manual_seed(self.seed))
        held_out, rest = (_rows(data, part.sort().values) for part in (rows[:first], rows[first:]))
        return held_out, rest


def _rows(data: TorchDataset[Any], rows: Tensor) -> TorchDataset[Any]:
    if isinstance(data, TensorDataset):
        return TensorDataset(*(tensor[rows] for tensor in data.tensors))
    return Subset(data, rows.tolist())


@attrs.frozen
class PartlyLabelled(Dataset):
    """Another labelled dataset of which a few samples of each class keep their label. K classes become K + 1.

    The label K means that the class is not known. Samples held out keep their labels. The others are in memory.
    """

    of: Dataset = option(help="the labelled dataset")
    labels: int = option(10, help="samples of each class that keep their label", validator=ge(1))
    seed: int = option(0, help="seed of the choice of these samples", validator=and_(ge(0), lt(2**63)))

    @property
    def spec(self) -> DataSpec:
        spec = self.of.spec
        if spec.classes is None:
            raise ValueError("partly_labelled needs a dataset with labels, and its `of` has none; use another")
        names = spec.class_names
        if names is not None:
            names = None if "unlabelled" in names else (*names, "unlabelled")
        return attrs.evolve(spec, classes=spec.classes + 1, class_names=names)

    def build(self) -> TensorDataset:
        data = self.of.build()
        if not isinstance(data, TensorDataset):
            raise ValueError("partly_labelled needs a dataset that is kept in memory, as digits; use another `of`")
        x, y = data.tensors
        unknown = self.spec.classes - 1  # type: ignore[operator]
        order = torch.randperm(len(y), generator=torch.Generator().manual_seed(self.seed))
        labels = torch.full_like(y, unknown)
        for label in range(unknown):
            kept = order[y[order] == label][: self.labels]
            if len(kept) < self.labels:
                raise ValueError(f"class {label} has {len(kept)} samples, fewer than labels = {self.labels}; lower it")
            labels[kept] = label
        return TensorDataset(x, labels)

    def held_out(self) -> TorchDataset[Any] | None:
        return self.of.held_out()

    def decode(self, x: Tensor, y: Tensor | None = None) -> Any:
        return self.of.decode(x, y)


@attrs.frozen
class Completion(Dataset):
    """Images to complete: the condition is the upper half of an image of another dataset, the sample its lower half."""

    of: Dataset = option(help="the dataset of images; their labels are not used")

    @property
    def spec(self) -> DataSpec:
        spec = self.of.spec
        if not spec.is_image or len(spec.shape) != 3 or spec.shape[1] % 2:
            raise ValueError(
                f"completion needs images of even height, and its `of` has shape {spec.shape}; use another"
            )
        channels, height, width = spec.shape
        half = (channels, height // 2, width)
        return DataSpec(half, condition=half)

    def build(self) -> TorchDataset[Any]:
        return _halves(_finite(self.of.build(), "completion"))

    def held_out(self) -> TorchDataset[Any] | None:
        found = self.of.held_out()
        return None if found is None else _halves(found)


def _halves(data: TorchDataset[Any]) -> TorchDataset[Any]:
    if isinstance(data, TensorDataset):
        upper, lower = data.tensors[0].chunk(2, dim=2)
        return TensorDataset(lower.contiguous(), upper.contiguous())
    return _Halves(data)


class _Halves(TorchDataset[tuple[Tensor, Tensor]]):
    """Items (lower half, upper half) of a dataset that is read item by item."""

    def __init__(self, data: TorchDataset[Any]) -> None:
        self.data = data

    def __len__(self) -> int:
        return len(self.data)  # type: ignore[arg-type]

    def __getitem__(self, index: int) -> tuple[Tensor, Tensor]:
        upper, lower = self.data[index][0].chunk(2, dim=1)
        return lower, upper
