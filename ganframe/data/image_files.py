"""Image files as pixels: upright as EXIF says, on one background, with all levels that the file has.

PIL is imported only when images are read. Files of more than 8 bits, and arrays, are in `ganframe.data.deep_images`.
"""

from __future__ import annotations

import struct
import threading
import warnings
import zlib
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

import attrs
import numpy as np
import torch
from torch import Tensor

from ganframe.data import deep_images
from ganframe.data.deep_images import ARRAYS, ImageSource, Unsuitable

if TYPE_CHECKING:
    from PIL.Image import Image

MODES = {1: "L", 3: "RGB", 4: "RGBA"}
_WIDTH, _HEIGHT, _ORIENTATION = 256, 257, 274  # tags of TIFF, which EXIF shares
_WARNINGS = threading.Lock()  # of the filters of warnings, which threads share
Size = int | tuple[int, int]
"""Pixels of each side, or (height, width)."""

_DAMAGE = (OSError, SyntaxError, ValueError, EOFError, LookupError, TypeError, OverflowError, struct.error, zlib.error)
"""What PIL and numpy raise for damaged files."""


@attrs.frozen
class ImageHeader:
    """What the header of an image file says: its size as shown, and whether it has more than 8 bits a channel.

    `unread` is the number of pages or frames that `read_image` leaves out.
    """

    width: int
    height: int
    deep: bool
    unread: int = 0


def read_image(
    file: str | ImageSource,
    channels: int = 3,
    size: Size | None = None,
    background: str = "white",
    white: float | None = None,
) -> Tensor:
    """An image file as x (channels, H, W): uint8, or floats in [-1, 1] where the file has more than 8 bits a channel.

    `file` is a path, or what is opened as one is, as a `zipfile.Path`.

    With 1 channel the image is grey, with 3 in colour, with 4 in colour with its opacity. Otherwise transparent images
    are laid on the `background`, a colour by name or as "#rrggbb". Other numbers of channels are read from a TIFF with
    as many grey pages, or from an array (.npy, .npz), (channels, H, W) or (H, W, channels).

    With a `size`, of each side or (height, width), the image is scaled until it covers it, and the centre is cropped.
    `white` is the value of white in files of more than 8 bits, by default what the file declares. Raises ValueError, in
    one line with the name of the file.
    """
    file = Path(file) if isinstance(file, str) else file
    if file.suffix.lower() in ARRAYS:
        with _naming(file):
            return _of_planes(deep_images.array_planes(file, channels, white), size, False)
    with _opened(file) as image:
        if _pages_are_channels(image, channels):
            pages = [_page(image, file, index, 1, None, background, white) for index in range(channels)]
            if len({page.shape for page in pages}) > 1:
                raise Unsuitable("its pages have different sizes, and each is a channel")
            if len({page.dtype for page in pages}) > 1:
                pages = [as_signed(page) for page in pages]
            return _of_planes(torch.cat(pages).numpy(), size, False)
        if channels not in MODES:
            raise Unsuitable(
                f"it is no image of {channels} channels: give a TIFF of {channels} grey pages, or an array "
                f"({channels}, H, W) as .npy"
            )
        return _page(image, file, 0, channels, size, background, white)


def read_image_header(file: str | ImageSource, channels: int = 3) -> ImageHeader:
    """Size, depth and pages of an image file, read with as many channels, without decoding its pixels.

    Raises ValueError as `read_image` does.
    """
    file = Path(file) if isinstance(file, str) else file
    if file.suffix.lower() in ARRAYS:
        with _naming(file):
            (height, width), deep = deep_images.array_header(file, channels)
            return ImageHeader(width, height, deep)
    with _opened(file) as image:
        pages = getattr(image, "n_frames", 1)
        unread = 0 if _pages_are_channels(image, channels) else pages - 1
        width, height = image.size
        if image.format == "TIFF":  # whether PIL swaps the sides itself depends on its version
            width, height = int(image.tag_v2[_WIDTH]), int(image.tag_v2[_HEIGHT])  # type: ignore[attr-defined]
        if _orientation(image, file) >= 5:
            width, height = height, width
        deep = deep_images.is_deep(image)
        if image.format == "TIFF":
            for index in range(1, pages):
                image.seek(index)
                deep = deep or deep_images.is_deep(image)
        return ImageHeader(width, height, deep, unread)


def as_signed(x: Tensor) -> Tensor:
    """uint8 0..255 as floats in [-1, 1]; floats as they are."""
    return x.float().div_(127.5).sub_(1) if x.dtype == torch.uint8 else x


