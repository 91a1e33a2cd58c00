"""The README's recipe trains end to end, loaded through the plugin's entry point; and measure.py."""

import importlib.util
from pathlib import Path
from typing import get_args

import pytest
import torch
from ganframe_fgan import FGAN, MaximumLikelihood
from ganframe_fgan.divergences import Name

import ganframe

HERE = Path(__file__).parent
RECIPE = HERE.parent / "fgan_mixture.toml"
FEW = ["train.steps=3", "train.batch_size=64", "log.every=1", "log.samples_every=3", "log.checkpoint_every=3"]


@pytest.fixture(scope="module")
def measure():
    spec = importlib.util.spec_from_file_location("measure", HERE / "measure.py")
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def run_briefly(tmp_path, *changes):
    """Trains the recipe for three steps; losses and samples must be finite."""
    run = ganframe.run(ganframe.load_recipe(RECIPE, [*FEW, *changes]), out=tmp_path / "run")
    losses = [record[f"loss_{player}"] for record in run.log for player in ("generator", "discriminator")]
    assert len(losses) == 6
    assert torch.tensor(losses).isfinite().all()
    samples = ganframe.load_generator(run.folder).sample(5)
    assert samples.shape == (5, 1)
    assert samples.isfinite().all()


def test_recipe_trains_a_few_steps(tmp_path):
    assert ganframe.load_recipe(RECIPE).objective == FGAN()
    run_briefly(tmp_path)


@pytest.mark.parametrize("name", ["jeffrey", "jensen_shannon_weighted"])
def test_recipe_trains_with_other_options(name, tmp_path):
    options = f"objective={{use='f_gan', divergence='{name}', generator='non_saturating', pi=0.3}}"
    assert ganframe.load_recipe(RECIPE, [options]).objective == FGAN(name, "non_saturating", 0.3)
    run_briefly(tmp_path, options)


def test_recipe_trains_with_maximum_likelihood(tmp_path):
    likelihood = "objective={use='maximum_likelihood'}"
    assert ganframe.load_recipe(RECIPE, [likelihood]).objective == MaximumLikelihood()
    run_briefly(tmp_path, likelihood)


@pytest.mark.parametrize("mistake", ["objective.divergence='hellinger'", "objective.pi=1", "objective.pi='0.5'"])
def test_recipe_error_names_the_wrong_option(mistake):
    with pytest.raises(ganframe.RecipeError, match=mistake.partition("=")[0].replace(".", r"\.")):
        ganframe.load_recipe(RECIPE, [mistake])


def test_recipe_accepts_every_divergence():
    for name in get_args(Name):
        assert ganframe.load_recipe(RECIPE, [f"objective.divergence='{name}'"]).objective.divergence == name


@pytest.mark.parametrize("name", ["kl", "neyman", "total_variation"])
def test_best_gaussian_of_gaussian_data_is_the_data(name, measure):
    recipe = ganframe.load_recipe(RECIPE, ["dataset={use='gaussian_1d', means=[0.7], stds=[1.3], weights=[1.0]}"])
    assert measure.best(name, recipe) == pytest.approx((0.7, 1.3), abs=1e-3)


def test_best_gaussian_by_kl_has_the_moments_of_the_data(measure):
    # 0.6 N(1, 0.8²) + 0.4 N(3, 2²): mean 1.8, variance 0.6 (0.64 + 0.64) + 0.4 (4 + 1.44).
    assert measure.best("kl", ganframe.load_recipe(RECIPE)) == pytest.approx((1.8, 2.944**0.5), abs=1e-3)


@pytest.mark.parametrize("name", ["kl", "reverse_kl"])
def test_short_run_reaches_the_best_gaussian_of_its_divergence(name, measure, tmp_path):
    short = [f"{player}.schedule.total_iters=1500" for player in ("optimizer.generator", "optimizer.discriminator")]
    short += ["train.steps=1500", "train.batch_size=512", "log.samples_every=1500", "log.checkpoint_every=1500"]
    recipe = ganframe.load_recipe(RECIPE, [f"objective.divergence='{name}'", *short])
    run = ganframe.run(recipe, out=tmp_path / "run")
    # μ* and σ* are 1.8 and 1.72 by KL(p‖q), 1.59 and 1.40 by KL(q‖p): more than 5 % apart.
    assert measure.fitted(run.folder) == pytest.approx(measure.best(name, recipe), rel=0.05)
