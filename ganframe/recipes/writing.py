"""Writes a recipe back to TOML, as a run keeps it."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import attrs
import tomli_w

from ganframe.components import BASES
from ganframe.recipes.optimizers import Optimizer, Schedule
from ganframe.recipes.tables import Comparison, Recipe


def to_toml(recipe: Recipe | Comparison) -> str:
    """The recipe with every option written out, and every component by its full name, plugin:name."""

    def plain(value: Any) -> Any:
        if isinstance(value, (Optimizer, Schedule)):
            table = {"use": value.use, **plain(value.options)}
            if isinstance(value, Optimizer) and value.schedule is not None:
                table["schedule"] = plain(value.schedule)
            return table
        if attrs.has(type(value)):
            options = [a.name for a in attrs.fields(type(value)) if a.metadata.get("option", True)]
            table = {name: plain(getattr(value, name)) for name in options}
            if isinstance(value, tuple(BASES.values())):
                table = {"use": recipe.registry.full_name(type(value)), **table}
            return {key: item for key, item in table.items() if item is not None}  # TOML has no None
        if isinstance(value, (tuple, list)):
            return [plain(item) for item in value]
        return {key: plain(item) for key, item in value.items()} if isinstance(value, Mapping) else value

    return tomli_w.dumps(plain(recipe))
