"""The datasets made of other datasets: their samples, what they hold out, and what they refuse."""

import attrs
import pytest
import torch
from ganframe_terms import Completion, HoldOut, PartlyLabelled
from torch.utils.data import Dataset as TorchDataset

import ganframe
from ganframe import Dataset, DataSpec
from ganframe.testing import check_dataset

DIGITS = ganframe.component("dataset", "digits")()
RING = ganframe.component("dataset", "ring")()


@attrs.frozen
class Lazy(Dataset):
    """Ten images that are read one by one."""

    @property
    def spec(self):
        return DataSpec((1, 4, 2), classes=2)

    def build(self):
        return _Items()


class _Items(TorchDataset):
    def __len__(self):
        return 10

    def __getitem__(self, index):
        if not 0 <= index < 10:
            raise IndexError(index)
        return torch.arange(8).reshape(1, 4, 2) / 8 + index / 100, index % 2


@pytest.mark.parametrize(
    "dataset",
    [
        HoldOut(of=DIGITS),
        HoldOut(of=Lazy()),
        PartlyLabelled(of=DIGITS),
        PartlyLabelled(of=HoldOut(of=DIGITS), labels=3),
        Completion(of=DIGITS),
        Completion(of=HoldOut(of=Lazy())),
    ],
    ids=str,
)
def test_conformance(dataset):
    check_dataset(dataset)


def test_hold_out_divides_samples_without_overlap():
    x, _ = DIGITS.build().tensors
    dataset = HoldOut(of=DIGITS, share=0.25, seed=3)
    kept, apart = dataset.build().tensors[0], dataset.held_out().tensors[0]
    assert len(apart) == round(len(x) / 4)
    assert len(kept) + len(apart) == len(x)
    rows = torch.cat([kept, apart]).flatten(1)
    assert torch.equal(rows.sum(1).sort().values, x.flatten(1).sum(1).sort().values)
    assert not torch.equal(apart, attrs.evolve(dataset, seed=4).held_out().tensors[0])


def test_partly_labelled_keeps_labels_of_each_class():
    x, y = DIGITS.build().tensors
    dataset = PartlyLabelled(of=DIGITS, labels=7)
    assert dataset.spec.classes == 11
    same, labels = dataset.build().tensors
    assert torch.equal(same, x)
    assert torch.bincount(labels).tolist() == [7] * 10 + [len(y) - 70]
    assert torch.equal(labels[labels < 10], y[labels < 10])
    assert not torch.equal(labels, attrs.evolve(dataset, seed=1).build().tensors[1])


def test_held_out_samples_keep_their_labels():
    of = HoldOut(of=DIGITS)
    assert torch.equal(PartlyLabelled(of=of).held_out().tensors[1], of.held_out().tensors[1])
    assert PartlyLabelled(of=DIGITS).held_out() is None


@pytest.mark.parametrize("of", [DIGITS, Lazy()], ids=str)
def test_completion_splits_images_into_condition_above_and_sample_below(of):
    (image, _), (lower, upper) = of.build()[3], Completion(of=of).build()[3]
    assert torch.equal(torch.cat([upper, lower], dim=1), image)


def test_completion_holds_out_what_its_dataset_does():
    held_out = HoldOut(of=DIGITS).held_out().tensors[0]
    lower, upper = Completion(of=HoldOut(of=DIGITS)).held_out().tensors
    assert torch.equal(torch.cat([upper, lower], dim=2), held_out)
    assert Completion(of=DIGITS).held_out() is None


@pytest.mark.parametrize(
    ("dataset", "message"),
    [
        (HoldOut(of=RING), "needs a finite dataset"),
        (HoldOut(of=Lazy(), share=0.01), "leaves one part empty"),
        (PartlyLabelled(of=RING), "kept in memory"),
        (PartlyLabelled(of=HoldOut(of=DIGITS), labels=500), "fewer than labels = 500"),
        (PartlyLabelled(of=Completion(of=DIGITS)), "with labels"),
        (Completion(of=RING), "even height"),
        (Completion(of=ganframe.component("dataset", "digits")(size=9)), "even height"),
    ],
    ids=str,
)
def test_dataset_that_does_not_fit_raises_value_error(dataset, message):
    with pytest.raises(ValueError, match=message):
        assert dataset.spec is dataset.build()
