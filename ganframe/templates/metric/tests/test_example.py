"""The example metric passes ganframe's conformance kit, and its recipe trains."""

from pathlib import Path
from types import SimpleNamespace

import pytest
import torch
from ganframe_example import Example

import ganframe
from ganframe.testing import check_metric

RECIPE = Path(__file__).parent.parent / "example.toml"


def test_conformance():
    check_metric(Example)


# TO CHANGE with the measure: the means are (2, 3) and (2, 7).
def test_metric_matches_a_value_computed_by_hand():
    y = torch.zeros(2, dtype=torch.long)
    real, generated = (torch.tensor(x) for x in ([[1.0, 2.0], [3.0, 4.0]], [[2.0, 6.0], [2.0, 8.0]]))
    judging = SimpleNamespace(samples=2, real=lambda n: (real[:n], y[:n]), features=lambda name: lambda x: x)
    assert Example().build(judging)(generated, y) == {"example": pytest.approx(4.0)}


def test_recipe_trains(tmp_path):
    recipe = ganframe.load_recipe(RECIPE, ["train.steps=3"])
    run = ganframe.run(recipe, out=tmp_path / "run")
    assert ganframe.load_generator(run.folder).sample(4).isfinite().all()
