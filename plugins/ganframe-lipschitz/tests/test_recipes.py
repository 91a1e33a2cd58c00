"""The recipes train, end to end, through the plugin's entry point; and each constraint does, in a short game."""

from pathlib import Path

import pytest
import torch
from ganframe_lipschitz import DRAGAN, Consistency, InstanceNoise, LipschitzPenalty, Orthogonal

import ganframe

FOLDER = Path(__file__).parent.parent
FEW = ["train.steps=3", "train.batch_size=8", "log.every=1", "log.samples_every=3", "log.checkpoint_every=3"]
OFFERED = {
    "lp": LipschitzPenalty,
    "consistency": Consistency,
    "dragan": DRAGAN,
    "orthogonal": Orthogonal,
    "instance_noise": InstanceNoise,
}
GAME = """
[dataset]
use = "digits"
size = 16
[generator]
use = "mlp"
[discriminator]
use = "mlp"
dropout = 0.3
[objective]
use = "non_saturating"
[[constraints]]
use = "{}"
[train]
steps = 3
"""


@pytest.mark.parametrize(
    ("name", "penalties"), [("wgan_lp_grid", {"lp"}), ("ct_gan_digits", {"gradient_penalty", "consistency"})]
)
def test_a_recipe_trains(name, penalties, tmp_path):
    recipe = ganframe.load_recipe(FOLDER / f"{name}.toml", FEW)
    run = ganframe.run(recipe, out=tmp_path / "run")
    assert [record["step"] for record in run.metrics] == [1, 2, 3]
    for record in run.metrics:
        assert {f"penalty_{penalty}" for penalty in penalties} <= record.keys()
        assert torch.tensor([value for key, value in record.items() if "_" in key]).isfinite().all()
    assert ganframe.load_generator(run.folder).sample(5).shape == (5, *recipe.dataset.spec.shape)


@pytest.mark.parametrize("name", OFFERED)
def test_each_is_found_by_its_name_and_trains(name, tmp_path):
    assert ganframe.component("constraint", f"lipschitz:{name}") is OFFERED[name]
    file = tmp_path / "game.toml"
    file.write_text(GAME.format(name))
    run = ganframe.run(ganframe.load_recipe(file, FEW), out=tmp_path / "run")
    for record in run.metrics:
        assert torch.tensor([value for key, value in record.items() if "_" in key]).isfinite().all()
        assert (f"penalty_{name}" in record) == (name != "instance_noise")


@pytest.mark.parametrize("name", ["lp", "dragan"])
def test_a_critic_with_batchnorm_is_refused(name, tmp_path):
    file = tmp_path / "game.toml"
    file.write_text(GAME.format(name))
    with pytest.raises(ganframe.RecipeError, match="mixes samples"):
        ganframe.run(ganframe.load_recipe(file, ["discriminator.norm='batch'"]), out=tmp_path / "run")


def test_consistency_refuses_a_critic_without_dropout(tmp_path):
    file = tmp_path / "game.toml"
    file.write_text(GAME.format("consistency"))
    with pytest.raises(ganframe.RecipeError, match=r"choose a discriminator with dropout"):
        ganframe.run(ganframe.load_recipe(file, ["discriminator.dropout=0.0"]), out=tmp_path / "run")


def test_a_run_with_instance_noise_goes_on_as_if_it_had_not_stopped(tmp_path):
    file = tmp_path / "game.toml"
    file.write_text(GAME.format("instance_noise"))
    whole = ganframe.run(ganframe.load_recipe(file, [*FEW, "train.steps=4"]), out=tmp_path / "whole")
    ganframe.run(ganframe.load_recipe(file, [*FEW, "train.steps=2"]), out=tmp_path / "halves")
    halves = ganframe.resume(tmp_path / "halves", ["train.steps=4"])
    for one, other in zip(whole.metrics, halves.metrics, strict=True):
        assert {**one, "seconds": 0} == {**other, "seconds": 0}
