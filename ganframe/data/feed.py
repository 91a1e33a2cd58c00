"""Feeds of real batches for training: this process's share of each batch, on the device.

All processes draw the same batch from the same seed, and each takes its own rows of it. So a run of several processes
trains on the same data as a run of one. `state_dict` holds what an exact resume needs.
"""

from __future__ import annotations

import functools
import math
import os
import re
import time
import zlib
from collections.abc import Iterator
from typing import Any, Protocol

import attrs
import torch
from torch import Tensor
from torch.utils.data import DataLoader, IterableDataset, TensorDataset, default_collate
from torch.utils.data import Dataset as TorchDataset

from ganframe.components import DataSpec, Distribution
from ganframe.data import workers as processes
from ganframe.data.checks import check_data, check_drawn, check_item, check_samples, is_indexed, read_items
from ganframe.data.randomness import kept_random_state, own_random_state
from ganframe.data.seeds import batch_seed
from ganframe.data.stream import Batches, Position
from ganframe.errors import RunError, counted, noted_if_slow, warn
from ganframe.plugins.registry import STRICT_VARIABLE

LOOKING = 10.0  # seconds in which a feed looks again at what it gave, where a loss is not finite
DRAWN_AGAIN = 10_000
FEW = 2**24  # bytes of floats that are kept besides the same images in uint8
TOLD_BY_THE_RUN = r"allocate memory|DataLoader worker|shared memory|</torch_"  # these have a remedy of their own


@attrs.frozen
class Share:
    """The rows of a batch that belong to this process, rank, rank + processes, …, and its device.

    With `group` = m these are not rows but groups of m consecutive rows, for a discriminator that mixes the samples of
    a group; a batch is then a multiple of m · processes.
    """

    device: torch.device
    processes: int = 1
    rank: int = 0
    group: int = 1

    def of(self, batch: Tensor) -> Tensor:
        if self.processes == 1:
            return batch
        if self.group == 1:
            return batch[self.rank :: self.processes]
        return batch.unflatten(0, (-1, self.group))[self.rank :: self.processes].flatten(0, 1)


class Feed(Protocol):
    """A source of real batches x (N, *shape), y (N,) or (N, *condition) whose position can be saved and restored.

    `share` may be replaced before the first batch. `fault` says what is wrong with the values of the newest batches,
    for where a loss is not finite.
    """

    share: Share

    @property
    def data(self) -> TorchDataset[Any]: ...
    def __call__(self) -> tuple[Tensor, Tensor]: ...
    def fault(self, batches: int) -> str | None: ...
    def state_dict(self) -> dict[str, Any]: ...
    def load_state_dict(self, state: dict[str, Any]) -> None: ...


def open_feed(
    data: TorchDataset[Any], spec: DataSpec, batch_size: int, seed: int, share: Share, workers: int = 0
) -> Feed:
    """The feed for what `Dataset.build` returned: drawn, indexed on the device, or read through a DataLoader.

    Streams, of which the length is not known, are read in their own order.

    Raises ValueError where the data is not what `spec` says, or smaller than a batch.
    """
    check_data(data, spec)
    check_batch(data, batch_size)
    if isinstance(data, Distribution):
        return DrawnFeed(data, spec, batch_size, seed, share)
    if is_indexed(data):
        return IndexedFeed(data, spec, batch_size, seed, share)
    if isinstance(data, IterableDataset):
        return StreamFeed(data, spec, batch_size, seed, share, workers)
    return LoadedFeed(data, spec, batch_size, seed, share, workers)


def check_batch(data: TorchDataset[Any], batch_size: int) -> None:
    """Raises ValueError where finite data is smaller than a batch."""
    if isinstance(data, (Distribution, IterableDataset)):
        return
    count = len(data)  # type: ignore[arg-type]
    if count < batch_size:
        raise ValueError(f"a batch of {batch_size} is larger than the data, which has {counted(count, 'sample')}")


