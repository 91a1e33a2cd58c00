"""A resolved recipe as rows of a table, with the default of each option, so that a page can mark what differs."""

from __future__ import annotations

import inspect
import json
from collections.abc import Iterator, Mapping
from typing import Any

import attrs

from ganframe.engine.timing import ALWAYS
from ganframe.errors import RequestError
from ganframe.plugins.registry import Registry
from ganframe.recipes.optimizers import structure_optimizer
from ganframe.recipes.strict import join, toml_name
from ganframe.recipes.tables import Evaluation, Log, Prior, Recipe, Train

UNKNOWN = object()
"""The default of an option that none is known of, as its plugin is not installed."""
REQUIRED = object()
"""The default of an option that has none."""
PARTS = {"dataset": "dataset", "generator": "generator", "discriminator": "discriminator", "objective": "objective"}
LISTS = {"constraints": "constraint", "terms": "term", "metrics": "metric"}
TABLES = {"train": Train, "log": Log, "latent": Prior}


@attrs.frozen
class Row:
    """An option: its place in the recipe, its value and its default, UNKNOWN or REQUIRED where there is none."""

    place: str
    value: Any
    default: Any

    @property
    def differs(self) -> bool:
        """Whether a recipe must say it to have this value."""
        return self.default is REQUIRED or (self.default is not UNKNOWN and self.value != self.default)

    @property
    def texts(self) -> tuple[str, str, str]:
        """Place, value and default, as TOML has them."""
        said = {id(UNKNOWN): "not known", id(REQUIRED): "none, must be given"}.get(id(self.default))
        return self.place, in_toml(self.value), said if said is not None else in_toml(self.default)


def rows_of(document: Mapping[str, Any], registry: Registry) -> list[Row]:
    """The options of a recipe, as recipe.toml has them, in its order. Those of other tables have unknown defaults."""
    found: list[Row] = []
    for name, value in document.items():
        if name in LISTS and isinstance(value, list):
            for index, each in enumerate(value):
                found += _table(f"{name}[{index}]", each, _part(LISTS[name], each, registry))
        elif name == "optimizer" and isinstance(value, Mapping):
            for player, each in value.items():
                found += _table(join(name, player), each, _optimizer(each, registry))
        elif isinstance(value, Mapping):
            known = _part(PARTS[name], value, registry) if name in PARTS else _defaults(TABLES.get(name))
            found += _table(name, value, known)
        else:
            found.append(Row(name, value, _defaults(Recipe).get(name, UNKNOWN)))
    return found


def _table(place: str, table: Any, defaults: Mapping[str, Any]) -> Iterator[Row]:
    if not isinstance(table, Mapping):
        yield Row(place, table, UNKNOWN)
        return
    for name, value in table.items():
        yield Row(join(place, name), value, defaults.get(name, UNKNOWN))


def _part(kind: str, table: Any, registry: Registry) -> dict[str, Any]:
    """The defaults of a component by the name that it has in recipes."""
    if not isinstance(table, Mapping):
        return {}
    timing = {"every": ALWAYS.every, "start": ALWAYS.start}
    shared = _defaults(Evaluation) if kind == "metric" else timing
    known = {"use": REQUIRED, **shared}
    try:
        return known | _defaults(registry.find(kind, str(table.get("use"))))
    except RequestError:  # its plugin is not installed
        return known


def _optimizer(table: Any, registry: Registry) -> dict[str, Any]:
    """The defaults of an optimiser that is named in a recipe, by torch or its plugin."""
    if not isinstance(table, Mapping):
        return {}
    try:
        built = structure_optimizer({"use": table.get("use")}, registry)
    except Exception:  # of a plugin that is not installed, or with other options that it needs
        return {"use": REQUIRED, "lr": REQUIRED, "schedule": None, "max_norm": None}
    options = {name: _plain(value) for name, value in built.options.items()}
    return {"lr": REQUIRED, **options, "use": "torch:Adam", "schedule": None, "max_norm": None}


def _defaults(cls: Any) -> dict[str, Any]:
    """The defaults of the options of a component or a table."""
    if not (inspect.isclass(cls) and attrs.has(cls)):
        return {}
    return {
        toml_name(a.name): _default(a.default) for a in attrs.fields(cls) if a.init and a.metadata.get("option", True)
    }


def _default(default: Any) -> Any:
    if default is attrs.NOTHING:
        return REQUIRED
    if isinstance(default, attrs.Factory):  # type: ignore[arg-type]
        return UNKNOWN if default.takes_self else _plain(default.factory())
    return _plain(default)


def _plain(value: Any) -> Any:
    """A default in the types that TOML has. Of components, as an option may hold them, nothing is said."""
    if isinstance(value, (tuple, list)):
        return [_plain(item) for item in value]
    return value if value is None or isinstance(value, (bool, int, float, str, Mapping)) else UNKNOWN


def in_toml(value: Any) -> str:
    """A value in one line, as TOML would have it."""
    if isinstance(value, Mapping):
        return "{ " + ", ".join(f"{name} = {in_toml(item)}" for name, item in value.items()) + " }"
    if isinstance(value, (list, tuple)):
        return "[" + ", ".join(map(in_toml, value)) + "]"
    if value is None:
        return "none"
    if isinstance(value, bool):
        return str(value).lower()
    return json.dumps(value, ensure_ascii=False) if isinstance(value, str) else str(value)
