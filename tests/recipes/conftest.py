"""Recipes written and read again, and a plugin whose component has the name of a built-in one."""

import pytest

from ganframe import load_recipe
from ganframe.recipes.writing import to_toml


@pytest.fixture
def reread(tmp_path):
    """reread(recipe): the recipe written to TOML and loaded from there."""

    def write_and_load(recipe):
        file = tmp_path / "again.toml"
        file.write_text(to_toml(recipe), encoding="utf-8")
        return load_recipe(file)

    return write_and_load


@pytest.fixture
def rival(install):
    """An installed plugin `rival` with an objective `vanilla`."""
    install(
        "rival",
        """
        import attrs
        from ganframe import Objective, hookimpl, option

        @attrs.frozen
        class Rival(Objective):
            margin: float = option(1.0, help="of error")

        @hookimpl
        def ganframe_objectives():
            return {"vanilla": Rival}
        """,
    )
