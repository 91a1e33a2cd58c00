"""The README's recipe trains end to end, loaded through the plugin's entry point."""

from pathlib import Path

import pytest
import torch

import ganframe

RECIPE = Path(__file__).parent.parent / "r3gan_digits.toml"
FEW = ["train.steps=3", "train.batch_size=8", "log.every=1", "log.samples_every=3", "log.checkpoint_every=3"]


def test_recipe_trains_a_few_steps(tmp_path):
    run = ganframe.run(ganframe.load_recipe(RECIPE, FEW), out=tmp_path / "run")
    assert [record["step"] for record in run.log] == [1, 2, 3]
    for record in run.log:
        assert {"loss_generator", "loss_discriminator", "penalty_r1", "penalty_r2"} <= record.keys()
        assert torch.tensor([value for key, value in record.items() if "_" in key]).isfinite().all()
    samples = ganframe.load_generator(run.folder).sample(5)
    assert samples.shape == (5, *ganframe.load_recipe(RECIPE).dataset.spec.shape)
    assert samples.isfinite().all()


def test_recipe_trains_with_labels(tmp_path):
    labels = ["generator.condition='concat'", "discriminator.condition='projection'"]
    run = ganframe.run(ganframe.load_recipe(RECIPE, FEW + labels), out=tmp_path / "run")
    assert ganframe.load_generator(run.folder).sample(2, y=7).isfinite().all()


def test_discriminator_with_batchnorm_raises_recipe_error(tmp_path):
    recipe = ganframe.load_recipe(RECIPE, ["dataset.size=16", "discriminator={use='dcgan', norm='batch'}"])
    with pytest.raises(ganframe.RecipeError, match="mixes samples"):
        ganframe.run(recipe, out=tmp_path / "run")
