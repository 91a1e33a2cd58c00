"""The recipes and each constraint train end to end, loaded through the plugin's entry point."""

from pathlib import Path

import pytest
import torch
from ganframe_lipschitz import (
    CPL,
    DRAGAN,
    SLL,
    AlmostOrthogonal,
    Consistency,
    InstanceNoise,
    LipschitzPenalty,
    Orthogonal,
    OrthogonalLayers,
)

import ganframe

FOLDER = Path(__file__).parent.parent
FEW = ["train.steps=3", "train.batch_size=8", "log.every=1", "log.samples_every=3", "log.checkpoint_every=3"]
OFFERED = {
    "lp": LipschitzPenalty,
    "consistency": Consistency,
    "dragan": DRAGAN,
    "orthogonal": Orthogonal,
    "instance_noise": InstanceNoise,
    "orthogonal_layers": OrthogonalLayers,
    "aol": AlmostOrthogonal,
}
WITHOUT_PENALTY = ("instance_noise", "orthogonal_layers", "aol")
RECIPE = """
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


@pytest.fixture
def recipe_with(load):
    """recipe_with(constraint, *overrides): a short recipe with that constraint."""
    return lambda constraint, *overrides: load(RECIPE.format(constraint), *overrides)


@pytest.mark.parametrize(
    ("name", "penalties"),
    [("wgan_lp_grid", {"lp"}), ("ct_gan_digits", {"gradient_penalty", "consistency"}), ("orthogonal_digits", set())],
)
def test_recipe_trains_a_few_steps(name, penalties, tmp_path):
    recipe = ganframe.load_recipe(FOLDER / f"{name}.toml", FEW)
    run = ganframe.run(recipe, out=tmp_path / "run")
    assert [record["step"] for record in run.log] == [1, 2, 3]
    for record in run.log:
        assert {f"penalty_{penalty}" for penalty in penalties} <= record.keys()
        assert torch.tensor([value for key, value in record.items() if "_" in key]).isfinite().all()
    assert ganframe.load_generator(run.folder).sample(5).shape == (5, *recipe.dataset.spec.shape)


@pytest.mark.parametrize("name", OFFERED)
def test_constraint_is_registered_and_trains(name, recipe_with, tmp_path):
    assert ganframe.component("constraint", f"lipschitz:{name}") is OFFERED[name]
    run = ganframe.run(recipe_with(name, *FEW), out=tmp_path / "run")
    for record in run.log:
        assert torch.tensor([value for key, value in record.items() if "_" in key]).isfinite().all()
        assert (f"penalty_{name}" in record) == (name not in WITHOUT_PENALTY)


def test_critics_are_registered():
    assert ganframe.component("discriminator", "lipschitz:sll") is SLL
    assert ganframe.component("discriminator", "lipschitz:cpl") is CPL


@pytest.mark.parametrize("name", ["lp", "dragan"])
def test_discriminator_with_batchnorm_raises_recipe_error(name, recipe_with, tmp_path):
    with pytest.raises(ganframe.RecipeError, match="mixes samples"):
        ganframe.run(recipe_with(name, "discriminator.norm='batch'"), out=tmp_path / "run")


def test_consistency_without_dropout_raises_recipe_error(recipe_with, tmp_path):
    with pytest.raises(ganframe.RecipeError, match=r"choose a discriminator with dropout"):
        ganframe.run(recipe_with("consistency", "discriminator.dropout=0.0"), out=tmp_path / "run")


def test_resume_with_instance_noise_matches_uninterrupted_run(recipe_with, tmp_path):
    full = ganframe.run(recipe_with("instance_noise", *FEW, "train.steps=4"), out=tmp_path / "full")
    ganframe.run(recipe_with("instance_noise", *FEW, "train.steps=2"), out=tmp_path / "resumed")
    resumed = ganframe.resume(tmp_path / "resumed", ["train.steps=4"])
    for expected, record in zip(full.log, resumed.log, strict=True):
        assert {**expected, "seconds": 0} == {**record, "seconds": 0}
