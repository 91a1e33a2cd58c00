"""The held-out conditions that a run keeps in conditions.safetensors, so that sampling needs no dataset."""

from __future__ import annotations

from pathlib import Path

import torch
from safetensors import SafetensorError
from safetensors.torch import load_file, save_file
from torch import Tensor

from ganframe.components import DataSpec
from ganframe.data.checks import check_condition
from ganframe.data.feed import as_y
from ganframe.errors import RequestError
from ganframe.storage.files import as_any_new_file, first_line, write_atomically
from ganframe.storage.weights import as_os_error

NAME = "conditions"


def save_conditions(file: Path, y: Tensor) -> None:
    """Writes conditions (k, *condition) atomically: images in uint8 as they are, others in float32."""
    kept = (y if y.dtype == torch.uint8 else y.float()).cpu().contiguous()

    def write(partial: Path) -> None:
        with as_os_error(partial):
            save_file({NAME: kept}, str(partial))
            as_any_new_file(partial)

    write_atomically(file, write)


def load_conditions(file: Path, spec: DataSpec) -> Tensor | None:
    """The kept conditions (k, *condition) as networks take them, or None if there is no file.

    Raises RequestError where the file is damaged or of other data.
    """
    assert spec.condition is not None
    if not file.exists():
        return None
    try:
        kept = load_file(str(file))[NAME]
        check_condition(kept[0], spec.condition)
    except (OSError, SafetensorError, LookupError, ValueError) as error:
        raise RequestError(f"{file}: cannot be used: {first_line(error)}; delete it and give --condition") from None
    return as_y(kept, spec)
