"""The example objective keeps the promises of its kind, and its recipe trains."""

from pathlib import Path

import pytest
import torch
from ganframe_example import Example

import ganframe
from ganframe.testing import check_objective

RECIPE = Path(__file__).parent.parent / "example.toml"


def test_it_keeps_the_promises_of_its_kind():
    check_objective(Example)


def test_values_by_hand():
    real, fake = torch.tensor([0.5, 2.0]), torch.tensor([-2.0, 0.0])
    assert Example().discriminator_loss(real, fake).item() == pytest.approx(0.25 + 0.5)
    assert Example().generator_loss(fake).item() == pytest.approx(1.0)


def test_its_recipe_trains(tmp_path):
    recipe = ganframe.load_recipe(RECIPE, ["train.steps=3"])
    run = ganframe.run(recipe, out=tmp_path / "run")
    assert ganframe.load_generator(run.folder).sample(4).isfinite().all()
