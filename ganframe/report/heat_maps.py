"""Heat maps: a table of numbers in colours, with each number in its cell."""

from __future__ import annotations

import math
from collections.abc import Sequence
from pathlib import Path

import attrs

from ganframe.report.figures import drawing

LARGEST = 40.0  # inches along a side of the picture
RATIO = 100.0  # of the largest to the smallest number, above which colours are on a logarithmic scale


@attrs.frozen
class Panel:
    """One heat map: numbers (rows × columns), None for a cell without one, and the text of each cell.

    `axes` are what rows and columns are called. The colour of the best number is the brightest.
    """

    title: str
    rows: Sequence[str]
    columns: Sequence[str]
    axes: tuple[str, str]
    values: Sequence[Sequence[float | None]]
    texts: Sequence[Sequence[str]]
    lower_is_better: bool = False


def draw_heat_map(file: Path, panels: Sequence[Panel]) -> None:
    """Writes panels below each other to a PNG. Cells without a number are grey."""
    import numpy
    from matplotlib import colormaps
    from matplotlib.colors import LogNorm, Normalize

    first = panels[0]
    inside = max(len(line) for panel in panels for row in panel.texts for cell in row for line in cell.split("\n"))
    cell = 0.3 + 0.09 * max(inside, *(len(name) for name in first.columns))
    beside = 1.2 + 0.09 * max(len(name) for name in first.rows)
    wide = min(LARGEST, max(3.5, beside + cell * len(first.columns)))
    tall = min(LARGEST, len(panels) * (1.1 + 0.45 * len(first.rows)))
    with drawing(file, (wide, tall), len(panels)) as (_, plots):
        for panel, plot in zip(panels, [plots] if len(panels) == 1 else plots, strict=True):
            numbers = numpy.ma.masked_invalid(
                [[math.nan if value is None else value for value in line] for line in panel.values]
            )
            there = numbers.compressed()
            positive = len(there) > 0 and there.min() > 0 and there.max() > RATIO * there.min()
            scale = LogNorm if positive else Normalize
            norm = scale(there.min(), there.max()) if len(there) else Normalize(0, 1)
            colors = colormaps["viridis_r" if panel.lower_is_better else "viridis"].with_extremes(bad="lightgrey")
            plot.imshow(numbers, cmap=colors, norm=norm, aspect="auto")
            plot.grid(False)
            plot.spines[:].set_visible(False)
            plot.set_title(panel.title, parse_math=False)  # a name may have a $
            plot.set_ylabel(panel.axes[0], parse_math=False)
            plot.set_xlabel(panel.axes[1], parse_math=False)
            plot.set_xticks(range(len(panel.columns)), panel.columns, parse_math=False)
            plot.set_yticks(range(len(panel.rows)), panel.rows, parse_math=False)
            for i, line in enumerate(panel.texts):
                for j, text in enumerate(line):
                    value = panel.values[i][j]
                    luminance = 1.0 if value is None else numpy.dot(colors(norm(value))[:3], (0.299, 0.587, 0.114))
                    ink = "black" if luminance > 0.5 else "white"
                    plot.text(j, i, text, ha="center", va="center", color=ink, parse_math=False)