class DrawnFeed:
    """Batches of a `Distribution`, drawn anew each time."""

    def __init__(self, data: Distribution, spec: DataSpec, batch_size: int, seed: int, share: Share) -> None:
        self.data: TorchDataset[Any] = data
        self.distribution, self.spec, self.batch_size, self.share = data, spec, batch_size, share
        self.generator = torch.Generator(share.device).manual_seed(seed)

    def __call__(self) -> tuple[Tensor, Tensor]:
        x, y = self.distribution.draw(self.batch_size, self.generator)
        return as_float(self.share.of(x)), as_y(self.share.of(y), self.spec)

    def fault(self, batches: int) -> str | None:
        """What is wrong with the values of new draws, or None. The training's draws are not changed."""
        generator = torch.Generator(self.share.device).manual_seed(0)
        try:
            with kept_random_state():
                check_drawn(self.distribution.draw(DRAWN_AGAIN, generator), DRAWN_AGAIN, self.spec)
        except ValueError as error:
            return str(error)
        return None

    def state_dict(self) -> dict[str, Any]:
        return {"generator": self.generator.get_state()}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        self.generator.set_state(state["generator"])


class Order:
    """The order of a finite set: a new permutation each epoch, cut into full batches; the rest of an epoch is dropped.

    An epoch's permutation depends on the seed and the epoch alone, so a resumed run finds any position at once.
    """

    def __init__(self, count: int, batch_size: int, seed: int, device: torch.device) -> None:
        self.count, self.batch_size, self.seed, self.device = count, batch_size, seed, device
        self.per_epoch = count // batch_size
        self.epoch, self.permutation = -1, torch.empty(0)

    def batch(self, index: int) -> Tensor:
        """The indices (batch_size,) of a batch; `index` counts batches from the start of training."""
        epoch, place = divmod(index, self.per_epoch)
        if epoch != self.epoch:
            generator = torch.Generator().manual_seed(self.seed + epoch)
            self.epoch = epoch
            self.permutation = torch.randperm(self.count, generator=generator).to(self.device)
        return self.permutation.narrow(0, place * self.batch_size, self.batch_size)


class IndexedFeed:
    """Batches indexed from a set held as tensors, which are on the device if they fit there."""

    def __init__(self, data: TensorDataset, spec: DataSpec, batch_size: int, seed: int, share: Share) -> None:
        x, y = data.tensors
        room = torch.cuda.mem_get_info(share.device)[0] / 4 if share.device.type == "cuda" else math.inf
        home = share.device if x.nbytes + y.nbytes < room else x.device
        self.x, self.y, self.spec, self.share = narrowed(x, home).to(home), narrowed(y, home).to(home), spec, share
        self.away = home != share.device
        self.ready = None if self.away else (_made_ready(self.x), _made_ready(self.y))
        self.order = Order(len(x), batch_size, seed, home)
        self.drawn = 0

    @property
    def data(self) -> TensorDataset:
        """The set as it is held, so that a copy on the CPU is not kept beside that on the device."""
        return TensorDataset(self.x, self.y)

    def fault(self, batches: int) -> str | None:
        """None: all values were checked when the feed was opened."""
        return None

    def __call__(self) -> tuple[Tensor, Tensor]:
        rows = self.share.of(self.order.batch(self.drawn))
        self.drawn += 1
        if self.ready is not None:
            x, y = (_rows_of(side, rows) for side in self.ready)
        else:
            x, y = self.x[rows], self.y[rows]
            x, y = (narrowed(side, self.share.device).to(self.share.device) for side in (x, y))
        return as_float(x), as_y(y, self.spec)

    def state_dict(self) -> dict[str, Any]:
        return {"drawn": self.drawn}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        self.drawn = state["drawn"]


def _made_ready(values: Tensor) -> Tensor:
    """Values as batches of them are taken: images in uint8 as floats already where they are few, as scanned digits are.

    Float images in a batch are then the same, and cost nothing at each step.
    """
    return _scaled(values) if values.dtype == torch.uint8 and 4 * values.nbytes <= FEW else values


def _rows_of(values: Tensor, rows: Tensor) -> Tensor:
    """values[rows], which takes twice as long as this where batches are small."""
    return values.index_select(0, rows) if values.is_contiguous() else values[rows]


