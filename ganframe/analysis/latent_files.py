"""Latents in files: FILE.npy, and beside it FILE.json, which says what they are, and FILE.y.npy with conditions.

`ganframe invert` writes them; `interpolate` and `arithmetic` take them in the place of samples.
"""

from __future__ import annotations

import hashlib
import json
import re
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import attrs
import numpy as np
import torch
from torch import Tensor

from ganframe.analysis.spaces import GeneratorOfW, Space, latent_shape
from ganframe.analysis.trained import TrainedGenerator
from ganframe.analysis.truncation import whole
from ganframe.errors import RequestError, counted, warn
from ganframe.storage.files import write_array, write_text

OF_W = ".w.npy"
"""How the names of files of latents w end."""


@attrs.frozen
class Latents:
    """Latents (k, dim), or (k, *shape of w), with their y (k,) or (k, *condition), None where it is not known."""

    latents: Tensor
    y: Tensor | None
    space: Space


def save_latents(file: Path, G: TrainedGenerator, found: Latents, about: dict[str, Any]) -> None:
    """Writes latents (.npy), and beside them what they are and `about` (.json), and conditions (.y.npy)."""
    _save(file, found.latents)
    labels = None
    if found.y is not None and G.heeds_y and G.spec.condition is not None:
        _save(file.with_suffix(".y.npy"), found.y)
    elif found.y is not None and G.heeds_y and G.spec.classes is not None:
        labels = found.y.tolist()
    what = {"space": found.space, "shape": [*found.latents.shape], "labels": labels, "weights": fingerprint(G)}
    write_text(file.with_suffix(".json"), json.dumps({**what, **about}, indent=1) + "\n")


def _save(file: Path, values: Tensor) -> None:
    write_array(file, values.numpy())


def fingerprint(G: TrainedGenerator) -> str:
    """What tells the weights of a generator from others: 16 digits of their SHA-256."""
    digest = hashlib.sha256()
    network = whole(G.of_z.network if isinstance(G, GeneratorOfW) else G.network)
    for name, tensor in network.state_dict().items():
        digest.update(name.encode())
        digest.update(tensor.detach().cpu().contiguous().flatten().view(torch.uint8).numpy())
    return digest.hexdigest()[:16]


def file_of(item: str) -> tuple[Path, int | None] | None:
    """FILE.npy or FILE.npy:ROW as a path and a row, or None where the item is no file."""
    text = item.strip()
    text = text[1:-1] if text[:1] == text[-1:] and text[:1] in ("'", '"') else text
    match = re.fullmatch(r"""(["']?)(.+\.npy)\1(?::(\d{1,18}))?""", text, re.IGNORECASE | re.DOTALL)
    return None if match is None else (Path(match[2]).expanduser(), None if match[3] is None else int(match[3]))


def space_of(items: Sequence[str]) -> Space:
    """w if one of the items is a file of latents w, else z."""
    files = [found[0] for found in map(file_of, items) if found is not None]
    return "w" if any(_described(file).get("space") == "w" for file in files) else "z"


def read_latents(item: str, G: TrainedGenerator, y: Tensor | None = None) -> tuple[Tensor, Tensor]:
    """Latents of FILE.npy (all rows), or of FILE.npy:ROW, for a generator, with their y, or `y` (1, …) if not known.

    Latents z become w for a generator of w. Raises RequestError where the file cannot be read, is of another space or
    shape, has no such row or values that are not finite, and where y matters and is not known.
    """
    found = file_of(item)
    assert found is not None
    file, row = found
    latents = _read(file, G)
    if row is not None and row >= len(latents.latents):
        raise RequestError(f"'{item.strip()}': the file has {counted(len(latents.latents), 'row')}, from 0")
    z, known = latents.latents, latents.y
    if known is None and y is not None:
        known = y.expand(len(z), *y.shape[1:])
    if known is None and G.spec.condition is None:
        beside = file.with_suffix(".json")
        reason = "names none" if beside.is_file() else "is not there"
        raise RequestError(
            f"{file}: of which classes these latents are is not known, as {beside.name} {reason}; give --label"
        )
    if known is None:
        known = G.latents(len(z))[1]
    if isinstance(G, GeneratorOfW) and latents.space == "z":
        z = G.map(z, known)
    chosen = slice(None) if row is None else slice(row, row + 1)
    return z[chosen], known[chosen]


