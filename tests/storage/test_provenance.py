"""Versions that made a run: warnings on resuming and on sampling, and plugins that are missing."""

from __future__ import annotations

import json
import warnings

import pytest

import ganframe
from ganframe.storage import checkpoints, provenance, run_folder

PLUGIN = """
import attrs
from ganframe import Objective, hookimpl
from torch.nn.functional import softplus

@attrs.frozen
class Mine(Objective):
    '''The non-saturating game.'''
    def discriminator_loss(self, real, fake):
        return softplus(-real).mean() + softplus(fake).mean()
    def generator_loss(self, fake, real=None):
        return softplus(-fake).mean()

@hookimpl
def ganframe_objectives():
    return {"mine": Mine}
"""


@pytest.fixture
def run(tiny, install, tmp_path):
    """A run whose objective is of a separate plugin."""
    install("mine", PLUGIN)
    recipe = ganframe.load_recipe(tiny(), ["objective.use=mine"])
    return ganframe.run(recipe, tmp_path / "run").folder


def change_environment(run, **values):
    file = run / "environment.json"
    environment = json.loads(file.read_text())
    file.write_text(json.dumps(environment | values))


def test_checkpoint_names_the_versions_that_made_it(run):
    newest, _ = checkpoints.newest_intact(run_folder.existing(run))
    manifest = checkpoints.read_manifest(newest)
    environment = json.loads((run / "environment.json").read_text())
    for name in ("python", "torch", "accelerate", "ganframe", "plugins"):
        assert manifest[name] == environment[name]
    assert manifest["plugins"]["mine"]["distribution"]
    assert manifest["step"] == int(newest.name.removeprefix("step-"))


def test_same_versions_give_no_warning(run, capsys):
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        ganframe.load_generator(run)
    steps = ganframe.load_recipe(run / "recipe.toml").train.steps
    ganframe.resume(run, [f"train.steps={steps + 1}"])
    assert "warning" not in capsys.readouterr().err


def test_sampling_warns_of_other_versions_of_the_plugins_that_make_samples(run):
    change_environment(run, ganframe="0.0.1", plugins={"builtin": {"version": "0.0.1"}, "mine": {"version": "0"}})
    with pytest.warns(UserWarning, match="it was made with") as found:
        ganframe.load_generator(run)
    said = [str(warning.message) for warning in found]
    assert len(said) == 2  # ganframe and its built-in generator; the objective makes no samples
    assert all("0.0.1" in line and ganframe.__version__ in line for line in said)


def test_resuming_warns_of_a_plugin_of_another_version(run, capsys, monkeypatch):
    steps = ganframe.load_recipe(run / "recipe.toml").train.steps
    read = checkpoints.read_manifest

    def older(path):
        manifest = read(path)
        manifest["plugins"]["mine"]["version"] = "0.9"
        return manifest | {"torch": "1.0"}

    monkeypatch.setattr(checkpoints, "read_manifest", older)
    ganframe.resume(run, [f"train.steps={steps + 1}"])
    said = capsys.readouterr().err
    assert "it was made with plugin mine 0.9" in said
    assert "it was made with torch 1.0" in said


def test_missing_plugin_is_named_with_the_command_that_installs_it(run, monkeypatch):
    monkeypatch.setattr(provenance, "installed", list)
    monkeypatch.setenv("GANFRAME_BLOCK", "mine")
    missing = r"made with plugin 'mine', which is not installed: pip install \S+=="
    with pytest.raises(ganframe.RequestError, match=missing) as caught:
        ganframe.resume(run, ["train.steps=9"])
    assert "objective" in str(caught.value)


@pytest.mark.parametrize(
    "text",
    ["", "no JSON", "[]", "null", '{"plugins": 3}', '{"plugins": {"mine": 3}}', '{"plugins": [1]}', "[" * 100_000],
)
def test_samples_do_not_need_the_environment_file(run, text):
    (run / "environment.json").write_text(text)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        assert len(ganframe.load_generator(run).sample(2)) == 2
