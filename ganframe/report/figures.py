"""Figures of matplotlib in the one style of ganframe, style.mplstyle, with legends that cover nothing.

matplotlib is slow to import, so it is imported only where something is drawn.
"""

from __future__ import annotations

import functools
import math
import warnings
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

BLUE, ORANGE, GREEN, PURPLE, SKY, BLACK = "#0072B2", "#D55E00", "#009E73", "#CC79A7", "#56B4E9", "#000000"
"""Colours of the style, by what they look like."""
DATA, FAKE, SCORE = BLUE, ORANGE, GREEN
"""Colours of real samples, of generated ones and of the discriminator, in every picture that has them."""
MARGINS = (0.8, 0.6, 0.3, 0.85)  # inches to the left, below, to the right, above: for numbers, names, title and legend


@contextmanager
def drawing(
    file: Path,
    size: tuple[float, float],
    rows: int = 1,
    columns: int = 1,
    margins: tuple[float, float, float, float] | None = None,
    projection: str | None = None,
) -> Iterator[tuple[Any, Any]]:
    """Yields a figure of `size` inches and its axes (an array of several), and writes it to `file`, a PNG, at the end.

    By default matplotlib finds room for all labels, for which it draws everything twice. With `margins`, inches to the
    left, below, to the right and above the axes, it does not, which is for pictures that training waits for.
    """
    from matplotlib import rc_context
    from matplotlib.figure import Figure  # not pyplot, which keeps figures in memory and needs a display

    with rc_context(_style()):
        figure = Figure(figsize=size, layout="constrained" if margins is None else None)
        axes = figure.subplots(rows, columns, subplot_kw={"projection": projection})
        if margins is not None:
            (wide, tall), (left, below, right, above) = size, margins
            figure.subplots_adjust(left / wide, below / tall, 1 - right / wide, 1 - above / tall)
        yield figure, axes
        with warnings.catch_warnings():
            warnings.filterwarnings("ignore", message="Glyph")  # a name in letters that the font does not have
            figure.savefig(file, format="png", pil_kwargs={"compress_level": 3})


@functools.cache
def _style() -> Any:
    from matplotlib import rc_params_from_file

    return rc_params_from_file(Path(__file__).with_name("style.mplstyle"), use_default_template=False)


def legend_above(axes: Any, *others: Any, columns: int = 4, scale: float = 1.0) -> None:
    """One legend for axes and others over them, between title and plot, where it covers nothing.

    Its rows have at most so many `columns`; fewer where names are long. Points in it are larger by `scale`.
    """
    found = [each.get_legend_handles_labels() for each in (axes, *others)]
    handles, labels = ([item for pair in found for item in pair[i]] for i in (0, 1))
    if not labels:
        return
    wide = axes.get_position().width * axes.figure.get_figwidth()
    columns = max(1, min(columns, len(labels), int(wide / (0.5 + 0.07 * max(map(len, labels))))))
    place = axes.legend(
        handles, labels, loc="lower left", bbox_to_anchor=(0, 1), ncols=columns, markerscale=scale, columnspacing=1.2
    )
    for text in place.get_texts():
        text.set_parse_math(False)  # a name may have a $
    rows = math.ceil(len(labels) / columns)
    axes.set_title(axes.get_title("left"), pad=6 + 14 * rows, parse_math=False)


def log_axis(axis: Any, low: float, high: float) -> None:
    """Ticks of a logarithmic axis from `low` to `high` whose numbers do not collide: powers of ten, or few numbers."""
    from matplotlib.ticker import FixedLocator, LogFormatterSciNotation, LogLocator, MaxNLocator, NullFormatter

    if high > 20 * low:
        axis.set_major_locator(LogLocator(10, numticks=7))
        axis.set_major_formatter(LogFormatterSciNotation())
    else:
        ticks = [tick for tick in MaxNLocator(5).tick_values(low, high) if tick > 0]
        axis.set_major_locator(FixedLocator(ticks))
        axis.set_major_formatter(lambda value, _: f"{value:.3g}")
    axis.set_minor_formatter(NullFormatter())


def shortened(names: Sequence[str], most: int = 40) -> list[str]:
    """Names of one line and at most about so many letters: long ones lose their middle.

    Where two would then be the same, all are numbered.
    """
    flat = ["".join(char if char.isprintable() else "?" for char in name) for name in names]
    half = (most - 1) // 2
    short = [name if len(name) <= most else f"{name[: most - 1 - half]}…{name[-half:]}" for name in flat]
    if len(set(short)) == len(set(names)):
        return short
    return [f"{number}: {name}" for number, name in enumerate(short, 1)]
