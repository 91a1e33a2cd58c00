"""[train] compile: runs whose steps are compiled, resumed to the same bytes, or refused with the part that hinders."""

from __future__ import annotations

import json
import shutil

import pytest
import torch

import ganframe
from ganframe import load_recipe
from ganframe.cli import main
from ganframe.training import compiling

needs_compiler = pytest.mark.skipif(shutil.which("g++") is None and shutil.which("clang++") is None, reason="no C++")

PENALISED = """
[[constraints]]
use = "gradient_penalty"
weight = { from = 0.1, to = 1.0, steps = 40 }
"""

OPTIONS = [
    "objective.use=wgan",
    "train.critic_steps=2",
    "train.steps=40",
    "train.ema=0.9",
    "log.checkpoint_every=20",
    "log.every=1",
    "optimizer.generator={use='Adam', lr=1e-3, betas=[0.5, 0.9], schedule={use='LinearLR', total_iters=40}}",
    "optimizer.discriminator={use='Adam', lr=1e-3, betas=[0.5, 0.9]}",
]


@pytest.fixture(autouse=True)
def cache(tmp_path, monkeypatch):
    """The tests' own cache of compiled graphs."""
    monkeypatch.setenv("TORCHINDUCTOR_CACHE_DIR", str(tmp_path.parent / "inductor"))


@needs_compiler
def test_compiled_run_trains_as_the_plain_one_and_resumes_to_the_same_bytes(tiny, tmp_path, capsys):
    """A penalty that ramps, a rate that falls, two critic steps, a moving average: one graph."""
    recipe = tiny(PENALISED)
    plain = ganframe.run(load_recipe(recipe, OPTIONS), tmp_path / "plain")
    whole = ganframe.run(load_recipe(recipe, [*OPTIONS, "train.compile=true"]), tmp_path / "whole")
    assert capsys.readouterr().err.count("compiled in") == 1
    first, second = (
        {name: run.log[i] for name, run in (("plain", plain), ("whole", whole))} for i in (1, 20)
    )  # steps 2 and 21
    for records, rtol in ((first, 1e-5), (second, 5e-4)):
        for name in ("loss_discriminator", "penalty_gradient_penalty"):
            assert records["whole"][name] == pytest.approx(records["plain"][name], rel=rtol, abs=rtol)
        # A bias of D whose gradient is 0 but for rounding moves by Adam's steps, and G's loss with it.
        assert records["whole"]["loss_generator"] == pytest.approx(records["plain"]["loss_generator"], abs=0.02)
    changes = [record["loss_discriminator"] for record in whole.log]
    assert len(set(changes)) == len(changes)
    environment = json.loads((whole.folder / "environment.json").read_text())
    assert environment["compiled"]["graphs"] == 1
    assert "compiled" not in json.loads((plain.folder / "environment.json").read_text())
    assert "compile = true" in (whole.folder / "recipe.toml").read_text()

    def stop(state):
        if state.step == 20:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        ganframe.run(load_recipe(recipe, [*OPTIONS, "train.compile=true"]), tmp_path / "parts", callbacks=[stop])
    parts = ganframe.resume(tmp_path / "parts")
    for name in ("generator.safetensors", "checkpoints/step-000040/discriminator.safetensors"):
        assert (parts.folder / name).read_bytes() == (whole.folder / name).read_bytes()
    assert [r["loss_generator"] for r in parts.log] == [r["loss_generator"] for r in whole.log]


@needs_compiler
def test_run_with_bf16_compiles(tiny, tmp_path, capsys):
    ganframe.run(load_recipe(tiny(), ["train.compile=true", "train.precision=bf16"]), tmp_path / "run")
    said = capsys.readouterr().err
    assert "compiled in" in said
    assert "not compiled" not in said


READING = """
from typing import Any

import attrs
import ganframe
from ganframe import Objective


@attrs.frozen
class Reading(Objective):
    def discriminator_loss(self, real, fake):
        return (fake - real).mean() * (2 if real.mean() > 0 else 1)

    def generator_loss(self, fake, real=None):
        return -fake.mean()


@ganframe.hookimpl
def ganframe_objectives():
    return {"reading": Reading}
"""


