"""Conditions to sample under, read from the files that a user has: images, or arrays."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from ganframe.analysis.translation import is_tileable
from ganframe.components import DataSpec
from ganframe.data.checks import check_condition
from ganframe.data.feed import as_y
from ganframe.data.image_files import read_image
from ganframe.data.image_listing import SUFFIXES, find_images, is_hidden, is_image
from ganframe.errors import RequestError, counted, warn


def read_conditions(path: str | Path, spec: DataSpec, kept: Tensor | None = None) -> Tensor:
    """Conditions (k, *condition) as networks take them, for a generator of `spec`, from a file or a folder of images.

    Those of each file are joined in the order of the names, see `find_conditions` and `read_condition`.
    """
    return torch.cat([read_condition(file, spec, kept) for file in find_conditions(path, spec)])


def find_conditions(path: str | Path, spec: DataSpec) -> list[Path]:
    """The file, or the images of the folder, sorted by name. Hidden files are not taken, and other kinds named.

    Raises RequestError where the generator takes no conditions, and for a path that cannot hold any.
    """
    path, wanted = Path(path), spec.condition
    if wanted is None:
        raise RequestError(f"--condition {path}: this generator takes no conditions")
    if not path.exists():
        raise RequestError(f"--condition {path}: there is no such file or folder")
    if path.is_dir():
        try:
            files, others = find_images(path, wanted[0])
        except OSError as error:
            raise RequestError(f"--condition {path}: {error.strerror or error}") from None
        if not files:
            raise RequestError(f"--condition {path}: the folder has no images")
        if others:
            kinds = ", ".join(others)
            warn(f"--condition {path}: not read: {others.total()} of its files, which are no images ({kinds})")
        if folders := sum(each.is_dir() and not is_hidden(each.name) for each in path.iterdir()):
            warn(f"--condition {path}: not read: {counted(folders, 'subfolder')}")
        return files
    if path.suffix.lower() not in (*SUFFIXES, ".npy") and not is_image(path):
        raise RequestError(
            f"--condition {path}: it must be an image (.png, .jpg), an array (.npy) or a folder of images"
        )
    return [path]


def read_condition(file: Path, spec: DataSpec, kept: Tensor | None = None, any_size: bool = False) -> Tensor:
    """The conditions (m, *condition) of one file, as networks take them.

    An image is one condition, read as in training: upright, transparency on white, all levels. An array, .npy, is one
    condition or (m, *condition), in floats as they are in training, or in uint8 if they are images. `kept` are
    conditions of the run, to compare scales. With `any_size` images may have any height and width.

    Raises RequestError where these are not of the generator's shape or scale: nothing is resized.
    """
    if file.suffix.lower() == ".npy":
        return _array(file, spec, any_size)
    return _image(file, spec, kept, any_size)


def _image(file: Path, spec: DataSpec, kept: Tensor | None, any_size: bool) -> Tensor:
    """(1, C, H, W)."""
    assert spec.condition is not None
    if len(spec.condition) != 3:
        raise RequestError(f"--condition {file}: conditions of shape {spec.condition} are no images; give a .npy")
    if kept is not None and (scale := _other_scale(kept)):
        raise RequestError(f"--condition {file}: {scale}, and images have -1 to 1; give a .npy on that scale")
    channels, height, width = spec.condition
    if channels == 4 != spec.shape[0]:  # past frames, or a mask: they would be read as colours and opacity
        raise RequestError(f"--condition {file}: the 4 channels of conditions are no colours; give a .npy")
    try:
        pixels = read_image(file, channels)
    except ValueError as error:
        raise RequestError(f"--condition {error}") from None
    size = pixels.shape[2], pixels.shape[1]
    if size != (width, height) and not any_size:
        raise RequestError(
            f"--condition {file}: has {size[0]}×{size[1]} pixels, and the run's have {width}×{height}{_hint(spec)}"
        )
    return as_y(pixels[None], spec)


def _hint(spec: DataSpec) -> str:
    return "; `ganframe sample --tile` cuts it into tiles of this size" if is_tileable(spec) else ""


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


def _array(file: Path, spec: DataSpec, any_size: bool) -> Tensor:
    assert spec.condition is not None
    try:
        given = torch.from_numpy(np.load(file, allow_pickle=False))
        given = given if given.ndim > len(spec.condition) else given[None]
        if not given.numel():
            raise ValueError("it is empty")
        of_size = (*spec.condition[:-2], *given.shape[-2:])  # the run's shape, if this is another height and width
        if tuple(given.shape[1:]) == of_size != spec.condition and not any_size:
            raise ValueError(f"conditions have shape {of_size}; the data's spec says {spec.condition}{_hint(spec)}")
        check_condition(given[0], of_size if any_size else spec.condition)
        if not given.isfinite().all():
            raise ValueError("it holds values that are not finite")
    except (OSError, EOFError, ValueError, TypeError) as error:
        raise RequestError(f"--condition {file}: {_without_path(error)}") from None
    return as_y(given, spec)


def _without_path(error: Exception) -> str:
    return (error.strerror if isinstance(error, OSError) else None) or str(error).partition("\n")[0]
