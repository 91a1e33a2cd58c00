"""The recipes of the package train, resume exactly, and do on two processes what they do on one."""

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
RECIPES = sorted(path.stem for path in FOLDER.glob("*.toml") if path.stem != "pyproject")
FEW = ["train.batch_size=8", "metrics=[]", "log.every=1", "log.samples_every=4", "log.checkpoint_every=2"]
SMALL = {
    "colour_digits": ["dataset.of.of.size=8", "generator.width=4", "discriminator.width=4"],
    "edges_fashion_mnist": ["dataset.of.split='test'", "generator.width=4", "discriminator.width=4"],
    "inpaint_digits": ["generator.width=4", "discriminator.width=4"],
}
# Without what each process draws or normalises for itself, and with the optimiser that follows the gradient itself.
SAME = [f"optimizer.{player}={{use='SGD', lr=0.05}}" for player in ("generator", "discriminator")]
TWO = {"inpaint_digits": ["generator.norm='instance'", "generator.dropout=0.0"]}


def load(name, *overrides):
    if "fashion" in name and not Path("/usr/share/datasets/fashion-mnist").is_dir():
        pytest.skip("Fashion-MNIST is not installed")
    return ganframe.load_recipe(FOLDER / f"{name}.toml", [*FEW, *SMALL.get(name, []), *overrides])


def last_checkpoint(run):
    return max((Path(run) / "checkpoints").iterdir())


@pytest.mark.parametrize("name", RECIPES)
def test_recipe_trains_and_resumes_to_the_same_bytes(name, tmp_path):
    trains_and_resumes(lambda *overrides: load(name, *overrides), tmp_path)


@pytest.mark.parametrize("kind", ["paired_images", "unpaired_images"])
def test_images_from_folders_resume_to_the_same_bytes(kind, tmp_path):
    for side in ("inputs", "targets"):
        (tmp_path / side).mkdir()
        for index in range(9):
            pixels = np.random.RandomState(index).randint(0, 256, (12, 10, 3)).astype(np.uint8)
            Image.fromarray(pixels).save(tmp_path / side / f"{index}.png")
    dataset = [f"dataset.{side}='{tmp_path / side}'" for side in ("inputs", "targets")]
    dataset += ["dataset.size=9", "dataset.crop=8", "dataset.flip=true", "dataset.memory=0"]

    def loaded(*overrides):
        return load(
            "inpaint_digits", f"dataset={{use='{kind}'}}", *dataset, "discriminator.receptive_field=16", *overrides
        )

    trains_and_resumes(loaded, tmp_path)


def trains_and_resumes(loaded, folder):
    """Trains in one go and in two halves, and compares the weights."""
    full = ganframe.run(loaded("train.steps=4"), out=folder / "full")
    for record in full.log:
        assert torch.tensor([value for key, value in record.items() if "_" in key]).isfinite().all()
    ganframe.run(loaded("train.steps=2"), out=folder / "resumed")
    ganframe.resume(folder / "resumed", ["train.steps=4"])
    expected, found = (last_checkpoint(folder / run) for run in ("full", "resumed"))
    files = sorted(file.name for file in expected.glob("*.safetensors"))
    assert files == sorted(file.name for file in found.glob("*.safetensors"))
    for file in files:
        assert (expected / file).read_bytes() == (found / file).read_bytes(), file
    assert list((folder / "full" / "samples").glob("*.png"))


@pytest.mark.slow
@pytest.mark.parametrize("name", TWO)
def test_two_processes_train_as_one(name, tmp_path):
    load(name)
    overrides = [part for each in (*FEW, *SMALL[name], *SAME, *TWO[name], "train.steps=4") for part in ("--set", each)]
    launchers = {"one": [], "two": ["-m", "torch.distributed.run", "--standalone", "--nproc_per_node", "2"]}
    for out, launcher in launchers.items():
        recipe = FOLDER / f"{name}.toml"
        command = [sys.executable, *launcher, "-m", "ganframe", "run", recipe, "--out", tmp_path / out, *overrides]
        done = subprocess.run(
            [str(part) for part in command],
            env={**os.environ, "OMP_NUM_THREADS": "1", "ACCELERATE_USE_CPU": "true"},
            capture_output=True,
            text=True,
            timeout=300,
        )
        assert done.returncode == 0, done.stderr
    one, two = (last_checkpoint(tmp_path / out) for out in launchers)
    files = sorted(file.name for file in one.glob("*.safetensors"))
    assert len(files) >= 2
    for file in files:
        expected, found = load_file(one / file), load_file(two / file)
        for key, tensor in expected.items():
            torch.testing.assert_close(found[key], tensor, rtol=1e-4, atol=1e-5, msg=f"{file}: {key} differs")
