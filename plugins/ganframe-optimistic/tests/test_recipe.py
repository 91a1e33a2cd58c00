"""The README's recipe: trains, is written and read with its optimisers, resumes exactly, runs on two processes."""

import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
import torch
from ganframe_optimistic import OptimisticAdam, OptimisticSGD
from safetensors.torch import load_file

import ganframe

RECIPE = Path(__file__).parent.parent / "wgan_mean.toml"
FEW = ["train.steps=4", "train.batch_size=8", "log.every=1", "log.samples_every=4", "log.checkpoint_every=2"]
SGD = [f"optimizer.{player}={{use='OptimisticSGD',lr=0.05}}" for player in ("generator", "discriminator")]


def steps_of(run, step):
    return run / f"checkpoints/step-{step:06d}"


@pytest.mark.parametrize(("more", "cls"), [([], OptimisticAdam), (SGD, OptimisticSGD)], ids=["adam", "sgd"])
def test_recipe_trains_with_the_optimiser_and_resumes_exactly(more, cls, tmp_path):
    used = []
    recipe = ganframe.load_recipe(RECIPE, [*FEW, *more])
    run = ganframe.run(recipe, tmp_path / "run", [lambda state: used.append(type(state.D.optimizer))]).folder
    assert set(used) == {cls}
    shutil.copytree(run, tmp_path / "killed")
    shutil.rmtree(steps_of(tmp_path / "killed", 4))
    ganframe.resume(tmp_path / "killed")
    last, again = steps_of(run, 4), steps_of(tmp_path / "killed", 4)
    for file in last.glob("*.safetensors"):
        assert file.read_bytes() == (again / file.name).read_bytes(), file.name
    one, other = (torch.load(folder / "training.pt") for folder in (last, again))
    torch.testing.assert_close(one, other, rtol=0, atol=0)


def test_run_folder_names_the_plugin_of_the_optimiser(tmp_path):
    run = ganframe.run(ganframe.load_recipe(RECIPE, FEW), tmp_path / "run").folder
    assert 'use = "optimistic:OptimisticAdam"' in (run / "recipe.toml").read_text()
    assert "ganframe-optimistic" in (run / "environment.json").read_text()


def test_learning_rate_may_move(tmp_path):
    ramp = "optimizer.generator.lr={from=0.1,to=0.0,steps=2}"
    recipe, rates = ganframe.load_recipe(RECIPE, [*FEW, ramp]), []
    ganframe.run(recipe, tmp_path / "run", [lambda state: rates.append(state.G.optimizer.param_groups[0]["lr"])])
    assert rates[-1] == 0


@pytest.mark.parametrize("option", ["lr=-1.0", "betas=[1.0,0.9]"])
def test_wrong_option_is_refused_at_its_place(option):
    with pytest.raises(ganframe.RecipeError, match=r"optimizer\.generator"):
        ganframe.load_recipe(RECIPE, [f"optimizer.generator.{option}"])


@pytest.mark.slow
def test_optimistic_adam_learns_the_mean_where_adam_circles(tmp_path):
    """D's slope and the error of G's mean after 1,000 steps; batches leave noise of about 0.05 in both."""

    def distance(name):
        adam = [f"optimizer.{player}.use='{name}'" for player in ("generator", "discriminator")]
        found = []

        def remember(state):
            if state.step > 900:
                mean = state.G.network.last.bias.item() - 3
                found.append(abs(mean) + abs(state.D.network.head.linear.weight.item()))

        recipe = ganframe.load_recipe(RECIPE, ["train.steps=1000", "log.checkpoint_every=1000", *adam])
        ganframe.run(recipe, tmp_path / name, [remember])
        return sum(found) / len(found)

    assert distance("OptimisticAdam") < distance("Adam") / 4


@pytest.mark.slow
def test_two_processes_equal_one(tmp_path):
    together = ["-m", "torch.distributed.run", "--standalone", "--nproc_per_node", "2", "-m", "ganframe"]
    environment = {**os.environ, "ACCELERATE_USE_CPU": "true", "OMP_NUM_THREADS": "1"}
    options = [part for setting in [*FEW, *SGD] for part in ("--set", setting)]
    for folder, command in (("one", ["-m", "ganframe"]), ("two", together)):
        arguments = [sys.executable, *command, "run", str(RECIPE), "--out", str(tmp_path / folder), *options]
        subprocess.run(arguments, check=True, env=environment, capture_output=True, timeout=300)
    for file in ("generator.safetensors", "discriminator.safetensors"):
        weights = load_file(steps_of(tmp_path / "two", 4) / file)
        for key, expected in load_file(steps_of(tmp_path / "one", 4) / file).items():
            torch.testing.assert_close(weights[key], expected, rtol=1e-5, atol=1e-6)
