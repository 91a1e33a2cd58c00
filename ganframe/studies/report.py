"""Writes the table of a study: study.md for people, study.json for programs, heat_map.png."""

from __future__ import annotations

import json
import math
import re
from collections.abc import Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import attrs
from filelock import FileLock

from ganframe.errors import counted
from ganframe.judging.protocol import described, flat
from ganframe.report.heat_maps import Panel, draw_heat_map
from ganframe.storage.files import write_atomically, write_text
from ganframe.studies.outcomes import Outcome
from ganframe.studies.statistics import CONFIDENCE, Difference, Estimate
from ganframe.studies.table import Column, Row, Table, best, title
from ganframe.training.progress import clock

ARROWS = {"lower": " ↓", "higher": " ↑", None: ""}

Texts = tuple[list[str], list[list[str]]]
"""Headings, and rows of as many cells."""


def write_report(table: Table, folder: Path, name: str, with_best: bool = False) -> list[Path]:
    """Writes study.md, study.json and, where there are scores, heat_map.png into a study's folder; returns the files.

    Several processes may do so at once. `name` is the heading. `with_best` adds columns of the best seeds.
    """
    written = [folder / "study.md", folder / "study.json"]
    panels = _panels(table)
    with FileLock(folder / ".report.lock"):
        write_text(written[0], markdown(table, name, with_best))
        write_text(written[1], json.dumps(as_json(table, folder), indent=1, allow_nan=False) + "\n")
        if panels:
            written.append(folder / "heat_map.png")
            write_atomically(written[-1], lambda partial: draw_heat_map(partial, panels))
    return written


# ---------------------------------------------------------------------------------------------------------------- texts


def main_texts(table: Table, with_best: bool = False) -> Texts:
    """The table of means: axes, runs, time, a column for each number; with the best seeds where asked for."""
    chosen = [column for column in table.columns if with_best and column.headline and column.better]
    headings = [*table.axes, "runs", "time", *(column.label + ARROWS[column.better] for column in table.columns)]
    headings += [f"{column.label}: best of n seeds" for column in chosen]
    rows = []
    for row in table.rows:
        cells = [*(choice for _, choice in row.cell), shown_runs(row), _time(row.seconds)]
        cells += [_value(row, column) for column in table.columns]
        for column in chosen:
            value = best(row, column)
            cells.append("–" if value is None else f"{value:.4g} (n = {len(row.values[column])})")
        rows.append(cells)
    return headings, rows


def difference_texts(table: Table) -> Texts | None:
    """The table of differences from the baseline; None where there is nothing to compare."""
    others = [row for row in table.rows if row.cell != table.baseline]
    if table.baseline is None or not others or not table.columns:
        return None
    headings = [*table.axes, *(column.label + ARROWS[column.better] for column in table.columns)]
    rows = [
        [*(choice for _, choice in row.cell), *(_difference(row, column) for column in table.columns)] for row in others
    ]
    return headings, rows


def notes(table: Table) -> list[str]:
    """What a reader must know about the numbers, and why runs failed: a line each."""
    lines = []
    if table.columns:
        arrows = " ↑: higher is better, ↓: lower." if any(column.better for column in table.columns) else ""
        lines.append(
            f"Mean ± half the width of the {CONFIDENCE:.0%} t-interval over the seeds that finished; one seed has no "
            f"interval, and ± 0 is the same value in each.{arrows} Time is the mean of a run's."
        )
    if difference_texts(table) is not None:
        lines.append(
            "Differences are paired by seed, with their t-interval; p is that of a paired t-test after Holm's "
            "correction over the comparisons of its column. A difference that is the same in every pair has no test."
        )
    failed = [(outcome, outcome.message or "failed") for outcome in table.outcomes if outcome.status == "failed"]
    if failed:
        lines.append("Runs that failed have no part in the means:")
        lines += [_failure(outcome, text) for outcome, text in failed]
    scores = [(outcome, score) for outcome in table.outcomes for score in outcome.scores if "error" in score]
    if scores:
        lines.append("Runs that have finished, but have no score by a metric:")
        lines += [_failure(outcome, f"{score['metric']}: {score['error']}") for outcome, score in scores]
    return lines


