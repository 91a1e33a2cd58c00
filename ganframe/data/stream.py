"""Batches of a stream, a torch IterableDataset: in its order, shared by processes and workers, resumed where it was.

Each process and each worker reads the whole stream, and keeps its own rows of its own batches. So no sample is given
twice, a run of several processes trains on the same data as a run of one, and the number of workers changes nothing.
"""

from __future__ import annotations

import copy
import itertools
from collections.abc import Callable, Iterator
from typing import Any

import attrs
from torch import Tensor
from torch.utils.data import IterableDataset, get_worker_info
from torch.utils.data._utils import worker as torch_worker

from ganframe.data.randomness import own_random_state
from ganframe.data.seeds import batch_seed
from ganframe.errors import RunError, counted

LOADED = (str, int, float, bool, type(None), Tensor)  # what a checkpoint is read as, beside lists and dicts


@attrs.frozen
class Position:
    """Where a batch of a stream begins: its `index`, its `epoch`, and the first batch of that epoch.

    `source` is the state of a stream that has a `state_dict`, before the batch; None at the beginning of an epoch, and
    for other streams, which are read again from there.
    """

    index: int = 0
    epoch: int = 0
    began: int = 0
    source: Any = None


class Batches(IterableDataset[Any]):
    """Yields (collated rows of this process, the position of the batch), from a position on, without end.

    Where the stream ends it begins anew, and the rest of a batch is dropped; `set_epoch(epoch)` is called before, if
    the stream has it. What it draws from the global random generators depends on the seed, the epoch and the batch.
    With `iterate(wanted)` a stream may skip the work for samples i for which wanted(i) is false, and yield None.
    """

    def __init__(
        self,
        stream: IterableDataset[Any],
        batch_size: int,
        seed: int,
        rows: list[int],
        start: Position,
        collate: Callable[[list[Any]], Any],
    ) -> None:
        self.stream, self.batch_size, self.seed, self.rows = stream, batch_size, seed, rows
        self.start, self.collate = start, collate

    def __iter__(self) -> Iterator[tuple[Any, Position]]:
        worker = get_worker_info()
        number, workers = (0, 1) if worker is None else (worker.id, worker.num_workers)
        torch_worker._worker_info = None  # a stream that divides itself by workers would do so a second time
        position = self.start
        while True:
            yield from self._epoch(position, number, workers)
            position = Position(self.next, position.epoch + 1, self.next)

    def _epoch(self, at: Position, number: int, workers: int) -> Iterator[tuple[Any, Position]]:
        """The batches of the rest of an epoch that belong to this worker, from at.index on."""
        if hasattr(self.stream, "set_epoch"):
            self.stream.set_epoch(at.epoch)
        if at.source is not None:
            self.stream.load_state_dict(copy.deepcopy(at.source))  # type: ignore[attr-defined]
        begin = at.began if at.source is None else at.index
        index, source, mine = begin, at.source, set(self.rows)

        def given(batch: int) -> bool:
            return batch >= at.index and (batch - self.start.index) % workers == number

        def wanted(item: int) -> bool:
            batch, row = divmod(item, self.batch_size)
            return row in mine and given(begin + batch)

        iterate = getattr(self.stream, "iterate", None)
        items = iter(self.stream) if iterate is None else iterate(wanted)
        while True:
            with own_random_state(batch_seed(self.seed, at.epoch, index)):
                batch = [*itertools.islice(items, self.batch_size)]
            if len(batch) < self.batch_size:
                break
            if given(index):
                yield self.collate([batch[row] for row in self.rows]), Position(index, at.epoch, at.began, source)
            index += 1
            source = self._state()
        if index == at.began:
            raise RunError(
                f"dataset: a batch of {self.batch_size} is larger than the stream, which has "
                f"{counted(len(batch), 'sample')}"
            )
        self.next = index

    def _state(self) -> Any:
        """The state of the stream now, if it has one. Raises RunError where a checkpoint could not keep it."""
        if not (hasattr(self.stream, "state_dict") and hasattr(self.stream, "load_state_dict")):
            return None
        state = self.stream.state_dict()
        wrong = [value for value in _leaves(state) if type(value) not in LOADED]
        if wrong:
            raise RunError(
                f"dataset: state_dict of the stream holds {type(wrong[0]).__name__}; a checkpoint keeps dicts, lists, "
                "texts, numbers of Python and tensors"
            )
        return copy.deepcopy(state)


def _leaves(state: Any) -> Iterator[Any]:
    if isinstance(state, (dict, list, tuple)):
        for value in state.values() if isinstance(state, dict) else state:
            yield from _leaves(value)
    else:
        yield state
