"""The samples of a run on its page: pictures with a slider over steps, or points that move."""

from __future__ import annotations

import io
import math
import re
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from ganframe.components import DataSpec
from ganframe.report.page import ROWS, Html, data_uri, densities, picture, scene, slides, table
from ganframe.storage.points import Points, load_points
from ganframe.storage.run_folder import RunFolder

FRAMES = 100  # at most, whatever a run has drawn
PICTURES = 60  # at most
BYTES = 1_800_000  # of all pictures of a page together
LARGEST = 640  # pixels of a side of a picture that is made smaller
UNITS = 1_000  # along each axis, in which places are written
BINS = 60
ARROW = 70.0  # units that the longest of the arrows have, but for the last twentieth


def samples(folder: RunFolder, spec: DataSpec | None) -> Html | None:
    """The samples of a run by step; None where there are none. `spec` is that of its data, where it is known."""
    files = _by_step(folder, "safetensors")
    found = [(step, points) for step, file in evenly(files, FRAMES) if (points := load_points(file)) is not None]
    if found:
        d = found[-1][1].samples.shape[1]
        alike = [(step, points) for step, points in found if points.samples.shape[1] == d]
        return _line(alike, spec) if d == 1 else _plane(alike, spec)
    return _pictures(_by_step(folder, "png"), _caption(folder, spec))


def published_samples(folder: RunFolder) -> Html | None:
    """The picture of a published model; None where it has none that can be read."""
    found = _encoded(folder.picture, BYTES)
    return None if found is None else picture(found[0], "Samples", kind=found[1])


def evenly(found: Sequence[Any], most: int) -> list[Any]:
    """At most so many of a sequence, evenly spaced, the first and the last among them."""
    n = len(found)
    return list(found) if n <= most else [found[round(i * (n - 1) / (most - 1))] for i in range(most)]


def _by_step(folder: RunFolder, suffix: str) -> list[tuple[int, Path]]:
    matches = ((re.fullmatch(rf"step-(\d+)\.{suffix}", p.name), p) for p in (folder.path / "samples").glob("step-*"))
    return sorted((int(match[1]), path) for match, path in matches if match)


# ------------------------------------------------------------------------------------------------------------ pictures


