"""Grids of images: how channels are shown, how small images are enlarged, and several images side by side."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import TYPE_CHECKING

import torch
from torch import Tensor

if TYPE_CHECKING:
    from PIL.Image import Image

SMALL = 48  # pixels of the longer side below which images are enlarged
LINE = 2  # pixels between the images of a grid
PANELS = 16  # images of one condition at most


def grid(images: Tensor, columns: int | None) -> Image:
    """A grid of images. Small ones are enlarged without smoothing, so that their pixels can be seen."""
    images = _with_channels(images, _channels(images))
    factor = max(1, SMALL // max(images.shape[-2:]))
    images = images.repeat_interleave(factor, 2).repeat_interleave(factor, 3)
    columns = columns or math.ceil(math.sqrt(len(images)))
    pixels = images.clamp(-1, 1).add(1).div(2).mul(255).add(0.5).byte()
    pixels = pixels.expand(-1, max(3, pixels.shape[1]), -1, -1)  # grey ones in colours, as the lines between them
    lines = torch.full((pixels.shape[1],), 128, dtype=torch.uint8)
    lines[3:] = 255  # opaque
    return to_image(_joined(pixels, columns, lines))


def to_image(pixels: Tensor) -> Image:
    """uint8 (C, H, W) as an image of PIL: grey, grey and opacity, red, green and blue, or those and opacity."""
    from PIL import Image

    array = pixels.permute(1, 2, 0).contiguous().numpy()
    return Image.fromarray(array[..., 0] if array.shape[2] == 1 else array)


def _joined(images: Tensor, columns: int, lines: Tensor) -> Tensor:
    """Images (N, C, H, W) in rows, as one (C, H, W), with lines (C,) between and around them; one image has none."""
    number, channels, height, width = images.shape
    if number == 1:
        return images[0]
    columns = min(columns, number)
    rows = math.ceil(number / columns)
    size = rows * (height + LINE) + LINE, columns * (width + LINE) + LINE
    joined = lines.view(-1, 1, 1).expand(channels, *size).clone()
    for place, image in enumerate(images):
        row, column = divmod(place, columns)
        top, left = row * (height + LINE) + LINE, column * (width + LINE) + LINE
        joined[:, top : top + height, left : left + width] = image
    return joined


def _channels(images: Tensor) -> int:
    """How many channels of images (N, C, H, W) a picture shows: grey, red, green and blue, or those and opacity."""
    return {3: 3, 4: 4}.get(images.shape[1], 3 if images.shape[1] > 4 else 1)


def _with_channels(images: Tensor, channels: int) -> Tensor:
    """Images (N, C, H, W) with 1, 3 or 4 channels: grey ones become colours, opaque ones get an opacity."""
    shown = images[:, : _channels(images)]
    if channels > 1 and shown.shape[1] == 1:
        shown = shown.expand(-1, 3, -1, -1)
    if channels == 4 and shown.shape[1] == 3:
        shown = torch.cat([shown, torch.ones_like(shown[:, :1])], 1)
    return shown


def panels(conditions: Tensor, channels: int) -> list[Tensor]:
    """Conditions (N, C, H, W) beside samples of so many channels, as images to draw: one, or several of each."""
    conditions = conditions.detach().float().cpu()
    return [*conditions.split(channels_of_panels(conditions.shape[1], channels), 1)][:PANELS]


def channels_of_panels(given: int, channels: int) -> list[int]:
    """The channels of the images that a condition of `given` channels is drawn as, beside samples of `channels`.

    Other numbers than 1, 3 or that of samples are several things: images like the samples, as past frames, and then
    grey ones, as a mask, which would else be drawn as colours and opacity.
    """
    if given in (1, 3, channels):
        return [given]
    width = channels if channels in (3, 4) else 1
    return [width] * (given // width) + [1] * (given % width)


def side_by_side(kinds: Sequence[Tensor], times: int) -> tuple[Tensor, int]:
    """Images of several kinds, each (N, C, H, W), by turns in one size, for a grid with its number of columns.

    Each row has all kinds `times` times. Smaller images are enlarged by whole factors, and have a margin.
    """
    size = [max(images.shape[axis] for images in kinds) for axis in (2, 3)]
    channels = max(_channels(images) for images in kinds)
    shown = [_with_channels(_enlarged(images, size), channels) for images in kinds]
    return torch.stack(shown, 1).flatten(0, 1), len(kinds) * times


def _enlarged(images: Tensor, size: Sequence[int]) -> Tensor:
    """Images enlarged without smoothing by the largest whole factor that `size` has room for, in its middle."""
    factor = min(there // side for there, side in zip(size, images.shape[2:], strict=True))
    images = images.repeat_interleave(factor, 2).repeat_interleave(factor, 3)
    below, right = (there - side for there, side in zip(size, images.shape[2:], strict=True))
    return torch.nn.functional.pad(images, (right // 2, right - right // 2, below // 2, below - below // 2))
