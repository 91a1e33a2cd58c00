"""Loads the installed plugins, each in isolation, and looks components up by name.

A plugin that fails, or is blocked, is kept in the registry with the cause, and leaves the others untouched. Nothing
is cached: each call of `load` looks at what is installed now. This module knows nothing of recipes or training.
"""

from __future__ import annotations

import contextlib
import os
import sys
import time
import traceback
import typing
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path
from typing import Any, Literal

import attrs
import pluggy
import torch

from ganframe import hookspecs
from ganframe.components import BASES, KINDS
from ganframe.discovery import Found, installed
from ganframe.errors import RequestError, did_you_mean

BLOCK_VARIABLE = "GANFRAME_BLOCK"
STRICT_VARIABLE = "GANFRAME_STRICT"


@attrs.frozen
class Plugin:
    """One entry point and what became of it. `components` maps a kind to a table of name -> class.

    `cause` says why a plugin failed or is blocked, and of one that loaded, what its user must know.
    """

    name: str
    target: str
    distribution: str
    version: str
    status: Literal["loaded", "failed", "blocked"]
    cause: str = ""
    seconds: float = 0.0
    components: dict[str, dict[str, type]] = attrs.field(factory=dict)

    @property
    def source(self) -> str:
        """For messages: the plugin's name and where it comes from."""
        return f"{self.name} ({self.distribution} {self.version})"


@attrs.frozen
class Registry:
    """All plugins, and their components by kind and name."""

    plugins: tuple[Plugin, ...]

    def find(self, kind: str, name: str) -> type:
        """The component class called `name`, `plugin:name` or, where two plugins share a name, `distribution:name`.

        Raises RequestError where no plugin or more than one offers it, naming near misses, rival providers, and
        plugins that failed to load and may have been meant.
        """
        owner, _, short = name.rpartition(":")
        asked = [p for p in self.plugins if owner in ("", p.name, p.distribution)]
        providers = [p for p in asked if short in p.components.get(kind, {})]
        offered = {p.components[kind][short] for p in providers}
        if len(offered) == 1:  # by several, where a distribution was installed under two names
            return offered.pop()
        if providers:
            choices = " or ".join(
                f"'{self.full_name(p.components[kind][short])}' from {p.distribution} {p.version}" for p in providers
            )
            raise RequestError(f"{kind} '{name}' is offered by {len(providers)} plugins; choose {choices}")
        elsewhere = [k for k in KINDS if k != kind and short in self.names(k)]
        hint = f"; '{short}' is a {elsewhere[0]}" if elsewhere else did_you_mean(short, self.names(kind))
        if not asked:
            hint = f"; no plugin '{owner}' is installed"
        raise RequestError(f"unknown {kind} '{name}'{_absent(asked)}{hint}")

    def names(self, kind: str) -> list[str]:
        """Every name under which a component of this kind can be asked for without its plugin's name."""
        return sorted({name for p in self.plugins for name in p.components.get(kind, {})})

    def locate(self, component: type) -> tuple[Plugin, str]:
        """The plugin that offers a component class and its name there. Raises RequestError where none does."""
        for plugin, _, name, offered in self:
            if offered is component:
                return plugin, name
        where = f"{component.__module__}.{component.__qualname__}"
        raise RequestError(f"{where} is offered by no loaded plugin, so no recipe can name it; return it from a hook")

    def full_name(self, component: type) -> str:
        """The name that means this component whatever else is installed beside it now: plugin:name.

        Where plugins of two distributions share their name, the distribution's stands for it.
        """
        plugin, name = self.locate(component)
        shared = any(p is not plugin and p.name == plugin.name and p.components for p in self.plugins)
        return f"{plugin.distribution if shared else plugin.name}:{name}"

    def __iter__(self) -> Iterator[tuple[Plugin, str, str, type]]:
        """(plugin, kind, name, class) for every component."""
        for plugin in self.plugins:
            for kind, table in plugin.components.items():
                for name, component in table.items():
                    yield plugin, kind, name, component


def load(block: Iterable[str] = ()) -> Registry:
    """Loads every installed plugin, ordered by distribution and name.

    Plugins named in `block` or in the environment variable GANFRAME_BLOCK (separated by commas), by their own names
    or their distributions', are not imported. With GANFRAME_STRICT=1 the first failure is raised.
    """
    blocked = {*block, *(name.strip() for name in os.environ.get(BLOCK_VARIABLE, "").split(","))}
    return Registry(_with_namesakes([_load_one(found, blocked) for found in installed()]))


def component(kind: str, name: str) -> type:
    """The class of a component: `component("objective", "wgan")`. Raises RequestError for an unknown kind or name."""
    if kind not in KINDS:
        raise RequestError(f"unknown kind '{kind}'{did_you_mean(kind, KINDS)}")
    return load().find(kind, name)


def _absent(plugins: list[Plugin]) -> str:
    """For messages: the plugins that would be there had they loaded; the cause of one, the names of many."""
    absent = [p for p in plugins if p.status != "loaded"]
    if len(absent) > 2:
        names = ", ".join(p.name for p in absent)
        return f"; {len(absent)} plugins are not loaded: {names} (`ganframe plugins` says why)"
    return "".join(f"; plugin {p.source} {p.status}: {p.cause}" for p in absent)


def _with_namesakes(plugins: list[Plugin]) -> tuple[Plugin, ...]:
    """The plugins, with a word on those that loaded under one name: no one of them can be called the wrong one."""

    def noted(plugin: Plugin) -> Plugin:
        others = [p for p in plugins if p is not plugin and p.name == plugin.name and p.components]
        if not others or not plugin.components:
            return plugin
        rivals = ", ".join(f"{p.distribution} {p.version}" for p in others)
        cause = f"another plugin has this name, from {rivals}; to recipes this one is '{plugin.distribution}'"
        return attrs.evolve(plugin, cause=cause)

    return tuple(map(noted, plugins))


