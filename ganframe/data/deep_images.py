"""Images of more than 8 bits a channel, and arrays: their values on the scale that the file declares.

PIL keeps grey images of 16 bits whole. Of colour with 16 bits it keeps the upper byte; the lower one is read here too.
"""

from __future__ import annotations

import functools
import sys
from pathlib import Path
from typing import IO, TYPE_CHECKING, Any, Protocol

import numpy as np

if TYPE_CHECKING:
    from PIL.Image import Image

Array = np.ndarray[Any, Any]

ARRAYS = (".npy", ".npz")
_BITS, _PHOTOMETRIC, _ORIENTATION, _SAMPLE_FORMAT = 258, 262, 274, 339  # tags of TIFF
_WHITE_IS_ZERO, _SIGNED = 0, 2
_LUMA = np.array([0.299, 0.587, 0.114], np.float32)  # ITU-R 601, as PIL's conversion to grey
_NAME_WHITE = "name the value that is white (`white` of image_folder)"


class ImageSource(Protocol):
    """What images are read from: a path, or what is opened as one is, as a `zipfile.Path`."""

    @property
    def suffix(self) -> str: ...
    def open(self, mode: Any) -> IO[bytes]: ...
    def read_bytes(self) -> bytes: ...


class Unsuitable(ValueError):
    """An image that can be opened and not be used; the message has no name of a file."""


def is_deep(image: Image) -> bool:
    """Whether an opened file has more than 8 bits a channel, also where PIL's mode has 8."""
    return image.mode[0] in "IF" or _colour_levels(image) is not None


def planes(image: Image, file: ImageSource, page: int, channels: int, background: str, white: float | None) -> Array:
    """The current page of a deep image as float32 (channels, H, W) in [0, 1], for 1, 3 or 4 channels."""
    declared = _declared_white(image)
    top = white or declared
    if top is None:
        raise Unsuitable(
            f"its {'integers' if image.mode == 'I' else 'floats'} declare no value that is white: save it with 16 "
            f"bits or as a .npy of floats in [-1, 1], or {_NAME_WHITE}"
        )
    key, cmyk = image.info.get("transparency"), image.mode == "CMYK"
    inverted = image.format == "TIFF" and image.tag_v2.get(_PHOTOMETRIC) == _WHITE_IS_ZERO  # type: ignore[attr-defined]
    values = _values(image, file, page)
    bands = values.shape[2]
    alpha = None
    if bands == 2 or (bands == 4 and not cmyk):
        alpha = (values[..., -1] / (declared or top)).astype(np.float32)
        values = values[..., :-1]
    elif key is not None and not isinstance(key, bytes):
        alpha = (values != np.asarray(key)).any(2).astype(np.float32)
    colours = _scaled(values, top, white is not None)
    if inverted:
        colours = 1 - colours
    if cmyk:
        colours = (1 - colours[..., :3]) * (1 - colours[..., 3:])
    if alpha is not None and channels != 4:
        under = np.array(colour(background), np.float32) / 255
        colours = colours * alpha[..., None] + under * (1 - alpha[..., None])
    if channels == 1:
        found = colours if colours.shape[2] == 1 else (colours @ _LUMA)[..., None]
    else:
        found = np.repeat(colours, 3, 2) if colours.shape[2] == 1 else colours
    if channels == 4:
        opacity = np.ones(found.shape[:2], np.float32) if alpha is None else alpha
        found = np.concatenate([found, opacity[..., None]], 2)
    return found.transpose(2, 0, 1).astype(np.float32)


def array_planes(file: ImageSource, channels: int, white: float | None) -> Array:
    """An array file as (channels, H, W): uint8, or float32 in [-1, 1]. An array (H, W) is one channel."""
    values = _channels_first(_array(file), channels)
    if values.dtype == np.uint8:
        return np.array(values)  # in memory: the file is mapped
    if values.dtype == bool:
        return values.astype(np.uint8) * 255
    if white is None and values.dtype.kind == "f":
        low, high = _range(values)
        if low < -1 or high > 1:
            raise Unsuitable(f"its floats lie between {low:g} and {high:g}: scale them to [-1, 1], or {_NAME_WHITE}")
        return values.astype(np.float32)
    top = white or (65535 if values.dtype.kind == "u" and values.dtype.itemsize == 2 else None)
    if top is None or values.dtype.kind not in "iuf":
        raise Unsuitable(
            f"its {values.dtype} values declare no value that is white: save it as uint8, as uint16 or as floats in "
            f"[-1, 1], or {_NAME_WHITE}"
        )
    return _scaled(values, top, white is not None) * 2 - 1


