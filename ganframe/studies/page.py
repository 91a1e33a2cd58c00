"""The page of a study: its table as a heat map whose cells open the pages of their runs, and paired differences."""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping
from contextlib import suppress
from pathlib import Path

from ganframe.errors import RequestError
from ganframe.report.heat_maps import RATIO
from ganframe.report.page import Html, Section, cell, details, escape, items, link, paragraph, table, write_page
from ganframe.report.page_of_run import write_run_page
from ganframe.storage.run_folder import RunFolder
from ganframe.studies.outcomes import Outcome
from ganframe.studies.study import Studied
from ganframe.studies.table import Column, Row, Table, title
from ganframe.studies.texts import baseline_title, difference_texts, main_texts, notes, protocol_lines, search_lines

NAME = "report.html"


def write_study_page(found: Studied) -> Path:
    """Writes report.html in the folder of a study and in those of its runs, and returns that of the study.

    Raises RequestError where scores were made by unlike protocols, and OSError where a page cannot be written.
    """
    made, pages = found.table(), _pages(found)
    sections = [Section("Means", [_heat_map(made, pages)])]
    differences = difference_texts(made)
    if differences is not None:
        sections.append(Section("Differences", [table(baseline_title(made), *differences)]))
    sections.append(Section("What the numbers mean", _notes(made)))
    if made.protocols:
        rows = protocol_lines(made)
        sections.append(Section("Protocol", [table("How each metric judged", ["metric", "protocol"], rows)]))
    sections.append(Section("Runs", [_runs(made.outcomes, pages)]))
    summary = [paragraph(f"{found.summary}.")]
    if made.search is not None:
        summary += map(paragraph, search_lines(made.search))
    live = any(outcome.status == "running" for outcome in made.outcomes)
    write_page(found.folder / NAME, f"Study {found.study.name}", sections, summary, live)
    return found.folder / NAME


def _pages(found: Studied) -> dict[Path, str]:
    """The address of each run's page, by its folder, written now. A run that has nothing yet has none."""
    pages = {}
    for outcome in found.outcomes:
        with suppress(RequestError):
            running = outcome.status == "running"
            page = write_run_page(RunFolder(outcome.folder), running, above=f"../../{NAME}")
            pages[outcome.folder] = page.relative_to(found.folder).as_posix()
    return pages


def _heat_map(made: Table, pages: Mapping[Path, str]) -> Html:
    """The table of means. The better a number, the stronger its colour; a cell lists its runs, with their pages."""
    headings, rows = main_texts(made)
    before = len(headings) - len(made.columns)
    shares = {column: _shares(made.rows, column) for column in made.columns}
    shown: list[list[object]] = []
    for number, (row, texts) in enumerate(zip(made.rows, rows, strict=True)):
        runs = [outcome for outcome in made.outcomes if tuple(outcome.cell.items()) == row.cell]
        line: list[object] = [*texts[:before]]
        for column, text in zip(made.columns, texts[before:], strict=True):
            of_seeds = items(_seed(outcome, row.values[column].get(outcome.seed), pages) for outcome in runs)
            line.append(cell(details(text, of_seeds), shares[column][number]))
        shown.append(line if made.columns else [*line, cell(items(_seed(outcome, None, pages) for outcome in runs))])
    if not made.columns:
        headings = [*headings, "seeds"]
    return table("Open a cell to see its runs. The better a number, the stronger its colour.", headings, shown)


def _seed(outcome: Outcome, value: float | None, pages: Mapping[Path, str]) -> Html:
    told = f"seed {outcome.seed}: {outcome.status if value is None else f'{value:.4g}'}"
    return link(told, pages[outcome.folder]) if outcome.folder in pages else escape(told)


def _shares(rows: Iterable[Row], column: Column) -> list[float | None]:
    """How good the mean of each row is, from 0 to 1 for the best; None where it cannot be said.

    On a logarithmic scale where the means differ much, as in heat_map.png.
    """
    means = [None if (found := row.estimates[column]) is None else found.mean for row in rows]
    there = [mean for mean in means if mean is not None and math.isfinite(mean)]
    if column.better is None or len(there) < 2:
        return [None] * len(means)
    if min(there) > 0 and max(there) > RATIO * min(there):
        means, there = [m and math.log(m) for m in means], [math.log(mean) for mean in there]
    low, span = min(there), max(there) - min(there)
    if span == 0:
        return [None] * len(means)
    shares = [None if mean is None else (mean - low) / span for mean in means]
    return [s if s is None or column.better == "higher" else 1 - s for s in shares]


def _notes(made: Table) -> list[Html]:
    """What a reader must know. A list of runs, which follows a line that ends in a colon, is shown when asked for."""
    found: list[tuple[str, list[str]]] = []
    for line in notes(made):
        if line.startswith("  ") and found:
            found[-1][1].append(line.strip())
        else:
            found.append((line, []))
    return [details(line, items(map(escape, below))) if below else paragraph(line) for line, below in found]


def _runs(outcomes: Iterable[Outcome], pages: Mapping[Path, str]) -> Html:
    rows = []
    for outcome in outcomes:
        name = title(outcome)
        opened = link(name, pages[outcome.folder]) if outcome.folder in pages else escape(name)
        rows.append([cell(opened), outcome.status, outcome.seconds, outcome.message or None])
    return table("Every run", ["run", "status", "seconds", "message"], rows)
