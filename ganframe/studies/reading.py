"""Reads studies from TOML: a base recipe, axes of named choices, seeds, metrics. All mistakes are reported at once."""

from __future__ import annotations

import copy
import functools
import re
from collections.abc import Callable, Iterable, Mapping
from pathlib import Path
from typing import Any

import attrs
from packaging.utils import canonicalize_name

from ganframe.errors import RecipeError, RequestError, did_you_mean, note
from ganframe.plugins.discovery import installed
from ganframe.recipes.installed import recipe_file
from ganframe.recipes.reading import override, read_document
from ganframe.recipes.strict import as_leaf, as_table, shown
from ganframe.studies.ranges import Search, read_search

OPTIONS = ("name", "base", "set", "seeds", "threads", "baseline", "metrics", "axes", "search", "cluster")
SHARED = {"seed": "the seeds of a study are its option seeds", "metrics": "all cells are judged by the same metrics"}
"""Tables of a recipe that no choice may have."""


@attrs.frozen
class Choice:
    """A choice on an axis: `tables` that replace those of the recipe, then the texts `sets`, as after --set.

    `place` is where it stands in the study. `missing` are the packages it needs that are not installed.
    """

    place: str
    name: str
    sets: tuple[str, ...]
    tables: Mapping[str, Any]
    missing: tuple[str, ...] = ()


@attrs.frozen
class StudyFile:
    """A study as it is read.

    `base` is the parsed recipe of all cells, with what the study sets for all of them: `sets`, (place, text), and
    [[metrics]] where it has its own.
    `threads` is the number of threads of each run. `baseline` has a choice for each axis. `document` is the study as
    TOML has it, with its base recipe inside: what a study's folder keeps, and what is compared with it.
    """

    title: str
    base_title: str
    name: str
    base: Mapping[str, Any]
    sets: tuple[tuple[str, str], ...]
    own_metrics: bool
    axes: Mapping[str, tuple[Choice, ...]]
    seeds: tuple[int, ...]
    threads: int
    baseline: Mapping[str, str]
    document: Mapping[str, Any]
    search: Search | None = None
    cluster: Mapping[str, Any] = {}


class _Mistakes:
    """Mistakes with their places."""

    def __init__(self) -> None:
        self.found: list[tuple[str, str]] = []

    def add(self, place: str, text: str) -> None:
        self.found.append((place, text))

    def attempt(self, place: str, read: Callable[[], Any]) -> Any:
        """What `read` returns, or None and a mistake."""
        try:
            return read()
        except RequestError as error:
            self.add(place, str(error).removeprefix("--set "))
        except ValueError as error:
            self.add(place, str(error))
        return None


