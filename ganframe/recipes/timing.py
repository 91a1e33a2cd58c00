"""Separates what a recipe says about time from the options of its parts: `every`, `start`, and options that move.

In TOML both are in one table. A component is structured with the first value of each option that moves, so that it is
an ordinary component; the rest is a `Timing`.
"""

from __future__ import annotations

import typing
from collections.abc import Iterator, Mapping
from typing import Any

import attrs

from ganframe.components import BASES, Constraint
from ganframe.engine.timing import ALWAYS, Ramp, Timing, numbers_at
from ganframe.errors import RequestError
from ganframe.plugins.registry import Registry
from ganframe.recipes.strict import join, make_converter, problems, toml_name

_TABLES = {"dataset": "dataset", "against": "dataset"} | {k: k for k in ("generator", "discriminator", "objective")}
_LISTS = {"constraints": "constraint", "terms": "term"}
_TIMED = ("objective", "constraint", "term")
_KEYS = ("every", "start")


@attrs.define
class Split:
    """A document without timing, the timing by place, and mistakes as (place, text).

    `settled` are the places of options that `mistakes` are about. They are left out of the document, which may then
    lack an option that is required.
    """

    document: dict[str, Any]
    timing: dict[str, Timing] = attrs.field(factory=dict)
    mistakes: list[tuple[str, str]] = attrs.field(factory=list)
    settled: set[str] = attrs.field(factory=set)


def split_timing(document: Mapping[str, Any], registry: Registry) -> Split:
    """The document of a recipe, with its timing apart. What is no table, or names no component, stays as it is."""
    split = Split(dict(document))
    reader = _Reader(registry, split)
    for name, kind in _TABLES.items():
        if isinstance(document.get(name), Mapping):
            split.document[name] = reader.table(document[name], kind, name)
    for name, kind in _LISTS.items():
        if isinstance(document.get(name), list):
            items = enumerate(document[name])
            split.document[name] = [
                reader.table(item, kind, f"{name}[{i}]") if isinstance(item, Mapping) else item for i, item in items
            ]
    return split


def timed_parts(recipe: Any) -> dict[str, Any]:
    """The parts of a recipe or comparison that may have a timing, by place."""
    parts = {"objective": recipe.objective}
    for name in _LISTS:
        parts |= {f"{name}[{i}]": part for i, part in enumerate(getattr(recipe, name, ()))}
    return parts