def _failure(outcome: Outcome, text: str) -> str:
    return f"  {title(outcome)}: {' '.join(text.split())}"


def baseline_title(table: Table) -> str:
    """The heading of the differences."""
    return f"Difference from {_named(table.baseline or ())}"


def protocol_lines(table: Table) -> list[tuple[str, str]]:
    """(metric, its protocol in one line) for each metric."""
    found = []
    for metric, protocol in table.protocols.items():
        rest = {name: value for name, value in protocol.items() if name not in ("samples", "counts", "against")}
        options = [f"{place} {_plain(value)}" for place, value in flat(rest).items() if value not in ({}, None)]
        found.append((metric, f"{described(protocol)}; {', '.join(options)}"))
    return found


def shown_runs(row: Row) -> str:
    """How a cell's runs went: `5`, or `4 of 5, 1 failed`."""
    total, finished = sum(row.runs.values()), row.runs["finished"]
    if finished == total:
        return str(total)
    others = [f"{n} {status}" for status, n in row.runs.items() if n and status != "finished"]
    return ", ".join([f"{finished} of {total}", *others])


def shown(value: Estimate | Difference, sign: str = "") -> str:
    """`0.976 ± 0.012`: the half-width in two digits, and the mean to the same place. `sign` is that of a format."""
    mean, half = value.mean, value.half_width
    if not half or not math.isfinite(half):
        return f"{mean:{sign}.4g}" + (" ± 0" if half == 0 else "")
    digits = 1 - math.floor(math.log10(half))
    if digits > 6 or half >= 1e6:
        return f"{mean:{sign}.4g} ± {half:.2g}"
    digits = max(0, digits)
    return f"{mean:{sign}.{digits}f} ± {half:.{digits}f}"


def _value(row: Row, column: Column) -> str:
    found = row.estimates[column]
    if found is None:
        return "failed" if row.runs["failed"] == sum(row.runs.values()) else "–"
    few = f" ({counted(found.n, 'seed')})" if found.n == 1 or found.n < row.runs["finished"] else ""
    return shown(found) + few


def _difference(row: Row, column: Column) -> str:
    found = row.differences[column]
    if found is None:
        return "–"
    pairs = f" ({counted(found.n, 'pair')})" if found.n == 1 or found.n < sum(row.runs.values()) else ""
    if found.adjusted is None:
        return f"{shown(found, '+')}{', no test' if found.n > 1 else ''}{pairs}"
    p = "p < 0.001" if found.adjusted < 0.001 else f"p = {found.adjusted:.2g}"
    return f"{shown(found, '+')}, {p}{pairs}"


def _time(seconds: float | None) -> str:
    return "–" if seconds is None else f"{seconds:.3g} s" if seconds < 60 else clock(seconds)


def _named(cell: Iterable[tuple[str, str]]) -> str:
    return ", ".join(f"{axis} {choice}" for axis, choice in cell)


def _plain(value: Any) -> str:
    return json.dumps(value, ensure_ascii=False).replace('"', "")


# ------------------------------------------------------------------------------------------------------------- Markdown


def markdown(table: Table, name: str, with_best: bool = False) -> str:
    """The table as Markdown: means, differences, what the numbers mean, and the protocol of each metric."""
    parts = [f"# {escaped(name)}", *_markdown_table(main_texts(table, with_best))]
    differences = difference_texts(table)
    if differences is not None:
        parts += [f"## {escaped(baseline_title(table))}", *_markdown_table(differences)]
    lines = [("- " if line.startswith("  ") else "\n") + escaped(line) for line in notes(table)]
    parts += ["\n".join(lines).strip()]
    if table.protocols:
        protocols = [f"- {escaped(metric)}: {escaped(line)}" for metric, line in protocol_lines(table)]
        parts += ["## Protocol", "\n".join(protocols)]
    return "\n\n".join(parts) + "\n"