@pytest.fixture
def reading(install):
    """A plugin whose loss decides by a value."""
    return install("ganframe-reading", READING)


def test_part_that_cannot_be_recorded_is_named_before_the_run_begins(tiny, tmp_path, monkeypatch, capsys, reading):
    monkeypatch.chdir(tmp_path)
    recipe = str(tiny())
    arguments = ["run", recipe, "--set", "objective.use=reading", "--out", "run"]
    with pytest.raises(SystemExit, match="2"):
        main([*arguments, "--set", "train.compile=true"], standalone_mode=False)
    said = capsys.readouterr().err
    assert "train.compile: objective (" in said
    assert "reads a value of a tensor" in said
    assert not (tmp_path / "run").exists()


@pytest.mark.parametrize(
    ("override", "message"),
    [
        (
            "optimizer.generator={use='Adam', weight_decay={from=0.0, to=0.1, steps=5}}",
            "optimizer.generator.weight_decay moves; only lr, betas, momentum may",
        ),
        ("optimizer.discriminator={use='Adagrad'}", "optimizer.discriminator: Adagrad is not one of Adam"),
    ],
)
def test_optimiser_that_cannot_be_compiled_is_refused_or_trains_as_it_is(tiny, tmp_path, capsys, override, message):
    """Refused before anything is written, where the recipe asks for it; with 'auto', a line says so."""
    with pytest.raises(ganframe.RecipeError) as caught:
        ganframe.run(load_recipe(tiny(), ["train.compile=true", override]), tmp_path / "run")
    assert f"train.compile: {message}" in str(caught.value)
    assert not (tmp_path / "run").exists()
    plain = ganframe.run(load_recipe(tiny(), [override]), tmp_path / "plain")
    auto = ganframe.run(load_recipe(tiny(), ["train.compile=auto", override]), tmp_path / "auto")
    assert "not compiled" in capsys.readouterr().err
    assert (auto.folder / "generator.safetensors").read_bytes() == (plain.folder / "generator.safetensors").read_bytes()


def test_auto_compiles_no_short_run(tiny, tmp_path, capsys):
    plain = ganframe.run(load_recipe(tiny()), tmp_path / "plain")
    auto = ganframe.run(load_recipe(tiny(), ["train.compile=auto"]), tmp_path / "auto")
    assert "not compiled: a run of fewer than 40,000 steps does not repay it" in capsys.readouterr().err
    assert (auto.folder / "generator.safetensors").read_bytes() == (plain.folder / "generator.safetensors").read_bytes()


@needs_compiler
@pytest.mark.parametrize(("width", "compiled"), [(8, True), (1024, False)])
def test_auto_compiles_a_long_run_of_small_products(tiny, tmp_path, capsys, monkeypatch, width, compiled):
    monkeypatch.setattr(compiling, "REPAID", 6)
    widths = [f"generator.hidden=[{width}]", f"discriminator.hidden=[{width}, {width}]", "train.batch_size=64"]
    ganframe.run(load_recipe(tiny(), ["train.compile=auto", *widths]), tmp_path / "run")
    said = capsys.readouterr().err
    assert ("compiled in" in said) is compiled
    assert ("large products" in said) is not compiled


def test_multiplications_are_those_of_products():
    from torch.fx.experimental.proxy_tensor import make_fx

    a, b = torch.randn(3, 5), torch.randn(5, 7)
    graph = make_fx(lambda a, b: (a @ b).relu() @ b.T)(a, b)
    assert compiling.multiplications(graph) == 3 * 5 * 7 * 2


@pytest.mark.parametrize("value", ["'no'", "1", "'Auto'"])
def test_other_values_of_compile_are_refused(tiny, value):
    with pytest.raises(ganframe.RecipeError, match=r"train\.compile"):
        load_recipe(tiny(), [f"train.compile={value}"])
