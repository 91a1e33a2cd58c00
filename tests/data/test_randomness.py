"""Random numbers outside of the engine: those of the recipe, whoever draws them from which generator."""

import random
from contextlib import suppress

import numpy as np
import pytest
import torch
from torch.utils.data import Dataset, TensorDataset

from ganframe import DataSpec
from ganframe.data.feed import Share, open_feed
from ganframe.data.randomness import CPU, kept_random_state, own_random_state, random_state, seed_all, set_random_state
from ganframe.data.real import real_samples

POINTS = DataSpec((1,))
DRAW = {
    "torch": lambda: torch.rand(()).item(),
    "numpy": lambda: np.random.rand(),
    "numpy, normal": lambda: np.random.randn(),
    "python": lambda: random.random(),
    "python, normal": lambda: random.gauss(0, 1),
}


class Augmented(Dataset):
    """Items that are one random number each."""

    def __init__(self, source):
        self.source = source

    def __len__(self):
        return 16

    def __getitem__(self, index):
        return torch.tensor([DRAW[self.source]()]), 0


class AugmentedTensors(TensorDataset):
    """A TensorDataset whose items are not its rows."""

    def __init__(self, source):
        super().__init__(torch.zeros(16, 1), torch.zeros(16, dtype=torch.long))
        self.source = source

    def __getitem__(self, index):
        x, y = super().__getitem__(index)
        return x + DRAW[self.source](), y


def feed(source, seed=0, workers=0, rank=0, processes=1, data=Augmented):
    return open_feed(data(source), POINTS, 4, seed, Share(CPU, processes, rank), workers)


def drawn(feed, n):
    return torch.stack([feed()[0] for _ in range(n)])


@pytest.mark.parametrize("data", [Augmented, AugmentedTensors])
@pytest.mark.parametrize("source", DRAW)
def test_random_items_depend_on_seed_batch_and_process_alone(source, data):
    first = drawn(feed(source, data=data), 6)
    random.seed(5), np.random.seed(5), torch.manual_seed(5)
    assert torch.equal(drawn(feed(source, data=data), 6), first)
    assert len(first.unique()) == first.numel()
    others = [feed(source, 1, data=data), feed(source, rank=0, processes=2, data=data)]
    others += [feed(source, rank=1, processes=2, data=data)]
    values = torch.cat([first.flatten(), drawn(others[0], 6).flatten(), drawn(others[2], 6).flatten()])
    assert len(values.unique()) == len(values)


@pytest.mark.parametrize("source", DRAW)
def test_restored_feed_draws_the_same_random_items(source):
    whole = feed(source)
    drawn(whole, 3)
    stored = whole.state_dict()
    expected = drawn(whole, 4)
    fresh = feed(source)
    fresh.load_state_dict(stored)
    assert torch.equal(drawn(fresh, 4), expected)


@pytest.mark.parametrize("source", ["torch", "numpy", "python"])
def test_workers_draw_the_same_random_items_as_none(source):
    expected = drawn(feed(source), 6)
    assert torch.equal(drawn(feed(source, workers=2), 6), expected)
    resumed = feed(source, workers=2)
    resumed.load_state_dict({"drawn": 2})
    assert torch.equal(drawn(resumed, 4), expected[2:])


@pytest.mark.parametrize("source", DRAW)
@pytest.mark.parametrize("look", ["feed", "real samples"])
def test_random_items_leave_the_random_state_of_training(source, look):
    def numbers():
        return [draw() for draw in DRAW.values()]

    before = random_state(CPU)
    expected = numbers()
    set_random_state(CPU, before)
    if look == "feed":
        opened = feed(source)
        set_random_state(CPU, before)  # opening looks at an item
        opened()
    else:
        x, again = (real_samples(Augmented(source), POINTS, 8, 3, CPU)[0] for _ in range(2))
        assert torch.equal(x, again)
        assert not torch.equal(x, real_samples(Augmented(source), POINTS, 8, 4, CPU)[0])
    assert numbers() == expected


def test_random_state_can_be_loaded_as_data_and_continues(tmp_path):
    seed_all(7)
    random.gauss(0, 1), np.random.randn()  # each keeps a second normal number
    torch.save(random_state(CPU), tmp_path / "state.pt")
    expected = [draw() for draw in DRAW.values()]
    seed_all(8)
    set_random_state(CPU, torch.load(tmp_path / "state.pt", weights_only=True))
    assert [draw() for draw in DRAW.values()] == expected


def test_state_of_an_earlier_version_restores_torch_alone():
    state = {"cpu": torch.get_rng_state()}
    expected = torch.rand(2)
    set_random_state(CPU, state)
    assert torch.equal(torch.rand(2), expected)


def test_contexts_restore_the_state_after_an_error():
    before = random_state(CPU)
    for context in (kept_random_state, lambda: own_random_state(3)):
        with suppress(KeyError), context():
            [draw() for draw in DRAW.values()]
            raise KeyError
    after = random_state(CPU)
    assert torch.equal(before["cpu"], after["cpu"])
    assert before["python"] == after["python"]
    assert torch.equal(before["numpy"][0], after["numpy"][0])
