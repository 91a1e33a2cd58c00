"""Grids of images: how channels are shown, how small images are enlarged, and several images side by side."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor

if TYPE_CHECKING:
    from PIL.Image import Image

SMALL = 48  # pixels of the longer side below which images are enlarged
LEAST = 500  # pixels of the longer side of a picture below which its images are enlarged
LINE = 2  # pixels between the images of a grid
PANELS = 16  # images of one condition at most
WIDEST = 2_000  # pixels of a row of blocks, unless one block has more
GAP = 16  # pixels between blocks
TEXT = 14  # pixels of letters
BESIDE = 220  # pixels for the names of rows at most


def grid(
    images: Tensor,
    columns: int | None,
    above: Sequence[str] = (),
    beside: Sequence[str] = (),
    least: int | None = None,
) -> Image:
    """A grid of images. Small ones are enlarged by a whole factor, without smoothing, so that pixels can be seen.

    `above` are names of columns, and `beside` of rows, in margins of their own; names that have no room are cut. The
    longer side of the picture has at least `least` pixels, by default LEAST.
    """
    images = _with_channels(images, _channels(images))
    columns = min(columns or math.ceil(math.sqrt(len(images))), len(images))
    factor = _factor(images, columns, LEAST if least is None else least)
    images = images.repeat_interleave(factor, 2).repeat_interleave(factor, 3)
    pixels = images.clamp(-1, 1).add(1).div(2).mul(255).add(0.5).byte()
    pixels = pixels.expand(-1, max(3, pixels.shape[1]), -1, -1)  # grey ones in colours, as the lines between them
    lines = torch.full((pixels.shape[1],), 128, dtype=torch.uint8)
    lines[3:] = 255  # opaque
    made = to_image(_joined(pixels, columns, lines))
    size = images.shape[3] + LINE, images.shape[2] + LINE
    return named(made, size, above, beside) if above or beside else made


def _factor(images: Tensor, columns: int, least: int) -> int:
    """By how much images (N, C, H, W) are enlarged: to SMALL pixels, and so that the picture has `least`."""
    count, _, height, width = images.shape
    sides = (-(-count // columns), height), (columns, width)
    lines = LINE if count > 1 else 0
    needed = min(-(-(least - (n + 1) * lines) // (n * side)) for n, side in sides)
    return max(1, SMALL // max(height, width), needed)


def blocks(kinds: Mapping[str, Tensor]) -> Image:
    """A square grid of each kind of images (n, C, H, W), with its name above, several in a row."""
    from PIL import Image

    made = [grid(images, None, least=LEAST // 2) for images in kinds.values()]
    made = [named(one, (one.width - LINE, one.height), [name]) for name, one in zip(kinds, made, strict=True)]
    width, height = (max(getattr(one, side) for one in made) + GAP for side in ("width", "height"))
    columns = max(1, min(len(made), WIDEST // width))
    rows = -(-len(made) // columns)
    page = Image.new(made[0].mode, (columns * width - GAP, rows * height - GAP), "white")
    for place, one in enumerate(made):
        page.paste(one, (place % columns * width, place // columns * height))
    return page


def named(made: Image, size: tuple[int, int], above: Sequence[str] = (), beside: Sequence[str] = ()) -> Image:
    """A picture with names of its columns above it and of its rows to the left, each `size` (width, height) apart."""
    from PIL import Image, ImageDraw, ImageFont

    font = ImageFont.truetype(str(_font()), TEXT)
    room = max((font.getlength(name) for name in beside), default=0.0)
    left, top = (min(BESIDE, math.ceil(room) + TEXT) if beside else 0), (TEXT + 10 if above else 0)
    page = Image.new(made.mode, (left + made.width, top + made.height), "white")
    page.paste(made, (left, top))
    pen = ImageDraw.Draw(page)
    for i, name in enumerate(above):
        middle = left + LINE + (i + 0.5) * size[0]
        pen.text((middle, top / 2), _cut(name, font, size[0] - 4), "black", font, anchor="mm")
    for i, name in enumerate(beside):
        middle = top + LINE + (i + 0.5) * size[1]
        pen.text((left - TEXT / 2, middle), _cut(name, font, BESIDE - TEXT), "black", font, anchor="rm")
    return page


def _font() -> Path:
    """DejaVu Sans, which comes with matplotlib and which figures have too; without importing it."""
    found = find_spec("matplotlib")
    assert found is not None
    assert found.origin is not None
    return Path(found.origin).parent / "mpl-data" / "fonts" / "ttf" / "DejaVuSans.ttf"


def _cut(name: str, font: Any, room: float) -> str:
    """A name, without its end where it has no room."""
    if font.getlength(name) <= room:
        return name
    kept = next((n for n in range(len(name), 0, -1) if font.getlength(f"{name[:n]}…") <= room), 0)
    return f"{name[:kept]}…" if kept else ""


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
