"""Runs with networks that grow: they resume to the same bytes, two processes do what one does, samples have the stage
of the run's end.
"""

import os
import subprocess
import sys
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file

import ganframe

RECIPE = Path(__file__).parent.parent / "progressive_digits.toml"
# Stages of 4×4 and 8×8 end at 3 and 8, in a run of 12 steps; the last two are faded in over 3 steps.
GROWTH = ["stage_steps=[3, 5]", "fade_steps=3", "width=4"]
SMALL = [f"{player}.{option}" for player in ("generator", "discriminator") for option in GROWTH]
SMALL += ["train.steps=12", "train.batch_size=8", "latent.dim=4", "dataset.size=16", "metrics=[]"]
SMALL += ["log.every=1", "log.samples_every=6", "log.checkpoint_every=12", "log.keep=12"]
EACH = "log.checkpoint_every=1"
CLIPPED = [f"optimizer.{player}.max_norm=0.5" for player in ("generator", "discriminator")]
LABELS = ["generator.condition='concat'", "discriminator.condition='projection'"]


def recipe(*options):
    return ganframe.load_recipe(RECIPE, [*SMALL, *options])


def files(run, step):
    return {f.name: f for f in sorted((Path(run) / "checkpoints" / f"step-{step:06d}").glob("*.safetensors"))}


@pytest.mark.parametrize(
    ("options", "stops"),
    [([], (3, 5, 8)), ([*CLIPPED, "train.accumulate=2", *LABELS], (4,))],
    ids=["plain", "clipped"],
)
def test_resumed_run_has_the_same_bytes_wherever_it_stopped(options, stops, tmp_path):
    """Where a stage begins and within fading; with the moving average."""
    full = ganframe.run(recipe(*options), out=tmp_path / "full")
    losses = [record[f"loss_{player}"] for record in full.log for player in ("generator", "discriminator")]
    assert torch.tensor(losses).isfinite().all()
    for stop in stops:
        folder = tmp_path / f"stopped-{stop}"
        ganframe.run(recipe(*options, f"train.steps={stop}"), out=folder)
        ganframe.resume(folder, ["train.steps=12"])
        expected, found = files(full.folder, 12), files(folder, 12)
        assert expected.keys() == found.keys()
        assert "average.safetensors" in found
        for name, file in expected.items():
            assert file.read_bytes() == found[name].read_bytes(), (stop, name)


def test_weights_move_in_their_stage_and_not_before(tmp_path):
    """Those of both networks; the last stage's first convolution begins to move while it is faded in."""
    run = ganframe.run(recipe(EACH), out=tmp_path / "run")

    def moved(file, start, stop, key):
        before, after = (load_file(files(run.folder, step)[file])[key] for step in (start, stop))
        return not torch.equal(before, after)

    for file in ("generator.safetensors", "discriminator.safetensors"):
        for stage, begins in ((1, 3), (2, 8)):
            key = f"blocks.{stage - 1}.conv1.parametrizations.weight.original"
            assert not moved(file, 1, begins, key)  # a checkpoint at step n follows the update of step n - 1
            assert not moved(file, begins, begins + 1, key)  # α = 0
            assert moved(file, begins + 1, begins + 2, key)
        assert moved(file, 2, 3, "images.0.parametrizations.weight.original")
        assert not moved(file, 6, 12, "images.0.parametrizations.weight.original")  # faded out


def test_samples_have_the_resolution_that_the_run_has_reached(tmp_path):
    """The step is stored with the generator and its moving average."""
    for steps, size in ((2, 4), (7, 8), (12, 16)):
        run = ganframe.run(recipe(f"train.steps={steps}"), out=tmp_path / f"run-{steps}")
        step = load_file(run.folder / "generator.safetensors")["growth.training_step"]
        assert step.item() == steps - 1
        x = ganframe.load_generator(run.folder).sample(3)
        assert x.shape == (3, 1, 16, 16)
        blocks = x.unfold(2, 16 // size, 16 // size).unfold(3, 16 // size, 16 // size)  # of one value each
        assert torch.equal(blocks.amax((-1, -2)), blocks.amin((-1, -2)))
        if size > 4:
            halves = x.unfold(2, 32 // size, 32 // size).unfold(3, 32 // size, 32 // size)
            assert not torch.equal(halves.amax((-1, -2)), halves.amin((-1, -2)))


def test_players_with_different_schedules_are_refused(tmp_path):
    for option in ("stage_steps=[3, 6]", "fade_steps=2"):
        with pytest.raises(ganframe.RecipeError, match="they grow at different steps, at 3, 6, 8, 11 and at 3, "):
            ganframe.run(recipe(f"discriminator.{option}"), out=tmp_path / "run")
    assert not (tmp_path / "run").exists()


def test_a_generator_that_grows_trains_with_another_discriminator(tmp_path):
    other = ["discriminator={use='dcgan', width=4, norm='none'}", "train.steps=5"]
    run = ganframe.run(recipe(*other), out=tmp_path / "run")
    assert torch.tensor(run.log[-1]["loss_generator"]).isfinite()


def test_a_run_that_ends_before_the_last_stage_is_warned_of(tmp_path, capsys):
    ganframe.run(recipe("train.steps=11"), out=tmp_path / "run")
    assert "generator, discriminator: growing ends at step 11, and train.steps is 11" in capsys.readouterr().err


@pytest.mark.slow
def test_two_processes_train_as_one_while_the_networks_grow(tmp_path):
    """With SGD, which follows the gradient itself, and a penalty without random points."""
    options = ["constraints=[]", "objective.use='non_saturating'", "train.steps=10", "log.samples_every=10", EACH]
    sgd = "optimizer={generator={use='SGD', lr=0.02}, discriminator={use='SGD', lr=0.02}}"
    overrides = [part for option in [*SMALL, *options, sgd] for part in ("--set", option)]
    for out, launcher in {
        "one": [],
        "two": ["-m", "torch.distributed.run", "--standalone", "--nproc_per_node", "2"],
    }.items():
        command = [sys.executable, *launcher, "-m", "ganframe", "run", RECIPE, "--out", tmp_path / out, *overrides]
        environment = {**os.environ, "OMP_NUM_THREADS": "1", "ACCELERATE_USE_CPU": "true"}
        done = subprocess.run(
            [str(part) for part in command], env=environment, capture_output=True, text=True, timeout=300
        )
        assert done.returncode == 0, done.stderr
    for step in (3, 5, 10):  # before the second stage, within fading, in the last stage
        one, two = (files(tmp_path / out, step) for out in ("one", "two"))
        assert len(one) == len(two) >= 3
        for name in one:
            found = load_file(two[name])
            for key, tensor in load_file(one[name]).items():
                torch.testing.assert_close(found[key], tensor, rtol=1e-4, atol=1e-6, msg=f"{step}: {name}: {key}")
