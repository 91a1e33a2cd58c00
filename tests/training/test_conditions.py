"""Runs on data with conditions: pictures, kept conditions, exact resume; and many scores beside them."""

import shutil

import numpy as np
import pytest
import torch
from PIL import Image
from safetensors.torch import load_file

import ganframe
from ganframe.data.feed import as_float
from ganframe.training import callbacks
from ganframe.training.prepare import prepare

KINDS = ("images", "vectors")


def trained(recipe, out, *overrides):
    return ganframe.run(ganframe.load_recipe(recipe, overrides), out).folder


@pytest.mark.parametrize("kind", KINDS)
def test_run_with_conditions_resumes_to_the_same_bytes(conditional, tmp_path, kind):
    recipe = conditional(kind)
    straight = trained(recipe, tmp_path / "straight")
    cut = trained(recipe, tmp_path / "cut", "train.steps=2")
    (cut / "conditions.safetensors").unlink()
    ganframe.resume(cut, ["train.steps=4"])
    for name in ("generator.safetensors", "conditions.safetensors", "samples/step-000004.png"):
        assert (cut / name).read_bytes() == (straight / name).read_bytes(), name


def test_conditions_reach_both_networks(conditional):
    """Networks that saw blank conditions would have no gradient for them."""
    trainer = prepare(ganframe.load_recipe(conditional("vectors")))
    ganframe.engine.algorithm.train(trainer.state, 1, 1)
    for player, first in ((trainer.state.G, "linears.0.weight"), (trainer.state.D, "layers.0.weight")):
        weight = dict(player.network.named_parameters())[first]
        assert (weight.grad[:, -3:].abs().sum(0) > 0).all()


def test_kept_conditions_are_held_out_and_stay_in_uint8(conditional, tmp_path):
    run = trained(conditional(), tmp_path / "run")
    kept = load_file(run / "conditions.safetensors")["conditions"]
    held_out = ganframe.load_recipe(run / "recipe.toml").dataset.held_out().tensors[1]
    assert kept.dtype == torch.uint8
    assert kept.shape == (30, 1, 8, 8)
    assert all((held_out == one).flatten(1).all(1).any() for one in kept)
    assert not (run / ".conditions.safetensors.partial").exists()


def test_a_run_without_conditions_keeps_none(tiny, tmp_path):
    assert not (trained(tiny(), tmp_path / "run") / "conditions.safetensors").exists()


def test_picture_shows_each_sample_between_its_condition_and_its_real_sample(conditional, tmp_path, monkeypatch):
    drawn = {}
    plain = callbacks.pictures.draw
    monkeypatch.setattr(
        callbacks.pictures,
        "draw",
        lambda file, spec, fake, real, scores, conditions, **others: (
            drawn.update(fake=fake, real=real, y=conditions),
            plain(file, spec, fake, real, scores, conditions=conditions),
        ),
    )
    run = trained(conditional(), tmp_path / "run")
    n = len(drawn["fake"])
    torch.testing.assert_close(drawn["real"][:n], -drawn["y"].expand(-1, 3, -1, -1))  # the negative of each condition
    held_out = as_float(ganframe.load_recipe(run / "recipe.toml").dataset.held_out().tensors[1])
    assert all((held_out == one).flatten(1).all(1).any() for one in drawn["y"])
    assert len({*map(str, drawn["y"])}) == n == 24
    with Image.open(run / "samples" / "step-000004.png") as picture:
        width, height = picture.size
    side = 56 + 2  # 8 pixels, enlarged seven times so that there are 500 in all, and the grid's lines
    assert (width - 2, height - 2) == (9 * side, 8 * side)


@pytest.mark.parametrize("kind", KINDS)
def test_many_scores_train_and_are_drawn(conditional, tmp_path, kind):
    recipe = conditional(kind)
    text = recipe.read_text()
    start, end = text.index("[discriminator]"), text.index("[objective]")
    recipe.write_text(text[:start] + '[discriminator]\nuse = "two_scores"\n' + text[end:])
    run = trained(recipe, tmp_path / "run", "train.one_sided_labels=true")  # its scores heed no conditions
    assert (run / "samples" / "step-000004.png").exists()


def test_held_out_data_of_another_shape_is_refused(conditional, monkeypatch):
    recipe = ganframe.load_recipe(conditional())
    x, y = recipe.dataset.build().tensors
    wrong = torch.utils.data.TensorDataset(x[:, :1], y)
    monkeypatch.setattr(type(recipe.dataset), "held_out", lambda self: wrong)
    with pytest.raises(ganframe.RecipeError, match="dataset: held_out: item 0 has the shape"):
        prepare(recipe)


def test_generator_file_keeps_condition_and_columns(tmp_path):
    from ganframe import DataSpec
    from ganframe.storage.weights import generator_spec, save_generator

    for spec in (DataSpec((2,), condition=(1, 8, 8)), DataSpec((4,), columns=(1, 3)), DataSpec((2,), 3)):
        save_generator(tmp_path / "generator.safetensors", torch.nn.Linear(1, 1), spec)
        assert generator_spec(tmp_path / "generator.safetensors") == spec


def test_generator_of_a_run_samples_under_given_and_kept_conditions(conditional, tmp_path):
    run = trained(conditional(), tmp_path / "run")
    G = ganframe.load_generator(run)
    kept = as_float(load_file(run / "conditions.safetensors")["conditions"])
    z = G.latents(50)[0]
    wanted = G.decode(z, kept[torch.arange(50) % 30])
    torch.testing.assert_close(G.sample(50), wanted)
    one = torch.full((1, 8, 8), 255, dtype=torch.uint8)
    torch.testing.assert_close(G.sample(4, y=one), G.sample(4, y=torch.ones(4, 1, 8, 8)))
    torch.testing.assert_close(G.sample(4, y=one.float() / 127.5 - 1), G.sample(4, y=one))
    torch.testing.assert_close(G(z), G(z, torch.zeros(50, 1, 8, 8)))
    assert not torch.allclose(G.sample(4, y=one), G.sample(4))
    for y, message in (
        (torch.ones(1, 8, 7), r"y has shape \(1, 8, 7\): it must be one condition of shape \(1, 8, 8\), or 4 of them"),
        (torch.ones(3, 1, 8, 8), "or 4 of them"),
        (2, "y has shape"),
        (np.ones((1, 8, 8), dtype=np.int64), "conditions are int64"),
    ):
        with pytest.raises(ValueError, match=message):
            G.sample(4, y=y)
    shutil.copytree(run, tmp_path / "copy")
    (tmp_path / "copy" / "conditions.safetensors").unlink()
    with pytest.raises(ganframe.RequestError, match="the run keeps no conditions"):
        ganframe.load_generator(tmp_path / "copy").sample(4)
    assert ganframe.load_generator(tmp_path / "copy").sample(4, y=one).shape == (4, 3, 8, 8)
    (tmp_path / "copy" / "conditions.safetensors").write_bytes(b"damaged")
    with pytest.raises(ganframe.RequestError, match=r"conditions.safetensors: cannot be used: .*; delete it"):
        ganframe.load_generator(tmp_path / "copy")
