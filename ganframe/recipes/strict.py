"""Strict structuring of parsed TOML into attrs classes by cattrs: no value is converted to fit, all mistakes are found.

Knows types, places and the registry, which finds the component that `use` names; not the tables of a recipe.
"""

from __future__ import annotations

import functools
import math
import operator
import re
import types
import typing
from collections.abc import Callable, Iterator, Mapping
from typing import Any, Literal

import attrs
import cattrs
from cattrs.gen import make_dict_structure_fn, override

from ganframe.components import BASES, kind_of
from ganframe.errors import RequestError, counted, did_you_mean
from ganframe.plugins.registry import Registry

Hook = Callable[[Any, Any], Any]
"""How cattrs structures: (value, target type) -> structured value."""


class Problem(Exception):
    """A mistake at `place`, relative to the table being read."""

    def __init__(self, place: str, text: str) -> None:
        super().__init__(text)
        self.place = place


def problems(error: BaseException, place: str = "") -> Iterator[tuple[str, str]]:
    """The mistakes in what cattrs raised, as (place, text)."""
    for note in getattr(error, "__notes__", ()):
        if isinstance(note, cattrs.AttributeValidationNote):
            place = join(place, toml_name(note.name))
        elif isinstance(note, cattrs.IterableValidationNote):
            place = f"{place}[{note.index}]"
    if isinstance(error, BaseExceptionGroup):
        for inner in error.exceptions:
            yield from problems(inner, place)
    elif isinstance(error, cattrs.ForbiddenExtraKeysError):
        known = [toml_name(a.name) for a in attrs.fields(error.cl) if a.metadata.get("option", True)]
        for key in sorted(error.extra_fields):
            yield join(place, key), f"unknown {'option' if place else 'table'}{did_you_mean(key, known)}"
    elif isinstance(error, Problem):
        yield join(place, error.place), str(error)
    elif isinstance(error, KeyError):
        yield place, "missing"
    else:
        text = str(error.args[0]) if error.args else type(error).__name__
        text = re.sub(rf"^'{re.escape(place.rpartition('.')[2])}_?' ", "", text)  # attrs' validators prefix the name
        yield place, re.sub(r"(must be [<>]=? \S+): ", r"\1, not ", text)


def toml_name(attribute: str) -> str:
    """The name in TOML of an attribute: `from` for `from_`, as Python's keywords cannot be names of attributes."""
    return attribute.removesuffix("_")


def join(place: str, name: str) -> str:
    """`table.option`. Either may be empty."""
    return f"{place}.{name}" if place and name and not name.startswith("[") else f"{place}{name}"


def split_index(place: str) -> tuple[str, int | None]:
    """The name and the index of a place: ("betas", 1) of `betas[1]`, ("lr", None) of `lr`."""
    name, _, index = place.removesuffix("]").partition("[")
    return name, int(index) if index else None


def shown(value: Any) -> str:
    """A value in TOML's words, for a message."""
    if isinstance(value, bool):
        return str(value).lower()
    return "a table" if isinstance(value, Mapping) else "a list" if isinstance(value, list) else repr(value)


def as_table(value: Any) -> Mapping[str, Any]:
    """The value, if it is a table; else raises ValueError."""
    if not isinstance(value, Mapping):
        raise ValueError(f"must be a table, not {shown(value)}")
    return value


_LEAVES: dict[type, tuple[tuple[type, ...], str]] = {
    bool: ((bool,), "true or false"),
    int: ((int,), "an integer"),
    float: ((int, float), "a number"),
    str: ((str,), "a text"),
}


def as_leaf(value: Any, leaf: Any) -> Any:
    """The value as a bool, int, float or str. An integer is accepted for a float; no other type for another."""
    accepted, words = _LEAVES[leaf]
    if type(value) not in accepted:  # not isinstance: true is not an integer
        raise ValueError(f"must be {words}, not {shown(value)}")
    structured = leaf(value)
    if leaf is float and not math.isfinite(structured):
        raise ValueError(f"must be a finite number, not {shown(value)}")
    return structured


def make_converter(registry: Registry) -> cattrs.Converter:
    """A converter for attrs classes whose fields are components, leaves, Literals, unions, tuples and lists of them."""
    converter = cattrs.Converter(detailed_validation=True)
    for leaf in _LEAVES:
        converter.register_structure_hook(leaf, as_leaf)
    factories: list[tuple[Callable[[Any], bool], Callable[[cattrs.Converter, Any], Hook]]] = [
        (attrs.has, functools.partial(_class_hook, registry)),
        (lambda target: typing.get_origin(target) is Literal, lambda converter, target: _as_literal),
        (lambda target: typing.get_origin(target) in (typing.Union, types.UnionType), _union_hook),
        (lambda target: typing.get_origin(target) in (tuple, list), _sequence_hook),
    ]
    for applies, factory in factories:
        converter.register_structure_hook_factory(applies, functools.partial(factory, converter))
    for base in BASES.values():
        hook = _component_hook(converter, registry, base)
        converter.register_structure_hook_func(functools.partial(operator.is_, base), hook)
    return converter


