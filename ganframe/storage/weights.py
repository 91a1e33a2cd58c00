"""Network weights in safetensors, and the generator that sampling needs, with the data's shape and classes."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any, cast

import attrs
import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import load_file, load_model, save_model
from torch import nn

from ganframe.components import DataSpec
from ganframe.errors import RequestError
from ganframe.storage.copies import Weights
from ganframe.storage.files import as_any_new_file, first_line, write_atomically


def save_weights(network: Weights, file: Path, metadata: dict[str, str] | None = None) -> None:
    """Writes a network's weights. Raises OSError where they cannot be written."""
    with as_os_error(file):
        save_model(cast(nn.Module, network), str(file), metadata)  # which asks it for its `state_dict` alone
        as_any_new_file(file)


def load_weights(file: Path, network: nn.Module) -> None:
    """Fills a network from safetensors. Raises RequestError where they are missing, damaged or of another network."""
    try:
        load_model(network, str(file))
    except (OSError, SafetensorError, RuntimeError) as error:
        raise RequestError(f"{file}: cannot be loaded: {first_line(error)}") from None


def read_weights(file: Path) -> dict[str, torch.Tensor]:
    """The tensors of safetensors by name, on the CPU. Raises RequestError where the file is missing or damaged."""
    try:
        return load_file(file)
    except (OSError, SafetensorError) as error:
        raise RequestError(f"{file}: cannot be loaded: {first_line(error)}") from None


def save_generator(file: Path, network: Weights, spec: DataSpec, chosen: Mapping[str, Any] | None = None) -> None:
    """Writes generator.safetensors atomically, with the data's spec, so that sampling needs no dataset.

    `chosen` says by which metric, and at which step, where the run keeps its best.
    """
    # One key: safetensors writes several in any order, and the files of equal runs could differ.
    kept = attrs.asdict(spec, filter=lambda field, value: field.name in ("shape", "classes", "is_image") or value)
    metadata = {"spec": json.dumps({**kept, "sum": _checksum_of(network), **({"chosen": chosen} if chosen else {})})}
    write_atomically(file, lambda partial: save_weights(network, partial, metadata))


def generator_spec(file: Path) -> DataSpec:
    """The data spec in generator.safetensors. Raises RequestError where the file is missing or damaged."""
    try:
        spec = _metadata(file)
        spec.pop("sum", None)
        spec.pop("chosen", None)
        fields: dict[str, Any] = {name: tuple(v) if isinstance(v, list) else v for name, v in spec.items()}
        return DataSpec(**fields)
    except FileNotFoundError:
        raise RequestError(f"{file}: no such file; the run has not saved a generator yet") from None
    except (OSError, SafetensorError, LookupError, ValueError, TypeError, AttributeError, RecursionError) as error:
        raise RequestError(f"{file}: not a generator's weights: {error}") from None


def how_chosen(file: Path) -> dict[str, Any] | None:
    """{"by": metric, "step": …} of a generator that was chosen as the best of its run; None for the last one."""
    return _metadata(file).get("chosen")


def load_generator_weights(file: Path, network: nn.Module) -> None:
    """Fills a generator. Raises RequestError as `load_weights` does, and where the checksum of the weights differs."""
    load_weights(file, network)
    expected = _metadata(file).get("sum")
    if expected is not None and _checksum_of(network) != expected:
        raise RequestError(f"{file}: is damaged: its weights are not those that were saved")


@contextmanager
def as_os_error(file: Path) -> Iterator[None]:
    """Turns the errors of compiled code that cannot write, as on a full disk, into OSError."""
    try:
        yield
    except (SafetensorError, RuntimeError) as error:
        raise OSError(f"{first_line(error)}: '{file}'") from error


def _metadata(file: Path) -> dict[str, Any]:
    with safe_open(file, framework="pt") as opened:
        return json.loads((opened.metadata() or {})["spec"])


def _checksum_of(network: Weights) -> str:
    found = hashlib.sha256()
    for name, value in network.state_dict().items():
        found.update(f"{name} {tuple(value.shape)} {value.dtype}".encode())
        found.update(value.detach().cpu().contiguous().flatten().view(torch.uint8).numpy())
    return found.hexdigest()
