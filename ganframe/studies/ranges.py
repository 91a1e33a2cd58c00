"""The table [search] of a study: what is searched for, in how many trials, and over which ranges of options."""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any

import attrs

from ganframe.errors import did_you_mean
from ganframe.recipes.strict import as_leaf, as_table, shown

OPTIONS = ("metric", "trials", "prune", "ranges")


@attrs.frozen
class Range:
    """Numbers from low to high, both included; integers if both are. `log` is for those that span magnitudes."""

    low: float
    high: float
    log: bool = False


@attrs.frozen
class Choices:
    """Values of any type that TOML has, by the names that tables give them."""

    values: Mapping[str, Any]


@attrs.frozen
class Search:
    """What a study searches for: the best headline number of `metric`, or the number that metric.number names.

    `ranges` are by the option's place in the recipe: "optimizer.generator.lr". With `prune`, trials that are worse than
    half of the others by their scores during training are ended early.
    """

    metric: str
    trials: int
    prune: bool
    ranges: Mapping[str, Range | Choices]


def read_search(value: Any) -> tuple[Search | None, list[tuple[str, str]]]:
    """The table [search], and its mistakes as (place, text); None where there are any."""
    mistakes: list[tuple[str, str]] = []
    read: dict[str, Any] = {"prune": False}

    def attempt(place: str, function: Any, *arguments: Any) -> Any:
        try:
            return function(*arguments)
        except ValueError as error:
            mistakes.append((place, str(error)))

    table = attempt("search", as_table, value) or {}
    for name in sorted(table.keys() - {*OPTIONS}):
        mistakes.append((f"search.{name}", f"unknown option{did_you_mean(name, OPTIONS)}"))
    readers = {"metric": (as_leaf, str), "trials": (_trials,), "prune": (as_leaf, bool), "ranges": (as_table,)}
    for name, (reader, *leaf) in readers.items():
        if name in table:
            read[name] = attempt(f"search.{name}", reader, table[name], *leaf)
        elif name not in read and not mistakes:
            mistakes.append((f"search.{name}", "missing"))
    ranges = read.get("ranges") or {}
    if not ranges and not mistakes:
        mistakes.append(("search.ranges", 'is empty; name options, as in "latent.dim" = [2, 8]'))
    read["ranges"] = {name: attempt(f'search.ranges."{name}"', _range, text) for name, text in ranges.items()}
    return (None if mistakes else Search(**read)), mistakes


def _trials(value: Any) -> int:
    trials: int = as_leaf(value, int)
    if trials < 1:
        raise ValueError(f"must be >= 1, not {trials}")
    return trials


def _range(value: Any) -> Range | Choices:
    if isinstance(value, list):
        named = {each if isinstance(each, str) else json.dumps(each): each for each in value}
        if len(value) < 2 or len(named) < len(value):
            raise ValueError("must have two values or more, all different")
        return Choices(named)
    if not isinstance(value, Mapping):
        raise ValueError(f"must be {{ low = …, high = … }} or a list of values, not {shown(value)}")
    for name in value:
        if name not in ("low", "high", "log"):
            raise ValueError(f"unknown option '{name}'{did_you_mean(name, ('low', 'high', 'log'))}")
    if not {"low", "high"} <= value.keys():
        raise ValueError(f"{'high' if 'low' in value else 'low'} is missing")
    log = as_leaf(value.get("log", False), bool)
    integers = all(type(value[end]) is int for end in ("low", "high"))
    low, high = (as_leaf(value[end], int if integers else float) for end in ("low", "high"))
    if not low < high:
        raise ValueError(f"low must be below high: {low} and {high}")
    if log and low <= 0:
        raise ValueError(f"low must be > 0 where log is true, not {low}")
    return Range(low, high, log)