def array_header(file: ImageSource, channels: int) -> tuple[tuple[int, int], bool]:
    """(height, width) of an array file, and whether it has more than 8 bits."""
    values = _channels_first(_array(file), channels)
    return (values.shape[1], values.shape[2]), values.dtype not in (np.uint8, np.bool_)


@functools.cache
def colour(name: str) -> tuple[int, int, int]:
    """A colour by name or as "#rrggbb": red, green and blue, 0..255. Raises ValueError for others."""
    from PIL.ImageColor import getrgb

    try:
        return getrgb(name)[:3]
    except (ValueError, AttributeError):
        raise ValueError(f'{name!r} is no colour: write a name, as "white", or "#rrggbb"') from None


def upright(image: Image) -> Image:
    """The image turned and mirrored as its EXIF orientation says."""
    from PIL.ImageOps import exif_transpose

    image.load()  # PIL turns a TIFF itself, and then forgets the orientation
    return exif_transpose(image) if image.getexif().get(_ORIENTATION, 1) != 1 else image


def is_transparent(image: Image) -> bool:
    """Whether an image has an opacity: as a channel, as a colour, or in its palette."""
    return image.mode in ("RGBA", "LA", "PA", "La", "RGBa") or "transparency" in image.info


def _declared_white(image: Image) -> float | None:
    """The value of white that a deep image declares; None where it declares none."""
    if image.mode.startswith("I;16"):
        return 2.0 ** int(image.tag_v2[_BITS][0]) - 1 if image.format == "TIFF" else 65535.0  # type: ignore[attr-defined]
    if image.format == "PPM" and image.mode == "I":
        rawmode = _rawmode(image)
        return float(rawmode) if isinstance(rawmode, int) else 65535.0
    if image.mode == "I":
        return 65535.0 if image.format == "PNG" else None  # older versions of PIL open a PNG of 16 bits so
    return 1.0 if image.mode == "F" else _colour_levels(image)


def _colour_levels(image: Image) -> float | None:
    """The largest value of a colour image of more than 8 bits, of which PIL keeps 8; None for others."""
    rawmode = _rawmode(image)
    if image.format == "PPM" and isinstance(rawmode, int):
        return float(rawmode) if rawmode > 255 and image.mode == "RGB" else None
    if image.format == "TIFF" and image.mode[0] not in "IF":
        tags = image.tag_v2  # type: ignore[attr-defined]
        if image.mode == "L" and tags.get(_SAMPLE_FORMAT) == (_SIGNED,):
            raise Unsuitable("it has signed values, which declare no value that is white: save it as unsigned")
        return 65535.0 if max(tags.get(_BITS, (1,))) > 8 else None
    return 65535.0 if ";16" in str(rawmode) and image.mode not in ("L", "I") else None


def _rawmode(image: Image) -> str | int | None:
    """How PIL will unpack the file; for PPM that is not raw, its largest value."""
    tile = getattr(image, "tile", None)
    if not tile:
        return None
    codec, arguments = tile[0][0], tile[0][3]
    if isinstance(arguments, tuple):
        return arguments[1 if str(codec).startswith("ppm") else 0] if arguments else None
    return arguments