def _pictures(files: Sequence[tuple[int, Path]], caption: str) -> Html | None:
    """Pictures of samples, as many as fit in BYTES. Large ones are made smaller."""
    chosen = evenly(files, PICTURES)
    each = BYTES // max(1, len(chosen))
    encoded = [(step, found) for step, file in chosen if (found := _encoded(file, each)) is not None]
    if not encoded:
        return None
    largest = max(len(data) for _, (data, _) in encoded)
    there = [(step, *found) for step, found in evenly(encoded, max(2, BYTES // largest))]
    left = f" {len(there)} of {len(files)} pictures." if len(there) < len(files) else ""
    labels = [f"step {step:,}" for step, *_ in there]
    sources = [data_uri(data, kind) for _, data, kind in there]
    return slides("Samples by step", labels, sources, "Samples", caption + left)


def _encoded(file: Path, most: int) -> tuple[bytes, str] | None:
    """The bytes and the kind of a picture; None where it is damaged. One of more than `most` bytes becomes a WebP."""
    from PIL import Image

    try:
        data = file.read_bytes()
        with Image.open(io.BytesIO(data)) as image:
            image.load()
            if len(data) <= most:
                return data, "png"
            made = image.convert("RGBA" if image.mode in ("RGBA", "LA") else "RGB")
    except (OSError, ValueError, SyntaxError, Image.DecompressionBombError):
        return None
    made.thumbnail((LARGEST, LARGEST))
    out = io.BytesIO()
    made.save(out, "WEBP", quality=75, method=2)
    return out.getvalue(), "webp"


def _caption(folder: RunFolder, spec: DataSpec | None) -> str:
    if folder.conditions.is_file() or (spec is not None and spec.condition is not None):
        return (
            "In each group, from left to right: condition y, sample G(z, y), real sample x. The latents z and the "
            "conditions are the same at each step."
        )
    return "The latents are the same at each step."


# ----------------------------------------------------------------------------------------------------------- the plane


def _plane(found: Sequence[tuple[int, Points]], spec: DataSpec | None) -> Html:
    last = found[-1][1]
    low, high = last.range[:, 0], last.range[:, 1]

    def placed(points: Tensor) -> list[int]:
        """Coordinates in units, x₁ and x₂ in turn. Those far outside are brought nearer, where they are not seen."""
        units = ((points.reshape(-1, 2) - low) / (high - low) * UNITS).nan_to_num(-UNITS, 2 * UNITS, -UNITS)
        return units.clamp(-UNITS, 2 * UNITS).round().int().flatten().tolist()

    frames, rows = [], []
    for step, points in found:
        frame: dict[str, Any] = {"samples": placed(points.samples)}
        if points.scores is not None:
            frame["surface"] = _shades(points.scores)
        if points.grid is not None:
            frame["grid"] = placed(points.grid)
        if points.pulls is not None:
            frame["arrows"] = _arrows(points.pulls)
        frames.append(frame)
        rows.append([step, *_moments(points.samples), *_ends(points.scores)])
    grids = [points.grid.shape[:2] for _, points in found if points.grid is not None]
    drawn = {
        "labels": [f"step {step:,}" for step, _ in found],
        "range": [round(value, 6) for value in last.range.flatten().tolist()],
        "data": placed(last.data[last.data.isfinite().all(1)]),
        "frames": frames,
        "side": next((len(points.scores) for _, points in found if points.scores is not None), 0),
        "grid": list(grids[-1]) if grids else [0, 0],
    }
    headings = ["step", "mean x₁", "mean x₂", "deviation x₁", "deviation x₂", "lowest score", "highest score"]
    data = ["data", *_moments(last.data), None, None]
    caption = (
        "Samples of the same latents at each step. The further the grey is from the background of the page, the higher "
        "the discriminator's score, from its lowest to its highest in this square at that step."
    ) + _under(spec, "score and grid are")
    numbers = table("Samples by step", headings, [*evenly(rows, ROWS), data])
    return scene("Samples by step", drawn, caption, numbers)


def _under(spec: DataSpec | None, asked: str) -> str:
    """Under which y that was `asked` which belongs to no sample, where samples have several."""
    if spec is not None and spec.condition is not None:
        return f" Samples are under conditions of the data; {asked} under one alone, which for the score is y = 0."
    if spec is not None and spec.classes is not None and spec.classes > 1:
        first = spec.class_names[0] if spec.class_names else 0
        return f" Samples are of all classes; where the players heed them, {asked} of class {first} alone."
    return ""


def _shades(scores: Tensor) -> list[int]:
    """Scores as whole numbers from 0, the lowest, to 255."""
    there = scores[scores.isfinite()]
    if not len(there) or (span := (there.max() - there.min()).item()) == 0:
        return [0] * scores.numel()
    return ((scores - there.min()) / span).nan_to_num(0, 1, 0).mul(255).round().int().flatten().tolist()


def _arrows(pulls: Tensor) -> list[float]:
    """Arrows in units, all by one scale: those of the longest twentieth are cut to ARROW."""
    pulls = pulls.nan_to_num(0, 0, 0)
    lengths = pulls.norm(dim=1)
    scale = ARROW / lengths.quantile(0.95).clamp(min=1e-30) if len(lengths) else torch.tensor(1.0)
    cut = (ARROW / (lengths * scale).clamp(min=ARROW))[:, None]
    return [round(value, 1) for value in (pulls * scale * cut).flatten().tolist()]


def _moments(points: Tensor) -> list[float]:
    return [*points.mean(0).tolist(), *points.std(0, correction=0).tolist()]


def _ends(scores: Tensor | None) -> list[float | None]:
    return [None, None] if scores is None else [scores.min().item(), scores.max().item()]


# ------------------------------------------------------------------------------------------------------------ the line


def _line(found: Sequence[tuple[int, Points]], spec: DataSpec | None) -> Html:
    last = found[-1][1]
    low, high = last.range[0].tolist()
    edges = torch.linspace(low, high, BINS + 1)
    x = (edges[1:] + edges[:-1]) / 2

    def density(points: Tensor) -> list[float]:
        """The density of the points in each bin, by their share of all points, also of those outside."""
        counts = torch.histogram(points.flatten().nan_to_num(math.inf), edges).hist
        return _rounded(counts / max(1, len(points)) / (edges[1] - edges[0]))

    def probability(points: Points) -> list[float | None]:
        """D(x) = σ(score) in the middle of each bin, between places where D was asked."""
        if points.scores is None:
            return [None] * BINS
        values, n = points.scores.sigmoid().nan_to_num(0), len(points.scores)
        at = (x - low) / (high - low) * (n - 1)
        before = at.floor().long().clamp(0, n - 2)
        return [*_rounded(torch.lerp(values[before], values[before + 1], at - before))]

    series: list[dict[str, Any]] = [
        {"name": "data", "y": density(last.data)},
        {"name": "samples G(z)", "frames": [density(points.samples) for _, points in found]},
    ]
    if any(points.scores is not None for _, points in found):
        series.append({"name": "D(x)", "second": True, "frames": [probability(points) for _, points in found]})
    drawn = {
        "title": "Densities",
        "labels": ["x", "density"],
        "steps": [f"step {step:,}" for step, _ in found],
        "x": _rounded(x),
        "series": series,
        **({"second": {"label": "D(x) = σ(score)", "range": [0, 1]}} if len(series) == 3 else {}),
    }
    rows = [[step, *_moments(points.samples), *_ends(points.scores)] for step, points in found]
    numbers = table(
        "Samples by step",
        ["step", "mean", "deviation", "lowest score", "highest score"],
        [*evenly(rows, ROWS), ["data", *_moments(last.data), None, None]],
    )
    caption = (
        "Densities of the data and of samples of the same latents at each step, and D(x), the discriminator's output."
    ) + _under(spec, "D(x) is")
    return densities("Densities by step", drawn, caption, numbers)


def _rounded(values: Tensor) -> list[float]:
    return [float(f"{value:.4g}") for value in values.tolist()]
