"""The README's recipes train end to end, loaded through the plugin's entry point."""

from pathlib import Path

import pytest
import torch
from ganframe_losses import LeastSquares, RelativisticAverage

import ganframe

FOLDER = Path(__file__).parent.parent
RECIPES = {"least_squares_digits": LeastSquares, "relativistic_average_ring": RelativisticAverage}
FEW = ["train.steps=3", "log.every=1", "log.samples_every=3", "log.checkpoint_every=3"]


@pytest.mark.parametrize("name", RECIPES)
def test_recipe_trains_a_few_steps(name, tmp_path):
    recipe = ganframe.load_recipe(FOLDER / f"{name}.toml", FEW)
    assert recipe.objective == RECIPES[name]()
    run = ganframe.run(recipe, out=tmp_path / "run")
    losses = [record[f"loss_{player}"] for record in run.log for player in ("generator", "discriminator")]
    assert len(losses) == 6
    assert torch.tensor(losses).isfinite().all()
    samples = ganframe.load_generator(run.folder).sample(4)
    assert samples.shape == (4, *recipe.dataset.spec.shape)
    assert samples.isfinite().all()


def test_every_recipe_file_is_tested():
    assert {path.stem for path in FOLDER.glob("*.toml")} == {*RECIPES, "pyproject"}


def test_recipe_sets_least_squares_codes():
    codes = ["objective.fake=-1", "objective.wanted=0"]
    recipe = ganframe.load_recipe(FOLDER / "least_squares_digits.toml", codes)
    assert recipe.objective == LeastSquares(fake=-1.0, real=1.0, wanted=0.0)
    with pytest.raises(ganframe.RecipeError, match="above fake"):
        ganframe.load_recipe(FOLDER / "least_squares_digits.toml", ["objective.fake=2"])
