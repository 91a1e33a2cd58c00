"""Grids of images have the pixels that torchvision's have, which takes seconds to import."""

import math

import numpy as np
import pytest
import torch
from torchvision.transforms.functional import to_pil_image
from torchvision.utils import make_grid

from ganframe.report.grids import grid, to_image


@pytest.mark.parametrize("number", [1, 2, 7])
@pytest.mark.parametrize("channels", [1, 3, 4])
@pytest.mark.parametrize("columns", [None, 1, 3, 100])
def test_grid_has_the_pixels_of_torchvision(channels, number, columns):
    images = 1.5 * torch.randn(number, channels, 50, 49, generator=torch.Generator().manual_seed(0))
    options = {"nrow": columns or math.ceil(math.sqrt(number)), "normalize": True, "value_range": (-1, 1)}
    expected = make_grid(images[:, :3].clone(), pad_value=0.5, **options)
    if channels == 4:
        expected = torch.cat([expected, make_grid(images[:, 3:].clone(), pad_value=1.0, **options)[:1]])
    expected = expected.mul(255).add(0.5).clamp(0, 255).byte()
    got = grid(images, columns)
    assert got.mode == ("RGBA" if channels == 4 else "RGB")
    np.testing.assert_array_equal(np.asarray(got), expected.permute(1, 2, 0).numpy())


@pytest.mark.parametrize(("channels", "mode"), [(1, "L"), (2, "LA"), (3, "RGB"), (4, "RGBA")])
def test_image_of_each_number_of_channels_is_that_of_torchvision(channels, mode):
    pixels = torch.arange(channels * 35, dtype=torch.uint8).view(channels, 5, 7)
    got, expected = to_image(pixels), to_pil_image(pixels)
    assert got.mode == expected.mode == mode
    assert got.tobytes() == expected.tobytes()
