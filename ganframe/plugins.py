"""Finds plugins by their entry points, loads each in isolation, and looks components up by name.

A plugin that fails, or is blocked, is kept in the registry with the cause, and leaves the others untouched. Nothing
is cached: each call of `load` looks at what is installed now. This module knows nothing of recipes or training.
"""

from __future__ import annotations

import importlib.metadata
import os
import time
import typing
from collections.abc import Iterable, Iterator
from typing import Literal

import attrs
import pluggy

from ganframe import hookspecs
from ganframe.components import BASES, KINDS
from ganframe.errors import RequestError, did_you_mean

GROUP = "ganframe"
BLOCK_VARIABLE = "GANFRAME_BLOCK"
STRICT_VARIABLE = "GANFRAME_STRICT"


@attrs.frozen
class Plugin:
    """One entry point and what became of it. `components` maps a kind to a table of name -> class."""

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
        """The component class called `name`, or `plugin:name`.

        Raises RequestError where no plugin or more than one offers it, naming near misses, rival providers, and
        plugins that failed to load and may have been meant.
        """
        owner, _, short = name.rpartition(":")
        providers = [p for p in self.plugins if short in p.components.get(kind, {}) and (not owner or p.name == owner)]
        if len(providers) == 1:
            return providers[0].components[kind][short]
        if providers:
            choices = " or ".join(f"'{p.name}:{short}' from {p.distribution} {p.version}" for p in providers)
            raise RequestError(f"{kind} '{name}' is offered by {len(providers)} plugins; choose {choices}")
        absent = [p for p in self.plugins if p.status != "loaded" and (not owner or p.name == owner)]
        missing = "".join(f"; plugin {p.source} {p.status}: {p.cause}" for p in absent)
        raise RequestError(f"unknown {kind} '{name}'{did_you_mean(short, self.names(kind))}{missing}")

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

    def __iter__(self) -> Iterator[tuple[Plugin, str, str, type]]:
        """(plugin, kind, name, class) for every component."""
        for plugin in self.plugins:
            for kind, table in plugin.components.items():
                for name, component in table.items():
                    yield plugin, kind, name, component


def load(block: Iterable[str] = ()) -> Registry:
    """Loads every installed plugin, ordered by distribution and name.

    Plugins named in `block` or in the environment variable GANFRAME_BLOCK (separated by commas) are not imported.
    With GANFRAME_STRICT=1 the first failure is raised.
    """
    blocked = {*block, *(name.strip() for name in os.environ.get(BLOCK_VARIABLE, "").split(","))}
    plugins: list[Plugin] = []
    for entry_point in _entry_points():
        rival = next((p for p in plugins if p.name == entry_point.name), None)
        plugins.append(_load_one(entry_point, blocked, rival))
    return Registry(tuple(plugins))


def component(kind: str, name: str) -> type:
    """The class of a component: `component("objective", "wgan")`. Raises RequestError for an unknown kind or name."""
    if kind not in KINDS:
        raise RequestError(f"unknown kind '{kind}'{did_you_mean(kind, KINDS)}")
    return load().find(kind, name)


def _entry_points() -> list[importlib.metadata.EntryPoint]:
    found = importlib.metadata.entry_points(group=GROUP)
    return sorted(found, key=lambda e: (str(e.dist and e.dist.name), e.name, e.value))


def _load_one(entry_point: importlib.metadata.EntryPoint, blocked: set[str], rival: Plugin | None) -> Plugin:
    dist = entry_point.dist
    plugin = Plugin(
        name=entry_point.name,
        target=entry_point.value,
        distribution=(dist and dist.name) or "unknown",
        version=(dist and dist.version) or "unknown",
        status="loaded",
    )
    if plugin.name in blocked:
        return attrs.evolve(plugin, status="blocked", cause=f"by --block or {BLOCK_VARIABLE}")
    start = time.perf_counter()
    try:
        if rival is not None:
            raise ValueError(f"another plugin has this name: {rival.target} of {rival.distribution} {rival.version}")
        tables = _components_of(entry_point.load())
    except KeyboardInterrupt:
        raise
    except BaseException as error:  # a stranger's module may raise anything, exit() included
        if os.environ.get(STRICT_VARIABLE) == "1":
            raise
        text = " ".join(str(error).split())  # one line
        cause = f"{type(error).__name__}: {text}" if text else type(error).__name__
        return attrs.evolve(plugin, status="failed", cause=cause, seconds=time.perf_counter() - start)
    return attrs.evolve(plugin, components=tables, seconds=time.perf_counter() - start)


def _components_of(module: object) -> dict[str, dict[str, type]]:
    """The tables that a plugin's hooks return, checked. A manager of its own keeps one plugin's faults from others."""
    manager = pluggy.PluginManager(hookspecs.PROJECT)
    manager.add_hookspecs(hookspecs)
    manager.register(module)
    manager.check_pending()  # an implementation of a hook that does not exist is a misspelling
    tables: dict[str, dict[str, type]] = {}
    for hook, kind in hookspecs.HOOKS.items():
        for table in getattr(manager.hook, hook)():
            for name, offered in dict(table).items():
                _check(kind, name, offered)
                tables.setdefault(kind, {})[name] = offered
    if not tables:
        raise TypeError("no hook of ganframe is implemented; is @hookimpl missing?")
    return tables


def _check(kind: str, name: object, offered: object) -> None:
    base = BASES[kind]
    if not isinstance(name, str) or not name or ":" in name:
        raise TypeError(f"{kind} {name!r}: a name is a non-empty string without ':'")
    if not isinstance(offered, type) or not issubclass(offered, base):
        raise TypeError(f"{kind} '{name}': {offered!r} is no subclass of ganframe.{base.__name__}")
    if not attrs.has(offered) or "__attrs_attrs__" not in vars(offered):
        raise TypeError(f"{kind} '{name}': {offered.__qualname__} is no attrs class; decorate it with @attrs.frozen")
    types = typing.get_type_hints(offered)  # raises NameError for a type that cannot be found
    for field in attrs.fields(offered):
        if field.name not in types or field.name == "use":
            reason = "is what a recipe calls the component" if field.name == "use" else "has no type"
            raise TypeError(f"{kind} '{name}': the option '{field.name}' {reason}")
