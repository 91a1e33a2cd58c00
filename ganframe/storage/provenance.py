"""Versions: those that made a run, which of them differ now, and which plugins are missing."""

from __future__ import annotations

import json
import platform
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
from typing import Any

import accelerate
import torch

from ganframe import __version__
from ganframe.errors import RecipeError
from ganframe.plugins.discovery import installed
from ganframe.plugins.registry import Registry
from ganframe.storage.run_folder import RunFolder


def versions(
    components: Iterable[tuple[str, Any]], registry: Registry, optimizers: Iterable[type] = ()
) -> dict[str, Any]:
    """Versions of Python, torch, accelerate, ganframe, and of the plugins that offer `components` and `optimizers`.

    A component without a name of its own is an option of another one, and of that one's plugin.
    """
    offered = [type(component) for _, component in components if registry.offers(type(component))]
    used = {plugin.name: plugin for plugin, _ in map(registry.locate, [*offered, *optimizers])}
    return {
        "python": platform.python_version(),
        "torch": torch.__version__,
        "accelerate": accelerate.__version__,
        "ganframe": __version__,
        "plugins": {name: {"distribution": p.distribution, "version": p.version} for name, p in sorted(used.items())},
    }


def differences(then: Mapping[str, Any], now: Mapping[str, Any]) -> list[str]:
    """A line for each version that has changed, of torch, ganframe and the plugins in use."""
    before = _plugins(then)
    pairs = [(name, then.get(name), now[name]) for name in ("torch", "ganframe")]
    pairs += [
        (f"plugin {name}", before.get(name, {}).get("version"), p["version"]) for name, p in now["plugins"].items()
    ]
    return [f"it was made with {name} {was}, and this is {this}" for name, was, this in pairs if was != this]


def changed_versions(folder: RunFolder, components: Iterable[tuple[str, Any]], registry: Registry) -> list[str]:
    """The differences from a run's environment.json, where it has one, for the plugins of some of its components."""
    then = read_environment(folder)
    found = differences(then, versions(components, registry)) if "torch" in then else []
    return [f"{folder.path}: {line}" for line in found]


@contextmanager
def naming_missing_plugins(folder: RunFolder) -> Iterator[None]:
    """Adds to a RecipeError the plugins of a run that are not installed, and the commands that install them."""
    try:
        yield
    except RecipeError as error:
        there = {found.name for found in installed()}
        raise RecipeError([*error.problems, *_missing(folder, there)]) from None


def _missing(folder: RunFolder, there: set[str]) -> Iterator[str]:
    for name, plugin in _plugins(read_environment(folder)).items():
        if name not in there:
            distribution, version = plugin.get("distribution"), plugin.get("version")
            remedy = f"pip install {distribution}=={version}"
            yield f"{folder.path}: the run was made with plugin '{name}', which is not installed: {remedy}"


def read_environment(folder: RunFolder) -> dict[str, Any]:
    """environment.json as a dict, empty where it is missing or damaged."""
    try:
        found = json.loads(folder.environment.read_text(encoding="utf-8-sig"))
    except (OSError, ValueError, RecursionError):
        return {}
    return found if isinstance(found, dict) else {}


def threads_of(folder: RunFolder) -> int | None:
    """How many threads each process of a run had when it last began; None where environment.json does not say it."""
    found = read_environment(folder).get("threads")
    return found if type(found) is int and found > 0 else None


def _plugins(environment: Mapping[str, Any]) -> dict[str, dict[str, Any]]:
    """The plugins in an environment, which someone may have edited."""
    found = environment.get("plugins")
    return {n: p for n, p in found.items() if isinstance(p, dict)} if isinstance(found, dict) else {}
