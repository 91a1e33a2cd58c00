"""The datasets unpaired_digits and thick_digits: no scan is in both sets, and held-out pairs are true."""

import pytest
import torch
from ganframe_translate import ThickDigits, UnpairedDigits
from ganframe_translate.unpaired import thickened

from ganframe import component
from ganframe.testing import check_dataset


@pytest.mark.parametrize("data", [UnpairedDigits(), UnpairedDigits(size=8), ThickDigits(), ThickDigits(split="all")])
def test_datasets_pass_the_kit(data):
    check_dataset(data)


def test_strokes_become_dark_and_thicker():
    image = torch.zeros(1, 1, 16, 16, dtype=torch.uint8)
    image[0, 0, 5, 7] = 200
    image[0, 0, 5, 8] = 100
    found = thickened(image)
    assert found.dtype == torch.uint8
    assert (found == 55).sum() == 9
    assert (found[0, 0, 4:7, 6:9] == 55).all()
    assert (found[0, 0, 4:7, 9] == 155).all()
    assert (found == 255).sum() == 256 - 12


def test_no_scan_is_in_both_sets():
    x, y = UnpairedDigits(size=8).build().tensors
    assert len(x) == len(y) == 719
    partners = {row.numpy().tobytes() for row in thickened(y)}
    scans = {row.numpy().tobytes() for row in component("dataset", "digits")(split="train").build().tensors[0]}
    assert len(partners) > 700
    assert not partners & {row.numpy().tobytes() for row in x}
    assert {row.numpy().tobytes() for row in y} <= scans
    assert {row.numpy().tobytes() for row in x} <= {row.numpy().tobytes() for row in thickened(_stack(scans))}


def _stack(scans):
    return torch.stack([torch.frombuffer(bytearray(scan), dtype=torch.uint8).view(1, 8, 8) for scan in scans])


def test_held_out_pairs_are_true_and_new():
    x, y = UnpairedDigits(size=8).held_out().tensors
    assert len(x) == 359
    assert torch.equal(x, thickened(y))
    training = {row.numpy().tobytes() for row in UnpairedDigits(size=8).build().tensors[1]}
    assert not training & {row.numpy().tobytes() for row in y}


def test_thick_digits_are_the_scans_with_their_labels():
    x, labels = ThickDigits(size=8, split="test").build().tensors
    scans, expected = component("dataset", "digits")(split="test").build().tensors
    assert torch.equal(labels, expected)
    assert torch.equal(x, thickened(scans))
    assert ThickDigits().held_out().tensors[0].shape == (359, 1, 16, 16)
    assert ThickDigits(split="all").held_out() is None
