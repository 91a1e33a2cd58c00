"""The example objective passes ganframe's conformance kit, and its recipe trains."""

from pathlib import Path

import pytest
import torch
from ganframe_example import Example

import ganframe
from ganframe.testing import check_objective

RECIPE = Path(__file__).parent.parent / "example.toml"


def test_conformance():
    check_objective(Example)


# TO CHANGE with the formula: L_D is the mean of relu(1 - a), (0.5 + 0) / 2, plus that of relu(1 + b), (0 + 1) / 2.
def test_losses_match_values_computed_by_hand():
    real, fake = torch.tensor([0.5, 2.0]), torch.tensor([-2.0, 0.0])
    assert Example().discriminator_loss(real, fake).item() == pytest.approx(0.25 + 0.5)
    assert Example().generator_loss(fake).item() == pytest.approx(1.0)


def test_recipe_trains(tmp_path):
    recipe = ganframe.load_recipe(RECIPE, ["train.steps=3"])
    run = ganframe.run(recipe, out=tmp_path / "run")
    assert ganframe.load_generator(run.folder).sample(4).isfinite().all()
