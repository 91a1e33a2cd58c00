"""The images, or other samples, that a user wants to invert, read from files."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from pathlib import Path

import torch
from torch import Tensor

from ganframe.components import DataSpec
from ganframe.data.arrays import as_samples, in_order_of_axes, open_array
from ganframe.data.checks import check_samples
from ganframe.data.image_files import as_signed, read_image
from ganframe.data.image_listing import find_images
from ganframe.errors import RequestError, warn

KINDS = "an image (.png, .jpg), an array of samples (.npy) or a folder of them"


def read_targets(paths: Sequence[str | Path], spec: DataSpec) -> tuple[Tensor, list[str]]:
    """Samples x (k, *shape) of a generator of `spec`, from files and folders in their order, and a name for each.

    An image is one sample, read as in training: upright, transparency on white, all levels. An array, .npy, is one
    sample or (k, *shape), as `ganframe sample --out x.npy` writes it; images in it may be uint8, with channels last.
    Of a folder, images are taken in the order of their names, or arrays where it has no images. Hidden files are not.

    Raises RequestError where they are not of the generator's shape: nothing is resized.
    """
    found, names = [], []
    for file in _files(paths, spec):
        try:
            x = _array(file, spec) if file.suffix.lower() == ".npy" else _image(file, spec)
            if not len(x):
                raise ValueError(f"{file}: it has no samples")
        except (OSError, EOFError) as error:
            reason = (error.strerror if isinstance(error, OSError) else None) or error
            raise RequestError(f"{file}: {reason}") from None
        except ValueError as error:
            raise RequestError(str(error).partition("\n")[0]) from None
        found.append(x)
        names += [str(file)] if len(x) == 1 else [f"{file}:{row}" for row in range(len(x))]
    return torch.cat(found), names


def _files(paths: Sequence[str | Path], spec: DataSpec) -> Iterator[Path]:
    if not paths:
        raise RequestError(f"nothing to invert: give {KINDS}")
    for path in (Path(path).expanduser() for path in paths):
        if not path.exists():
            raise RequestError(f"{path}: there is no such file or folder")
        if not path.is_dir():
            yield path
            continue
        try:
            files, others = find_images(path, spec.shape[0] if spec.is_image else 3)
        except OSError as error:
            raise RequestError(f"{path}: {error.strerror or error}") from None
        if not files:
            raise RequestError(f"{path}: the folder has no images and no arrays")
        if others:
            warn(f"{path}: not read: {others.total()} of its files, which are no images ({', '.join(others)})")
        yield from files


def _image(file: Path, spec: DataSpec) -> Tensor:
    """(1, C, H, W)."""
    if not spec.is_image or len(spec.shape) != 3:
        raise ValueError(f"{file}: samples of shape {spec.shape} are no images; give a .npy")
    channels, height, width = spec.shape
    x = as_signed(read_image(file, channels))
    size = x.shape[2], x.shape[1]
    if size != (width, height):
        raise ValueError(f"{file}: has {size[0]}×{size[1]} pixels, and the run's images have {width}×{height}")
    return x[None]


def _array(file: Path, spec: DataSpec) -> Tensor:
    """(k, *shape)."""
    try:
        found = open_array(file)
        single = found.ndim == len(spec.shape)
        try:
            x = as_samples(in_order_of_axes(found[None] if single else found, spec), spec)
        except ValueError:
            if not (single and spec.is_image and spec.shape[0] == 1):
                raise
            x = as_samples(in_order_of_axes(found, spec), spec)  # grey images (k, H, W) have as many axes as one sample
        if len(x):
            check_samples(x, spec.blank(len(x)), spec)
        return x
    except ValueError as error:
        raise ValueError(f"{file}: {error}") from None