def read_study(path: str | Path, overrides: Iterable[str] = ()) -> StudyFile:
    """Reads a study; its recipes are not structured yet.

    `overrides` are texts such as "train.steps=100", for the recipe of all cells, or "seeds=2", for the study itself.
    Raises RecipeError with every mistake, RequestError where a file cannot be read.
    """
    path = recipe_file(Path(path).expanduser())
    document = read_document(path, ())
    mistakes = _Mistakes()
    own: list[str] = []
    others: list[str] = []
    for text in overrides:
        (own if _first(text) in {*OPTIONS} - {"metrics"} else others).append(text)
    for text in own:
        override(document, text)
    for name in sorted(document.keys() - {*OPTIONS}):
        mistakes.add(name, f"unknown option{did_you_mean(name, OPTIONS)}")
    name = mistakes.attempt("name", lambda: _folder_name(document["name"]))
    base, base_title = _base(document, path, mistakes)
    base.pop("seed", None)  # each run has its own
    if "metrics" in document:
        base["metrics"] = document["metrics"]
    sets = mistakes.attempt("set", lambda: _texts(document.get("set", []))) or ()
    placed = [(f"set[{index}]", text) for index, text in enumerate(sets)] + [(f"--set {text}", text) for text in others]
    for place, text in placed:
        mistakes.attempt(place, functools.partial(override, base, text))
    if "seed" in base:
        mistakes.add("seed", SHARED["seed"])
    axes = mistakes.attempt("axes", lambda: as_table(document.get("axes", {}))) or {}
    read = {axis: _choices(axis, choices, mistakes) for axis, choices in axes.items()}
    seeds = mistakes.attempt("seeds", lambda: _seeds(document.get("seeds", 5)))
    threads = mistakes.attempt("threads", lambda: _at_least_one(document.get("threads", 1)))
    baseline = _baseline(document.get("baseline", {}), read, mistakes)
    search, wrong = read_search(document["search"]) if "search" in document else (None, [])
    for place, text in wrong:
        mistakes.add(place, text)
    cluster = mistakes.attempt("cluster", lambda: as_table(document.get("cluster", {})))
    if mistakes.found:
        raise RecipeError([f"{path}: {place}: {text}" for place, text in mistakes.found])
    whole = {
        "name": name,
        "seeds": list(seeds),
        "threads": threads,
        "baseline": baseline,
        "base": base,
        "axes": copy.deepcopy(dict(axes)),
        **({} if search is None else {"search": document["search"]}),
    }
    return StudyFile(
        title=str(path),
        base_title=base_title,
        name=name,
        base=base,
        sets=tuple(placed),
        own_metrics="metrics" in document,
        axes=read,
        seeds=seeds,
        threads=threads,
        baseline=baseline,
        document=whole,
        search=search,
        cluster=cluster,
    )


def choose(base: Mapping[str, Any], places: Mapping[str, Choice]) -> tuple[dict[str, Any], list[tuple[str, str]]]:
    """The parsed recipe of a cell, and mistakes as (place, text). `places` are its choices by their places."""
    document, mistakes = copy.deepcopy(dict(base)), _Mistakes()
    for place, choice in places.items():
        document |= copy.deepcopy(dict(choice.tables))
        for index, text in enumerate(choice.sets):
            mistakes.attempt(f"{place}.set[{index}]", functools.partial(override, document, text))
    return document, mistakes.found


def _base(document: Mapping[str, Any], path: Path, mistakes: _Mistakes) -> tuple[dict[str, Any], str]:
    """The parsed base recipe, and what messages call it: a file beside the study, a name, or a table in it."""
    base = document.get("base")
    if isinstance(base, str):
        file = path.parent / Path(base).expanduser()
        if not file.exists() and file.suffix != ".toml":
            file = Path(base)
        return mistakes.attempt("base", lambda: read_document(file, ())) or {}, str(file)
    if isinstance(base, Mapping):
        return {"name": document["name"], **copy.deepcopy(dict(base))}, f"{path}: base"
    missing = "missing; name the recipe of all cells"
    mistakes.add("base", missing if base is None else f"must be a recipe's file or its tables, not {shown(base)}")
    return {}, str(path)


def _choices(axis: str, choices: Any, mistakes: _Mistakes) -> tuple[Choice, ...]:
    place = f"axes.{axis}"
    if not isinstance(choices, list) or not choices:
        mistakes.add(place, f"must be a list of choices, [[{place}]], not {shown(choices)}")
        return ()
    read = [_choice(f"{place}[{index}]", choice, mistakes) for index, choice in enumerate(choices)]
    names = [None if choice is None else choice.name for choice in read]
    for index, name in enumerate(names):
        if name is not None and name in names[:index]:
            mistakes.add(f"{place}[{index}].name", f"another choice is called '{name}'")
    found = [choice for choice in read if choice is not None]
    for choice in found:
        if choice.missing:
            note(f"{choice.place}: {choice.name} is left out; it needs: pip install {' '.join(choice.missing)}")
    there = tuple(choice for choice in found if not choice.missing)
    if found and not there:
        mistakes.add(place, "no choice is left: none of the packages that they need is installed")
    return there


