"""Loads one plugin in isolation: imports its module, calls its hooks, checks the components they return.

Knows hooks and what a component must be; not other plugins, nor how a failure is recorded.
"""

from __future__ import annotations

import contextlib
import os
import sys
import traceback
import typing
from collections.abc import Iterator, Mapping
from importlib.metadata import EntryPoint
from pathlib import Path
from typing import Any

import attrs
import pluggy
import torch

from ganframe import hookspecs
from ganframe.components import BASES
from ganframe.errors import did_you_mean


def components_of(entry_point: EntryPoint) -> tuple[dict[str, dict[str, type]], str]:
    """The tables of components by kind, and a note for the user where the import changed torch's global state.

    Raises whatever the plugin's module raises, SystemExit included, and TypeError for invalid hooks or components.
    """
    # What a module prints must not get into the output of a command.
    with contextlib.redirect_stdout(sys.stderr), _torch_as_it_was() as changed:
        try:
            module = entry_point.load()
        except ModuleNotFoundError as error:
            if error.name not in (entry_point.module, entry_point.module.partition(".")[0]):
                raise  # something that the plugin imports
            raise ImportError(f"its entry point names '{entry_point.value}', and there is no such module") from error
        tables = _tables_of(module)
    return (
        tables,
        f"it changed {', '.join(changed)} at import, for the whole process; that was undone" if changed else "",
    )


@contextlib.contextmanager
def _torch_as_it_was() -> Iterator[list[str]]:
    """Restores torch's global state. Yields a list that then holds the names of what was restored."""
    changed: list[str] = []
    dtype, device, gradients = torch.get_default_dtype(), torch.get_default_device(), torch.is_grad_enabled()
    random = torch.get_rng_state()
    try:
        yield changed
    finally:
        if torch.get_default_dtype() != dtype:
            changed.append("torch's default dtype")
            torch.set_default_dtype(dtype)
        if torch.get_default_device() != device:
            changed.append("torch's default device")
            torch.set_default_device(None if device.type == "cpu" else device)
        if torch.is_grad_enabled() != gradients:
            changed.append("whether torch records gradients")
            torch.set_grad_enabled(gradients)
        torch.set_rng_state(random)


def cause_of(error: BaseException) -> str:
    """One line: the exception, and the place where it was raised, unless that is in the loader itself."""
    if isinstance(error, SystemExit):
        said = "" if error.code is None else f": {error.code}"
        return f"SystemExit{said}: it called exit(){_place(error)}"
    text = " ".join(str(error).split())
    return f"{type(error).__name__}{text and ': '}{text}{_place(error)}"


def _place(error: BaseException) -> str:
    """The last place of a traceback that is outside ganframe and the import system. A SyntaxError has its own."""
    folders = [Path(__file__).parents[1], Path(pluggy.__file__).parent, Path(os.__file__).parent / "importlib"]
    machinery = ("<frozen", *(f"{folder}{os.sep}" for folder in folders))
    own = [f for f in traceback.extract_tb(error.__traceback__) if not f.filename.startswith(machinery)]
    return (
        f" ({Path(own[-1].filename).name}, line {own[-1].lineno})" if own and not isinstance(error, SyntaxError) else ""
    )


def _tables_of(module: object) -> dict[str, dict[str, type]]:
    """The tables that a plugin's hooks return, checked. Each plugin has its own manager, so its faults stay its own."""
    manager = pluggy.PluginManager(hookspecs.PROJECT)
    manager.add_hookspecs(hookspecs)
    try:
        manager.register(module)
    except pluggy.PluginValidationError as error:  # the last line of its message is the reason
        raise TypeError(f"a hook of ganframe takes no arguments: {str(error).splitlines()[-1]}") from error
    callers = manager.get_hookcallers(module) or []
    for caller in callers:
        optional = all(implementation.optionalhook for implementation in caller.get_hookimpls())
        if caller.name not in hookspecs.HOOKS and not optional:
            raise TypeError(f"unknown hook '{caller.name}'{did_you_mean(caller.name, hookspecs.HOOKS)}")
    implemented = {caller.name for caller in callers}
    unmarked = [hook for hook in hookspecs.HOOKS if callable(getattr(module, hook, None)) and hook not in implemented]
    if unmarked:
        raise TypeError(f"{', '.join(unmarked)}: the decorator @hookimpl is missing")
    tables: dict[str, dict[str, type]] = {}
    for caller in callers:
        if caller.name in hookspecs.HOOKS:
            kind = hookspecs.HOOKS[caller.name]
            tables[kind] = _table(caller.name, kind, caller())
    if not any(tables.values()):
        raise TypeError(f"no hook returns a component; the hooks are {', '.join(hookspecs.HOOKS)}")
    return tables


def _table(hook: str, kind: str, returned: list[Any]) -> dict[str, type]:
    """Merges what the implementations of a hook returned. pluggy leaves out those that returned None."""
    if not returned:
        raise TypeError(f"{hook} returned None, not a table of names and classes; is `return` missing?")
    table: dict[str, type] = {}
    for part in returned:
        if not isinstance(part, Mapping):
            raise TypeError(f"{hook} returned a {type(part).__name__}, not a table: {{'name': Class}}")
        for name, offered in part.items():
            _check(kind, name, offered)
            if name in table:
                raise TypeError(f"{kind} '{name}' is given twice")
            table[name] = offered
    return table


def _check(kind: str, name: object, offered: object) -> None:
    base = BASES[kind]
    if not isinstance(name, str) or not name or ":" in name:
        raise TypeError(f"{kind} {name!r}: a name must be a non-empty string without ':'")
    if isinstance(offered, tuple(BASES.values())):
        raise TypeError(f"{kind} '{name}': give the class, {type(offered).__qualname__}, not an instance of it")
    if not isinstance(offered, type) or not issubclass(offered, base):
        hook = next(
            (h for h, k in hookspecs.HOOKS.items() if isinstance(offered, type) and issubclass(offered, BASES[k])), ""
        )
        remedy = hook and f"; {hook} is its hook"
        raise TypeError(f"{kind} '{name}': {offered!r} is not a subclass of ganframe.{base.__name__}{remedy}")
    if not attrs.has(offered) or "__attrs_attrs__" not in vars(offered):
        raise TypeError(
            f"{kind} '{name}': {offered.__qualname__} is not an attrs class; decorate it with @attrs.frozen"
        )
    types = typing.get_type_hints(offered)  # raises NameError for an unknown type
    for field in attrs.fields(offered):
        if field.name not in types or field.name == "use":
            reason = "has the name by which a recipe chooses the component" if field.name == "use" else "has no type"
            raise TypeError(f"{kind} '{name}': the option '{field.name}' {reason}")
