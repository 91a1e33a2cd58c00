"""Recipes with these networks train, resume to the same bytes, and do on two processes what they do on one."""

import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image
from safetensors.torch import load_file

import ganframe

FOLDER = Path(__file__).parent.parent
DIGITS = {"use": "digits", "size": 16, "split": "train"}
NETWORKS = {
    "unet": ({"use": "unet", "width": 4, "norm": "instance", "dropout": 0.0}, {"condition": "edges"}),
    "unet_batch_dropout": ({"use": "unet", "width": 4, "z": "modulate"}, {"condition": "mask"}),
    "residual": ({"use": "residual", "width": 4, "blocks": 2}, {"condition": "noise"}),
    "srresnet": ({"use": "srresnet", "width": 8, "blocks": 2, "norm": "none"}, {"condition": "downsample"}),
    "srresnet_batch": ({"use": "srresnet", "width": 8, "blocks": 1}, {"condition": "downsample"}),
}
# Not those with dropout and BatchNorm: each process draws and normalises for itself.
EQUAL = ["unet", "srresnet"]


def toml(value):
    """A value as TOML writes it."""
    if isinstance(value, dict):
        return "{ " + ", ".join(f"{key} = {toml(part)}" for key, part in value.items()) + " }"
    return str(value).lower() if isinstance(value, bool) else repr(value)


@pytest.fixture
def recipe(tmp_path):
    """recipe(name): the path of a recipe of four steps with this generator and the discriminator patch."""

    def write(name):
        generator, condition = NETWORKS[name]
        tables = {
            "dataset": {"use": "derived", **condition, "of": DIGITS},
            "latent": {"dim": 4},
            "generator": generator,
            "discriminator": {"use": "patch", "width": 4, "scales": 2},
            "objective": {"use": "non_saturating"},
            "optimizer": {player: {"use": "SGD", "lr": 0.05} for player in ("generator", "discriminator")},
            "train": {"steps": 4, "batch_size": 8},
            "log": {"every": 1, "samples_every": 4, "checkpoint_every": 2},
        }
        path = tmp_path / f"{name}.toml"
        path.write_text("".join(f"{table} = {toml(options)}\n" for table, options in tables.items()), encoding="utf-8")
        return path

    return write


def weights(run):
    folder = max((Path(run) / "checkpoints").iterdir())
    return {file.name: file for file in sorted(folder.glob("*.safetensors"))}


@pytest.mark.parametrize("name", NETWORKS)
def test_resumed_run_has_the_same_bytes(name, recipe, tmp_path):
    full = ganframe.run(ganframe.load_recipe(recipe(name)), out=tmp_path / "full")
    losses = [record[f"loss_{player}"] for record in full.log for player in ("generator", "discriminator")]
    assert torch.tensor(losses).isfinite().all()
    ganframe.run(ganframe.load_recipe(recipe(name), ["train.steps=2"]), out=tmp_path / "resumed")
    ganframe.resume(tmp_path / "resumed", ["train.steps=4"])
    expected, found = weights(tmp_path / "full"), weights(tmp_path / "resumed")
    assert expected.keys() == found.keys()
    for file in expected:
        assert expected[file].read_bytes() == found[file].read_bytes(), file


@pytest.mark.slow
@pytest.mark.parametrize("name", EQUAL)
def test_two_processes_train_as_one(name, recipe, tmp_path):
    path = recipe(name)
    for out, launcher in {
        "one": [],
        "two": ["-m", "torch.distributed.run", "--standalone", "--nproc_per_node", "2"],
    }.items():
        command = [sys.executable, *launcher, "-m", "ganframe", "run", path, "--out", tmp_path / out]
        environment = {**os.environ, "OMP_NUM_THREADS": "1", "ACCELERATE_USE_CPU": "true"}
        done = subprocess.run(
            [str(part) for part in command], env=environment, capture_output=True, text=True, timeout=300
        )
        assert done.returncode == 0, done.stderr
    one, two = weights(tmp_path / "one"), weights(tmp_path / "two")
    assert len(one) >= 2
    for file in one:
        found = load_file(two[file])
        for key, tensor in load_file(one[file]).items():
            torch.testing.assert_close(found[key], tensor, rtol=1e-4, atol=1e-6, msg=f"{file}: {key} differs")


