"""subset: which samples it has, which it holds out."""

import pytest
import torch
from ganframe_augment import Subset

import ganframe
from ganframe.testing import check_dataset

DIGITS = ganframe.component("dataset", "digits")()
RING = ganframe.component("dataset", "ring")()


def rows(data):
    return {bytes(x.numpy().tobytes()) for x, _ in (data[i] for i in range(len(data)))}


def test_conformance():
    check_dataset(Subset(of=DIGITS))
    check_dataset(Subset(of=RING, samples=50))


def test_held_out_samples_are_the_others():
    dataset = Subset(of=DIGITS, samples=200)
    few, others = dataset.build(), dataset.held_out()
    assert (len(few), len(others)) == (200, 1597)
    assert rows(few) | rows(others) == rows(DIGITS.build())


def test_seed_draws_other_samples():
    one, again, other = (Subset(of=DIGITS, seed=seed).build().tensors[0] for seed in (0, 0, 1))
    assert torch.equal(one, again)
    assert not torch.equal(one, other)


def test_subset_of_everything_holds_nothing_out():
    assert Subset(of=DIGITS, samples=1797).held_out() is None


def test_too_many_samples_raise_value_error():
    with pytest.raises(ValueError, match="only 1797 samples, not 1800"):
        Subset(of=DIGITS, samples=1800).build()


def test_component_is_registered():
    assert ganframe.component("dataset", "subset") is Subset
