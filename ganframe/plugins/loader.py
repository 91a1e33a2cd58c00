"""Loads one plugin in isolation: imports its module, calls its hooks, checks the components they return.

Knows hooks and what a component must be; not other plugins, nor how a failure is recorded.
"""

from __future__ import annotations

import contextlib
import inspect
import os
import sys
import traceback
import typing
from collections.abc import Callable, Iterator, Mapping
from importlib.metadata import EntryPoint
from pathlib import Path
from typing import Any

import attrs
import pluggy
import torch

from ganframe import hookspecs
from ganframe.components import BASES
from ganframe.errors import did_you_mean


@attrs.frozen
class Offered:
    """What a plugin offers: tables name -> class, of components by kind and of optimisers, and functions of features.

    `note` is for the user: what the import changed in torch's global state.
    """

    components: dict[str, dict[str, type]]
    optimizers: dict[str, type]
    features: dict[str, Any]
    note: str = ""


def load_plugin(entry_point: EntryPoint) -> Offered:
    """Imports a plugin's module and calls its hooks.

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
        offered = _offered_by(module)
    note = f"it changed {', '.join(changed)} at import, for the whole process; that was undone" if changed else ""
    return attrs.evolve(offered, note=note)


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


def _offered_by(module: object) -> Offered:
    """The tables that a plugin's hooks return, checked. Each plugin has its own manager, so its faults stay its own."""
    manager = pluggy.PluginManager(hookspecs.PROJECT)
    manager.add_hookspecs(hookspecs)
    try:
        manager.register(module)
    except pluggy.PluginValidationError as error:  # the last line of its message is the reason
        raise TypeError(f"a hook of ganframe takes no arguments: {str(error).splitlines()[-1]}") from error
    callers = manager.get_hookcallers(module) or []
    hooks = (*hookspecs.HOOKS, hookspecs.OPTIMIZERS, hookspecs.FEATURES)
    for caller in callers:
        optional = all(implementation.optionalhook for implementation in caller.get_hookimpls())
        if caller.name not in hooks and not optional:
            raise TypeError(f"unknown hook '{caller.name}'{did_you_mean(caller.name, hooks)}")
    implemented = {caller.name for caller in callers}
    unmarked = [hook for hook in hooks if callable(getattr(module, hook, None)) and hook not in implemented]
    if unmarked:
        raise TypeError(f"{', '.join(unmarked)}: the decorator @hookimpl is missing")
    components: dict[str, dict[str, type]] = {}
    optimizers: dict[str, type] = {}
    features: dict[str, Any] = {}
    for caller in callers:
        if caller.name in hookspecs.HOOKS:
            kind = hookspecs.HOOKS[caller.name]
            components[kind] = _table(caller.name, kind, caller(), _check_component)
        elif caller.name == hookspecs.OPTIMIZERS:
            optimizers = _table(caller.name, "optimizer", caller(), _check_optimizer)
        elif caller.name == hookspecs.FEATURES:
            features = _table(caller.name, "features", caller(), _check_features)
    if not any(components.values()) and not optimizers and not features:
        raise TypeError(f"no hook returns a component, an optimizer or features; the hooks are {', '.join(hooks)}")
    return Offered(components, optimizers, features)


def _table(hook: str, kind: str, returned: list[Any], check: Callable[[str, str, object], None]) -> dict[str, Any]:
    """Merges what the implementations of a hook returned. pluggy leaves out those that returned None."""
    if not returned:
        raise TypeError(f"{hook} returned None, not a table of names and classes; is `return` missing?")
    table: dict[str, Any] = {}
    for part in returned:
        if not isinstance(part, Mapping):
            raise TypeError(f"{hook} returned a {type(part).__name__}, not a table: {{'name': Class}}")
        for name, offered in part.items():
            if not isinstance(name, str) or not name or ":" in name:
                raise TypeError(f"{kind} {name!r}: a name must be a non-empty string without ':'")
            check(kind, name, offered)
            if name in table:
                raise TypeError(f"{kind} '{name}' is given twice")
            table[name] = offered
    return table


def _check_component(kind: str, name: str, offered: object) -> None:
    base = BASES[kind]
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
    if not _is_frozen(offered):
        raise TypeError(
            f"{kind} '{name}': {offered.__qualname__} can be changed, and no checkpoint would keep the change; "
            "decorate it with @attrs.frozen"
        )
    types = typing.get_type_hints(offered)  # raises NameError for an unknown type
    for field in attrs.fields(offered):
        reason = _fault_of_option(field, types)
        if reason:
            raise TypeError(f"{kind} '{name}': the option '{field.name}' {reason}")


def _fault_of_option(field: attrs.Attribute[Any], types: Mapping[str, Any]) -> str:
    """Why a recipe could not hold this field, or an empty string."""
    if field.name == "use":
        return "has the name by which a recipe chooses the component"
    if field.name not in types:
        return "has no type"
    if not field.init:
        return "has init=False, so a recipe that was written could not be read again; make it a property"
    return ""


def _is_frozen(cls: type) -> bool:
    """Whether instances refuse to be changed, as those of @attrs.frozen do. No instance is configured for it."""
    try:
        setattr(object.__new__(cls), "an option it does not have", None)
    except attrs.exceptions.FrozenInstanceError:
        return True
    except AttributeError:  # a class with slots that has not this one
        return False
    return False


def _check_optimizer(kind: str, name: str, offered: object) -> None:
    """Requires a class that Algorithm 1 can use: its step needs no closure."""
    base = torch.optim.Optimizer
    if isinstance(offered, base):
        raise TypeError(f"{kind} '{name}': give the class, {type(offered).__qualname__}, not an instance of it")
    if not isinstance(offered, type) or not issubclass(offered, base):
        raise TypeError(f"{kind} '{name}': {offered!r} is not a subclass of torch.optim.Optimizer")
    required = [
        p.name
        for p in list(inspect.signature(offered.step).parameters.values())[1:]
        if p.default is p.empty and p.kind in (p.POSITIONAL_ONLY, p.POSITIONAL_OR_KEYWORD, p.KEYWORD_ONLY)
    ]
    if required:
        raise TypeError(
            f"{kind} '{name}': its step needs {', '.join(required)}, but it is called without arguments, after "
            "backward(); give a default"
        )


def _check_features(kind: str, name: str, offered: object) -> None:
    """Requires a function of one argument, which builds the features."""
    if isinstance(offered, (type, torch.nn.Module)) or not callable(offered):
        raise TypeError(f"{kind} '{name}': {offered!r:.80} is not a function: write name(judging) -> Features")
    try:
        inspect.signature(offered).bind(None)
    except TypeError as error:
        raise TypeError(f"{kind} '{name}': is called with one argument, judging: {error}") from None