def _choice(place: str, value: Any, mistakes: _Mistakes) -> Choice | None:
    table = mistakes.attempt(place, lambda: dict(as_table(value)))
    if table is None:
        return None
    before = len(mistakes.found)
    name = mistakes.attempt(f"{place}.name", lambda: _named(table.pop("name", None)))
    sets = mistakes.attempt(f"{place}.set", lambda: _texts(table.pop("set", [])))
    missing = mistakes.attempt(f"{place}.requires", lambda: _missing(table.pop("requires", [])))
    for index, text in enumerate(sets or ()):
        if (key := _first(text)) in SHARED:
            mistakes.add(f"{place}.set[{index}]", f"{key}: {SHARED[key]}")
    for key in sorted(table.keys() & SHARED):
        mistakes.add(f"{place}.{key}", SHARED[key])
    return Choice(place, name, sets, table, missing) if len(mistakes.found) == before else None


def _baseline(value: Any, axes: Mapping[str, tuple[Choice, ...]], mistakes: _Mistakes) -> dict[str, str]:
    """The choice of each axis that others are compared with: the named ones, else the first."""
    given = mistakes.attempt("baseline", lambda: as_table(value)) or {}
    for axis, name in given.items():
        names = [choice.name for choice in axes.get(axis, ())]
        if axis not in axes:
            mistakes.add(f"baseline.{axis}", f"unknown axis{did_you_mean(axis, axes)}")
        elif name not in names and names:
            near = did_you_mean(name, names) if isinstance(name, str) else ""
            mistakes.add(f"baseline.{axis}", f"no choice of this axis is called {shown(name)}{near}")
    return {axis: given.get(axis, choices[0].name) for axis, choices in axes.items() if choices}


def _first(text: str) -> str:
    """The table or option that an override begins with."""
    return re.split(r"[=.\[\s]", text.strip(), maxsplit=1)[0]


def _named(value: Any) -> str:
    if value is None:
        raise ValueError("missing; it is what tables call this choice")
    name: str = as_leaf(value, str)
    if not name.strip() or not name.isprintable():
        raise ValueError(f"must be a name of printable characters, not {shown(name)}")
    return name


def _folder_name(value: Any) -> str:
    name: str = as_leaf(value, str)
    if not re.fullmatch(r"\w[\w .+-]*", name):
        raise ValueError(f"must be a name for a folder, of letters, digits, blanks and . _ + -, not {shown(name)}")
    return name


def _texts(value: Any) -> tuple[str, ...]:
    if not isinstance(value, list):
        raise ValueError(f'must be a list of texts, as in ["train.steps=10"], not {shown(value)}')
    return tuple(as_leaf(text, str) for text in value)


def _missing(value: Any) -> tuple[str, ...]:
    """The packages in a list that install no plugin here."""
    if not isinstance(value, list):
        raise ValueError(f'must be a list of packages, as in ["ganframe-hinge"], not {shown(value)}')
    asked = [as_leaf(name, str) for name in value]
    there = {canonicalize_name(found.distribution) for found in installed()} if asked else {}
    return tuple(name for name in asked if canonicalize_name(name) not in there)


def _at_least_one(value: Any) -> int:
    number: int = as_leaf(value, int)
    if number < 1:
        raise ValueError(f"must be >= 1, not {number}")
    return number


def _seeds(value: Any) -> tuple[int, ...]:
    """The seeds 0, 1, … of a number, or those of a list."""
    if not isinstance(value, list):
        return tuple(range(_at_least_one(value)))
    seeds = tuple(as_leaf(seed, int) for seed in value)
    if not seeds or len({*seeds}) < len(seeds) or not all(0 <= seed < 2**63 for seed in seeds):
        raise ValueError(f"must be a number of seeds, or a list of different seeds >= 0, not {shown(value)}")
    return seeds
