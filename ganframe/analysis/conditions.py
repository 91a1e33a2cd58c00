"""Conditions to sample under, read from the files that a user has: images, or arrays."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from ganframe.components import DataSpec
from ganframe.data.feed import as_y, check_condition
from ganframe.errors import RequestError

IMAGES = (".png", ".jpg", ".jpeg")
_MODES = {1: "L", 3: "RGB", 4: "RGBA"}


def read_conditions(path: str | Path, spec: DataSpec) -> Tensor:
    """Conditions (k, *condition) as networks take them, for a generator of `spec`, from a file or a folder of images.

    An image, .png or .jpg, is one condition. An array, .npy, is one condition or (k, *condition), in floats as they
    are in training, or in uint8 if they are images. Images of a folder are taken in the order of their names. Raises
    RequestError where the generator takes no conditions, and where these are not of its shape: nothing is resized.
    """
    path, wanted = Path(path), spec.condition
    if wanted is None:
        raise RequestError(f"--condition {path}: this generator takes no conditions")
    if path.is_dir():
        files = sorted(file for file in path.iterdir() if file.suffix.lower() in IMAGES)
        if not files:
            raise RequestError(f"--condition {path}: the folder has no images; names of images end in .png or .jpg")
        return torch.cat([_image(file, spec) for file in files])
    if path.suffix.lower() in IMAGES:
        return _image(path, spec)
    if path.suffix.lower() == ".npy":
        return _array(path, spec)
    raise RequestError(f"--condition {path}: it must be an image (.png, .jpg), an array (.npy) or a folder of images")


def _image(file: Path, spec: DataSpec) -> Tensor:
    """(1, C, H, W)."""
    from PIL import Image

    assert spec.condition is not None
    if len(spec.condition) != 3 or spec.condition[0] not in _MODES:
        raise RequestError(f"--condition {file}: conditions of shape {spec.condition} are no images; give a .npy")
    channels, height, width = spec.condition
    try:
        with Image.open(file) as image:
            size, pixels = image.size, np.asarray(_in_8_bits(image).convert(_MODES[channels]))
    except (OSError, SyntaxError, ValueError, Image.DecompressionBombError) as error:  # PIL raises all of these
        raise RequestError(f"--condition {file}: cannot be read as an image: {_without_path(error)}") from None
    if size != (width, height):
        raise RequestError(f"--condition {file}: has {size[0]}×{size[1]} pixels, and the run's have {width}×{height}")
    return as_y(torch.from_numpy(pixels.copy()).view(1, height, width, channels).permute(0, 3, 1, 2), spec)


def _in_8_bits(image):  # type: ignore[no-untyped-def]
    """Scales 16 bits a pixel to 8, where `convert` would clip at 255."""
    from PIL import Image

    return Image.fromarray((np.asarray(image) >> 8).astype(np.uint8)) if image.mode.startswith("I;16") else image


def _array(file: Path, spec: DataSpec) -> Tensor:
    assert spec.condition is not None
    try:
        given = torch.from_numpy(np.load(file, allow_pickle=False))
        given = given if given.ndim > len(spec.condition) else given[None]
        if not len(given):
            raise ValueError("it is empty")
        check_condition(given[0], spec.condition)
        if not given.isfinite().all():
            raise ValueError("it holds values that are not finite")
    except (OSError, EOFError, ValueError, TypeError) as error:
        raise RequestError(f"--condition {file}: {_without_path(error)}") from None
    return as_y(given, spec)


def _without_path(error: Exception) -> str:
    return (error.strerror if isinstance(error, OSError) else None) or str(error).partition("\n")[0]
