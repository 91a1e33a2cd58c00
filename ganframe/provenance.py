"""What made a run: the versions of all that computes its numbers, what differs from them now, and what is missing.

A run is known by its folder; nothing here builds or trains.
"""

from __future__ import annotations

import json
import platform
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
from typing import Any

import accelerate
import torch

from ganframe import __version__, plugins
from ganframe.discovery import installed
from ganframe.errors import RecipeError
from ganframe.plugins import Registry
from ganframe.runfolder import RunFolder


def versions(components: Iterable[tuple[str, Any]], registry: Registry) -> dict[str, Any]:
    """Versions of Python, torch, accelerate, ganframe, and of each plugin that gave one of `components`."""
    used = {plugin.name: plugin for _, c in components for plugin, _ in [registry.locate(type(c))]}
    return {
        "python": platform.python_version(),
        "torch": torch.__version__,
        "accelerate": accelerate.__version__,
        "ganframe": __version__,
        "plugins": {name: {"distribution": p.distribution, "version": p.version} for name, p in sorted(used.items())},
    }


def differences(then: Mapping[str, Any], now: Mapping[str, Any]) -> list[str]:
    """A line for each of torch, ganframe and the plugins in use whose version is another than it was."""
    before = _plugins(then)
    pairs = [(name, then.get(name), now[name]) for name in ("torch", "ganframe")]
    pairs += [
        (f"plugin {name}", before.get(name, {}).get("version"), p["version"]) for name, p in now["plugins"].items()
    ]
    return [f"it was made with {name} {was}, and this is {this}" for name, was, this in pairs if was != this]


def changed(folder: RunFolder, components: Iterable[tuple[str, Any]]) -> list[str]:
    """The differences from a run's environment.json, where it has one, for the plugins of some of its components."""
    then = read(folder)
    found = differences(then, versions(components, plugins.load())) if then else []
    return [f"{folder.path}: {line}" for line in found]


@contextmanager
def telling_what_is_missing(folder: RunFolder) -> Iterator[None]:
    """Adds to a RecipeError which of the plugins that a run was made with are not installed, and how to get them."""
    try:
        yield
    except RecipeError as error:
        there = {found.name for found in installed()}
        raise RecipeError([*error.problems, *_missing(folder, there)]) from None


def _missing(folder: RunFolder, there: set[str]) -> Iterator[str]:
    for name, plugin in _plugins(read(folder)).items():
        if name not in there:
            distribution, version = plugin.get("distribution"), plugin.get("version")
            remedy = f"pip install {distribution}=={version}"
            yield f"{folder.path}: the run was made with plugin '{name}', which is not installed: {remedy}"


def read(folder: RunFolder) -> dict[str, Any]:
    """What environment.json says; nothing where it is missing or damaged."""
    try:
        found = json.loads(folder.environment.read_text(encoding="utf-8"))
    except (OSError, ValueError, RecursionError):
        return {}
    return found if isinstance(found, dict) else {}


def _plugins(environment: Mapping[str, Any]) -> dict[str, dict[str, Any]]:
    """The plugins of an environment, whatever someone may have written into it."""
    found = environment.get("plugins")
    return {n: p for n, p in found.items() if isinstance(p, dict)} if isinstance(found, dict) else {}
