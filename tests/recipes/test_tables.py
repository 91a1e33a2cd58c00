"""Recipes as objects: defaults, help, and the plugins that they carry."""

import re

import attrs
import pytest

from ganframe import Recipe, component, load_recipe
from ganframe.plugins import discovery
from ganframe.plugins.registry import Registry
from ganframe.recipes.reading import load_generator_recipe
from ganframe.recipes.tables import Log, Prior, Train
from ganframe.recipes.writing import to_toml


def test_defaults_and_the_name(tiny):
    recipe = load_recipe(tiny(name="my try-2.toml"))
    assert recipe.name == "my try-2"
    assert recipe.constraints == ()
    assert recipe.train.critic_steps == 1
    assert recipe.train.ema_warmup == 10
    assert recipe.log.every == 50
    assert recipe.latent.distribution == "normal"
    assert [kind for kind, _ in recipe.components()] == ["dataset", "generator", "discriminator", "objective"]
    assert load_recipe(tiny(), ["name=other"]).name == "other"


@pytest.mark.parametrize("stem", ["..x", "-x", "a:b", "é", "%", "a?b*"])
def test_any_file_name_becomes_a_valid_name(tiny, stem):
    assert re.fullmatch(r"\w[\w .+-]*", load_recipe(tiny(name=f"{stem}.toml")).name)


def test_every_option_has_help():
    options = [a for cls in (Prior, Train, Log) for a in attrs.fields(cls)]
    assert len(options) > 10
    assert [a.name for a in options if not a.metadata.get("help")] == []


# ------------------------------------------------------------------------------------------------------------ registry


def test_recipe_carries_the_plugins_it_was_read_with(tiny, monkeypatch):
    loads, installed = [], discovery.installed
    monkeypatch.setattr("ganframe.plugins.registry.installed", lambda: (loads.append(1), installed())[1])
    file = tiny()
    registry = load_recipe(file).registry
    assert len(loads) == 1
    recipe = load_recipe(file, ["seed=2"], registry)
    assert recipe.registry is registry
    assert load_generator_recipe(file, registry).registry is registry
    assert attrs.evolve(recipe, seed=3).registry is registry
    assert to_toml(recipe)
    assert len(loads) == 1


def test_recipe_built_in_python_loads_the_plugins_itself():
    recipe = Recipe(
        dataset=component("dataset", "ring")(),
        generator=component("generator", "mlp")(),
        discriminator=component("discriminator", "mlp")(),
        objective=component("objective", "vanilla")(),
        train=Train(steps=1),
    )
    assert recipe.registry.full_name(type(recipe.dataset)) == "builtin:ring"
    assert 'use = "builtin:ring"' in to_toml(recipe)


def test_equality_ignores_the_registry(tiny):
    recipe = load_recipe(tiny())
    other = attrs.evolve(recipe, registry=Registry(()))
    assert other == recipe
    assert "registry" not in repr(recipe)
    assert attrs.evolve(recipe, seed=2) != recipe
