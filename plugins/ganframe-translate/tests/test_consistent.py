"""The metric `consistent`: 0 for answers, more for others, and the data that it refuses."""

import attrs
import pytest
import torch
from ganframe_translate import Coloured, Consistent, Derived
from torch.utils.data import TensorDataset

import ganframe
from ganframe.testing import check_metric

DIGITS = ganframe.component("dataset", "digits")(split="train")
GREY = Derived(of=Coloured(of=DIGITS), condition="grey")


@attrs.frozen
class Judging:
    """What the metric reads of a judging."""

    dataset: ganframe.Dataset

    def real(self, n):
        data = self.dataset.held_out()
        assert isinstance(data, TensorDataset)
        x, y = (side[:n] / 127.5 - 1 if side.dtype == torch.uint8 else side[:n] for side in data.tensors)
        return x, y


@pytest.mark.parametrize("condition", ["edges", "downsample", "mask"])
def test_conformance(condition):
    check_metric(Consistent(), Derived(of=DIGITS, condition=condition))


def test_conformance_on_colours():
    check_metric(Consistent(), GREY)


def test_answers_of_another_hue_are_consistent_and_so_is_the_grey_image():
    judging = Judging(GREY)
    measure = Consistent().build(judging)
    x, y = judging.real(200)
    swapped = torch.cat([y, y, y], 1)
    assert measure(x, y)["distance"] < 1e-5
    assert measure(swapped, y)["distance"] < 1e-5
    brighter = measure((x + 0.1), y)["distance"]
    assert brighter == pytest.approx(0.1, abs=1e-3)


def test_hidden_pixels_do_not_count():
    judging = Judging(Derived(of=DIGITS, condition="mask"))
    x, y = judging.real(50)
    hidden = y[:, -1:] > 0
    measure = Consistent().build(judging)
    assert measure(torch.where(hidden, 0.3, x), y)["distance"] == 0
    assert measure(torch.where(hidden, x, 0.3), y)["distance"] > 0.1


def test_floor_is_what_rounding_to_bytes_makes():
    judging = Judging(Derived(of=DIGITS, condition="downsample", factor=2))
    x, y = judging.real(2_000)
    found = Consistent().build(judging)(x, y)
    assert found["distance"] == found["floor"]
    assert 0 < found["floor"] < 1 / 255


@pytest.mark.parametrize(
    ("dataset", "message"),
    [(Derived(of=DIGITS, condition="noise"), "the noise of y is random"), (DIGITS, "needs the dataset `derived`")],
    ids=["noise", "other"],
)
def test_data_that_does_not_fit_raises_value_error(dataset, message):
    with pytest.raises(ValueError, match=message):
        Consistent().build(Judging(dataset))
