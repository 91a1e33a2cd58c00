"""The recipes train, resume to the same bytes, and do on two processes what they do on one."""

import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

import ganframe

pytest.importorskip("ganframe_r3gan")  # r1

FOLDER = Path(__file__).parent.parent
RECIPES = sorted(path.stem for path in FOLDER.glob("*.toml") if path.stem != "pyproject")
FEW = ["train.batch_size=8", "log.every=1", "log.samples_every=4", "log.checkpoint_every=2"]
SMALL = ["generator.width=8", "discriminator.width=8", "constraints[0].every=3", "terms[0].every=2"]
FLAVOURS = {
    "plain": [],
    "instance": ["generator.style='instance'", "generator.output='last'", "discriminator.residual=false"],
    "without groups": ["discriminator.minibatch_stddev=0"],
    "eager": ["constraints[0].every=1", "terms[0].every=1"],
}


def load(name, *overrides):
    fewer = []
    if "fashion" in name:
        if not Path("/usr/share/datasets/fashion-mnist").is_dir():
            pytest.skip("Fashion-MNIST is not installed")
        fewer = ["dataset.split='test'"]
    return ganframe.load_recipe(FOLDER / f"{name}.toml", [*FEW, *SMALL, *fewer, *overrides])


def newest(run):
    """The bytes of each file of weights in the last checkpoint."""
    folder = max((Path(run.folder) / "checkpoints").iterdir())
    return {file.name: file.read_bytes() for file in folder.glob("*.safetensors")}


@pytest.mark.parametrize(
    ("name", "flavour"),
    [*((name, "plain") for name in RECIPES), *(("stylegan2_digits", f) for f in FLAVOURS if f != "plain")],
)
def test_run_resumes_to_the_same_bytes_with_style_mixing_and_lazy_terms(name, flavour, tmp_path):
    """Between its lazy steps, so that the counts of D's and G's updates are restored too."""
    settings = FLAVOURS[flavour]
    full = ganframe.run(load(name, *settings, "train.steps=7"), out=tmp_path / "full")
    found = set().union(*full.log)
    assert {"loss_generator", "loss_discriminator", "penalty_r1", "term_path_lengths"} <= found
    for record in full.log:
        assert torch.tensor([value for key, value in record.items() if "_" in key]).isfinite().all()
    ganframe.run(load(name, *settings, "train.steps=4"), out=tmp_path / "resumed")
    resumed = ganframe.resume(tmp_path / "resumed", ["train.steps=7"])
    expected = newest(full)
    assert len(expected) >= 2
    assert expected == newest(resumed)


def test_recipe_trains_without_labels_at_another_size(tmp_path):
    conditions = ["generator.condition='none'", "discriminator.condition='none'", "dataset.size=20", "train.steps=2"]
    run = ganframe.run(load("stylegan2_digits", *conditions), out=tmp_path / "run")
    assert ganframe.load_generator(run.folder).sample(3).shape == (3, 1, 20, 20)


def test_samples_of_a_label_and_of_w(tmp_path):
    run = ganframe.run(load("stylegan2_digits", "train.steps=2"), out=tmp_path / "run")
    G = ganframe.load_generator(run.folder)
    assert torch.equal(G.sample(4, y=7), G.sample(4, y=7))  # the noise is fixed
    assert not torch.equal(G.sample(4, y=7), G.sample(4, y=3))


def test_batches_of_broken_groups_raise_recipe_error(tmp_path):
    with pytest.raises(ganframe.RecipeError, match="mixes groups of 4 samples"):
        ganframe.run(load("stylegan2_digits", "train.batch_size=6"), out=tmp_path / "run")


def test_recipe_for_a_gpu_passes_check_on_a_folder_and_has_the_settings_of_the_paper(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    Path("photographs").mkdir()
    for i in range(4):
        pixels = np.random.RandomState(i).randint(0, 255, (40, 50, 3), dtype=np.uint8)
        Image.fromarray(pixels).save(f"photographs/{i}.png")
    file = FOLDER / "gpu" / "stylegan2_256.toml"
    recipe = ganframe.load_recipe(file)
    assert recipe.constraints[0].gamma == 10 * recipe.discriminator.minibatch_stddev
    assert recipe.train.ema ** (10_000 / recipe.train.batch_size) == pytest.approx(0.5, rel=1e-2)
    assert recipe.train.steps * recipe.train.batch_size == 25_000_000
    few = ["dataset.size=32", "train.workers=0", "train.batch_size=4", "generator.width=4", "discriminator.width=4"]
    options = [part for override in few for part in ("--set", override)]
    command = [sys.executable, "-m", "ganframe", "check", str(file), *options]
    done = subprocess.run(command, capture_output=True, text=True, timeout=300)
    assert done.returncode == 0, done.stderr
    assert "sound" in done.stdout


@pytest.mark.slow
def test_two_processes_train_as_one(tmp_path):
    torchrun = [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc_per_node", "2"]
    stored = []
    for name, launcher in (("one", [sys.executable]), ("two", torchrun)):
        done = subprocess.run(
            [*launcher, str(Path(__file__).with_name("two_processes.py")), str(tmp_path / name)],
            env={**os.environ, "OMP_NUM_THREADS": "1", "ACCELERATE_USE_CPU": "true"},
            capture_output=True,
            text=True,
            timeout=600,
        )
        assert done.returncode == 0, done.stderr
        stored.append(torch.load(tmp_path / f"{name}.pt", weights_only=True))
    one, two = stored
    assert (one.pop("processes"), two.pop("processes")) == (1, 2)
    assert one.keys() == two.keys()
    assert len(one) == 2
    for case, tensors in one.items():
        for name, tensor in tensors.items():
            torch.testing.assert_close(two[case][name], tensor, rtol=1e-4, atol=1e-6, msg=f"{case}: {name} differs")
