"""The cells of a study's tables as texts, and what a reader must know about them: for Markdown and for terminals."""

from __future__ import annotations

import json
import math
from collections import Counter
from collections.abc import Iterable
from typing import Any

from ganframe.errors import counted
from ganframe.judging.protocol import described, flat
from ganframe.studies.outcomes import Outcome
from ganframe.studies.statistics import CONFIDENCE, Difference, Estimate
from ganframe.studies.table import Column, Row, Table, best, title
from ganframe.studies.trials import Found
from ganframe.training.progress import clock

ARROWS = {"lower": " ↓", "higher": " ↑", None: ""}

Texts = tuple[list[str], list[list[str]]]
"""Headings, and rows of as many cells."""


def main_texts(table: Table, with_best: bool = False) -> Texts:
    """The table of means: axes, runs, time, a column for each number; with the best seeds where asked for."""
    chosen = [column for column in table.columns if with_best and column.headline and column.better]
    headings = [*table.axes, "runs", "time", *(column.label + ARROWS[column.better] for column in table.columns)]
    headings += [f"{column.label}: best of n seeds" for column in chosen]
    rows = []
    for row in table.rows:
        cells = [*(choice for _, choice in row.cell), shown_runs(row), _time(row.seconds)]
        cells += [shown_value(row, column) for column in table.columns]
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
        shown = ("samples", "counts", "against", "about")
        rest = {name: value for name, value in protocol.items() if name not in shown}
        options = [f"{place} {_plain(value)}" for place, value in flat(rest).items() if value not in ({}, None)]
        about = protocol["about"] if "about" in protocol else described(protocol)
        found.append((metric, f"{about}; {', '.join(options)}"))
    return found


def search_lines(found: Found) -> list[str]:
    """What a search has found: its best trial with all its parameters."""
    states = Counter(trial.state for trial in found.trials)
    goal, chosen, finished = found.goal, found.best, states["finished"]
    name = goal.metric if goal.number == goal.metric else f"{goal.metric}.{goal.number}"
    others = "".join(f", {n} {state}" for state, n in states.items() if state != "finished")
    lines = [f"Search for the {'highest' if goal.higher else 'lowest'} {name}: {finished} finished{others}."]
    if chosen is None:
        return lines
    values = ", ".join(f"{place} = {_plain(value)}" for place, value in chosen.values.items())
    return [
        *lines,
        f"Best of {counted(finished, 'trial')}: trial {chosen.number} with {chosen.value:.5g}: {values}. Its recipe: "
        f"runs/{chosen.outcomes[0].folder.name}/recipe.toml.",
        "The seeds that judged it have chosen it, so its number is too good: compare its recipe by runs of others.",
    ]


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


def shown_value(row: Row, column: Column) -> str:
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
    return value if isinstance(value, str) else json.dumps(value, ensure_ascii=False).replace('"', "")
