"""Grids of images have the pixels that torchvision's have, which takes seconds to import."""

import itertools
import math

import numpy as np
import pytest
import torch
from torchvision.transforms.functional import to_pil_image
from torchvision.utils import make_grid

from ganframe.report.grids import grid, to_image


def enlarged(images, factor):
    return images.repeat_interleave(factor, 2).repeat_interleave(factor, 3)


@pytest.mark.parametrize("number", [1, 2, 7])
@pytest.mark.parametrize("channels", [1, 3, 4])
@pytest.mark.parametrize("columns", [None, 1, 3, 100])
def test_grid_has_the_pixels_of_torchvision(channels, number, columns):
    """Of images enlarged by the smallest whole factor that makes the longer side 500 pixels."""
    images = 1.5 * torch.randn(number, channels, 50, 49, generator=torch.Generator().manual_seed(0))
    options = {"nrow": columns or math.ceil(math.sqrt(number)), "normalize": True, "value_range": (-1, 1)}
    sizes = (make_grid(enlarged(images, factor), **options).shape[1:] for factor in itertools.count(1))
    images = enlarged(images, next(factor for factor, size in enumerate(sizes, 1) if max(size) >= 500))
    expected = make_grid(images[:, :3].clone(), pad_value=0.5, **options)
    if channels == 4:
        expected = torch.cat([expected, make_grid(images[:, 3:].clone(), pad_value=1.0, **options)[:1]])
    expected = expected.mul(255).add(0.5).clamp(0, 255).byte()
    factor = images.shape[-1] // 49
    got = grid(images[:, :, ::factor, ::factor], columns)
    assert got.mode == ("RGBA" if channels == 4 else "RGB")
    np.testing.assert_array_equal(np.asarray(got), expected.permute(1, 2, 0).numpy())


@pytest.mark.parametrize("shape", [(1, 8, 8), (3, 28, 28), (1, 5, 90), (3, 64, 32), (1, 600, 600)])
@pytest.mark.parametrize(("number", "columns"), [(1, None), (2, 1), (9, 9), (64, None), (1000, None)])
def test_pictures_have_500_pixels_and_are_no_larger_than_that_needs(shape, number, columns):
    made = grid(torch.zeros(number, *shape), columns)
    assert max(made.size) >= 500
    columns = columns or math.ceil(math.sqrt(number))
    factor = (made.width - 2 * (columns + 1)) / columns / shape[2] if number > 1 else made.width / shape[2]
    assert factor == int(factor)
    if factor > max(1, 48 // max(shape)):
        rows = math.ceil(number / columns)
        assert (factor - 1) * columns * shape[2] + 2 * (columns + 1) * (number > 1) < 500
        assert (factor - 1) * rows * shape[1] + 2 * (rows + 1) * (number > 1) < 500


def test_names_of_columns_and_rows_stand_in_margins_of_their_own():
    images = torch.full((6, 1, 64, 64), -1.0)
    plain, named = grid(images, 3), grid(images, 3, ["0", "1", "2"], ["first", "second"])
    left, top = named.width - plain.width, named.height - plain.height
    assert left > 0 < top
    assert named.crop((left, top, named.width, named.height)).tobytes() == plain.tobytes()
    ink = np.asarray(named.convert("L")) < 128
    columns, rows = ink[:top, left:].any(0), ink[top:, :left].any(1)
    assert not ink[:top, :left].any()
    side = plain.width / 3
    for place in range(3):  # in the middle of its column, and nowhere else
        found = np.flatnonzero(columns[int(place * side) : int((place + 1) * side)])
        assert abs(found.mean() - side / 2) < 5
    for place in range(2):
        found = np.flatnonzero(rows[int(place * side) : int((place + 1) * side)])
        assert abs(found.mean() - side / 2) < 8


def test_names_that_have_no_room_are_cut_within_it():
    long = "a name that is much longer than the picture is wide"
    named = grid(torch.ones(2, 1, 100, 100), 2, [long, long], [2 * long])
    ink = np.asarray(named.convert("L")) < 128
    plain = grid(torch.ones(2, 1, 100, 100), 2)
    left, top = named.width - plain.width, named.height - plain.height
    assert left <= 220
    middle = left + plain.width // 2
    assert ink[:top, left:middle].any()
    assert not ink[:top, middle - 2 : middle + 2].any()
    assert not ink[top:, :1].any()


@pytest.mark.parametrize(("channels", "mode"), [(1, "L"), (2, "LA"), (3, "RGB"), (4, "RGBA")])
def test_image_of_each_number_of_channels_is_that_of_torchvision(channels, mode):
    pixels = torch.arange(channels * 35, dtype=torch.uint8).view(channels, 5, 7)
    got, expected = to_image(pixels), to_pil_image(pixels)
    assert got.mode == expected.mode == mode
    assert got.tobytes() == expected.tobytes()
