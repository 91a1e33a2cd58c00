"""The README's recipes train, resume exactly, and do on two processes what they do on one."""

import os
import subprocess
import sys
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file

import ganframe

FOLDER = Path(__file__).parent.parent
FEW = ["train.steps=4", "train.batch_size=32", "log.every=1", "log.samples_every=4", "log.checkpoint_every=2"]
RECIPES = {
    "acgan_digits": {"term_class_head_discriminator", "term_class_head_generator"},
    "completion_digits": {"term_l1", "term_mode_seeking"},
    "feature_matching_digits": {"term_feature_matching"},
    "infogan_digits": {"term_info_discriminator", "term_info_generator"},
    "semi_supervised_digits": {"term_semi_supervised", "term_feature_matching"},
}
# Without what each process draws or normalises for itself, and with the optimiser that follows the gradient itself.
SAME = [
    "generator.batch_norm=false",
    *(f"optimizer.{player}={{use='SGD', lr=0.05}}" for player in ("generator", "discriminator")),
]
OWN = {
    "acgan_digits": ["generator.condition='concat'"],
    "completion_digits": ["discriminator.dropout=0.0"],
    "feature_matching_digits": [],
    "infogan_digits": ["discriminator.dropout=0.0"],
    "semi_supervised_digits": ["discriminator.of.dropout=0.0"],
}


def load(name, *overrides):
    return ganframe.load_recipe(FOLDER / f"{name}.toml", [*FEW, *overrides])


def last_checkpoint(run):
    return max((Path(run) / "checkpoints").iterdir())


def values(nested):
    """The leaves of nested containers in order, tensors as lists: pickle may write equal objects as other bytes."""
    if isinstance(nested, dict):
        return [(key, values(value)) for key, value in nested.items()]
    if isinstance(nested, (list, tuple)):
        return [values(value) for value in nested]
    return nested.tolist() if isinstance(nested, torch.Tensor) else nested


def test_every_recipe_file_is_tested():
    assert {path.stem for path in FOLDER.glob("*.toml")} == {*RECIPES, "pyproject"}


@pytest.mark.parametrize("name", RECIPES)
def test_recipe_trains_and_resumes_to_the_same_bytes(name, tmp_path):
    full = ganframe.run(load(name), out=tmp_path / "full")
    for record in full.log:
        assert RECIPES[name] == {key for key in record if key.startswith("term_")}
        assert torch.tensor([value for key, value in record.items() if "_" in key]).isfinite().all()
    ganframe.run(load(name, "train.steps=2"), out=tmp_path / "resumed")
    ganframe.resume(tmp_path / "resumed", ["train.steps=4"])
    expected, found = (last_checkpoint(tmp_path / name) for name in ("full", "resumed"))
    files = sorted(file.name for file in expected.iterdir())
    assert files == sorted(file.name for file in found.iterdir())
    for file in files:
        if file.endswith(".safetensors"):
            assert (expected / file).read_bytes() == (found / file).read_bytes(), file
    states = [values(torch.load(folder / "training.pt", weights_only=True)) for folder in (expected, found)]
    assert states[0] == states[1]


@pytest.mark.parametrize("name", RECIPES)
def test_samples_need_the_generator_alone(name, tmp_path):
    recipe = load(name, "train.steps=1")
    run = ganframe.run(recipe, out=tmp_path / "run")
    shape = recipe.dataset.spec.shape
    assert ganframe.load_generator(run.folder).sample(5).shape == (5, *shape)
    assert ganframe.load_recipe(Path(run.folder) / "recipe.toml").terms == recipe.terms


@pytest.mark.parametrize("name", RECIPES)
def test_recipe_trains_in_mixed_precision(name, tmp_path):
    run = ganframe.run(load(name, "train.precision='bf16'", "train.steps=2"), out=tmp_path / "run")
    for record in run.log:
        assert torch.tensor([record[key] for key in RECIPES[name]]).isfinite().all()


@pytest.mark.slow
@pytest.mark.parametrize("name", RECIPES)
def test_two_processes_train_as_one(name, tmp_path):
    overrides = [part for override in (*FEW, *SAME, *OWN[name]) for part in ("--set", override)]
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
            torch.testing.assert_close(found[key], tensor, rtol=1e-4, atol=1e-6, msg=f"{file}: {key} differs")


def test_recipe_whose_discriminator_knows_the_label_raises_recipe_error(tmp_path):
    with pytest.raises(ganframe.RecipeError, match=r"terms\[0\]: the features .* depend on the label"):
        ganframe.run(load("acgan_digits", "discriminator.condition='concat'"), out=tmp_path / "run")


def test_recipe_with_short_latents_raises_recipe_error(tmp_path):
    with pytest.raises(ganframe.RecipeError, match=r"terms\[0\].*12 numbers and z has 8; raise latent\.dim"):
        ganframe.run(load("infogan_digits", "latent.dim=8"), out=tmp_path / "run")


def test_recipe_without_class_scores_raises_recipe_error(tmp_path):
    with pytest.raises(ganframe.RecipeError, match="extra 'logits'"):
        ganframe.run(load("semi_supervised_digits", "discriminator={use='mlp'}"), out=tmp_path / "run")


def test_components_are_registered():
    for kind, name in [
        ("term", "terms:l1"),
        ("objective", "terms:terms_only"),
        ("discriminator", "terms:class_scores"),
        ("dataset", "terms:completion"),
    ]:
        assert ganframe.component(kind, name).__module__.startswith("ganframe_terms.")
