"""The fingerprint of a run's data: what a resumed run compares, so that other data is not taken for the same."""

from __future__ import annotations

import hashlib
import itertools
import os
import zlib
from collections.abc import Iterable, Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import torch
from torch import Tensor
from torch.utils.data import Dataset as TorchDataset
from torch.utils.data import IterableDataset

from ganframe.components import Dataset, DataSpec, Distribution, with_nested
from ganframe.data.checks import is_indexed
from ganframe.data.randomness import own_random_state
from ganframe.errors import warn

VALUES = "values"
CRC = "crc32-"  # begins the hashes of `checksum`
ITEMS = 16  # of data that is read item by item, evenly spaced
_PART = 2**24  # bytes hashed at a time
LARGE = 2**28  # bytes of values from which on SHA-256 would take more than a second
OF_ANY_DATA = ("shape", "classes", "condition", "samples")


def fingerprint(dataset: Dataset, spec: DataSpec, data: TorchDataset[Any]) -> dict[str, Any]:
    """Names and values, in types that JSON has, which are the same for the same data.

    "shape", "classes" and "condition" of the spec; "samples", their number; what `Dataset.fingerprint` returns, of
    datasets among the options too; and "values", a hash of all values in memory, or of a few items that are read one by
    one, of a stream its first ones. `data` is what `dataset.build` returned. Warns where items differ though they are
    drawn from the same seed. Raises ValueError where `Dataset.fingerprint` returns something else than a dict of texts
    and integers.
    Raises ValueError where `Dataset.fingerprint` returns something else than a dict of texts and integers.
    """
    found: dict[str, Any] = {
        "shape": list(spec.shape),
        "classes": spec.classes,
        "condition": None if spec.condition is None else list(spec.condition),
    }
    if not isinstance(data, (Distribution, IterableDataset)):
        found["samples"] = len(data)  # type: ignore[arg-type]
    for kind, part in with_nested(dataset):
        if kind == "dataset":
            for name, value in _checked(part.fingerprint()).items():
                found[_free_name(name, found)] = value
    values = None if isinstance(data, Distribution) else _values(data)
    return found if values is None else {**found, VALUES: values}


def _checked(given: Any) -> Mapping[str, str | int]:
    items = given.items() if isinstance(given, Mapping) else [(None, None)]
    if not all(isinstance(name, str) and isinstance(value, (str, int)) for name, value in items):
        raise ValueError(f"fingerprint must return a dict of texts or integers by name, not {given!r:.60}")
    return given


def _free_name(name: str, taken: Mapping[str, Any]) -> str:
    """The name, numbered where another dataset among the options has it already."""
    number = 2
    free = name
    while free in taken:
        free, number = f"{name} ({number})", number + 1
    return free


def _values(data: TorchDataset[Any]) -> str | None:
    """A hash of the values of x and y; None where items cannot be compared."""
    if is_indexed(data):
        return hashed(data.tensors)
    count = ITEMS if isinstance(data, IterableDataset) else len(data)  # type: ignore[arg-type]
    rows = sorted({i * (count - 1) // (ITEMS - 1) for i in range(ITEMS)})
    first, again = (_hashed_items(data, rows) for _ in range(2))
    if first != again:
        warn(
            "dataset: the same item differs under the same seed: it draws from a random generator of its own, so a "
            "resumed run does not repeat what a run without a break draws; draw from the global generators of torch, "
            "numpy or Python"
        )
        return None
    return first


def _hashed_items(data: TorchDataset[Any], rows: list[int]) -> str | None:
    """A hash of some items, which may be drawn at random; None where an item does not consist of tensors or numbers."""
    with own_random_state(0):
        try:
            items = itertools.islice(data, ITEMS) if isinstance(data, IterableDataset) else (data[row] for row in rows)
            return hashed(torch.as_tensor(side) for item in items for side in item)
        except (TypeError, ValueError, RuntimeError):  # what training says of such items, it says itself
            return None


def hashed(tensors: Iterable[Tensor]) -> str:
    """A hash of the values of tensors, whatever their device: SHA-256, or `checksum` of more than LARGE bytes.

    SHA-256 takes ten seconds for a million small images, and nobody forges the data of a run of their own.
    """
    given = [tensor.detach() for tensor in tensors]
    if sum(tensor.nbytes for tensor in given) > LARGE:
        return checksum(given)
    digest = hashlib.sha256()
    for part in _parts(given):
        digest.update(part.cpu().contiguous().reshape(-1).view(torch.uint8).numpy().data)
    return digest.hexdigest()[:32]


def comparable(then: Any, now: Any) -> bool:
    """Whether two values of fingerprints say something of each other: not hashes made in two ways."""
    return str(then).startswith(CRC) == str(now).startswith(CRC)


def checksum(tensors: Iterable[Tensor]) -> str:
    """CRC and a hash of the CRC-32 of each 16 MiB of the values: it tells what changed by chance."""
    with ThreadPoolExecutor(min(4, os.cpu_count() or 1)) as threads:
        found = [f"{crc:08x}" for crc in threads.map(_crc, _parts(tensors))]
    return f"{CRC}{hashlib.sha256(' '.join(found).encode()).hexdigest()[:32]}"


def _crc(part: Tensor) -> int:
    return zlib.crc32(part.cpu().contiguous().reshape(-1).view(torch.uint8).numpy().data)


def _parts(tensors: Iterable[Tensor]) -> Iterator[Tensor]:
    """Rows that have 16 MiB together, so that what is not contiguous is never copied whole."""
    for tensor in tensors:
        rows = tensor.detach() if tensor.ndim else tensor.detach()[None]
        yield from rows.split(max(1, _PART // max(1, rows[:1].nbytes))) if len(rows) else ()
