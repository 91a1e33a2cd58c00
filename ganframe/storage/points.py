"""samples/step-….safetensors: samples on the line or in the plane at one step, with what D makes of their space."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import attrs
from safetensors import SafetensorError
from safetensors.torch import load_file, save_file
from torch import Tensor

from ganframe.storage.files import as_any_new_file, write_atomically
from ganframe.storage.weights import as_os_error


@attrs.frozen
class Points:
    """Samples of d = 1 or 2 dimensions at one step, float32.

    `samples` (n, d) and `data` (m, d); `range` (d, 2), the low and the high end of each axis. Where they are known:
    `scores` of D at places evenly spaced over the range, (s,) or (s, s) by x₁ and x₂; `grid` (rows, columns, d), the
    samples of a grid of latents; `pulls` (k, d), minus the gradient of G's loss at the first k samples, each times k.
    """

    samples: Tensor
    data: Tensor
    range: Tensor
    scores: Tensor | None = None
    grid: Tensor | None = None
    pulls: Tensor | None = None


def save_points(file: Path, points: Points) -> None:
    """Writes the points atomically."""
    kept = {name: value for name, value in attrs.asdict(points, recurse=False).items() if value is not None}
    kept = {name: value.detach().float().cpu().contiguous().clone() for name, value in kept.items()}

    def write(partial: Path) -> None:
        with as_os_error(partial):
            save_file(kept, str(partial))
            as_any_new_file(partial)

    write_atomically(file, write)


def load_points(file: Path) -> Points | None:
    """The points of a file; None where there is none, or it is damaged."""
    names = {a.name for a in attrs.fields(Points)}
    try:
        found = {name: value.float() for name, value in load_file(str(file)).items() if name in names}
        points = Points(**found)
    except (OSError, SafetensorError, TypeError, ValueError):
        return None
    return points if _fits(points) else None


def _fits(points: Points) -> bool:
    """Whether the shapes are as they should be."""
    if points.samples.ndim != 2 or (d := points.samples.shape[1]) not in (1, 2):
        return False
    wanted: dict[str, Callable[[tuple[int, ...]], bool]] = {
        "data": lambda shape: len(shape) == 2 and shape[1] == d,
        "range": lambda shape: shape == (d, 2),
        "scores": lambda shape: len(shape) == d and len(set(shape)) == 1 and shape[0] > 1,
        "grid": lambda shape: len(shape) == 3 and shape[2] == d,
        "pulls": lambda shape: len(shape) == 2 and shape[1] == d and shape[0] <= len(points.samples),
    }
    held = {name: getattr(points, name) for name in wanted}
    return all(value is None or wanted[name](tuple(value.shape)) for name, value in held.items())
