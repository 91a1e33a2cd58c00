"""Copies of weights and training state: equal, apart from the originals, and sharing what these share."""

from __future__ import annotations

from collections import Counter

import torch
from safetensors import safe_open
from safetensors.torch import save_model
from torch import nn

from ganframe.storage.copies import Copies
from ganframe.storage.weights import save_weights


class Tied(nn.Module):
    """Two names of one weight, a view of a buffer, a convolution in the channels-last layout, and a BatchNorm."""

    def __init__(self):
        super().__init__()
        self.first = nn.Linear(3, 3)
        self.second = nn.Linear(3, 3)
        self.second.weight = self.first.weight
        self.conv = nn.Conv2d(4, 3, 3).to(memory_format=torch.channels_last)
        self.norm = nn.BatchNorm1d(3)
        self.register_buffer("whole", torch.arange(6.0))
        self.register_buffer("part", self.whole[:2])


def stored(file):
    """The metadata, which safetensors writes in any order, and the tensors of a file."""
    with safe_open(file, framework="pt") as opened:
        return opened.metadata(), {name: opened.get_tensor(name) for name in opened.keys()}  # noqa: SIM118


def test_copied_weights_are_stored_as_the_originals_were_before_they_changed(tmp_path):
    network = Tied()
    save_model(network, str(tmp_path / "original"))
    copied = Copies().weights(network)
    with torch.no_grad():
        for tensor in network.state_dict().values():
            tensor.add_(1)
    save_weights(copied, tmp_path / "copy")
    (about, ours), (expected, theirs) = stored(tmp_path / "copy"), stored(tmp_path / "original")
    assert about == expected == {"part": "whole", "second.weight": "first.weight"}
    assert ours.keys() == theirs.keys()
    assert all(torch.equal(ours[name], theirs[name]) for name in theirs)


def test_copied_weights_are_contiguous_on_the_host():
    tensors = Copies().weights(Tied()).state_dict()
    assert all(tensor.is_contiguous() and tensor.device.type == "cpu" for tensor in tensors.values())


def test_networks_that_share_weights_share_their_copies():
    network, copies = Tied(), Copies()
    one, other = copies.weights(network).state_dict(), copies.weights(nn.Sequential(network)).state_dict()
    assert all(tensor.data_ptr() == other[f"0.{name}"].data_ptr() for name, tensor in one.items())


def test_copied_tables_keep_types_layouts_and_plain_values():
    image = torch.randn(2, 3, 4, 4).contiguous(memory_format=torch.channels_last)
    value = {"state": {0: {"step": torch.tensor(3.0), "average": image}}, "milestones": Counter({4: 1}), "lr": [0.1]}
    value["rng"] = (3, tuple(range(5)), None)
    copied = Copies().tables(value)
    before = image.clone()
    image.zero_()
    value["lr"][0] = 0.2
    average = copied["state"][0]["average"]
    assert torch.equal(average, before)
    assert average.stride() == image.stride()
    assert copied["milestones"] == Counter({4: 1})
    assert type(copied["milestones"]) is Counter
    assert copied["lr"] == [0.1]
    assert copied["rng"] == (3, (0, 1, 2, 3, 4), None)


def test_memory_that_is_used_again_is_not_taken_for_the_same():
    """A copied tensor stays alive, so that no later one can have its address."""
    copies = Copies()
    for number in range(50):
        assert torch.equal(copies.tables([torch.full((100,), float(number))])[0], torch.full((100,), float(number)))
