"""Fingerprints of data: equal for equal data, other for other data, and cheap."""

import json
import random

import attrs
import numpy as np
import pytest
import torch
from torch.utils.data import Dataset as TorchDataset
from torch.utils.data import TensorDataset

from ganframe import Dataset, DataSpec
from ganframe.builtin.distributions import Ring
from ganframe.data import fingerprint as module
from ganframe.data.fingerprint import comparable, fingerprint, hashed

POINTS = DataSpec((2,), classes=3)


class Items(TorchDataset):
    def __init__(self, x, noise=None):
        self.x, self.noise = x, noise or (lambda: 0.0)

    def __len__(self):
        return len(self.x)

    def __getitem__(self, index):
        return self.x[index] + self.noise(), 0


def of(data, dataset=None):
    return fingerprint(dataset or Dataset(), POINTS, data)


@pytest.mark.parametrize("kind", [lambda x: TensorDataset(x, torch.zeros(len(x), dtype=torch.long)), Items])
def test_one_changed_value_changes_the_fingerprint(kind):
    x = torch.randn(12, 2)
    first = of(kind(x))
    assert first == of(kind(x.clone())) == json.loads(json.dumps(first))
    assert first["samples"] == 12
    x[3, 1] += 1
    assert of(kind(x)) != first


@pytest.mark.parametrize("dtype", [torch.uint8, torch.float16, torch.bfloat16, torch.float64, torch.bool])
def test_every_type_and_empty_or_large_tensors_are_hashed(dtype):
    for n in (0, 1, 5):
        x = torch.ones(n, 2).to(dtype)
        assert of(TensorDataset(x, torch.zeros(n)))["values"] == of(TensorDataset(x.clone(), torch.zeros(n)))["values"]


def test_distribution_has_the_spec_only():
    assert fingerprint(Ring(), Ring().spec, Ring().build()).keys() == {"shape", "classes", "condition"}


@pytest.mark.parametrize("draw", [lambda: torch.rand(1), np.random.rand, random.random])
def test_items_drawn_at_random_are_compared_and_leave_the_random_state(draw, capsys):
    x, before = torch.zeros(9, 2), (torch.get_rng_state(), np.random.get_state()[1].tolist(), random.getstate())
    first, again = of(Items(x, draw)), of(Items(x, draw))
    assert first == again
    assert "values" in first
    assert torch.equal(before[0], torch.get_rng_state())
    assert before[1:] == (np.random.get_state()[1].tolist(), random.getstate())
    assert not capsys.readouterr().err


def test_items_drawn_from_a_generator_of_their_own_are_warned_of(capsys):
    own = np.random.default_rng(0)
    assert "values" not in of(Items(torch.zeros(9, 2), own.random))
    assert "draws from a random generator of its own" in capsys.readouterr().err


@attrs.frozen
class Named(Dataset):
    name: str
    of: Dataset | None = None

    def fingerprint(self):
        return {"name": self.name}


def test_datasets_among_the_options_are_part_of_it():
    found = of(Items(torch.zeros(2, 2)), Named("outer", of=Named("inner")))
    assert (found["name"], found["name (2)"]) == ("outer", "inner")


@pytest.mark.parametrize("wrong", [None, "text", {"a": 1.5}, {1: "a"}])
def test_fingerprint_of_another_form_is_refused(wrong):
    class Wrong(Dataset):
        def fingerprint(self):
            return wrong

    with pytest.raises(ValueError, match="fingerprint must return a dict"):
        of(Items(torch.zeros(2, 2)), Wrong())


def test_large_values_are_hashed_by_checksums(monkeypatch):
    """In parts, which depend on the shape alone; a change of one bit anywhere is seen."""
    monkeypatch.setattr(module, "LARGE", 0)
    monkeypatch.setattr(module, "_PART", 64)
    x, y = torch.arange(120, dtype=torch.uint8).reshape(10, 3, 4), torch.arange(10)
    first = hashed([x, y])
    assert first.startswith("crc32-")
    assert first == hashed([x.permute(0, 2, 1).contiguous().permute(0, 2, 1), y])
    for index in (0, 60, 119):
        other = x.clone()
        other.view(-1)[index] ^= 1
        assert hashed([other, y]) != first
    assert hashed([x, y.flip(0)]) != first
    assert hashed([x[torch.randperm(10)], y]) != first


def test_values_hashed_in_two_ways_are_not_compared(monkeypatch):
    x = [torch.arange(12.0)]
    small = hashed(x)
    monkeypatch.setattr(module, "LARGE", 0)
    assert not comparable(small, hashed(x))
    assert comparable(hashed(x), hashed(x))
    assert comparable(small, "other")
    assert comparable([3, 4, 4], [3, 8, 8])
