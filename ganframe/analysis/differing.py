"""What differs between runs: the options of their recipes, and the data that they were trained on."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from contextlib import suppress
from typing import Any

import attrs
import tomli

from ganframe.components import Distribution
from ganframe.data.fingerprint import OF_ANY_DATA, comparable
from ganframe.errors import RequestError
from ganframe.judging.judge import JudgedData
from ganframe.plugins.registry import Registry
from ganframe.recipes.tables import Recipe
from ganframe.recipes.writing import to_table
from ganframe.report.page_of_recipe import REQUIRED, UNKNOWN, Row, in_toml, rows_of
from ganframe.storage import checkpoints
from ganframe.storage.run_folder import RunFolder

APART = ("name", "log", "seed")
"""Tables and options that are left out: they say nothing of what is trained, or, as the seed, are told of anyway."""
NOT_THERE = object()


@attrs.frozen
class Option:
    """An option that differs: its dotted place, and its value in each run, NOT_THERE where a run has no such option."""

    place: str
    values: tuple[Any, ...]

    def is_in(self, run: int) -> bool:
        """Whether the run of this number has the option."""
        return self.values[run] is not NOT_THERE


def differing_options(documents: Sequence[Mapping[str, Any]], registry: Registry) -> list[Option]:
    """The options whose values differ between recipes, as recipe.toml has them, those of one table together.

    recipe.toml leaves out what is none, and that of an earlier version what is new since: there the option has its
    default, if the recipe has the same component.
    """
    of_runs = [{row.place: row for row in rows_of(document, registry)} for document in documents]
    places = dict.fromkeys(place for rows in of_runs for place in rows if place.split(".")[0] not in APART)
    tables = [*dict.fromkeys(_table(place) for place in places)]
    found = []
    for place in sorted(places, key=lambda place: tables.index(_table(place))):
        known = next(rows for rows in of_runs if place in rows)
        values = tuple(_value(place, rows, known) for rows in of_runs)
        if any(value != values[0] for value in values):
            found.append(Option(place, values))
    return found


def _table(place: str) -> str:
    return place.rpartition(".")[0]


def _value(place: str, rows: Mapping[str, Row], known: Mapping[str, Row]) -> Any:
    """The value of an option in a recipe; `known` are the options of a recipe that says it."""
    if place in rows:
        return rows[place].value
    use = f"{_table(place)}.use"
    same = [row.value if (row := of.get(use)) is not None else None for of in (rows, known)]
    default = known[place].default
    return default if same[0] == same[1] and default not in (UNKNOWN, REQUIRED) else NOT_THERE


def document_of(folder: RunFolder) -> dict[str, Any]:
    """recipe.toml of a run, which has been read before, as a dict."""
    return tomli.loads(folder.recipe.read_text(encoding="utf-8-sig"))


def in_words(option: Option) -> list[str | None]:
    """The values of an option, as TOML has them; None where a run has no such option."""
    return [None if value is NOT_THERE else in_toml(value) for value in option.values]


# ---------------------------------------------------------------------------------------------------------------- data


def trained_on_other_data(folder: RunFolder, recipe: Recipe, judging: Recipe, judged: JudgedData) -> bool:
    """Whether a run was trained on other data than `judged`, that of the recipe `judging`.

    The fingerprint in the run's newest checkpoint decides, where it identifies data: files may have been moved, or have
    changed. Distributions, and published models, which have none, are told apart by the tables [dataset].
    """
    then, now = _fingerprint(folder), judged.fingerprint
    common = [name for name in then if name in now and comparable(then[name], now[name])]
    if any(then[name] != now[name] for name in common):
        return True
    identified = bool({*common} - {*OF_ANY_DATA}) and not isinstance(judged.data, Distribution)
    return not identified and _dataset(recipe) != _dataset(judging)


def other_data_warning(names: Sequence[str], recipes: Sequence[Recipe], judging: Recipe) -> str | None:
    """A line that says which runs were trained on other data than judges them. `names` and `recipes` are of those."""
    if not names:
        return None
    own, tables = _dataset(judging), [_dataset(recipe) for recipe in recipes]
    same_kind = [table for table in tables if table["use"] == own["use"]]
    differing = [key for key in dict.fromkeys(k for t in (own, *same_kind) for k in t) if _differs(key, own, same_kind)]
    groups: dict[str, list[str]] = {}
    for name, table in zip(names, tables, strict=True):
        groups.setdefault(_told(table, own, differing), []).append(name)
    judge = _called(own, differing)
    (first, its_names), *others = ((data, " and ".join(found)) for data, found in groups.items())
    were, are = ("was", "is") if len(groups[first]) == 1 else ("were", "are")
    line = f"{its_names} {were} trained on {first}"
    if not others:
        return f"{line}, and {are} judged by {judge}"
    return ", ".join([line, *(f"{found} on {data}" for data, found in others)]) + f": all runs are judged by {judge}"


def _fingerprint(folder: RunFolder) -> Mapping[str, Any]:
    """That of the data in the newest checkpoint; empty where there is none."""
    saved = folder.checkpoints()
    with suppress(RequestError):
        found = checkpoints.read_manifest(saved[-1]).get("data") if saved else None
        return found if isinstance(found, dict) else {}
    return {}


def _dataset(recipe: Recipe) -> dict[str, Any]:
    table = to_table(recipe.dataset, recipe.registry)
    assert isinstance(table, dict)
    return table


def _differs(key: str, own: Mapping[str, Any], others: Sequence[Mapping[str, Any]]) -> bool:
    return any(other.get(key) != own.get(key) for other in others)


def _told(table: Mapping[str, Any], own: Mapping[str, Any], differing: Sequence[str]) -> str:
    """What a run was trained on, for people, beside the table `own` that judges it."""
    if table == own:
        return f"other data than {_called(table, ())} gives now"
    return _called(table, differing if table["use"] == own["use"] else ())


def _called(table: Mapping[str, Any], options: Sequence[str]) -> str:
    """A dataset with some of its options: ring with modes = 8."""
    name = str(table["use"]).removeprefix("builtin:")
    given = ", ".join(f"{option} = {in_toml(table.get(option))}" for option in options)
    return f"{name} with {given}" if given else name
