"""The recipes train, resume exactly, are sampled without the encoder, and give it back afterwards."""

import shutil
from pathlib import Path

import pytest
import torch
from ganframe_encoders import load_encoder
from safetensors.torch import load_file

import ganframe

FOLDER = Path(__file__).parent.parent
RECIPES = {"vae_gan_digits": "vae_gan", "bigan_ring": "bigan", "aae_digits": "aae"}
FEW = ["train.steps=4", "train.batch_size=8", "log.every=1", "log.samples_every=4", "log.checkpoint_every=2"]
ALL = [*((name, []) for name in RECIPES), ("bigan_ring", ["terms[0].stochastic=true"])]


def train(name, out, *more):
    return ganframe.run(ganframe.load_recipe(FOLDER / f"{name}.toml", [*FEW, *more]), out=out)


@pytest.mark.parametrize(("name", "more"), ALL)
def test_recipe_trains_and_resumes_exactly(name, more, tmp_path):
    run = train(name, tmp_path / "run", *more)
    values = [value for record in run.log for key, value in record.items() if key.startswith("term_")]
    assert len(values) == 8  # both players, four steps
    assert torch.tensor(values).isfinite().all()
    shutil.copytree(run.folder, tmp_path / "killed")
    shutil.rmtree(tmp_path / "killed/checkpoints/step-000004")
    ganframe.resume(tmp_path / "killed")
    last, again = (tmp_path / folder / "checkpoints/step-000004" for folder in ("run", "killed"))
    assert {file.name for file in last.iterdir()} == {file.name for file in again.iterdir()}
    for file in last.glob("*.safetensors"):
        assert file.read_bytes() == (again / file.name).read_bytes(), file.name
    one, other = (torch.load(folder / "training.pt") for folder in (last, again))
    torch.testing.assert_close(one, other, rtol=0, atol=0)


def test_every_recipe_file_is_tested():
    assert {path.stem for path in FOLDER.glob("*.toml")} == {*RECIPES, "pyproject"}


@pytest.mark.parametrize(("name", "term"), RECIPES.items())
def test_sampling_needs_the_generator_alone(name, term, tmp_path):
    run = train(name, tmp_path / "run")
    checkpoint = run.folder / "checkpoints/step-000004"
    assert (checkpoint / f"term.{term}.generator.safetensors").exists()
    of_generator = load_file(checkpoint / "generator.safetensors")
    assert load_file(run.folder / "generator.safetensors").keys() == of_generator.keys()
    shutil.rmtree(run.folder / "checkpoints")
    shape = ganframe.load_recipe(FOLDER / f"{name}.toml").dataset.spec.shape
    assert ganframe.load_generator(run.folder).sample(3).shape == (3, *shape)


@pytest.mark.parametrize(("name", "more"), ALL)
def test_load_encoder_returns_the_trained_encoder(name, more, tmp_path):
    states = []

    def remember(state):
        (parts,) = state.game.parts.values()
        states.append({key: value.clone() for key, value in parts.generator.state_dict().items()})

    run = ganframe.run(ganframe.load_recipe(FOLDER / f"{name}.toml", [*FEW, *more]), tmp_path / "run", [remember])
    encoder = load_encoder(run.folder)
    assert not encoder.training
    assert all(torch.equal(value, states[-1][key]) for key, value in encoder.state_dict().items())
    assert not all(torch.equal(value, states[0][key]) for key, value in encoder.state_dict().items())
    samples = ganframe.load_generator(run.folder).sample(5)
    codes = encoder(samples).detach()
    assert ganframe.load_generator(run.folder).decode(codes).shape == samples.shape


def test_load_encoder_of_a_run_without_one_raises_request_error(tmp_path):
    recipe = ganframe.load_recipe(FOLDER / "vae_gan_digits.toml", [*FEW, "terms=[]"])
    run = ganframe.run(recipe, tmp_path / "run")
    with pytest.raises(ganframe.RequestError, match="no term with an encoder: vae_gan, bigan, aae"):
        load_encoder(run.folder)


def test_load_encoder_names_what_is_missing_or_damaged(tmp_path):
    run = train("aae_digits", tmp_path / "run")
    file = run.folder / "checkpoints/step-000004/term.aae.generator.safetensors"
    file.write_bytes(b"no weights")
    with pytest.raises(ganframe.RequestError, match=r"term\.aae\.generator\.safetensors: cannot be loaded"):
        load_encoder(run.folder)
    shutil.rmtree(run.folder / "checkpoints")
    with pytest.raises(ganframe.RequestError, match="no checkpoint"):
        load_encoder(run.folder)


@pytest.mark.parametrize("name", RECIPES)
def test_another_latent_dim_is_refused_before_anything_is_written(name, tmp_path):
    with pytest.raises(ganframe.RecipeError, match=r"terms\[0\].*latent_dim is \d+, and z has 4 numbers"):
        train(name, tmp_path / "run", "latent.dim=4")
    assert not (tmp_path / "run").exists()


@pytest.mark.parametrize("name", ["vae_gan_digits", "aae_digits"])
def test_convolutional_encoder_trains(name, tmp_path):
    train(name, tmp_path / "run", "terms[0].network='conv'", "terms[0].hidden=[8,16]", "train.steps=1")