def _described(file: Path) -> dict[str, Any]:
    """What the file beside an array of latents says of it, or its name. Raises RequestError if they differ."""
    named: Space = "w" if file.name.lower().endswith(OF_W) else "z"
    beside = file.with_suffix(".json")
    if not beside.is_file():
        return {"space": named}
    try:
        said = json.loads(beside.read_text(encoding="utf-8"))
        if not (isinstance(said, dict) and isinstance(said.get("shape"), list) and said.get("space") in ("z", "w")):
            raise ValueError("it does not say what the latents are")
    except (OSError, ValueError) as error:
        raise RequestError(f"{beside}: cannot be read: {error}; remove it if it is of something else") from None
    if said["space"] != named:
        raise RequestError(
            f"{file}: {beside.name} says that it holds {said['space']}, and its name that it holds {named}"
        )
    return said


def _read(file: Path, G: TrainedGenerator) -> Latents:
    """The latents of a file, checked."""
    if not file.is_file():
        raise RequestError(f"{file}: there is no such file")
    said = _described(file)
    values = _floats(file)
    of_w = isinstance(G, GeneratorOfW)
    if said["space"] == "w" and not of_w:
        raise RequestError(f"{file}: it holds latents w, and latents z are wanted here")
    shape = latent_shape(G.of_z if isinstance(G, GeneratorOfW) and said["space"] == "z" else G)
    values = values[None] if values.shape == shape else values
    if tuple(values.shape[1:]) != shape or not len(values):
        raise RequestError(
            f"{file}: it holds an array of shape {tuple(values.shape)}, and latents {said['space']} of this generator "
            f"are {('k', *shape)}".replace("'k'", "k")
        )
    if said.get("shape", [*values.shape]) != [*values.shape]:
        raise RequestError(
            f"{file}: {file.with_suffix('.json').name} is of latents of shape {tuple(said['shape'])}, not of these"
        )
    if said.get("weights") not in (None, fingerprint(G)):
        warn(f"{file}: was found for other weights than these, so its samples are not what they were")
    return Latents(values, _y(file, said, G, len(values)), said["space"])


def _floats(file: Path) -> Tensor:
    try:
        values = np.load(file, allow_pickle=False)
        if values.dtype.kind != "f":
            raise ValueError(f"its values are {values.dtype}: latents are floats")
        if not np.isfinite(values).all():
            raise ValueError("it holds values that are not finite")
    except (OSError, EOFError, ValueError) as error:
        reason = (error.strerror if isinstance(error, OSError) else None) or str(error).partition("\n")[0]
        raise RequestError(f"{file}: {reason}") from None
    return torch.from_numpy(values.astype(np.float32))


def _y(file: Path, said: dict[str, Any], G: TrainedGenerator, k: int) -> Tensor | None:
    """The y (k, …) that are kept with latents; None where none are, blank where the generator heeds none."""
    if not G.heeds_y:
        return G.spec.blank(k)
    beside = file.with_suffix(".y.npy")
    if G.spec.condition is not None:
        if not beside.is_file():
            return None
        y = _floats(beside)
        if tuple(y.shape) != (k, *G.spec.condition):
            raise RequestError(f"{beside}: has shape {tuple(y.shape)}, not {(k, *G.spec.condition)}")
        return y
    labels = said.get("labels")
    if labels is None:
        return None
    right = isinstance(labels, list) and len(labels) == k and all(type(label) is int for label in labels)
    if not right or not all(0 <= label < (G.spec.classes or 1) for label in labels):
        raise RequestError(
            f"{file.with_suffix('.json')}: its labels are not {counted(k, 'class', 'classes')} of this data"
        )
    return torch.tensor(labels)