@pytest.mark.parametrize("constraint", ["gradient_penalty", "spectral_norm"])
def test_constraints_on_patches_train(constraint, recipe, tmp_path):
    settings = [f"constraints=[{{ use = '{constraint}' }}]", "train.steps=2", "objective.use=wgan"]
    run = ganframe.run(ganframe.load_recipe(recipe("unet"), settings), out=tmp_path / "run")
    assert torch.tensor([record["loss_discriminator"] for record in run.log]).isfinite().all()


@pytest.fixture
def folders(tmp_path, monkeypatch):
    """The folders that the recipes for a GPU name, with a few small images, in the current directory."""
    monkeypatch.chdir(tmp_path)
    random = np.random.RandomState(0)
    for i in range(10):
        pixels = Image.fromarray(random.randint(0, 255, (5, 6, 3), dtype=np.uint8)).resize((60 + i, 50))
        for folder in ("inputs", "targets", "photographs"):
            (tmp_path / folder).mkdir(exist_ok=True)
            pixels.save(tmp_path / folder / f"{i}.png")


@pytest.mark.parametrize(
    ("name", "small"),
    [
        (
            "pix2pix_256",
            ["dataset.size=36", "dataset.crop=32", "generator.depth=5", "discriminator.receptive_field=34"],
        ),
        ("srgan_x4", ["dataset.of.crop=32", "dataset.of.hold_out=0.3", "generator.blocks=1"]),
    ],
)
def test_recipes_for_a_gpu_pass_check_on_folders(name, small, folders):
    few = ["train.batch_size=2", "train.workers=0", "train.precision=no", "generator.width=4", "discriminator.width=4"]
    options = [part for override in [*few, *small] for part in ("--set", override)]
    command = [sys.executable, "-m", "ganframe", "check", str(FOLDER / "gpu" / f"{name}.toml"), *options]
    done = subprocess.run(command, capture_output=True, text=True, timeout=300)
    assert done.returncode == 0, done.stderr
    assert "sound" in done.stdout
    assert "the generator heeds them, the discriminator heeds them" in done.stdout


def test_the_recipe_of_cycles_for_a_gpu_has_the_weights_of_the_paper(folders, tmp_path):
    """10 beside (D - 1)², of which least_squares has half."""
    networks = ["generator", "discriminator", "terms[0].back", "terms[0].critic"]
    small = ["dataset.size=36", "dataset.crop=32", "train.precision='no'", *(f"{name}.width=4" for name in networks)]
    small += ["train.steps=1", "train.workers=0"]
    fields = ["discriminator.receptive_field=16", "terms[0].critic.receptive_field=16"]
    blocks = ["generator.blocks=1", "terms[0].back.blocks=1"]
    recipe = ganframe.load_recipe(FOLDER / "gpu" / "cycle_256.toml", [*small, *fields, *blocks])
    ones = torch.ones(1)
    assert recipe.terms[0].weight / recipe.objective.generator_loss(ones + 1, None) == 10
    assert ganframe.run(recipe, out=tmp_path / "run").log[-1]["step"] == 1


def test_recipes_for_a_gpu_name_missing_folders(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    for name, folder in (("pix2pix_256", "inputs"), ("srgan_x4", "photographs")):
        with pytest.raises(ganframe.RecipeError, match=f"{folder}: no such folder"):
            ganframe.run(ganframe.load_recipe(FOLDER / "gpu" / f"{name}.toml"), out=tmp_path / "run")
        assert not (tmp_path / "run").exists()