@contextmanager
def _naming(file: ImageSource) -> Iterator[None]:
    """Names the file in what is raised while it is read."""
    from PIL import Image, UnidentifiedImageError

    try:
        yield
    except Unsuitable as error:
        raise ValueError(f"{file}: {error}") from None
    except Image.DecompressionBombError as error:
        limit = str(error).partition(",")[0]
        raise ValueError(
            f"{file}: {limit} (PIL's); make the image smaller, or set PIL.Image.MAX_IMAGE_PIXELS in Python"
        ) from error
    except UnidentifiedImageError as error:
        raise ValueError(f"{file}: cannot be read as an image: PIL does not know what it holds") from error
    except _DAMAGE as error:
        cause = (error.strerror if isinstance(error, OSError) else None) or str(error) or type(error).__name__
        raise ValueError(f"{file}: cannot be read as an image: {cause.splitlines()[0]}") from error


@contextmanager
def _opened(file: ImageSource) -> Iterator[Image]:
    # Of a file that PIL opened by its name, it maps some TIFF files into memory, and then does not turn them.
    with _naming(file), file.open("rb") as stream, _opened_large(stream) as image:
        yield image


def _opened_large(stream: Any) -> Image:
    """The opened image, without PIL's warning of those above half of its limit."""
    from PIL import Image

    with _WARNINGS, warnings.catch_warnings():
        warnings.simplefilter("ignore", Image.DecompressionBombWarning)
        return Image.open(stream)


def _pages_are_channels(image: Image, channels: int) -> bool:
    """Whether an opened file is a TIFF of as many grey pages."""
    grey = image.format == "TIFF" and len(image.getbands()) == 1
    return grey and channels == getattr(image, "n_frames", 1) > 1


def _orientation(image: Image, file: ImageSource) -> int:
    """EXIF's number, 1 to 8; from 5 on width and height are swapped."""
    from PIL.Image import Image as Plain

    if image.format != "PNG":
        return image.getexif().get(_ORIENTATION, 1)
    if "exif" not in image.info and _has_late_exif(file):
        image.load()
    return Plain.getexif(image).get(_ORIENTATION, 1)  # that of PNG decodes all pixels to look for EXIF behind them


def _has_late_exif(file: ImageSource) -> bool:
    """Whether a PNG has EXIF, wherever it stands; the pixels are passed over."""
    with file.open("rb") as stream:
        stream.seek(8)
        while len(head := stream.read(8)) == 8:
            length, kind = struct.unpack(">I4s", head)
            if kind == b"eXIf":
                return True
            stream.seek(length + 4, 1)
    return False


def _page(
    image: Image, file: ImageSource, index: int, channels: int, size: Size | None, background: str, white: float | None
) -> Tensor:
    """One page as (channels, H, W), uint8 or floats in [-1, 1]."""
    if index:
        image.seek(index)
    if deep_images.is_deep(image):
        planes = deep_images.planes(image, file, index, channels, background, white)
        return _of_planes(2 * planes - 1, size, channels == 4)
    return _pixels(_converted(deep_images.upright(image), channels, background), size)


def _converted(image: Image, channels: int, background: str) -> Image:
    """An image of 8 bits as grey, RGB or RGBA."""
    from PIL import Image as images

    if deep_images.is_transparent(image):
        image = (image.convert("LA") if image.mode == "La" else image).convert("RGBA")
        if channels != 4:
            under = images.new("RGBA", image.size, deep_images.colour(background))
            image = images.alpha_composite(under, image)
    return image.convert(MODES[channels])


def _sides(size: Size) -> tuple[int, int]:
    """(width, height) of a size, in PIL's order."""
    return (size, size) if isinstance(size, int) else (size[1], size[0])


def _pixels(image: Image, size: Size | None) -> Tensor:
    """uint8 (C, H, W); with a size, scales the image until it covers it and crops the centre."""
    if size is not None and image.size != _sides(size):
        from PIL.ImageOps import fit

        image = fit(image, _sides(size))
    pixels = torch.from_numpy(np.array(image))
    return pixels[None] if pixels.ndim == 2 else pixels.permute(2, 0, 1).contiguous()


def _of_planes(planes: np.ndarray[Any, Any], size: Size | None, opacity: bool) -> Tensor:
    """Planes (C, H, W), uint8 or floats in [-1, 1], scaled and cropped as images are. The last may be the opacity."""
    if size is None or planes.shape[:0:-1] == _sides(size):
        return torch.from_numpy(np.ascontiguousarray(planes))
    from PIL import Image as images
    from PIL.ImageOps import fit

    def fitted(plane: np.ndarray[Any, Any]) -> np.ndarray[Any, Any]:
        return np.array(fit(images.fromarray(np.ascontiguousarray(plane)), _sides(size)))

    if planes.dtype == np.uint8:
        return torch.from_numpy(np.stack([fitted(plane) for plane in planes]))
    if not opacity:
        return torch.from_numpy(np.stack([fitted(plane) for plane in planes]).clip(-1, 1))
    # Colours count as much as they are seen, so that what is hidden does not bleed into the edges.
    *colours, alpha = (planes + 1) / 2
    small = fitted(alpha)
    seen = [fitted(colour * alpha) / np.maximum(small, 1e-6) for colour in colours]
    return torch.from_numpy(np.stack([*seen, small]).clip(0, 1) * 2 - 1)