def _values(image: Image, file: ImageSource, page: int) -> Array:
    """The values (H, W, bands) as the file has them."""
    rawmode = _rawmode(image)
    if image.format == "PPM" and image.mode != "F":  # PIL scales what is not 65535 by itself
        return _ppm_values(image, file)
    if image.mode[0] in "IF":
        return np.asarray(upright(image))[..., None]
    if rawmode == "LA;16B" and image.mode == "RGBA":  # four bytes for a pixel, as RGBA of 8 bits has
        both = _unpacked(image, "RGBA").astype(np.uint16)
        return both[..., ::2] * 256 + both[..., 1::2]
    layout, _, order = str(rawmode).partition(";16")
    if layout not in ("RGB", "RGBX", "RGBA", "CMYK") or order not in ("L", "B", "N"):
        raise Unsuitable(f"PIL keeps 8 of its 16 bits in this layout ({rawmode}): save it as another PNG or TIFF")
    native = "L" if sys.byteorder == "little" else "B"
    swapped = "B" if (native if order == "N" else order) == "L" else "L"
    from PIL import Image as images

    with file.open("rb") as stream, images.open(stream) as again:
        again.seek(page)
        lower = _unpacked(again, f"{layout};16{swapped}")  # with the bytes the other way round
    return np.asarray(upright(image)).astype(np.uint16) * 256 + lower


def _unpacked(image: Image, rawmode: str) -> Array:
    """The pixels, upright, unpacked in another way than PIL would."""
    tiles: Any = image.tile  # type: ignore[attr-defined]
    image.tile = [  # type: ignore[attr-defined]
        tile._replace(args=(rawmode, *tile.args[1:]) if isinstance(tile.args, tuple) else rawmode) for tile in tiles
    ]
    return np.asarray(upright(image))


def _ppm_values(image: Image, file: ImageSource) -> Array:
    """The values of a PGM or PPM of more than 8 bits, in binary or as text."""
    codec, _, offset, _ = image.tile[0]  # type: ignore[attr-defined]
    (width, height), bands = image.size, len(image.getbands())
    content, count = file.read_bytes()[offset:], bands * width * height
    if codec == "ppm_plain":
        lines = [line.partition(b"#")[0] for line in content.splitlines()]
        values = np.array(b" ".join(lines).split()[:count], dtype=np.int64)
    else:
        values = np.frombuffer(content, ">u2", count)
    return values.reshape(height, width, bands)


def _scaled(values: Array, top: float, named: bool) -> Array:
    """Values from 0 to `top` as float32 in [0, 1]. `named`: the user named `top`."""
    low, high = _range(values)
    if low < 0 or high > top:
        white = "`white`" if named else "white"
        remedy = f"name a larger value as {white}" if named and low >= 0 else f"scale them, or {_NAME_WHITE}"
        remedy = "save it as a .npy of floats in [-1, 1]" if low < 0 else remedy
        raise Unsuitable(f"its values lie between {low:g} and {high:g}, and {white} is {top:g}: {remedy}")
    return (values / np.float64(top)).astype(np.float32)


def _range(values: Array) -> tuple[float, float]:
    if not values.size:
        raise Unsuitable("it has no pixels")
    low, high = float(values.min()), float(values.max())
    if not (np.isfinite(low) and np.isfinite(high)):
        raise Unsuitable("it has values that are not finite")
    return low, high


def _channels_first(values: Array, channels: int) -> Array:
    """An array (channels, H, W), (H, W, channels), or (H, W) for one channel, as (channels, H, W)."""
    shape = values.shape
    if values.ndim == 2:
        values = values[None]
    elif values.ndim == 3 and shape[0] != channels and shape[2] == channels:
        values = values.transpose(2, 0, 1)
    if not values.size:
        raise Unsuitable("it has no pixels")
    if values.ndim != 3 or values.shape[0] != channels:
        wanted = f"({channels}, H, W) or (H, W, {channels})"
        raise Unsuitable(f"it has the shape {shape}: with {channels} channels it must be one image {wanted}")
    return values


def _array(file: ImageSource) -> Array:
    where = file if isinstance(file, Path) else file.open("rb")
    mapped: Any = "r" if isinstance(file, Path) and file.suffix.lower() == ".npy" else None
    found = np.load(where, mmap_mode=mapped, allow_pickle=False)
    if isinstance(found, np.ndarray):
        return found
    with found:
        if len(found.files) != 1:
            named = ", ".join(found.files[:5])
            raise Unsuitable(f"it holds {len(found.files)} arrays ({named}): save one image in each file")
        return found[found.files[0]]