def _class_hook(registry: Registry, converter: cattrs.Converter, cls: Any) -> Hook:
    """Structures a table of options. Where an option's type is the class of a component, `use` may name it too."""

    def checked(attribute: attrs.Attribute[Any]) -> Hook:
        """Structures and validates one field, so that the mistakes of all fields are reported, not only the first."""

        def hook(value: Any, target: Any) -> Any:
            structured = converter.structure(value, target)
            if attribute.validator is not None:
                attribute.validator(None, attribute, structured)
            return structured

        return hook

    overrides: dict[str, Any] = {
        a.name: override(struct_hook=checked(a), rename=toml_name(a.name)) for a in attrs.fields(cls)
    }
    fill = make_dict_structure_fn(cls, converter, _cattrs_forbid_extra_keys=True, **overrides)
    kind = kind_of(cls)

    def hook(value: Any, _: Any) -> Any:
        table = dict(as_table(value))
        if kind is None or "use" not in table:
            return fill(table, cls)
        named = _named(registry, cls, table.pop("use"))
        return fill(table, cls) if named is cls else converter.structure(table, named)

    return hook


def _component_hook(converter: cattrs.Converter, registry: Registry, base: type) -> Hook:
    """Structures a table with `use`, the name of a component, and its options."""

    def hook(value: Any, _: Any) -> Any:
        options = dict(as_table(value))
        return converter.structure(options, _named(registry, base, options.pop("use", None)))

    return hook


def _named(registry: Registry, cls: type, use: object) -> type:
    """The component class that `use` names, which must be `cls` or a subclass of it."""
    kind = kind_of(cls)
    assert kind is not None
    if not isinstance(use, str):
        raise Problem("use", f"missing; name a {kind}: {', '.join(registry.names(kind))}")
    try:
        named = registry.find(kind, use)
    except RequestError as error:
        raise Problem("use", str(error)) from None
    if not issubclass(named, cls):
        wanted = f"'{registry.full_name(cls)}'" if registry.offers(cls) else cls.__name__
        raise Problem("use", f"must name {wanted} here, not '{use}'; or leave it out")
    return named


def _sequence_hook(converter: cattrs.Converter, target: Any) -> Hook:
    origin, arguments = typing.get_origin(target), typing.get_args(target)
    variadic = origin is list or arguments[-1:] == (Ellipsis,)

    def hook(value: Any, _: Any) -> Any:
        if not isinstance(value, (list, tuple)):
            raise ValueError(f"must be a list, not {shown(value)}")
        if not variadic and len(value) != len(arguments):
            raise ValueError(f"must have {counted(len(arguments), 'element')}, not {len(value)}")
        items, errors = [], []
        for index, item in enumerate(value):
            element = arguments[0 if variadic else index]
            try:
                items.append(converter.structure(item, element))
            except Exception as error:
                error.add_note(cattrs.IterableValidationNote("", index, element))
                errors.append(error)
        if errors:
            raise ExceptionGroup("elements", errors)
        return origin(items)

    return hook


def _union_hook(converter: cattrs.Converter, target: Any) -> Hook:
    members = [member for member in typing.get_args(target) if member is not types.NoneType]

    def hook(value: Any, _: Any) -> Any:
        errors: list[tuple[Any, Exception]] = []
        for member in members:
            try:
                return converter.structure(value, member)
            except Exception as error:
                errors.append((member, error))
        if len(errors) > 1:  # a table is meant for a member that is one, a list for a list, and a leaf for a leaf
            form = "table" if isinstance(value, Mapping) else "list" if isinstance(value, (list, tuple)) else "leaf"
            errors = [(m, e) for m, e in errors if _form(m) == form]
        raise errors[0][1] if len(errors) == 1 else ValueError(f"must be {target}, not {shown(value)}")

    return hook


def _form(target: Any) -> Literal["table", "list", "leaf"]:
    """What values of a type are in TOML."""
    if attrs.has(target) or kind_of(target) is not None:
        return "table"
    return "list" if typing.get_origin(target) in (tuple, list) else "leaf"


def _as_literal(value: Any, target: Any) -> Any:
    choices = typing.get_args(target)
    if not any(value == choice and type(value) is type(choice) for choice in choices):
        near = did_you_mean(value, [c for c in choices if isinstance(c, str)]) if isinstance(value, str) else ""
        near = near if near.startswith("; did") else ""
        raise ValueError(f"must be one of {', '.join(map(repr, choices))}, not {shown(value)}{near}")
    return value
