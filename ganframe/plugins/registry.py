"""The registry: installed plugins, each loaded in isolation, and their components and optimisers by name.

A plugin that fails to load, or is blocked, stays in the registry with the cause. It does not affect other plugins.
Nothing is cached: each call of `load` looks at what is installed now.
"""

from __future__ import annotations

import os
import time
from collections.abc import Iterable, Iterator
from typing import Any, Literal

import attrs

from ganframe.components import KINDS
from ganframe.errors import RequestError, did_you_mean, noted_if_slow
from ganframe.plugins.discovery import Found, installed
from ganframe.plugins.loader import cause_of, load_plugin

BLOCK_VARIABLE = "GANFRAME_BLOCK"
STRICT_VARIABLE = "GANFRAME_STRICT"

OPTIMIZER = "optimizer"
"""Where a table has a kind, that of optimisers, which are not components."""

FEATURES = "features"
"""The same for features: functions that build networks for metrics."""

EVERY = (*KINDS, OPTIMIZER, FEATURES)
"""All that plugins offer."""


@attrs.frozen
class Plugin:
    """One entry point and the result of loading it.

    `components` maps a kind to a table of name -> class; `optimizers` is such a table of torch.optim.Optimizer, and
    `features` one of functions.
    `cause` says why a plugin failed or is blocked; of a plugin that loaded, what its user must know.
    """

    name: str
    target: str
    distribution: str
    version: str
    status: Literal["loaded", "failed", "blocked"]
    cause: str = ""
    seconds: float = 0.0
    components: dict[str, dict[str, type]] = attrs.field(factory=dict)
    optimizers: dict[str, type] = attrs.field(factory=dict)
    features: dict[str, Any] = attrs.field(factory=dict)

    def table(self, kind: str) -> dict[str, Any]:
        """The classes of a kind of component by name, or for "optimizer" and "features" those."""
        others = {OPTIMIZER: self.optimizers, FEATURES: self.features}
        return others[kind] if kind in others else self.components.get(kind, {})

    @property
    def source(self) -> str:
        """For messages: the plugin's name and its distribution."""
        return f"{self.name} ({self.distribution} {self.version})"


@attrs.frozen
class Registry:
    """All plugins, and their components by kind and name."""

    plugins: tuple[Plugin, ...]

    def find(self, kind: str, name: str) -> Any:
        """The component class called `name`, `plugin:name` or, where two plugins share a name, `distribution:name`.

        `kind` may be "optimizer" or "features" too. Raises RequestError where no plugin or more than one offers it. The
        message lists similar names, the plugins that offer it, and plugins that failed to load.
        """
        owner, _, short = name.rpartition(":")
        asked = [p for p in self.plugins if owner in ("", p.name, p.distribution)]
        providers = [p for p in asked if short in p.table(kind)]
        offered = {p.table(kind)[short] for p in providers}
        if len(offered) == 1:  # several providers where a distribution has two entry points for one module
            return offered.pop()
        if providers:
            choices = " or ".join(
                f"'{self.full_name(p.table(kind)[short])}' from {p.distribution} {p.version}" for p in providers
            )
            raise RequestError(f"{kind} '{name}' is offered by {len(providers)} plugins; choose {choices}")
        elsewhere = [k for k in EVERY if k != kind and short in self.names(k)]
        hint = f"; '{short}' is of kind {elsewhere[0]}" if elsewhere else did_you_mean(short, self.names(kind))
        if not asked:
            hint = f"; no plugin '{owner}' is installed"
        raise RequestError(f"unknown {kind} '{name}'{_absent(asked)}{hint}")

    def optimizer(self, name: str) -> type:
        """The optimiser class called `name` or `plugin:name`. Raises RequestError as `find` does."""
        return self.find(OPTIMIZER, name)

    def names(self, kind: str) -> list[str]:
        """The names of all components of a kind, or of all optimisers, without their plugins' names."""
        return sorted({name for p in self.plugins for name in p.table(kind)})

    def offers(self, component: Any) -> bool:
        """Whether a loaded plugin offers this class."""
        return any(component in p.table(kind).values() for p in self.plugins for kind in EVERY)

    def locate(self, component: Any) -> tuple[Plugin, str]:
        """The plugin that offers a component or optimiser class, and its name there.

        Raises RequestError where none does.
        """
        for plugin in self.plugins:
            for kind in EVERY:
                for name, offered in plugin.table(kind).items():
                    if offered is component:
                        return plugin, name
        where = f"{component.__module__}.{component.__qualname__}"
        raise RequestError(f"{where} is offered by no loaded plugin, so no recipe can name it; return it from a hook")

    def full_name(self, component: Any) -> str:
        """plugin:name, which is unique among the installed plugins.

        Where plugins of two distributions have the same name, it is distribution:name.
        """
        plugin, name = self.locate(component)
        shared = any(p is not plugin and p.name == plugin.name and p.status == "loaded" for p in self.plugins)
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
    or their distributions' names, are not imported. With GANFRAME_STRICT=1 the first failure is raised.
    """
    blocked = {*block, *(name.strip() for name in os.environ.get(BLOCK_VARIABLE, "").split(","))}
    return Registry(_with_namesakes([_load_one(found, blocked) for found in installed()]))


def component(kind: str, name: str) -> type:
    """The class of a component: `component("objective", "wgan")`. Raises RequestError for an unknown kind or name."""
    if kind not in KINDS:
        raise RequestError(f"unknown kind '{kind}'{did_you_mean(kind, KINDS)}")
    return load().find(kind, name)


def _absent(plugins: list[Plugin]) -> str:
    """For messages: the plugins that did not load, with causes; only their names where they are many."""
    absent = [p for p in plugins if p.status != "loaded"]
    if len(absent) > 2:
        names = ", ".join(p.name for p in absent)
        return f"; {len(absent)} plugins are not loaded: {names} (`ganframe plugins` says why)"
    return "".join(f"; plugin {p.source} {p.status}: {p.cause}" for p in absent)


def _with_namesakes(plugins: list[Plugin]) -> tuple[Plugin, ...]:
    """The plugins, with a note on those that share a name: neither of them is wrong, so both stay loaded."""

    def noted(plugin: Plugin) -> Plugin:
        others = [p for p in plugins if p is not plugin and p.name == plugin.name and p.status == "loaded"]
        if not others or plugin.status != "loaded":
            return plugin
        rivals = ", ".join(f"{p.distribution} {p.version}" for p in others)
        cause = f"another plugin has this name, from {rivals}; in recipes this one is called '{plugin.distribution}'"
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
        with noted_if_slow(f"loading plugin {plugin.source}"):
            offered = load_plugin(found.entry_point)
    except KeyboardInterrupt:
        raise
    except BaseException as error:  # a plugin's module may raise anything, exit() included
        if strict:
            raise
        return attrs.evolve(plugin, status="failed", cause=cause_of(error), seconds=time.perf_counter() - start)
    return attrs.evolve(
        plugin,
        components=offered.components,
        optimizers=offered.optimizers,
        features=offered.features,
        cause=offered.note,
        seconds=time.perf_counter() - start,
    )
