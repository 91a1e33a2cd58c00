"""Finds installed plugins in the metadata of distributions. Imports none of them.

Knows distributions, versions and entry points; not hooks or components.
"""

from __future__ import annotations

import importlib.metadata
import os
from collections.abc import Iterator
from importlib.metadata import Distribution, EntryPoint

import attrs
from packaging.markers import UndefinedComparison, UndefinedEnvironmentName
from packaging.requirements import InvalidRequirement, Requirement
from packaging.utils import canonicalize_name

from ganframe import __version__

GROUP = "ganframe"


@attrs.frozen
class Found:
    """One entry point of the group `ganframe`: its name, its target, and the distribution that installed it.

    `obstacle` says why it must not be loaded; empty where nothing forbids it.
    """

    name: str
    target: str
    distribution: str
    version: str
    entry_point: EntryPoint | None
    obstacle: str = ""


def installed() -> list[Found]:
    """Every installed plugin, ordered by distribution and name.

    A distribution that is installed twice is found twice. Python imports the copy that comes first on its path, so
    the other copy gets an obstacle. So does a plugin whose distribution requires another version of ganframe.
    """
    seen: dict[str, Distribution] = {}
    found: list[Found] = []
    for dist in importlib.metadata.distributions():
        entry_points, broken = _entry_points(dist)
        if not entry_points and not broken:
            continue
        name, version = _field(dist, "Name"), _field(dist, "Version")
        first = seen.setdefault(canonicalize_name(name), dist) if name != "unknown" else dist
        if first is not dist and _identity(first) == _identity(dist):
            continue  # a folder that is on the path twice
        obstacle = broken or _shadowed(first, dist) or _built_for_another(dist)
        if broken:
            found.append(Found(name, "unknown", name, version, None, broken))
        found += (Found(e.name, e.value, name, version, e, obstacle) for e in entry_points)
    return sorted(found, key=lambda f: (f.distribution, f.name, f.target))  # stable: copies stay in the path's order


def _entry_points(dist: Distribution) -> tuple[list[EntryPoint], str]:
    """A distribution's entry points in the group, and the error where its file is damaged."""
    try:
        return list(dist.entry_points.select(group=GROUP)), ""
    except UnicodeDecodeError:  # not a text file, so no entry points
        return [], ""
    except Exception as error:  # any installed package may have left a damaged file
        if f"[{GROUP}]" not in (dist.read_text("entry_points.txt") or ""):
            return [], ""
        return [], f"entry_points.txt cannot be read: {error}; install the distribution again"


def _field(dist: Distribution, name: str) -> str:
    """A field of the metadata. An interrupted uninstall may have left its file missing or damaged."""
    try:
        return str(dist.metadata[name] or "unknown")
    except (OSError, LookupError, TypeError, ValueError):
        return "unknown"


def _identity(dist: Distribution) -> tuple[str, str]:
    return _folder(dist), _field(dist, "Version")


def _folder(dist: Distribution) -> str:
    return os.path.realpath(str(dist.locate_file("")))


def _shadowed(first: Distribution, dist: Distribution) -> str:
    if first is dist:
        return ""
    return (
        f"installed twice: {_field(first, 'Version')} in {_folder(first)} is used, not "
        f"{_field(dist, 'Version')} in {_folder(dist)}; uninstall one of them"
    )


def _built_for_another(dist: Distribution) -> str:
    for text in _requirements(dist):
        asked = str(text.specifier)
        if canonicalize_name(text.name) == "ganframe" and not text.specifier.contains(__version__, prereleases=True):
            name = _field(dist, "Name")
            return f"it needs ganframe{asked}, and this is {__version__}; install a version of {name} for this ganframe"
    return ""


def _requirements(dist: Distribution) -> Iterator[Requirement]:
    """The requirements that apply to this environment. What is missing or cannot be parsed is left out."""
    try:
        texts = dist.requires or ()
    except (OSError, LookupError, TypeError, ValueError):
        return
    for text in texts:
        try:
            requirement = Requirement(text)
            holds = requirement.marker is None or requirement.marker.evaluate({"extra": ""})
        except (InvalidRequirement, UndefinedComparison, UndefinedEnvironmentName):
            continue
        if holds:
            yield requirement