class LoadedFeed:
    """Batches read item by item through a DataLoader, in the same order as by IndexedFeed.

    What a dataset draws at random in `__getitem__` depends on the seed, the batch and the process alone, so a resumed
    run draws the same, with any number of workers.
    """

    def __init__(
        self, data: TorchDataset[Any], spec: DataSpec, batch_size: int, seed: int, share: Share, workers: int
    ) -> None:
        self.data, self.spec, self.share, self.workers = data, spec, share, workers
        self.order = Order(len(data), batch_size, seed, torch.device("cpu"))  # type: ignore[arg-type]
        self.drawn = 0
        self.batches: Iterator[Any] | None = None

    def __call__(self) -> tuple[Tensor, Tensor]:
        if self.batches is None:
            rows = _Rows(self.order, self.drawn, self.share)
            loader = DataLoader(
                _Seeded(self.data, self.order.seed, self.share.rank),
                batch_sampler=rows,
                num_workers=self.workers,
                worker_init_fn=processes.leave_signals_to_the_run,
                collate_fn=functools.partial(_collated, self.spec),
                pin_memory=self.share.device.type == "cuda",
                # Of the feed's own: torch's would be changed. It seeds what a worker draws outside of its batches.
                generator=torch.Generator().manual_seed(batch_seed(self.order.seed, self.share.rank, self.drawn)),
            )
            self.batches = processes.start(loader)
        x, y = _read(self.batches)
        self.drawn += 1
        return _moved(x, y, self.spec, self.share.device)

    def fault(self, batches: int) -> str | None:
        """What is wrong with the values of an item in the newest `batches`, read again for at most LOOKING seconds."""
        until = time.monotonic() + LOOKING
        for index in range(self.drawn - 1, max(self.drawn - batches, 0) - 1, -1):
            for row in self.share.of(self.order.batch(index)).tolist():
                try:
                    with kept_random_state():
                        check_samples(*read_items(self.data, self.spec, [row]), self.spec, [row])
                except (ValueError, OSError, RunError) as error:
                    return str(error)
                if time.monotonic() > until:
                    return None
        return None

    def state_dict(self) -> dict[str, Any]:
        return {"drawn": self.drawn}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        self.drawn, self.batches = state["drawn"], None


def _read(batches: Iterator[Any]) -> Any:
    """The next batch of a DataLoader. Raises RunError, in one line, for what a dataset raises."""
    try:
        return next(batches)
    except (RunError, OSError) as error:  # a worker adds its traceback; the last line is the message
        message = re.sub(r"^[\w.]*Error: ", "", str(error).strip().splitlines()[-1])
        raise RunError(message if isinstance(error, RunError) else f"dataset: {message}") from None
    except Exception as error:
        told = isinstance(error, (MemoryError, torch.OutOfMemoryError)) or re.search(TOLD_BY_THE_RUN, str(error))
        if told or os.environ.get(STRICT_VARIABLE) == "1":
            raise
        text = (str(error).strip().splitlines() or [""])[-1]
        raise RunError(
            f"dataset: reading a batch raised {type(error).__name__}{text and ': '}{text}; {STRICT_VARIABLE}=1 "
            "shows where"
        ) from error


def _moved(x: Tensor, y: Tensor, spec: DataSpec, device: torch.device) -> tuple[Tensor, Tensor]:
    """A batch on the device, as networks take it."""
    x, y = (narrowed(side, device).to(device, non_blocking=True) for side in (x, y))
    return as_float(x), as_y(y, spec)


