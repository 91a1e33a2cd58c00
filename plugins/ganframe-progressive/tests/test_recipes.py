"""The package's recipes are read and train: on data that is there, or shortened and made small."""

from pathlib import Path

import pytest
import torch
from torchvision.utils import save_image

import ganframe
from ganframe import DataSpec

FOLDER = Path(__file__).parent.parent
PLAYERS = ("generator", "discriminator")
SHORT = ["train.steps=4", "train.batch_size=8", "metrics=[]", "log.every=1"]
RECIPES = ("progressive_digits", "progressive_fashion_mnist", "gpu/progressive_128")


def grown(steps):
    """Stages of one step each, without fading, and tiny networks."""
    options = [f"stage_steps={[1] * steps}", "fade_steps=0", "width=2"]
    return [f"{player}.{option}" for player in PLAYERS for option in options]


def data_of(recipe):
    """The data, as far as the schedule depends on it, where it is not there."""
    return DataSpec((1, recipe.dataset.size, recipe.dataset.size))


def test_recipe_of_digits_trains_a_few_steps(tmp_path):
    run = ganframe.run(ganframe.load_recipe(FOLDER / "progressive_digits.toml", [*SHORT, *grown(2)]), tmp_path / "run")
    assert [record["step"] for record in run.log] == [1, 2, 3, 4]
    for record in run.log:
        assert {"loss_generator", "loss_discriminator", "penalty_gradient_penalty", "term_drift"} <= record.keys()
        assert torch.tensor([value for key, value in record.items() if "_" in key]).isfinite().all()


def test_recipe_of_garments_trains_a_few_steps(tmp_path):
    recipe = ganframe.load_recipe(FOLDER / "progressive_fashion_mnist.toml", [*SHORT, *grown(3)])
    try:
        recipe.dataset.build()
    except ValueError as absent:
        pytest.skip(str(absent))
    run = ganframe.run(recipe, tmp_path / "run")
    assert ganframe.load_generator(run.folder).sample(2).shape == (2, 1, 32, 32)


def test_recipe_for_a_gpu_trains_on_a_folder_of_images(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "images").mkdir()
    for i in range(8):
        save_image(torch.rand(3, 9, 12), tmp_path / "images" / f"{i}.png")
    small = [*SHORT, *grown(2), "dataset.size=16", "train.workers=0", "latent.dim=4"]
    run = ganframe.run(ganframe.load_recipe(FOLDER / "gpu" / "progressive_128.toml", small), tmp_path / "run")
    assert run.log[-1]["step"] == 4


def test_recipe_for_a_gpu_has_the_settings_of_the_paper():
    """800,000 images for each phase, and the penalty that `gradient_penalty` has for single samples."""
    recipe = ganframe.load_recipe(FOLDER / "gpu" / "progressive_128.toml")
    batch, phase = recipe.train.batch_size, 800_000
    G, D = recipe.generator, recipe.discriminator
    assert (G.width, G.fade_steps * batch, G.stage_steps[0] * batch) == (512, phase, phase)
    assert {steps * batch for steps in G.stage_steps[1:]} == {2 * phase}
    assert recipe.train.steps * batch == sum(G.stage_steps) * batch + 2 * phase
    growth = G.growth(data_of(recipe))
    assert [2 ** (2 + stage) for stage in range(len(growth.begins))] == [4, 8, 16, 32, 64, 128]
    (penalty,), (drift,) = recipe.constraints, recipe.terms
    m = D.minibatch_stddev
    assert (penalty.weight / m, penalty.target**2 * m, drift.weight) == (10, 1, 1e-3)
    for player in PLAYERS:
        options = getattr(recipe.optimizer, player).options
        assert (options["lr"], tuple(options["betas"]), options["eps"]) == (1e-3, (0, 0.99), 1e-8)


@pytest.mark.parametrize("name", RECIPES)
def test_players_of_a_recipe_grow_together_and_end_before_the_run(name):
    recipe = ganframe.load_recipe(FOLDER / f"{name}.toml")
    G, D = (player.growth(data_of(recipe)).grows_at for player in (recipe.generator, recipe.discriminator))
    assert G == D
    assert max(G) < recipe.train.steps


def test_labels_enter_by_two_options(tmp_path):
    """A recipe in which only one of the players heeded them would be refused."""
    labels = ["generator.condition='concat'", "discriminator.condition='projection'"]
    recipe = ganframe.load_recipe(FOLDER / "progressive_digits.toml", [*SHORT, *grown(2), *labels])
    G = ganframe.load_generator(ganframe.run(recipe, tmp_path / "run").folder)
    assert not torch.equal(G.sample(2, y=7, seed=1), G.sample(2, y=3, seed=1))
