"""A class or a condition asked of a generator that heeds none is refused, and nothing is written."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch

import ganframe

DEAF = r"this generator heeds no (labels|conditions), and its samples are the same for all"


@pytest.mark.parametrize("command", ["sample", "interpolate", "arithmetic"])
def test_commands_refuse_a_class_of_a_generator_that_heeds_none(refused, command):
    expression = ["1 + 2"] if command == "arithmetic" else []
    message = refused(command, "ring", *expression, "--label", 3, "--out", "new/x.npy")
    assert message.startswith("y = 3: this generator heeds no labels") or "y = 3" in message
    assert [*Path().iterdir()] == []


def test_python_refuses_a_class_of_a_generator_that_heeds_none(generators, runs):
    G = generators["ring"]
    z, y = G.latents(8)
    assert not y.any()
    G.decode(z, y)
    for ask in (
        lambda: G.sample(8, y=0),
        lambda: G.sample(8, y=list(range(8))),
        lambda: G.decode(z, torch.arange(8)),
        lambda: ganframe.arithmetic(runs["ring"], "1 + 2", label=0),
    ):
        with pytest.raises((ValueError, ganframe.RequestError), match=DEAF):
            ask()
    assert ganframe.arithmetic(runs["ring"], "class=3").z.shape == (2,)  # by the nearest real samples


def test_decode_refuses_classes_that_do_not_exist(generators):
    z = generators["labelled"].latents(2)[0]
    for label in (-1, 2):
        with pytest.raises(ValueError, match="the data has classes 0 to 1"):
            generators["labelled"].decode(z, torch.tensor([0, label]))


def test_a_condition_of_a_generator_that_heeds_none_is_refused(call, conditional, tmp_path):
    sides = [f"{player}.condition='none'" for player in ("generator", "discriminator")]
    ganframe.run(ganframe.load_recipe(conditional(), sides), tmp_path / "run")
    G = ganframe.load_generator("run")
    one = torch.ones(1, 8, 8)
    z = G.latents(3)[0]
    for ask in (
        lambda: G.sample(3, y=one),
        lambda: G.decode(z, one.expand(3, 1, 8, 8)),
        lambda: G.with_conditions(one),
    ):
        with pytest.raises(ValueError, match=DEAF):
            ask()
    np.save("one.npy", one.numpy())
    for command in (["sample"], ["interpolate"], ["arithmetic"]):
        words = ["run", "1 + 2"] if command == ["arithmetic"] else ["run"]
        said = call(*command, *words, "--condition", "one.npy", "--out", "x.npy", code=2).stderr
        assert "heeds no conditions" in said
        assert len(said.splitlines()) == 1
    assert not Path("x.npy").exists()
    call("sample", "run", "--out", "x.npy")
