"""The page of a comparison: scores with their protocols, samples beside real data, and curves, in one HTML file."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from ganframe.report.curves import Curves
from ganframe.report.page import Html, Section, Series, chart, escape, items, paragraph, picture, table, write_page


def write_compare_page(
    file: Path,
    names: Sequence[str],
    steps: Sequence[int],
    rows: Sequence[tuple[str, Sequence[float | None]]],
    protocols: Sequence[str],
    samples: Path,
    panels: Sequence[Curves],
) -> None:
    """Writes the page of runs by their names. `rows` are what a number is called and its value of each run."""
    scores = [table("Scores", ["", *names], [["step", *steps], *([name, *values] for name, values in rows)])]
    if protocols:
        scores.append(items(escape(line) for line in protocols))
    scores.append(
        paragraph(
            "↑: higher is better, ↓: lower. A difference between two runs may be one between their seeds: "
            "ganframe study trains each recipe with several."
        )
    )
    alt = f"Real samples beside samples of {', '.join(names)}"
    sections = [Section("Scores", scores), Section("Samples", [picture(samples.read_bytes(), alt)])]
    if panels:
        sections.append(Section("Curves", [_chart(panel) for panel in panels]))
    write_page(file, f"Comparison of {', '.join(names)}", sections)


def _chart(panel: Curves) -> Html:
    """The lines of a panel over the steps that any of them has."""
    x = sorted({step for line in panel.lines.values() for step, _ in line})
    of_steps = {name: dict(line) for name, line in panel.lines.items()}
    series = [Series(name, [values.get(step) for step in x]) for name, values in of_steps.items()]
    return chart(panel.title, x, series, y_label=panel.ylabel)
