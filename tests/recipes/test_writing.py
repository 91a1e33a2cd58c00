"""Recipes written back to TOML: complete, and equal when read again."""

from pathlib import Path

import attrs
import pytest
import tomli

from ganframe import Recipe, RecipeError, load_recipe
from ganframe.recipes.tables import Log
from ganframe.recipes.writing import to_toml

RECIPES = sorted((Path(__file__).parents[2] / "recipes").glob("*.toml"))


def options(cls):
    return {a.name for a in attrs.fields(cls)} - {"registry", "source", "timing"}


def test_there_are_recipes():
    assert RECIPES


@pytest.mark.parametrize("path", RECIPES, ids=lambda path: path.stem)
def test_written_recipe_is_equal_when_read_again(path, reread):
    recipe = load_recipe(path)
    again = reread(recipe)
    assert again == recipe
    assert again.name == path.stem
    assert to_toml(again) == to_toml(recipe)


def test_written_recipe_has_every_option_and_full_names(tiny):
    more = """
    [[constraints]]
    use = "weight_clipping"
    [optimizer.generator]
    use = "Adam"
    schedule = { use = "StepLR", step_size = 3 }
    """
    document = tomli.loads(to_toml(load_recipe(tiny(more), ["train.ema=0.5"])))
    assert document["dataset"] == {"use": "builtin:ring", "modes": 8, "radius": 1.0, "std": 0.01}
    assert document["generator"]["use"] == "builtin:mlp"
    assert document["discriminator"]["use"] == "builtin:mlp"
    assert document["objective"] == {"use": "builtin:vanilla"}
    assert document["constraints"] == [{"use": "builtin:weight_clipping", "limit": 0.01}]
    assert document["optimizer"]["generator"]["schedule"]["step_size"] == 3
    assert document["optimizer"]["discriminator"]["betas"] == [0.0, 0.9]  # the default, written out
    assert document["train"]["ema"] == 0.5
    assert document["train"]["ema_warmup"] == 10
    assert document["name"] == "tiny"
    assert set(document) == options(Recipe)  # no registry
    assert set(document["log"]) == options(Log) - {
        "keep_best",
        "samples_every",
        "checkpoint_every",
        "report_every",
    }  # none


def test_text_options_are_equal_when_read_again(tiny, reread):
    odd = 'a "quoted" \\ back\\slash, ünï'
    recipe = load_recipe(tiny(f"[log]\ntrackers = ['{odd}']\n"))
    assert reread(recipe).log.trackers == (odd,)


@pytest.mark.usefixtures("rival")
def test_written_recipe_names_the_plugin_where_two_share_a_component_name(tiny, reread):
    recipe = load_recipe(tiny(), ["objective.use=rival:vanilla"])
    assert tomli.loads(to_toml(recipe))["objective"] == {"use": "rival:vanilla", "margin": 1.0}
    assert reread(recipe) == recipe
    with pytest.raises(RecipeError, match=r"objective\.use: objective 'vanilla' is offered by 2 plugins; choose"):
        load_recipe(tiny())
