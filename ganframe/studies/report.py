"""Writes the table of a study: study.md for people, study.json for programs, heat_map.png."""

from __future__ import annotations

import json
import re
from collections.abc import Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import attrs
from filelock import FileLock

from ganframe.report.heat_maps import Panel, draw_heat_map
from ganframe.storage.files import write_atomically, write_text
from ganframe.studies.statistics import CONFIDENCE
from ganframe.studies.table import Column, Row, Table
from ganframe.studies.texts import (
    ARROWS,
    Texts,
    baseline_title,
    difference_texts,
    main_texts,
    notes,
    protocol_lines,
    search_lines,
    shown_value,
)
from ganframe.studies.trials import Found


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


# ------------------------------------------------------------------------------------------------------------- Markdown


def markdown(table: Table, name: str, with_best: bool = False) -> str:
    """The table as Markdown: means, differences, what the numbers mean, and the protocol of each metric."""
    searched = [] if table.search is None else [escaped(line) for line in search_lines(table.search)]
    parts = [f"# {escaped(name)}", *searched, *_markdown_table(main_texts(table, with_best))]
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
        **({} if table.search is None else {"search": _search_json(table.search)}),
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


def _search_json(found: Found) -> dict[str, Any]:
    trials = [{key: getattr(t, key) for key in ("number", "state", "values", "value", "message")} for t in found.trials]
    best = None if found.best is None else found.best.number
    return {**attrs.asdict(found.goal), "best": best, "trials": trials}


def _relative(path: Path, folder: Path) -> str:
    return path.relative_to(folder).as_posix() if path.is_relative_to(folder) else str(path)


# ------------------------------------------------------------------------------------------------------------- heat map


def _panels(table: Table) -> list[Panel]:
    """A panel for each metric's headline number. Columns are the last axis, rows the product of the others.

    The choices of one axis alone are rows. A search has none, as its trials have no order.
    """
    if table.search is not None:
        return []
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
        return shown_value(row, column)
    return f"{found.mean:.3g}" + ("" if row.runs["finished"] == total else f"\n{row.runs['finished']} of {total}")
