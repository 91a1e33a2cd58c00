"""Options checked against the signature of a class of torch, or of one that is written like them."""

from __future__ import annotations

import collections.abc
import inspect
import types
import typing
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any

import torch

from ganframe.errors import did_you_mean
from ganframe.plugins.registry import Registry
from ganframe.recipes.strict import Problem, join, make_converter, problems

_VALUES = make_converter(Registry(()))


def checked_options(cls: type, given: Mapping[str, Any]) -> dict[str, Any]:
    """Options checked against a class's signature, with the signature's defaults for missing ones.

    Each has the type that the class declares, or that of its default: integers become floats where floats are
    declared, in tuples too. Raises exceptions that `strict.problems` reads.
    """
    parameters = _parameters(cls)
    hints = _hints(cls)
    options: dict[str, Any] = {}
    errors = [
        Problem(name, f"unknown option of {cls.__name__}{did_you_mean(name, parameters)}")
        for name in sorted(given.keys() - parameters.keys())
    ]
    for name, parameter in parameters.items():
        required = parameter.default is inspect.Parameter.empty or name == "total_iters"  # torch's 5 counts epochs
        if name not in given and required:
            errors.append(Problem(name, "missing"))
        elif name in given or not _holds_none(parameter.default):
            try:
                hint = hints[name] if name in hints else _hint_of(parameter.default)
                options[name] = _VALUES.structure(given.get(name, parameter.default), _in_toml(hint))
            except Exception as error:
                errors += [Problem(join(name, place), text) for place, text in problems(error)]
    if errors:
        raise ExceptionGroup(cls.__name__, errors)
    return options


def _parameters(cls: type) -> dict[str, inspect.Parameter]:
    """The parameters that have names, without the first: weights or an optimiser."""
    several = (inspect.Parameter.VAR_POSITIONAL, inspect.Parameter.VAR_KEYWORD)
    named = [p for p in inspect.signature(cls).parameters.values() if p.kind not in several]
    return {p.name: p for p in named[1:]}


def _hints(cls: Any) -> dict[str, Any]:
    try:
        return typing.get_type_hints(cls.__init__, localns=vars(collections.abc))
    except Exception as error:
        raise Problem("use", f"the types of {cls.__name__}'s options cannot be read: {error}") from None


def _hint_of(default: Any) -> Any:
    """The type of an option that declares none. An integer as default may stand for a number, as in momentum=0."""
    if type(default) is int:
        return int | float
    if isinstance(default, (tuple, list)) and default:
        return tuple[tuple(map(_hint_of, default))]  # type: ignore[misc]
    if type(default) in (bool, float, str):
        return type(default)
    raise ValueError("the class declares no type for this option, so a recipe cannot set it")


def _in_toml(hint: Any) -> Any:
    """A type of torch's signatures, reduced to what TOML can write: no tensors or functions, lists for iterables."""
    origin, arguments = typing.get_origin(hint), typing.get_args(hint)
    if origin in (typing.Union, types.UnionType):
        writable = [a for a in arguments if a is not torch.Tensor and typing.get_origin(a) is not Callable]
        return typing.Union[tuple(map(_in_toml, writable))]  # noqa: UP007
    if origin is tuple:
        return tuple[tuple(map(_in_toml, arguments))]  # type: ignore[misc]
    return list[arguments] if origin in (Iterable, Sequence) else hint  # type: ignore[valid-type]


def _holds_none(value: Any) -> bool:
    """Whether a default holds None, which TOML cannot write."""
    return value is None or (isinstance(value, tuple) and None in value)