class StreamFeed:
    """Batches of a stream, an IterableDataset, in its order, read through a DataLoader; see ganframe.data.stream.

    A resumed feed reads the last batch again, which must have the same checksum: else it warns that the stream does not
    repeat itself.
    """

    def __init__(
        self, data: IterableDataset[Any], spec: DataSpec, batch_size: int, seed: int, share: Share, workers: int
    ) -> None:
        self.stream, self.spec, self.batch_size, self.seed = data, spec, batch_size, seed
        self.share, self.workers = share, workers
        self.position: Position | None = None  # of the newest batch
        self.newest: tuple[Tensor, Tensor] | None = None
        self.checksum: int | None = None  # of the newest batch before a resume
        self.batches: Iterator[Any] | None = None

    @property
    def data(self) -> TorchDataset[Any]:
        return self.stream

    def __call__(self) -> tuple[Tensor, Tensor]:
        if self.batches is None:
            self.batches = self._start()
        self.newest, self.position = _read(self.batches)
        x, y = self.newest
        return _moved(x, y, self.spec, self.share.device)

    def _start(self) -> Iterator[Any]:
        """The batches after the newest one."""
        start = self.position or Position()
        rows = self.share.of(torch.arange(self.batch_size)).tolist()
        collate = functools.partial(_collated, self.spec)
        loader = DataLoader(
            Batches(self.stream, self.batch_size, self.seed, rows, start, collate),
            batch_size=None,
            num_workers=self.workers,
            worker_init_fn=processes.leave_signals_to_the_run,
            collate_fn=_as_it_is,
            pin_memory=False,  # of tuples with more than tensors
            generator=torch.Generator().manual_seed(batch_seed(self.seed, start.index)),
        )
        batches = processes.start(loader)
        if self.position is not None:
            with noted_if_slow("reading the stream again up to where the run was"):
                again, _ = _read(batches)
            if self.checksum is not None and self.share.rank == 0 and _checksum(*again) != self.checksum:
                warn(
                    "dataset: the stream does not give again what it gave before, so the resumed run trains on other "
                    "samples than a run without a break"
                )
        return batches

    def fault(self, batches: int) -> str | None:
        """What is wrong with the values of the newest batch, or None: a stream does not go back."""
        try:
            if self.newest is not None:
                check_samples(*self.newest, self.spec)
        except ValueError as error:
            return str(error)
        return None

    def state_dict(self) -> dict[str, Any]:
        checksum = self.checksum if self.newest is None else _checksum(*self.newest)
        position = None if self.position is None else attrs.asdict(self.position, recurse=False)
        return {"position": position, "checksum": checksum, "processes": self.share.processes}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        self.position = None if state["position"] is None else Position(**state["position"])
        self.checksum = state["checksum"] if state["processes"] == self.share.processes else None
        self.newest = self.batches = None


def _as_it_is(batch: Any) -> Any:
    return batch


def _checksum(x: Tensor, y: Tensor) -> int:
    return zlib.crc32(y.contiguous().numpy().data, zlib.crc32(x.contiguous().numpy().data))


def _collated(spec: DataSpec, items: list[Any]) -> Any:
    """The items as one batch. Raises RunError for items of another form, or with another label, than those checked."""
    try:
        x, y = default_collate(items)
        if spec.classes is not None and not bool(((y >= 0) & (y < spec.classes)).all()):
            raise RunError(
                f"dataset: with {spec.classes} classes y must be 0 to {spec.classes - 1}; found {y.tolist()}"
            )
        return x, y
    except (TypeError, ValueError, RuntimeError, KeyError):
        for item in items:
            try:
                check_item(item, spec, "one item")
            except ValueError as error:
                raise RunError(f"dataset: {error}") from None
        raise


class _Rows:
    """An endless batch sampler: [index, *this process's rows] of the batches `start`, start + 1, …"""

    def __init__(self, order: Order, start: int, share: Share) -> None:
        self.order, self.start, self.share = order, start, share

    def __iter__(self) -> Iterator[list[int]]:
        index = self.start
        while True:
            yield [index, *self.share.of(self.order.batch(index)).tolist()]
            index += 1


def narrowed(values: Tensor, device: torch.device) -> Tensor:
    """Values that the device can hold: Apple's GPUs have no float64."""
    return values.float() if values.dtype == torch.float64 and device.type == "mps" else values


class _Seeded(TorchDataset[Any]):
    """Reads whole batches of `data`, each with random generators of its own, which its index seeds."""

    def __init__(self, data: TorchDataset[Any], seed: int, rank: int) -> None:
        self.data, self.seed, self.rank = data, seed, rank

    def __getitems__(self, batch: list[int]) -> list[Any]:
        """The items of [index, *rows], as DataLoader asks for what a batch sampler yields."""
        index, *rows = batch
        with own_random_state(batch_seed(self.seed, self.rank, index)):
            together = getattr(self.data, "__getitems__", None)
            return together(rows) if together else [self.data[row] for row in rows]


def _scaled(x: Tensor) -> Tensor:
    """uint8 0..255 as floats in [-1, 1]."""
    return x.float().div_(127.5).sub_(1)


def as_float(x: Tensor) -> Tensor:
    """x as networks take it: floats, uint8 scaled from 0..255 to [-1, 1], images in the channels-last layout."""
    x = _scaled(x) if x.dtype == torch.uint8 else x.float()
    return x.contiguous(memory_format=torch.channels_last) if x.ndim == 4 else x


def as_y(y: Tensor, spec: DataSpec) -> Tensor:
    """y as networks take it: labels as they are, conditions as floats, scaled as samples are."""
    return y if spec.condition is None else as_float(y)
