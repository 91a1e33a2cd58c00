"""Starting from another run's weights, and freezing parts of the networks."""

from __future__ import annotations

import shutil

import attrs
import pytest
import torch
from PIL import Image
from safetensors.torch import load_file, save_file
from torch import nn
from torch.nn.utils.parametrizations import spectral_norm

import ganframe
from ganframe.errors import RecipeError, RequestError
from ganframe.plugins.registry import load
from ganframe.recipes.reading import structure
from ganframe.storage.weights import save_generator
from ganframe.training.prepare import prepare
from ganframe.training.warm_start import freeze, warm_start

MLP = {"use": "mlp", "hidden": [8], "batch_norm": True}
WIDER = {"use": "mlp", "hidden": [8, 8], "batch_norm": True}


@pytest.fixture
def source(make_recipe, tmp_path, monkeypatch):
    """A finished run of six steps in the folder `source`."""
    monkeypatch.chdir(tmp_path)
    ganframe.run(make_recipe(generator=MLP, train={"steps": 6, "batch_size": 8}), "source")
    return tmp_path / "source" / "checkpoints" / "step-000006"


def train(**more):
    return {"steps": 4, "batch_size": 8, **more}


def test_weights_are_those_of_the_other_run(source, make_recipe, capsys):
    trainer = prepare(make_recipe(generator=MLP, train=train(**{"from": "source"})))
    for name, network in trainer.networks.items():
        saved = load_file(source / f"{name}.safetensors")
        for key, value in network.state_dict().items():
            assert torch.equal(value, saved[key]), key
    assert "generator: 9 of 9 tensors from source" in capsys.readouterr().err


def test_what_does_not_fit_stays_new_and_is_named(source, make_recipe, capsys):
    trainer = prepare(make_recipe(generator=WIDER, train=train(**{"from": "source"})))
    saved = load_file(source / "generator.safetensors")
    weights = trainer.networks["generator"].state_dict()
    assert torch.equal(weights["linears.0.weight"], saved["linears.0.weight"])
    assert "linears.1.weight" in weights.keys() - saved.keys()
    said = capsys.readouterr().err
    assert "generator: 9 of 16 tensors" in said
    assert "new: linears.1.weight" in said


@pytest.mark.parametrize("normalised", ["source", "target"])
def test_weights_match_through_parametrisations(tmp_path, monkeypatch, make_recipe, normalised):
    monkeypatch.chdir(tmp_path)
    norm = {"constraints": [{"use": "spectral_norm"}]}
    ganframe.run(make_recipe(train=train(), **(norm if normalised == "source" else {})), "source")
    trainer = prepare(make_recipe(train=train(**{"from": "source"}), **(norm if normalised == "target" else {})))
    saved = load_file(next((tmp_path / "source" / "checkpoints").glob("*")) / "discriminator.safetensors")
    key = "head.linear.weight" if normalised == "target" else "head.linear.parametrizations.weight.original"
    layer = trainer.state.D.network.head.linear
    found = layer.parametrizations.weight.original if normalised == "target" else layer.weight
    assert torch.equal(found, saved[key])


def test_run_killed_before_its_first_checkpoint_starts_from_the_other_run_again(source, make_recipe):
    whole = ganframe.run(make_recipe(generator=MLP, train=train(**{"from": "source"})), "whole")
    expected = whole.folder / "checkpoints" / "step-000004" / "generator.safetensors"
    weights = expected.read_bytes()
    shutil.rmtree(expected.parent)
    ganframe.resume("whole")
    assert expected.read_bytes() == weights


def test_resume_does_not_read_the_other_run_again(source, make_recipe, tmp_path):
    recipe = make_recipe(generator=MLP, train=train(**{"from": "source"}), log={"checkpoint_every": 2})
    whole = ganframe.run(recipe, "whole")
    for file in source.glob("*"):
        file.unlink()
    source.rmdir()
    newest = whole.folder / "checkpoints" / "step-000004"
    expected = (newest / "generator.safetensors").read_bytes()
    for file in newest.glob("*"):
        file.unlink()
    newest.rmdir()
    ganframe.resume("whole")
    assert (newest / "generator.safetensors").read_bytes() == expected


@pytest.mark.parametrize(
    ("run", "message"),
    [
        ("nowhere", "train.from: nowhere: not the folder of a run"),
        ("other", "train.from: other: its networks share no weight with these, by name and shape"),
    ],
)
def test_run_that_does_not_fit_is_refused(make_recipe, tmp_path, monkeypatch, run, message):
    monkeypatch.chdir(tmp_path)
    wide = {"use": "mlp", "hidden": [16], "activation": "tanh"}
    ganframe.run(
        make_recipe(dataset={"use": "digits"}, generator=wide, discriminator=wide, latent={"dim": 5}, train=train()),
        "other",
    )
    with pytest.raises(RecipeError, match=message):
        ganframe.run(make_recipe(train=train(**{"from": run})), "new")
    assert not (tmp_path / "new").exists()


