"""Samples in array files (.npy), as ganframe and other programs write them."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from ganframe.components import DataSpec


def open_array(file: Path) -> Any:
    """The array of a file, which is not read yet: it may hold many more samples than are wanted."""
    return np.lib.format.open_memmap(file, mode="r")


def in_order_of_axes(found: Any, spec: DataSpec) -> Any:
    """An array of samples as (n, *shape): images may have their channels last, grey ones none.

    Raises ValueError where its samples have another shape.
    """
    shape = tuple(found.shape[1:])
    last = (*spec.shape[1:], spec.shape[0])
    if spec.is_image and shape != spec.shape and shape == last:
        return np.moveaxis(found, -1, 1)
    if spec.is_image and spec.shape[0] == 1 and shape == spec.shape[1:]:
        return found[:, None]
    if shape != spec.shape:
        raise ValueError(f"its samples have shape {shape}, and those of the data {spec.shape}")
    return found


def as_samples(values: Any, spec: DataSpec) -> Tensor:
    """An array (n, *shape) as float samples; images in uint8 are scaled to [-1, 1]. Raises ValueError for others."""
    if values.dtype == np.uint8 and spec.is_image:
        return torch.from_numpy(np.array(values)).float() / 127.5 - 1
    if values.dtype.kind != "f":
        raise ValueError(f"its values are {values.dtype}: give floats{', or uint8' if spec.is_image else ''}")
    return torch.from_numpy(values.astype(np.float32))
