"""Feeds of streams: batches in their order, shared by processes and workers, resumed exactly."""

from __future__ import annotations

import itertools
import re

import numpy as np
import pytest
import torch
from torch.utils.data import IterableDataset, get_worker_info

import ganframe
from ganframe import Dataset, DataSpec, RunError, testing
from ganframe.data.feed import Share, StreamFeed, open_feed
from ganframe.data.real import real_samples

CPU = torch.device("cpu")
SPEC = DataSpec((1,))


class Counting(IterableDataset):
    """0, 1, 2, … as samples, up to `length`; `read` counts what was read."""

    def __init__(self, length=None):
        self.length, self.read = length, 0

    def __iter__(self):
        for value in itertools.count() if self.length is None else range(self.length):
            self.read += 1
            yield torch.tensor([float(value)]), 0


class Remembering(Counting):
    """The same, which can go on from a state, and notes its epochs."""

    def __init__(self, length=None):
        super().__init__(length)
        self.at, self.start, self.epochs = 0, 0, []

    def __iter__(self):
        first, self.start = self.start, 0
        for value in itertools.count(first) if self.length is None else range(first, self.length):
            self.read += 1
            self.at = value + 1
            yield torch.tensor([float(value)]), 0

    def set_epoch(self, epoch):
        self.epochs.append(epoch)

    def state_dict(self):
        return {"at": self.at}

    def load_state_dict(self, state):
        self.start = state["at"]


class Noisy(Counting):
    """Values with noise, and an order, from the global generators."""

    def __iter__(self):
        for value in np.random.permutation(self.length):
            self.read += 1
            yield value + torch.randn(1), 0


class Divided(Counting):
    """Divides itself by workers, as torch's documentation shows."""

    def __iter__(self):
        worker = get_worker_info()
        first, by = (0, 1) if worker is None else (worker.id, worker.num_workers)
        for value in range(first, self.length, by):
            yield torch.tensor([float(value)]), 0


class Lazy(Counting):
    """Gives only what is wanted."""

    def iterate(self, wanted):
        for value in itertools.count():
            yield (torch.tensor([float(value)]), 0) if wanted(value) else None


STREAMS = {"endless": Counting, "finite": lambda: Counting(23), "remembering": lambda: Remembering(23)}
STREAMS |= {"noisy": lambda: Noisy(23), "divided": lambda: Divided(23), "lazy": Lazy}


def feed_of(stream, share=None, workers=0, batch_size=4, seed=3):
    return open_feed(stream, SPEC, batch_size, seed, share or Share(CPU), workers)


def values(feed, n):
    return [feed()[0][:, 0].tolist() for _ in range(n)]


def test_batches_are_in_the_order_of_the_stream():
    assert values(feed_of(Counting()), 3) == [[0, 1, 2, 3], [4, 5, 6, 7], [8, 9, 10, 11]]


def test_stream_that_ends_begins_anew_without_the_rest_of_a_batch():
    stream = Remembering(10)
    assert values(feed_of(stream), 5) == [[0, 1, 2, 3], [4, 5, 6, 7], [0, 1, 2, 3], [4, 5, 6, 7], [0, 1, 2, 3]]
    assert stream.epochs == [0, 1, 2]


@pytest.mark.parametrize(("kind", "workers"), [("noisy", 1), ("noisy", 3), ("remembering", 2), ("divided", 2)])
def test_number_of_workers_changes_nothing(kind, workers):
    expected = values(feed_of(STREAMS[kind]()), 12)
    assert values(feed_of(STREAMS[kind](), workers=workers), 12) == expected


@pytest.mark.parametrize(("kind", "workers"), [*((kind, 0) for kind in STREAMS), ("lazy", 2)])
@pytest.mark.parametrize("group", [1, 2])
def test_processes_share_each_batch_without_duplicates(kind, workers, group):
    whole = values(feed_of(STREAMS[kind]()), 7)
    parts = [values(feed_of(STREAMS[kind](), Share(CPU, 2, rank, group), workers), 7) for rank in (0, 1)]
    for batch, first, second in zip(whole, *parts, strict=True):
        assert sorted(first + second) == sorted(batch)
        assert first == Share(CPU, 2, 0, group).of(torch.tensor(batch)).tolist()


@pytest.mark.parametrize(
    ("kind", "at", "workers"),
    [
        *((kind, at, (0, 0)) for kind in STREAMS for at in (0, 1, 5, 6, 9)),
        *(("noisy", 6, (2, 0)), ("remembering", 6, (2, 0)), ("remembering", 7, (0, 2)), ("lazy", 6, (2, 3))),
    ],
)
def test_resumed_feed_gives_what_the_uninterrupted_one_gives(kind, at, workers, capsys):
    expected = values(feed_of(STREAMS[kind]()), 14)
    first = feed_of(STREAMS[kind](), workers=workers[0])
    assert values(first, at) == expected[:at]
    again = feed_of(STREAMS[kind](), workers=workers[1])
    again.load_state_dict(first.state_dict())
    state = again.state_dict()
    assert state == first.state_dict()
    assert values(again, 14 - at) == expected[at:]
    assert "does not give again" not in capsys.readouterr().err


def test_stream_with_a_state_is_not_read_again():
    first, stream = feed_of(Remembering()), Remembering()
    values(first, 1000)
    again = feed_of(stream)
    again.load_state_dict(first.state_dict())
    before = stream.read
    assert values(again, 1) == [[4000, 4001, 4002, 4003]]
    assert stream.read - before == 8  # the last batch, whose checksum is compared, and the next


