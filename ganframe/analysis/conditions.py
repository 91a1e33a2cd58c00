"""Conditions to sample under, read from the files that a user has: images, or arrays."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from ganframe.components import DataSpec
from ganframe.data.checks import check_condition
from ganframe.data.feed import as_y
from ganframe.data.image_files import read_image
from ganframe.data.image_listing import SUFFIXES, find_images, is_image
from ganframe.errors import RequestError, warn


def read_conditions(path: str | Path, spec: DataSpec, kept: Tensor | None = None) -> Tensor:
    """Conditions (k, *condition) as networks take them, for a generator of `spec`, from a file or a folder of images.

    An image is one condition, read as in training: upright, transparency on white, all levels. An array, .npy, is one
    condition or (k, *condition), in floats as they are in training, or in uint8 if they are images. Images of a folder
    are taken in the order of their names, hidden ones are not. `kept` are conditions of the run, to compare scales.

    Raises RequestError where the generator takes no conditions, and where these are not of its shape or scale: nothing
    is resized.
    """
    path, wanted = Path(path), spec.condition
    if wanted is None:
        raise RequestError(f"--condition {path}: this generator takes no conditions")
    if path.is_dir():
        files, others = find_images(path, wanted[0])
        if not files:
            raise RequestError(f"--condition {path}: the folder has no images")
        if others:
            kinds = ", ".join(others)
            warn(f"--condition {path}: not read: {others.total()} of its files, which are no images ({kinds})")
        return torch.cat([_read(file, spec, kept) for file in files])
    if path.suffix.lower() not in (*SUFFIXES, ".npy") and not is_image(path):
        raise RequestError(
            f"--condition {path}: it must be an image (.png, .jpg), an array (.npy) or a folder of images"
        )
    return _read(path, spec, kept)


def _read(file: Path, spec: DataSpec, kept: Tensor | None) -> Tensor:
    return _array(file, spec) if file.suffix.lower() == ".npy" else _image(file, spec, kept)


def _image(file: Path, spec: DataSpec, kept: Tensor | None) -> Tensor:
    """(1, C, H, W)."""
    assert spec.condition is not None
    if len(spec.condition) != 3:
        raise RequestError(f"--condition {file}: conditions of shape {spec.condition} are no images; give a .npy")
    if kept is not None and (scale := _other_scale(kept)):
        raise RequestError(f"--condition {file}: {scale}, and images have -1 to 1; give a .npy on that scale")
    channels, height, width = spec.condition
    try:
        pixels = read_image(file, channels)
    except ValueError as error:
        raise RequestError(f"--condition {error}") from None
    size = pixels.shape[2], pixels.shape[1]
    if size != (width, height):
        raise RequestError(f"--condition {file}: has {size[0]}×{size[1]} pixels, and the run's have {width}×{height}")
    return as_y(pixels[None], spec)


def _other_scale(kept: Tensor) -> str | None:
    """What the scale of a run's conditions is, where it is not that of images, -1 for black and 1 for white."""
    if not kept.numel():
        return None
    low, high = (value.item() for value in kept.aminmax())
    found = f"the conditions of the run lie between {low:.3g} and {high:.3g}"
    if low < -1 or high > 1:
        return found
    levels = (kept + 1) * 127.5
    of_8_bits = bool((levels - levels.round()).abs().max() < 1e-3)
    return found if low >= 0 and not of_8_bits else None


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
