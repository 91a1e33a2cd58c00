"""The filter of resampling, the channels of each resolution, and what networks are conditioned on."""

import math

import pytest
import torch
from ganframe_stylegan2.layers import Embedding, Filter, Widths, given_for
from torch.nn import functional as F

from ganframe import DataSpec
from ganframe.layers import resolutions

CLASSES, VECTORS = DataSpec((1, 8, 8), classes=4), DataSpec((1, 8, 8), condition=(2, 3))


def test_filter_is_the_binomial_filter_1331_along_both_axes():
    impulse = torch.zeros(1, 2, 7, 7)
    impulse[0, 1, 3, 3] = 1
    taps = torch.tensor([1.0, 3.0, 3.0, 1.0]) / 8
    found = Filter()(impulse, padding=2)
    assert found.shape == (1, 2, 8, 8)
    assert not found[0, 0].any()  # channels do not mix
    torch.testing.assert_close(found[0, 1, 2:6, 2:6], torch.outer(taps, taps))
    assert found.sum() == 1


def test_filter_leaves_a_constant_inside_the_border():
    ones = torch.ones(1, 1, 6, 6)
    torch.testing.assert_close(Filter()(ones, padding=1, stride=2)[..., 1:-1, 1:-1], torch.ones(1, 1, 1, 1))
    inserted = torch.zeros(1, 1, 12, 12)
    inserted[..., ::2, ::2] = 1
    torch.testing.assert_close(Filter(gain=4)(inserted, padding=0), torch.ones(1, 1, 9, 9))


def test_filter_after_inserted_zeros_is_bilinear_interpolation():
    """The generator enlarges its images by the latter, which repeats the border instead of adding zeros."""
    x = torch.randn(2, 3, 5, 6)
    inserted = torch.zeros(2, 3, 10, 12)
    inserted[..., ::2, ::2] = x
    filtered = Filter(gain=4)(F.pad(inserted, (2, 1, 2, 1)), padding=0)
    torch.testing.assert_close(
        filtered[..., 1:-1, 1:-1], F.interpolate(x, scale_factor=2, mode="bilinear")[..., 1:-1, 1:-1]
    )


def test_filter_is_not_stored():
    assert not Filter().state_dict()


def test_channels_halve_with_each_doubling_beyond_the_full_width():
    # The paper's networks at 1024 pixels: 512 channels up to 64, then 256, 128, 64, 32.
    sizes = resolutions("stylegan2", DataSpec((3, 1024, 1024)))
    assert Widths().widths(sizes) == [512, 512, 512, 512, 512, 256, 128, 64, 32]
    assert Widths(width=6, full_width_up_to=4).widths(resolutions("", DataSpec((1, 32, 32)))) == [6, 3, 1, 1]
    # 13 of (7, 13, 25, 50, 100) is between 8 and 16; of 64×40, the 40 counts.
    assert Widths(width=64, full_width_up_to=8).widths(resolutions("", DataSpec((1, 100, 100)))) == [
        64,
        64,
        32,
        16,
        8,
        4,
    ]
    assert Widths(width=64, full_width_up_to=20).widths(resolutions("", DataSpec((1, 64, 40)))) == [64, 64, 64, 32]


def test_a_network_without_a_condition_takes_any_data():
    assert {given_for("none", data) for data in (CLASSES, VECTORS, DataSpec((1, 8, 8)))} == {None}
    assert given_for("mapping", CLASSES) == 4
    assert given_for("projection", VECTORS) == (2, 3)


@pytest.mark.parametrize(
    ("data", "message"),
    [
        (DataSpec((1, 8, 8)), "needs labels or vectors, .* use condition = 'none'"),
        (DataSpec((1, 8, 8), condition=(1, 8, 8)), "conditions are images of shape .* use networks that translate"),
    ],
)
def test_a_condition_that_the_data_does_not_have_raises_value_error_in_one_line(data, message):
    with pytest.raises(ValueError, match=message) as raised:
        given_for("mapping", data)
    assert "\n" not in str(raised.value)


def test_embedding_of_vectors_is_a_linear_map_of_unit_deviation():
    torch.manual_seed(0)
    embedding = Embedding((2, 3), 1000)
    y = torch.randn(1, 2, 3)
    assert embedding(y).std().item() == pytest.approx(math.sqrt(y.square().mean()), rel=0.1)
    torch.testing.assert_close(embedding(2 * y.double()), 2 * embedding(y))
    assert Embedding(5, 1000)(torch.tensor([3])).std().item() == pytest.approx(1, rel=0.1)