def test_samples_that_are_not_wanted_are_skipped():
    made = []

    class Costly(Counting):
        def iterate(self, wanted):
            for value in itertools.count():
                if wanted(value):
                    made.append(value)
                    yield torch.tensor([float(value)]), 0
                else:
                    yield None

    feed = feed_of(Costly(), Share(CPU, 2, 1))
    values(feed, 2)
    assert made == [1, 3, 5, 7]
    again = feed_of(Costly(), Share(CPU, 2, 1))
    again.load_state_dict(feed.state_dict())
    assert values(again, 1) == [[9, 11]]
    assert made[4:] == [5, 7, 9, 11]


def test_stream_that_does_not_repeat_itself_is_told_at_the_resume(capsys):
    class Fresh(Counting):
        def __iter__(self):
            generator = np.random.default_rng()  # of its own, seeded by the clock
            while True:
                yield torch.from_numpy(generator.normal(size=1)), 0

    first, again = feed_of(Fresh()), feed_of(Fresh())
    values(first, 3)
    again.load_state_dict(first.state_dict())
    values(again, 1)
    assert "the resumed run trains on other samples" in capsys.readouterr().err


def test_global_random_state_is_left_alone():
    feed = feed_of(Noisy(23))
    before = torch.get_rng_state(), np.random.get_state()[1].copy()
    values(feed, 3)
    assert torch.equal(before[0], torch.get_rng_state())
    assert (before[1] == np.random.get_state()[1]).all()


def test_what_is_wrong_with_a_stream_is_said_in_one_line():
    with pytest.raises(ValueError, match="the stream must have samples; it is empty"):
        feed_of(Counting(0))
    with pytest.raises(RunError, match="a batch of 4 is larger than the stream, which has 3 samples"):
        values(feed_of(Counting(3)), 1)

    class Odd(Counting):
        def __iter__(self):
            yield from ((torch.full((1,), value), 0) for value in (1.0, float("nan")))

    with pytest.raises(ValueError, match="item 1 has nan"):
        feed_of(Odd())

    class Failing(Counting):
        def __iter__(self):
            yield torch.zeros(1), 0
            raise KeyError("no such row")

    with pytest.raises(ValueError, match="item 1 of the stream raised KeyError: 'no such row'"):
        feed_of(Failing())

    class WithObjects(Remembering):
        def state_dict(self):
            return {"at": np.int64(self.at)}

    for workers in (0, 1):
        with pytest.raises(RunError, match="state_dict of the stream holds int64"):
            values(feed_of(WithObjects(), workers=workers), 3)


def test_late_values_that_are_not_finite_are_found():
    class Late(Counting):
        def __iter__(self):
            yield from ((torch.full((1,), 1.0 if i < 70 else float("inf")), 0) for i in itertools.count())

    feed = feed_of(Late(), batch_size=64)
    feed()
    assert feed.fault(1) is None
    feed()
    assert re.search("item 6 has inf", feed.fault(1))


def test_first_samples_are_those_to_judge_by():
    x, y = real_samples(Counting(), SPEC, 70, 5, CPU)
    assert x[:, 0].tolist() == [*range(70)]
    assert not y.any()
    assert len(real_samples(Counting(9), SPEC, 70, 5, CPU)[0]) == 9


PLUGIN = """
import attrs
import torch
from torch.utils.data import IterableDataset

from ganframe import Dataset, DataSpec, hookimpl, option


class Rolls(IterableDataset):
    def __iter__(self):
        for _ in range(50):
            yield torch.randn(2), int(torch.randint(3, (1,)))


@attrs.frozen
class Dice(Dataset):
    "Points and rolls, drawn anew."

    @property
    def spec(self):
        return DataSpec((2,), classes=3)

    def build(self):
        return Rolls()


@hookimpl
def ganframe_datasets():
    return {"dice": Dice}
"""


@pytest.mark.parametrize("workers", [0, 2])
def test_resumed_run_of_a_stream_equals_the_uninterrupted_one(install, tiny, tmp_path, monkeypatch, workers, capsys):
    monkeypatch.chdir(tmp_path)
    install("ganframe-dice", PLUGIN)
    more = f'workers = {workers}\n[[metrics]]\nuse = "mmd"\nsamples = 20\n[log]\ncheckpoint_every = 3\n'
    file = tiny(more)
    file.write_text(file.read_text().replace('use = "ring"', 'use = "dice"'))
    ganframe.run(ganframe.load_recipe(file), "whole")
    ganframe.run(ganframe.load_recipe(file, ["train.steps=3"]), "parts")
    ganframe.resume("parts", ["train.steps=6"])
    whole, parts = ((tmp_path / run / "generator.safetensors").read_bytes() for run in ("whole", "parts"))
    assert whole == parts
    said = capsys.readouterr().err
    assert "a stream of samples" in said
    assert "warning" not in said


def test_kit_accepts_a_dataset_that_is_a_stream(install):
    install("ganframe-dice", PLUGIN)
    dataset = ganframe.component("dataset", "dice")
    assert isinstance(dataset().build(), IterableDataset)
    assert issubclass(dataset, Dataset)
    testing.check_dataset(dataset)
    assert isinstance(open_feed(dataset().build(), dataset().spec, 4, 0, Share(CPU)), StreamFeed)