def _load_one(found: Found, blocked: set[str]) -> Plugin:
    plugin = Plugin(found.name, found.target, found.distribution, found.version, status="loaded")
    if blocked & {plugin.name, plugin.distribution}:
        return attrs.evolve(plugin, status="blocked", cause=f"by --block or {BLOCK_VARIABLE}")
    strict = os.environ.get(STRICT_VARIABLE) == "1"
    if found.obstacle or found.entry_point is None:
        if strict:
            raise ImportError(f"plugin {plugin.source}: {found.obstacle}")
        return attrs.evolve(plugin, status="failed", cause=found.obstacle)
    start = time.perf_counter()
    try:
        # What a module prints must not get into a command's answer.
        with contextlib.redirect_stdout(sys.stderr), _torch_as_it_was() as changed:
            tables = _components_of(found.entry_point.load())
    except KeyboardInterrupt:
        raise
    except BaseException as error:  # a stranger's module may raise anything, exit() included
        if strict:
            raise
        return attrs.evolve(plugin, status="failed", cause=_cause(error), seconds=time.perf_counter() - start)
    note = f"it changed {', '.join(changed)} at import, for everyone; that was undone" if changed else ""
    return attrs.evolve(plugin, components=tables, cause=note, seconds=time.perf_counter() - start)


@contextlib.contextmanager
def _torch_as_it_was() -> Iterator[list[str]]:
    """Undoes what would change the runs of others; gives the names of what was undone."""
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


def _cause(error: BaseException) -> str:
    """One line: what was raised, and where, if that was not in the loader itself."""
    if isinstance(error, SystemExit):
        said = "" if error.code is None else f": {error.code}"
        return f"SystemExit{said}: it called exit(){_place(error)}"
    text = " ".join(str(error).split())
    return f"{type(error).__name__}{text and ': '}{text}{_place(error)}"


def _place(error: BaseException) -> str:
    frames = [frame.filename for frame in traceback.extract_tb(error.__traceback__)]
    lines = [frame.lineno for frame in traceback.extract_tb(error.__traceback__)]
    machinery = (__file__, str(Path(pluggy.__file__).parent), str(Path(os.__file__).parent / "importlib"), "<frozen")
    own = [(f, n) for f, n in zip(frames, lines, strict=True) if not f.startswith(machinery) and f != "<string>"]
    return f" ({Path(own[-1][0]).name}, line {own[-1][1]})" if own and not isinstance(error, SyntaxError) else ""


def _components_of(module: object) -> dict[str, dict[str, type]]:
    """The tables that a plugin's hooks return, checked. A manager of its own keeps one plugin's faults from others."""
    manager = pluggy.PluginManager(hookspecs.PROJECT)
    manager.add_hookspecs(hookspecs)
    try:
        manager.register(module)
    except pluggy.PluginValidationError as error:  # its message has a line for each thing
        raise TypeError(f"a hook of ganframe takes no arguments: {str(error).splitlines()[-1]}") from error
    callers = manager.get_hookcallers(module) or []
    for caller in callers:
        optional = all(implementation.optionalhook for implementation in caller.get_hookimpls())
        if caller.name not in hookspecs.HOOKS and not optional:
            raise TypeError(f"unknown hook '{caller.name}'{did_you_mean(caller.name, hookspecs.HOOKS)}")
    implemented = {caller.name for caller in callers}
    unmarked = [hook for hook in hookspecs.HOOKS if callable(getattr(module, hook, None)) and hook not in implemented]
    if unmarked:
        raise TypeError(f"{', '.join(unmarked)}: the mark @hookimpl is missing")
    tables: dict[str, dict[str, type]] = {}
    for caller in callers:
        if caller.name in hookspecs.HOOKS:
            kind = hookspecs.HOOKS[caller.name]
            tables[kind] = _table(caller.name, kind, caller())
    if not any(tables.values()):
        raise TypeError(f"no hook gives a component; the hooks are {', '.join(hookspecs.HOOKS)}")
    return tables


def _table(hook: str, kind: str, returned: list[Any]) -> dict[str, type]:
    """One table of what the implementations of a hook returned; pluggy leaves out those that returned None."""
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
        raise TypeError(f"{kind} {name!r}: a name is a non-empty string without ':'")
    if isinstance(offered, tuple(BASES.values())):
        raise TypeError(f"{kind} '{name}': give the class, {type(offered).__qualname__}, not an instance of it")
    if not isinstance(offered, type) or not issubclass(offered, base):
        hook = next(
            (h for h, k in hookspecs.HOOKS.items() if isinstance(offered, type) and issubclass(offered, BASES[k])), ""
        )
        remedy = hook and f"; {hook} is its hook"
        raise TypeError(f"{kind} '{name}': {offered!r} is no subclass of ganframe.{base.__name__}{remedy}")
    if not attrs.has(offered) or "__attrs_attrs__" not in vars(offered):
        raise TypeError(f"{kind} '{name}': {offered.__qualname__} is no attrs class; decorate it with @attrs.frozen")
    types = typing.get_type_hints(offered)  # raises NameError for a type that cannot be found
    for field in attrs.fields(offered):
        if field.name not in types or field.name == "use":
            reason = "is what a recipe calls the component" if field.name == "use" else "has no type"
            raise TypeError(f"{kind} '{name}': the option '{field.name}' {reason}")