def test_damaged_checkpoint_is_passed_by(make_recipe, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    run = ganframe.run(make_recipe(train=train(), log={"checkpoint_every": 2}), "source")
    (run.folder / "checkpoints/step-000004/generator.safetensors").write_bytes(b"")
    trainer = prepare(make_recipe(train=train(**{"from": "source"})))
    saved = load_file(run.folder / "checkpoints/step-000002/generator.safetensors")
    assert torch.equal(trainer.networks["generator"].state_dict()["last.weight"], saved["last.weight"])


def test_names_of_other_types_do_not_match(tmp_path, source):
    file = source / "generator.safetensors"
    save_file({name: tensor.double() for name, tensor in load_file(file).items()}, file)
    # The manifest's checksum says that the file was changed.
    with pytest.raises(RequestError, match="no intact checkpoint"):
        warm_start("source", {"generator": nn.Linear(2, 2)})


# ------------------------------------------------------------------------------------------------------------- freeze


def test_frozen_module_keeps_weights_and_statistics(make_recipe, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    recipe = make_recipe(
        generator=WIDER,
        train=train(freeze=["generator.linears.0", "generator.norms.0", "discriminator.head.linear.bias"], ema=0.9),
        log={"samples_every": 2, "checkpoint_every": 2},
    )
    before = {name: network.state_dict() for name, network in prepare(recipe).networks.items()}
    before = {name: {key: value.clone() for key, value in state.items()} for name, state in before.items()}
    run = ganframe.run(recipe, "run")
    after = {name: load_file(run.folder / "checkpoints/step-000004" / f"{name}.safetensors") for name in before}
    held = {name for name in before["generator"] if name.startswith(("linears.0", "norms.0"))}
    for name, value in after["generator"].items():
        assert torch.equal(value, before["generator"][name]) == (name in held), name
    for name, value in after["discriminator"].items():
        assert torch.equal(value, before["discriminator"][name]) == (name == "head.linear.bias"), name


@pytest.mark.parametrize(
    ("name", "message"),
    [
        (
            "generator.linear.0",
            r"train.freeze\[0\]: the generator has no 'linear.0'; did you mean 'generator.linears.0'",
        ),
        ("linears.0", r"train.freeze\[0\]: 'linears.0' begins with neither 'generator' nor 'discriminator'"),
        ("generator.", "train.freeze: nothing of the generator is left to train"),
    ],
)
def test_freeze_of_what_is_not_there_is_refused(make_recipe, name, message):
    with pytest.raises(RecipeError, match=message):
        prepare(make_recipe(train=train(freeze=[name])))


def test_freeze_holds_a_normalised_layer(make_recipe):
    trainer = prepare(
        make_recipe(constraints=[{"use": "spectral_norm"}], train=train(freeze=["discriminator.head.linear"]))
    )
    layer = trainer.state.D.network.head.linear
    assert not any(p.requires_grad for p in layer.parameters())
    assert not layer.training


def test_freeze_yields_nothing_for_no_names():
    assert list(freeze((), {"generator": spectral_norm(nn.Linear(2, 2))})) == []


def test_projection_leaves_frozen_weights_alone(make_recipe, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    recipe = make_recipe(
        constraints=[{"use": "weight_clipping", "limit": 0.001}], train=train(freeze=["discriminator.layers.0"])
    )
    before = {key: value.clone() for key, value in prepare(recipe).networks["discriminator"].state_dict().items()}
    run = ganframe.run(recipe, "run")
    after = load_file(run.folder / "checkpoints/step-000004/discriminator.safetensors")
    assert torch.equal(after["layers.0.weight"], before["layers.0.weight"])
    assert after["head.linear.weight"].abs().max() <= 0.001


@pytest.mark.parametrize(
    ("names", "condition", "refused"),
    [
        (("dog", "cat", "eel"), "concat", True),
        (("cat", "dog", "eel"), "concat", False),
        (("ant", "bee", "fly"), "concat", False),  # other classes take their place
        (("dog", "cat", "eel"), "none", False),
    ],
)
def test_classes_with_other_labels_than_in_the_first_run_are_refused(tmp_path, names, condition, refused):
    def recipe(**train):
        root = tmp_path / "images"
        for label, name in enumerate(("cat", "dog", "eel")):
            (root / name).mkdir(parents=True, exist_ok=True)
            for i in range(2):
                Image.new("L", (8, 8), 50 * label).save(root / name / f"{i}.png")
        networks = {"use": "mlp", "hidden": [4], "condition": condition}
        document = {
            "dataset": {"use": "image_folder", "root": str(root), "channels": 1},
            "generator": networks,
            "discriminator": networks,
            "objective": {"use": "vanilla"},
            "train": {"steps": 1, "batch_size": 4, **train},
        }
        return structure(document, "recipe", load())

    run = ganframe.run(recipe(), tmp_path / "run").folder
    G = ganframe.load_generator(run)
    save_generator(run / "generator.safetensors", G.network, attrs.evolve(G.spec, class_names=names))
    again = recipe(**{"from": str(run)})
    if not refused:
        prepare(again)
        return
    with pytest.raises(
        RecipeError, match=r"train\.from: .*class 'cat' has label 1 in this run and label 0 in this data"
    ):
        prepare(again)