def _markdown_table(texts: Texts) -> Iterator[str]:
    headings, rows = texts
    lines = [headings, ["---"] * len(headings), *rows]
    yield "\n".join(f"| {' | '.join(cell if cell == '---' else escaped(cell) for cell in line)} |" for line in lines)


def escaped(text: str) -> str:
    """A text as Markdown shows it letter by letter, in one line."""
    return re.sub(r"([\\`*_\[\]<>|~$&#])", r"\\\1", " ".join(text.split()))


# ----------------------------------------------------------------------------------------------------------------- JSON


def as_json(table: Table, folder: Path) -> dict[str, Any]:
    """Everything in the table: statistics of each cell, protocols, and each run with its scores. Paths are relative."""
    return {
        "axes": list(table.axes),
        "baseline": None if table.baseline is None else dict(table.baseline),
        "confidence": CONFIDENCE,
        "correction": "Holm, over the comparisons of a number",
        "cells": [_cell_json(row, table.columns) for row in table.rows],
        "protocols": table.protocols,
        "runs": [
            {
                "cell": dict(outcome.cell),
                "seed": outcome.seed,
                "folder": _relative(outcome.folder, folder),
                "status": outcome.status,
                "seconds": outcome.seconds,
                "message": outcome.message,
                "scores": list(outcome.scores),
            }
            for outcome in table.outcomes
        ],
    }


def _cell_json(row: Row, columns: Sequence[Column]) -> dict[str, Any]:
    found: dict[str, dict[str, Any]] = {}
    for column in columns:
        mean, difference = row.estimates[column], row.differences.get(column)
        found.setdefault(column.metric, {})[column.number] = {
            **({"mean": None, "half_width": None, "n": 0} if mean is None else attrs.asdict(mean)),
            "values": {str(seed): value for seed, value in row.values[column].items()},
            "better": column.better,
            "difference": None if difference is None else attrs.asdict(difference),
        }
    return {"cell": dict(row.cell), "runs": dict(row.runs), "seconds": row.seconds, "metrics": found}


def _relative(path: Path, folder: Path) -> str:
    return path.relative_to(folder).as_posix() if path.is_relative_to(folder) else str(path)


# ------------------------------------------------------------------------------------------------------------- heat map


def _panels(table: Table) -> list[Panel]:
    """A panel for each metric's headline number. Columns are the last axis, rows the product of the others.

    The choices of one axis alone are rows.
    """
    split = max(1, len(table.axes) - 1)
    rows = list(dict.fromkeys(row.cell[:split] for row in table.rows))
    columns = list(dict.fromkeys(row.cell[split:] for row in table.rows))
    cells: Mapping[Any, Row] = {row.cell: row for row in table.rows}
    panels = []
    for column in table.columns:
        if not column.headline:
            continue
        there = [[cells.get(row + last) for last in columns] for row in rows]
        panels.append(
            Panel(
                title=column.label + ARROWS[column.better],
                rows=[_choices(row) for row in rows],
                columns=[_choices(last) for last in columns],
                axes=(", ".join(table.axes[:split]), ", ".join(table.axes[split:])),
                values=[[_mean(cell, column) for cell in line] for line in there],
                texts=[["" if cell is None else _text(cell, column) for cell in line] for line in there],
                lower_is_better=column.better == "lower",
            )
        )
    return panels


def _choices(cell: Iterable[tuple[str, str]]) -> str:
    return ", ".join(choice for _, choice in cell)


def _mean(row: Row | None, column: Column) -> float | None:
    found = None if row is None else row.estimates[column]
    return None if found is None else found.mean


def _text(row: Row, column: Column) -> str:
    total, found = sum(row.runs.values()), row.estimates[column]
    if found is None:
        return _value(row, column)
    return f"{found.mean:.3g}" + ("" if row.runs["finished"] == total else f"\n{row.runs['finished']} of {total}")
