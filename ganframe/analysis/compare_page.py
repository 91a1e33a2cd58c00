"""The page of a comparison: scores, what differs, samples beside real data, and curves, in one HTML file."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from ganframe.report.curves import Curves
from ganframe.report.page import (
    Html,
    Section,
    Series,
    cell,
    chart,
    escape,
    items,
    link,
    notice,
    paragraph,
    picture,
    side_by_side,
    table,
    write_page,
)


def write_compare_page(
    file: Path,
    names: Sequence[str],
    rows: Sequence[tuple[str, Sequence[float | None]]],
    protocols: Sequence[str],
    differing: Sequence[tuple[str, Sequence[object]]],
    pages: Sequence[str | None],
    samples: Path,
    panels: Sequence[Curves],
    warning: str | None,
) -> None:
    """Writes the page of runs by their names. `rows` are what a number is called and its value of each run.

    `differing` are rows of the same form of what differs between runs. `pages` are the addresses of the runs' own
    pages, relative to this one.
    """
    scores = [table("Numbers of each run", ["", *names], ([name, *values] for name, values in rows))]
    if protocols:
        scores.append(items(escape(line) for line in protocols))
    scores.append(
        paragraph(
            "↑: higher is better, ↓: lower. A difference between two runs may be one between their seeds: "
            "ganframe study trains each recipe with several."
        )
    )
    differences = [[name, *values] for name, values in differing]
    if any(pages):
        each = zip(names, pages, strict=True)
        links = (None if page is None else cell(link(f"page of {name}", page)) for name, page in each)
        differences.append(["page", *links])
    alt = f"Real samples beside samples of {', '.join(names)}"
    sections = [
        Section("Scores", scores),
        Section("What differs", [table("Options of the recipes, and training", ["", *names], differences)]),
        Section("Samples", [picture(samples.read_bytes(), alt)]),
    ]
    if panels:
        sections.append(Section("Curves", [side_by_side(_chart(panel) for panel in panels)]))
    write_page(file, f"Comparison of {', '.join(names)}", sections, [] if warning is None else [notice(warning)])


def _chart(panel: Curves) -> Html:
    """The lines of a panel over the steps that any of them has."""
    x = sorted({step for line in panel.lines.values() for step, _ in line})
    of_steps = {name: dict(line) for name, line in panel.lines.items()}
    series = [Series(name, [values.get(step) for step in x]) for name, values in of_steps.items()]
    return chart(panel.title, x, series, y_label=panel.ylabel)