def moved_mistakes(recipe: Any) -> Iterator[tuple[str, str]]:
    """(place, text) for each part whose options do not go together at some step of their ramps."""
    parts = timed_parts(recipe)
    for place, timing in recipe.timing.items():
        ends = {ramp.steps for ramp in timing.ramps.values()}
        for step in sorted(ends | {end // 2 for end in ends}):
            try:
                timing.moved(parts[place], numbers_at(step))
            except Exception as error:  # a component may raise anything in __attrs_post_init__
                yield from ((place, f"at step {step}: {text}") for _, text in problems(error))
                break


class _Reader:
    """Reads the tables of a document, and adds what it finds to a `Split`."""

    def __init__(self, registry: Registry, split: Split) -> None:
        self.registry = registry
        self.converter = make_converter(registry)
        self.split = split

    def table(self, table: Mapping[str, Any], kind: str, place: str) -> Mapping[str, Any]:
        """The table of a component without its timing."""
        try:
            component = self.registry.find(kind, table["use"]) if isinstance(table.get("use"), str) else None
        except RequestError:  # reported where the component is structured
            component = None
        if component is None:
            return table
        options = dict(table)
        own = {toml_name(a.name) for a in attrs.fields(component)}
        given = {key: options.pop(key) for key in _KEYS if key in options and key not in own}
        timing = self._timing(given, kind, component, place)
        ramps = self._ramps(options, kind, component, place)
        timing = attrs.evolve(timing, ramps=ramps)
        if timing != ALWAYS:
            self.split.timing[place] = timing
        return options

    def _timing(self, given: dict[str, Any], kind: str, component: type, place: str) -> Timing:
        """What `every` and `start` say."""
        refused = {key: reason for key in given if (reason := _refusal(key, kind, component))}
        self.split.mistakes += [(join(place, key), reason) for key, reason in refused.items()]
        try:
            return self.converter.structure({k: v for k, v in given.items() if k not in refused}, Timing)
        except Exception as error:
            self.split.mistakes += problems(error, place)
            return ALWAYS

    def _ramps(self, options: dict[str, Any], kind: str, component: type, place: str) -> dict[str, Ramp]:
        """The ramps among the options, each of which gets its first value. Wrong ones are removed from the options."""
        hints, ramps = typing.get_type_hints(component), {}
        for attribute in attrs.fields(component):
            name = toml_name(attribute.name)
            if not _is_ramp(options.get(name), hints[attribute.name]):
                continue
            where = join(place, name)
            value = options.pop(name)
            if not attribute.metadata.get("scheduled"):
                mistakes = [(where, _cannot_move(kind, component))]
            else:
                ramp, mistakes = self._ramp(value, attribute, hints[attribute.name], where)
            if mistakes:
                self.split.mistakes += mistakes
                self.split.settled.add(where)
            elif ramp is not None:
                options[name] = ramp.from_
                ramps[attribute.name] = ramp
        return ramps

    def _ramp(
        self, table: Any, attribute: attrs.Attribute[Any], hint: Any, where: str
    ) -> tuple[Ramp | None, list[tuple[str, str]]]:
        """The ramp of a table, and its mistakes. Both ends must be valid values of the option."""
        try:
            ramp = self.converter.structure(table, Ramp)
        except Exception as error:
            return None, list(problems(error, where))
        try:
            self.converter.structure(ramp.from_, hint)  # an integer or a text cannot move
        except Exception as error:
            return None, [(join(where, "from"), text) for _, text in problems(error)]
        mistakes: list[tuple[str, str]] = []
        for name, value in (("from", ramp.from_), ("to", ramp.to)):
            try:
                if attribute.validator is not None:
                    attribute.validator(None, attribute, value)
            except Exception as error:
                mistakes += [(join(where, name), text) for _, text in problems(error, where)]
        return ramp, mistakes


def is_ramp_table(value: Any) -> bool:
    """Whether a value is a table with an end of a ramp."""
    return isinstance(value, Mapping) and "use" not in value and bool(value.keys() & {"from", "to"})


def _is_ramp(value: Any, hint: Any) -> bool:
    """Whether an option's value is meant as a ramp: not where its type is a component, which may have such options."""
    if not is_ramp_table(value):
        return False
    members = typing.get_args(hint) or (hint,)
    return not any(attrs.has(member) or member in BASES.values() for member in members if isinstance(member, type))


def _refusal(key: str, kind: str, component: type) -> str:
    """Why a component takes no `every` or `start`; empty where it does."""
    if kind not in _TIMED:
        others = "objectives, terms and constraints" if key == "start" else "terms and constraints"
        return f"a {kind} takes no {key}; only {others} with a penalty do; remove it"
    if kind == "objective" and key == "every":
        return "an objective acts at each update; it takes start, not every"
    if kind == "constraint" and component.penalty is Constraint.penalty:  # type: ignore[attr-defined]
        return f"this constraint has no penalty that could act only at some steps; remove {key}"
    return ""


def _cannot_move(kind: str, component: type) -> str:
    """Why an option cannot have a ramp, and which can."""
    if kind not in _TIMED:
        return f"options of a {kind} cannot move, only those of objectives, constraints and terms; give one value"
    moving = [toml_name(a.name) for a in attrs.fields(component) if a.metadata.get("scheduled")]
    return f"this option cannot move; of this {kind} {' and '.join(moving) or 'none'} can; give one value"
