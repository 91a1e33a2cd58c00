"""Curves over the steps of training: what a run has logged, or several runs in the same axes."""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

import attrs

from ganframe.report.figures import drawing, legend_above, log_axis, shortened
from ganframe.storage.log import Record

Line = Sequence[tuple[float, float]]
"""(step, value) of each point."""

FEW = 12  # points of a line that are marked, as a line between them would not show where they are
RATIO = 100.0  # of the largest to the smallest value, above which an axis is logarithmic
GROUPS = {
    "loss_": ("Losses", "loss"),
    "score_": ("Mean scores of D", "score"),
    "penalty_": ("Penalties", "value"),
    "term_": ("Terms", "value"),
    "gradient_norm_": ("Gradient norms", "norm"),
    "lr_": ("Learning rates", "rate"),
}
"""Panels of a run by how the names in its log begin: title, and what the vertical axis shows."""
SYMBOLS = {
    "loss_discriminator": "L_D",
    "loss_generator": "L_G",
    "score_real": "real, D(x)",
    "score_fake": "fake, D(G(z))",
}
APART = ("step", "seconds")


@attrs.frozen
class Curves:
    """One panel: lines by their names, over steps."""

    title: str
    ylabel: str
    lines: Mapping[str, Line]


def of_run(records: Iterable[Record], scores: Mapping[str, Line]) -> list[Curves]:
    """The panels of one run: its log, grouped by what values are, and the `scores` of its metrics by name."""
    groups: dict[tuple[str, str], dict[str, Line]] = {}
    for name, line in _lines(records).items():
        title, ylabel, shown = _described(name)
        groups.setdefault((title or "Other values", ylabel), {})[shown] = line
    panels = [
        Curves(title if len(lines) > 1 else f"{title}: {next(iter(lines))}", ylabel, lines)
        for (title, ylabel), lines in groups.items()
    ]
    return panels + [Curves(title, "score", {"": line}) for title, line in scores.items()]


def of_runs(runs: Mapping[str, tuple[Iterable[Record], Mapping[str, Line]]]) -> list[Curves]:
    """The panels of several runs by name: one for each value that any of them has, with a line of each run."""
    panels: dict[tuple[str, str], dict[str, Line]] = {}
    for run, (records, scores) in runs.items():
        for name, line in _lines(records).items():
            title, ylabel, shown = _described(name)
            panels.setdefault((f"{title}: {shown}" if title else shown, ylabel), {})[run] = line
        for name, line in scores.items():
            panels.setdefault((name, "score"), {})[run] = line
    return [
        Curves(title, ylabel, {run: lines.get(run, ()) for run in runs}) for (title, ylabel), lines in panels.items()
    ]


def _described(name: str) -> tuple[str, str, str]:
    """Of a name in the log: the title of its group ("" without one), the vertical axis, and what people call it."""
    prefix = next((prefix for prefix in GROUPS if name.startswith(prefix)), "")
    title, ylabel = GROUPS.get(prefix, ("", "value"))
    return title, ylabel, SYMBOLS.get(name, name.removeprefix(prefix).replace("_", " "))


def draw_curves(file: Path, panels: Sequence[Curves], title: str) -> None:
    """Writes panels to a PNG, two in a row. Lines that all panels have are named once, at the bottom."""
    shared = {tuple(panel.lines) for panel in panels} if len(panels) > 1 else set()
    names = shortened([*panels[0].lines], 60) if len(shared) == 1 and len(panels[0].lines) > 1 else []
    columns = min(2, len(panels))
    rows = -(-len(panels) // columns)
    around = 0.4 + (0.25 * -(-len(names) // columns) if names else 0.0)
    with drawing(file, (5.2 * columns + 0.2, 2.9 * rows + around), rows, columns) as (figure, axes):
        places = [*axes.flat] if len(panels) > 1 else [axes]
        for place in places[len(panels) :]:
            place.set_axis_off()
        for place, panel in zip(places, panels, strict=False):
            _draw(place, panel, alone=not names)
        figure.suptitle(title, x=0.01, ha="left", parse_math=False)
        if names:
            handles = places[0].get_lines()
            legend = figure.legend(handles, names, loc="outside lower left", ncols=columns)
            for text in legend.get_texts():
                text.set_parse_math(False)


def _draw(axes: Any, panel: Curves, alone: bool) -> None:
    for name, line in panel.lines.items():
        steps, values = ([point[i] for point in line] for i in (0, 1))
        axes.plot(steps, values, marker="o" if len(line) <= FEW else None, markersize=3, label=name or None)
    values = [value for line in panel.lines.values() for _, value in line]
    if values and min(values) > 0 and max(values) > RATIO * min(values):
        axes.set_yscale("log")
        log_axis(axes.yaxis, min(values), max(values))
    else:  # no common factor, as 1e-4, above the axis
        axes.yaxis.set_major_formatter(lambda value, _: f"{value:.4g}")
    axes.set(xlabel="step", ylabel=panel.ylabel)
    axes.set_title(panel.title, parse_math=False)
    if alone and len(panel.lines) > 1:
        legend_above(axes)


def _lines(records: Iterable[Record]) -> dict[str, Line]:
    """The finite values of a log by name, in the order of GROUPS."""
    found: dict[str, list[tuple[float, float]]] = {}
    for record in records:
        for name, value in record.items():
            if name not in APART and value is not None and math.isfinite(value):
                found.setdefault(name, []).append((record["step"], value))
    order = [*GROUPS]
    prefixes = {name: next((prefix for prefix in order if name.startswith(prefix)), "") for name in found}
    names = sorted(found, key=lambda name: order.index(prefixes[name]) if prefixes[name] else len(order))
    return {name: found[name] for name in names}
