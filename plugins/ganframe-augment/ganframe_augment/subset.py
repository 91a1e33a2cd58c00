"""A dataset of few samples, drawn from another."""

from __future__ import annotations

from typing import Any

import attrs
import torch
from attrs.validators import and_, ge, lt
from torch import Tensor
from torch.utils.data import Dataset as TorchDataset
from torch.utils.data import Subset as TorchSubset
from torch.utils.data import TensorDataset

from ganframe import Dataset, DataSpec, option


@attrs.frozen
class Subset(Dataset):
    """Few samples of another dataset, drawn without replacement. The others are held out."""

    of: Dataset = option(help="the dataset to draw from")
    samples: int = option(200, help="number of samples", validator=ge(1))
    seed: int = option(0, help="seed of the draw", validator=and_(ge(0), lt(2**63)))

    @property
    def spec(self) -> DataSpec:
        return self.of.spec

    def build(self) -> TorchDataset[Any]:
        return self._parts()[0]

    def held_out(self) -> TorchDataset[Any] | None:
        return self._parts()[1]

    def decode(self, x: Tensor, y: Tensor | None = None) -> Any:
        return self.of.decode(x, y)

    def _parts(self) -> tuple[TorchDataset[Any], TorchDataset[Any] | None]:
        """The few samples, and the others."""
        data = self.of.build()
        size = len(data)  # type: ignore[arg-type]
        if self.samples > size:
            raise ValueError(f"samples: the dataset has only {size} samples, not {self.samples}")
        order = torch.randperm(size, generator=torch.Generator().manual_seed(self.seed))
        few, others = order[: self.samples], order[self.samples :]
        return _chosen(data, few), _chosen(data, others) if len(others) else None


def _chosen(data: TorchDataset[Any], indices: Tensor) -> TorchDataset[Any]:
    """The samples of these indices: in memory where the data is, which is faster."""
    if isinstance(data, TensorDataset):
        return TensorDataset(*(tensor[indices] for tensor in data.tensors))
    return TorchSubset(data, indices.tolist())
