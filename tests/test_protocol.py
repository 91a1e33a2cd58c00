"""Methods that are hard to express train from a recipe, and resume to the same bytes: see sketches.py."""

from __future__ import annotations

import json
from pathlib import Path

import attrs
import pytest
import torch

import ganframe
from ganframe import Timing
from ganframe.plugins.registry import load
from ganframe.recipes.reading import structure

SKETCHES = Path(__file__).with_name("sketches.py")

MLP = {"use": "mlp", "hidden": [16]}
RECIPES = {
    "hifi_gan": {
        "dataset": {"use": "tones"},
        "generator": {"use": "mlp", "hidden": [16], "condition": "concat"},
        "discriminator": {"use": "multi_period"},
        "terms": [{"use": "features"}, {"use": "spectrum", "weight": {"from": 45.0, "to": 5.0, "steps": 6}}],
    },
    "ctgan": {
        "dataset": {"use": "people"},
        "generator": {"use": "mlp", "hidden": [16], "condition": "concat"},
        "discriminator": {"use": "mlp", "hidden": [16], "condition": "concat"},
        "terms": [{"use": "as_asked"}],
    },
}


@pytest.fixture
def sketches(install, tmp_path, monkeypatch):
    """The sketches as an installed plugin, in an empty folder."""
    install("ganframe-sketches", SKETCHES.read_text(encoding="utf-8"))
    monkeypatch.chdir(tmp_path)


def recipe(name, **train):
    shared = {
        "objective": {"use": "non_saturating"},
        "latent": {"dim": 4},
        "train": {"steps": 8, "batch_size": 16, "ema": 0.9, **train},
        "log": {"every": 1, "samples_every": 8, "checkpoint_every": 4},
    }
    return structure({"name": name, **shared, **RECIPES[name]}, name, load())


def newest_files(run):
    return {p.name: p.read_bytes() for p in sorted((run.folder / "checkpoints" / "step-000008").glob("*.safetensors"))}


@pytest.mark.parametrize("name", RECIPES)
def test_sketch_trains_and_resumes_exactly(sketches, name):
    whole = ganframe.run(recipe(name), "whole")
    ganframe.run(recipe(name, steps=4), "parts")
    parts = ganframe.resume("parts", ["train.steps=8"])
    assert newest_files(whole) == newest_files(parts)
    assert [{**r, "seconds": 0} for r in whole.log] == [{**r, "seconds": 0} for r in parts.log]
    last = whole.log[-1]
    for term in RECIPES[name]["terms"]:
        assert f"term_{term['use']}" in whole.log[0], last
    assert ganframe.load_generator("whole").sample(5).isfinite().all()


def test_lazy_term_is_logged_where_it_is_due(sketches):
    lazy = attrs.evolve(recipe("hifi_gan"), timing={"terms[0]": Timing(every=2)})
    run = ganframe.run(lazy, "run")
    assert ["term_features" in record for record in run.log] == [True, False] * 4


def test_ramp_of_a_term_moves_in_a_run(sketches):
    run = ganframe.run(recipe("hifi_gan"), "run")
    kept = json.loads((run.folder / "environment.json").read_text())
    assert "ganframe_sketches" in kept["plugins"]
    fixed = structure(
        {
            "name": "hifi_gan",
            "objective": {"use": "non_saturating"},
            "latent": {"dim": 4},
            "train": {"steps": 1, "batch_size": 16, "ema": 0.9},
            "log": {"every": 1, "samples_every": 8, "checkpoint_every": 4},
            **RECIPES["hifi_gan"],
            "terms": [{"use": "features"}, {"use": "spectrum", "weight": 45.0}],
        },
        "fixed",
        load(),
    )
    assert ganframe.run(fixed, "fixed").log[0]["term_spectrum"] == run.log[0]["term_spectrum"]
    assert run.log[-1]["term_spectrum"] < run.log[0]["term_spectrum"] / 4


def test_rows_of_a_table_are_decoded(sketches):
    ganframe.run(recipe("ctgan"), "run")
    rows = ganframe.component("dataset", "people")().decode(ganframe.load_generator("run").sample(4))
    assert all(town in range(3) and job in range(4) for _, town, job in rows)
    x = ganframe.load_generator("run").sample(64)
    torch.testing.assert_close(x[:, 1:4].sum(1), torch.ones(64))
    torch.testing.assert_close(x[:, 4:].sum(1), torch.ones(64))
