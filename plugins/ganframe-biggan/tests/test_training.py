"""The recipes train, resume to the same bytes, and do on two processes what they do on one."""

import os
import subprocess
import sys
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file

import ganframe

FOLDER = Path(__file__).parent.parent
SMALL = ["generator.width=2", "generator.embedding=4", "discriminator.width=2", "train.batch_size=8"]
HINGE = "ganframe_hinge"
# `orthogonal` is taken every second step here, and weighs more than in a recipe, so that a wrong one is seen.
GAME = """
[dataset]
use = "digits"
size = 16
[latent]
dim = 8
[generator]
use = "biggan"
width = 2
embedding = 4
condition = "shared"
attention = 8
[discriminator]
use = "biggan"
width = 2
condition = "projection"
attention = 8
[objective]
use = "non_saturating"
[[constraints]]
use = "spectral_norm"
[[terms]]
use = "orthogonal"
weight = 0.1
every = 2
[optimizer.generator]
use = "SGD"
lr = 0.05
[optimizer.discriminator]
use = "SGD"
lr = 0.05
[train]
steps = 4
critic_steps = 2
batch_size = 8
ema = 0.9
[log]
every = 1
samples_every = 4
checkpoint_every = 2
"""


@pytest.fixture
def game(tmp_path):
    path = tmp_path / "game.toml"
    path.write_text(GAME, encoding="utf-8")
    return path


def weights(run):
    folder = max((Path(run) / "checkpoints").iterdir())
    return {file.name: file for file in sorted(folder.glob("*.safetensors"))}


def test_resumed_run_has_the_same_bytes(game, tmp_path):
    full = ganframe.run(ganframe.load_recipe(game), out=tmp_path / "full")
    assert any(record.get("term_orthogonal", 0) > 0 for record in full.log)
    ganframe.run(ganframe.load_recipe(game, ["train.steps=2"]), out=tmp_path / "resumed")
    ganframe.resume(tmp_path / "resumed", ["train.steps=4"])
    expected, found = weights(tmp_path / "full"), weights(tmp_path / "resumed")
    assert expected.keys() == found.keys()
    for file in expected:
        assert expected[file].read_bytes() == found[file].read_bytes(), file


def test_term_changes_the_generator_alone(game, tmp_path):
    """With and without it, the first step of D has the same loss, and that of G another one."""
    logs = [
        ganframe.run(ganframe.load_recipe(game, ["train.steps=2", "terms.0.every=1", *more]), tmp_path / name).log
        for name, more in (("with", []), ("without", ["terms.0.weight=0"]))
    ]
    assert logs[0][0]["loss_discriminator"] == logs[1][0]["loss_discriminator"]
    assert logs[0][0]["term_orthogonal"] > logs[1][0]["term_orthogonal"] == 0
    assert logs[0][1]["loss_generator"] != logs[1][1]["loss_generator"]


# Without BatchNorm, as in mlp: each process would normalise its own share.
@pytest.mark.slow
def test_two_processes_train_as_one(game, tmp_path):
    for out, launcher in {
        "one": [],
        "two": ["-m", "torch.distributed.run", "--standalone", "--nproc_per_node", "2"],
    }.items():
        command = [sys.executable, *launcher, "-m", "ganframe", "run", game, "--out", tmp_path / out]
        command += ["--set", 'generator={ use = "mlp", hidden = [16], condition = "concat" }', "--set", "seed=1"]
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
            # Rounding may turn a ReLU of D that is 0 but for it on or off: a few pixels' weights of G move otherwise.
            torch.testing.assert_close(found[key], tensor, rtol=1e-4, atol=5e-5, msg=f"{file}: {key} differs")


# -------------------------------------------------------------------------------------------------------- recipes


@pytest.mark.parametrize("name", ["biggan_digits", "biggan_fashion_mnist"])
def test_recipe_trains_a_few_steps(name, tmp_path):
    pytest.importorskip(HINGE, reason="the recipes need ganframe-hinge")
    few = ["train.steps=2", "log.every=1", "log.samples_every=2", "log.checkpoint_every=2", *SMALL]
    recipe = ganframe.load_recipe(FOLDER / f"{name}.toml", few)
    try:
        recipe.dataset.build()
    except ValueError as absent:
        pytest.skip(str(absent))
    run = ganframe.run(recipe, out=tmp_path / "run")
    for record in run.log:
        assert torch.tensor([record[key] for key in ("loss_generator", "loss_discriminator")]).isfinite().all()
    samples = ganframe.load_generator(run.folder).sample(4, y=7)
    assert samples.shape == (4, *recipe.dataset.spec.shape)
    assert samples.abs().max() <= 1


def test_recipe_of_the_paper_is_read(tmp_path, monkeypatch):
    """Brock et al. 2019, section 3, appendix B and C."""
    pytest.importorskip(HINGE, reason="the recipes need ganframe-hinge")
    monkeypatch.chdir(tmp_path)
    recipe = ganframe.load_recipe(FOLDER / "gpu" / "biggan_128.toml")
    assert (recipe.generator.width, recipe.generator.attention, recipe.latent.dim) == (96, 64, 120)
    assert (recipe.discriminator.width, recipe.discriminator.attention) == (96, 64)
    assert (recipe.train.critic_steps, recipe.train.ema) == (2, 0.9999)
    assert recipe.train.batch_size % recipe.train.accumulate == 0
    assert recipe.terms[0].weight == 1e-4
    with pytest.raises(ganframe.RecipeError, match="photographs: no such folder"):
        ganframe.run(recipe, out=tmp_path / "run")
