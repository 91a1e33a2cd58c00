"""The example constraint passes ganframe's conformance kit, and its recipe trains."""

from pathlib import Path

import pytest
import torch
from ganframe_example import Example

import ganframe
from ganframe.testing import check_constraint

RECIPE = Path(__file__).parent.parent / "example.toml"


def test_conformance():
    check_constraint(Example)


# TO CHANGE with the formula: the gradient is (3, 4) everywhere, so the penalty is 2/2 · (3² + 4²).
def test_penalty_of_a_linear_discriminator():
    x = torch.randn(8, 2, requires_grad=True)
    side = ganframe.Scored(x, torch.zeros(8, dtype=torch.long), x @ torch.tensor([3.0, 4.0]))
    assert Example(gamma=2.0).penalty(torch.nn.Identity(), side, side).item() == pytest.approx(25.0)


def test_recipe_trains(tmp_path):
    recipe = ganframe.load_recipe(RECIPE, ["train.steps=3"])
    run = ganframe.run(recipe, out=tmp_path / "run")
    assert ganframe.load_generator(run.folder).sample(4).isfinite().all()
