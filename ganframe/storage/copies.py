"""Copies of weights and training state in host memory, that can be written while training goes on."""

from __future__ import annotations

import copy
from collections.abc import Iterator, Mapping
from typing import Any, Protocol, TypeVar

import attrs
import torch
from torch import Tensor

T = TypeVar("T")


class Weights(Protocol):
    """A network, or a copy of its weights."""

    def state_dict(self) -> Mapping[str, Any]: ...


@attrs.frozen
class CopiedWeights:
    """The weights and buffers of a network as they were, by name."""

    tensors: dict[str, Any]

    def state_dict(self) -> dict[str, Any]:
        return dict(self.tensors)


class Copies:
    """Makes copies in host memory. Tensors that share memory, or are given twice, share that of their copies."""

    def __init__(self) -> None:
        # By device and address, with the original, which thus stays alive and at its address.
        self._storages: dict[tuple[torch.device, int], tuple[torch.UntypedStorage, torch.UntypedStorage]] = {}
        self._contiguous: dict[tuple[Any, ...], Tensor] = {}

    def weights(self, network: Weights) -> CopiedWeights:
        """The weights of a network, contiguous, as safetensors stores them."""
        tensors = dict(network.state_dict())
        # Here, and not where they are written: torch would start threads of its own for each thread that calls it.
        return CopiedWeights(
            copy.deepcopy(tensors, {id(t): self._in_order(self._copied(t)) for t in _tensors(tensors)})
        )

    def tables(self, value: T) -> T:
        """Tables and lists of tensors and plain values. Tensors keep their layout in memory."""
        return copy.deepcopy(value, {id(tensor): self._copied(tensor) for tensor in _tensors(value)})

    def _copied(self, tensor: Tensor) -> Tensor:
        storage = tensor.untyped_storage()
        place = tensor.device, storage.data_ptr()
        if place not in self._storages:
            self._storages[place] = storage, storage.clone() if tensor.device.type == "cpu" else storage.cpu()
        copied = torch.empty(0, dtype=tensor.dtype)
        return copied.set_(self._storages[place][1], tensor.storage_offset(), tensor.size(), tensor.stride())

    def _in_order(self, copied: Tensor) -> Tensor:
        if copied.is_contiguous():
            return copied
        place = copied.data_ptr(), copied.size(), copied.stride(), copied.dtype
        if place not in self._contiguous:
            self._contiguous[place] = copied.contiguous()
        return self._contiguous[place]


def _tensors(value: Any) -> Iterator[Tensor]:
    if isinstance(value, Tensor):
        yield value
    elif isinstance(value, Mapping):
        for item in value.values():
            yield from _tensors(item)
    elif isinstance(value, (list, tuple)) and not (value and type(value[0]) is int):  # random states have many numbers
        for item in value:
            yield from _tensors(item)
