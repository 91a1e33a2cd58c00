"""Writes a recipe back to TOML, as a run keeps it."""

from __future__ import annotations

import types
import typing
from collections.abc import Mapping
from typing import Any

import attrs
import tomli_w

from ganframe.components import kind_of
from ganframe.engine.timing import ALWAYS, Ramp
from ganframe.plugins.registry import Registry
from ganframe.recipes.optimizers import Optimizer, Schedule
from ganframe.recipes.strict import split_index, toml_name
from ganframe.recipes.tables import Comparison, CriticRecipe, Evaluation, Recipe


def to_toml(recipe: Recipe | Comparison | CriticRecipe) -> str:
    """The recipe with every option written out, and every component by its full name, plugin:name."""
    document = to_table(recipe, recipe.registry)
    for place, timing in recipe.timing.items():
        name, index = split_index(place)
        table = document[name] if index is None else document[name][index]
        table |= {toml_name(option): _ramp(ramp) for option, ramp in timing.ramps.items()}
        table |= {key: n for key, n in (("every", timing.every), ("start", timing.start)) if n != getattr(ALWAYS, key)}
    return tomli_w.dumps(document)


def to_table(value: Any, registry: Registry, hint: Any = None) -> Any:
    """A value of a recipe as TOML has it: tables, lists and leaves. `hint` is the type of the option that holds it.

    A component that no plugin of the registry offers has no name: RequestError, unless the hint names its class, so
    that a recipe need not.
    """
    if isinstance(value, (Optimizer, Schedule)):
        return _optimizer(value)
    if isinstance(value, Evaluation):
        own = {"every": value.every, "samples": value.samples}
        return {**to_table(value.metric, registry), **{key: n for key, n in own.items() if n is not None}}
    cls = type(value)
    if attrs.has(cls):
        hints = typing.get_type_hints(cls)
        options = [a.name for a in attrs.fields(cls) if a.metadata.get("option", True)]
        table = {toml_name(name): to_table(getattr(value, name), registry, hints.get(name)) for name in options}
        if kind_of(cls) is not None and (registry.offers(cls) or not _names(hint, cls)):
            table = {"use": registry.full_name(cls), **table}
        return {key: item for key, item in table.items() if item is not None}  # TOML has no None
    if isinstance(value, (tuple, list)):
        return [to_table(item, registry, inner) for item, inner in zip(value, _elements(hint, len(value)), strict=True)]
    return {key: to_table(item, registry) for key, item in value.items()} if isinstance(value, Mapping) else value


def _elements(hint: Any, n: int) -> list[Any]:
    """The types of the n elements of a tuple or list, from its own; None where it says nothing of them."""
    arguments = next((typing.get_args(m) for m in _members(hint) if typing.get_origin(m) in (tuple, list)), ())
    return list(arguments) if len(arguments) == n and Ellipsis not in arguments else [*arguments[:1], None][:1] * n


def _names(hint: Any, cls: type) -> bool:
    """Whether the type `hint` is this class and no other, besides None."""
    return _members(hint) == [cls]


def _members(hint: Any) -> list[Any]:
    """The types of a union, without None; of another type itself."""
    members = typing.get_args(hint) if typing.get_origin(hint) in (typing.Union, types.UnionType) else (hint,)
    return [member for member in members if member is not types.NoneType]


def _optimizer(value: Optimizer | Schedule) -> dict[str, Any]:
    """The table of an optimiser or schedule, with ramps in the place of options that move."""
    if isinstance(value, Schedule):
        return {"use": value.use, **value.options}
    table: dict[str, Any] = {"use": value.full_name, **value.options}
    for place, ramp in value.ramps.items():
        name, index = split_index(place)
        if index is None:
            table[name] = _ramp(ramp)
        else:
            table[name] = [_ramp(ramp) if i == index else item for i, item in enumerate(table[name])]
    if value.max_norm is not None:
        table["max_norm"] = value.max_norm
    return table if value.schedule is None else {**table, "schedule": _optimizer(value.schedule)}


def _ramp(ramp: Ramp) -> dict[str, Any]:
    return {toml_name(name): value for name, value in attrs.asdict(ramp).items()}
