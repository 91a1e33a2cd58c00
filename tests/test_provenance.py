"""What a run says of the versions that made it: on resuming, on sampling, and where a plugin is gone."""

from __future__ import annotations

import json
import warnings

import pytest

import ganframe
from ganframe import provenance, runfolder

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
    """A run whose objective came from a plugin of its own."""
    install("mine", PLUGIN)
    recipe = ganframe.load_recipe(tiny(), ["objective.use=mine"])
    return ganframe.run(recipe, tmp_path / "run").folder


def changed(run, **values):
    file = run / "environment.json"
    environment = json.loads(file.read_text())
    file.write_text(json.dumps(environment | values))


def test_a_checkpoint_names_the_versions_that_made_it(run):
    (newest,) = [runfolder.newest_checkpoint(runfolder.existing(run))[0]]
    about = runfolder.read_about(newest)
    environment = json.loads((run / "environment.json").read_text())
    for name in ("python", "torch", "accelerate", "ganframe", "plugins"):
        assert about[name] == environment[name]
    assert about["plugins"]["mine"]["distribution"]
    assert about["step"] == int(newest.name.removeprefix("step-"))


def test_nothing_is_said_where_nothing_differs(run, capsys):
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        ganframe.load_generator(run)
    steps = ganframe.load_recipe(run / "recipe.toml").train.steps
    ganframe.resume(run, [f"train.steps={steps + 1}"])
    assert "warning" not in capsys.readouterr().err


def test_sampling_warns_of_other_versions_of_what_makes_the_samples(run):
    changed(run, ganframe="0.0.1", plugins={"builtin": {"version": "0.0.1"}, "mine": {"version": "0"}})
    with pytest.warns(UserWarning, match="it was made with") as found:
        ganframe.load_generator(run)
    said = [str(warning.message) for warning in found]
    assert len(said) == 2  # ganframe and its built-in generator; the objective makes no samples
    assert all("0.0.1" in line and ganframe.__version__ in line for line in said)


def test_resuming_warns_of_a_plugin_of_another_version(run, capsys, monkeypatch):
    steps = ganframe.load_recipe(run / "recipe.toml").train.steps
    read = runfolder.read_about

    def older(path):
        about = read(path)
        about["plugins"]["mine"]["version"] = "0.9"
        return about | {"torch": "1.0"}

    monkeypatch.setattr(runfolder, "read_about", older)
    ganframe.resume(run, [f"train.steps={steps + 1}"])
    said = capsys.readouterr().err
    assert "it was made with plugin mine 0.9" in said
    assert "it was made with torch 1.0" in said


def test_a_plugin_that_is_gone_is_named_with_the_way_to_get_it(run, monkeypatch):
    monkeypatch.setattr(provenance, "installed", list)
    monkeypatch.setenv("GANFRAME_BLOCK", "mine")
    with pytest.raises(
        ganframe.RequestError, match=r"made with plugin 'mine', which is not installed: pip install \S+=="
    ) as e:
        ganframe.resume(run, ["train.steps=9"])
    assert "objective" in str(e.value)


@pytest.mark.parametrize(
    "text",
    ["", "no JSON", "[]", "null", '{"plugins": 3}', '{"plugins": {"mine": 3}}', '{"plugins": [1]}', "[" * 100_000],
)
def test_a_damaged_environment_is_no_fault_of_the_samples(run, text):
    (run / "environment.json").write_text(text)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        assert len(ganframe.load_generator(run).sample(2)) == 2
