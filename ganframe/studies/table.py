"""The table of a study: each cell's numbers over its seeds, and their differences from a baseline."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from typing import Any, Literal, get_args

import attrs

from ganframe.errors import RequestError
from ganframe.judging.protocol import Score, differences, numbers
from ganframe.plugins.registry import Registry
from ganframe.studies import comparisons
from ganframe.studies.outcomes import Outcome, Status
from ganframe.studies.statistics import Difference, Estimate, corrected, estimate, paired
from ganframe.studies.trials import Found

Cell = tuple[tuple[str, str], ...]
"""The choice on each axis, in the order of the axes: (("objective", "hinge"), …)."""


@attrs.frozen
class Column:
    """A number of a metric. `headline` is whether it is the metric's first one, which stands for the metric."""

    metric: str
    number: str
    label: str
    better: Literal["lower", "higher"] | None
    headline: bool


@attrs.frozen
class Row:
    """A cell: how its runs went, their mean time, and the statistics of each column, None where there are none.

    `values` are those of finished runs by seed. `differences` are from the baseline, whose own row has none.
    """

    cell: Cell
    runs: Mapping[Status, int]
    seconds: float | None
    values: Mapping[Column, Mapping[int, float]]
    estimates: Mapping[Column, Estimate | None]
    differences: Mapping[Column, Difference | None]


@attrs.frozen
class Table:
    """A study's cells × numbers. `baseline` is None where the study has no such cell, as one that has no axes.

    The cells of a `search` are its trials.
    """

    axes: tuple[str, ...]
    columns: tuple[Column, ...]
    rows: tuple[Row, ...]
    baseline: Cell | None
    protocols: Mapping[str, Mapping[str, Any]]
    outcomes: tuple[Outcome, ...]
    search: Found | None = None


def make_search_table(found: Found, registry: Registry) -> Table:
    """The table of a search, a row for each trial. Raises as `make_table` does."""
    outcomes = [outcome for trial in found.trials for outcome in trial.outcomes]
    return attrs.evolve(make_table(outcomes, None, registry), search=found)


def make_table(outcomes: Iterable[Outcome], baseline: Mapping[str, str] | None, registry: Registry) -> Table:
    """The table of the runs of a study, its rows in their order. `registry` tells in which direction numbers improve.

    Raises RequestError where scores of one metric were made by unlike protocols, with what differs.
    """
    outcomes = tuple(outcomes)
    refuse_unlike(outcomes)
    cells: dict[Cell, list[Outcome]] = {}
    for outcome in outcomes:
        cells.setdefault(tuple(outcome.cell.items()), []).append(outcome)
    columns = _columns(outcomes, registry)
    values = {cell: {column: _values(found, column) for column in columns} for cell, found in cells.items()}
    base = None if baseline is None else next((cell for cell in cells if dict(cell) == dict(baseline)), None)
    compared: dict[Cell, dict[Column, Difference | None]] = {cell: {} for cell in cells}
    if base is not None:
        others = [cell for cell in cells if cell != base]
        for column in columns:
            tested = corrected([paired(values[cell][column], values[base][column]) for cell in others])
            for cell, difference in zip(others, tested, strict=True):
                compared[cell][column] = difference
    rows = tuple(
        Row(
            cell,
            {status: Counter(outcome.status for outcome in found)[status] for status in get_args(Status)},
            _mean_seconds(found),
            values[cell],
            {column: estimate(list(values[cell][column].values())) for column in columns},
            compared[cell],
        )
        for cell, found in cells.items()
    )
    axes = tuple(name for name, _ in next(iter(cells), ()))
    protocols = {score["metric"]: score["protocol"] for outcome in outcomes for score in outcome.scores}
    return Table(axes, columns, rows, base, protocols, outcomes)


def refuse_unlike(outcomes: Iterable[Outcome]) -> None:
    """Raises RequestError, with what differs and where, if scores of one metric were made by unlike protocols."""
    first: dict[str, tuple[Outcome, Score]] = {}
    for outcome in outcomes:
        for score in outcome.scores:
            other, known = first.setdefault(score["metric"], (outcome, score))
            if found := differences([known, score]):
                raise RequestError(
                    f"{score['metric']} of {title(other)} (one) and of {title(outcome)} (another) cannot stand in one "
                    f"table, as they were not judged alike: {'; '.join(found)}; make a study of each"
                )


def title(outcome: Outcome) -> str:
    """What messages call a run: its cell and seed."""
    return ", ".join([*(f"{axis} {name}" for axis, name in outcome.cell.items()), f"seed {outcome.seed}"])


def best(row: Row, column: Column) -> float | None:
    """The best value of a row's seeds, for a column that has a direction; None where there is none."""
    values = row.values[column].values()
    if column.better is None or not values:
        return None
    return max(values) if column.better == "higher" else min(values)


def _columns(outcomes: Iterable[Outcome], registry: Registry) -> tuple[Column, ...]:
    """A column for each number that any run has, those of a metric together and its headline first."""
    found: dict[str, dict[str, None]] = {}
    uses: dict[str, str] = {}
    for outcome in outcomes:
        for score in outcome.scores:
            found.setdefault(score["metric"], {}).update(dict.fromkeys(numbers(score)))
            uses[score["metric"]] = score["protocol"]["metric"]
    often = Counter(number for names in found.values() for number in names)
    columns = []
    for metric, names in found.items():
        better = _directions(uses[metric], registry)
        order = [number for number in better if number in names]
        order += [number for number in names if number not in better]
        for index, number in enumerate(order):
            label = number if often[number] == 1 else metric if metric.startswith(number) else f"{metric}.{number}"
            columns.append(Column(metric, number, label, better.get(number), index == 0))
    return tuple(columns)


def _directions(metric: str, registry: Registry) -> Mapping[str, Literal["lower", "higher"] | None]:
    if metric == comparisons.METRIC:
        return comparisons.BETTER
    try:
        return registry.find("metric", metric).better
    except (RequestError, AttributeError):  # its plugin is not here, or says no direction
        return {}


def _values(outcomes: Iterable[Outcome], column: Column) -> dict[int, float]:
    """The values of a number by seed, of the runs that have it."""
    return {
        outcome.seed: score[column.number]
        for outcome in outcomes
        for score in outcome.scores
        if score["metric"] == column.metric and column.number in score
    }


def _mean_seconds(outcomes: Sequence[Outcome]) -> float | None:
    """The mean time of the runs that have finished: those that failed took less, or none."""
    seconds = [o.seconds for o in outcomes if o.seconds is not None and o.status == "finished"]
    return sum(seconds) / len(seconds) if seconds else None
