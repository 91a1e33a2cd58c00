"""The example term passes ganframe's conformance kit, and its recipe trains."""

from pathlib import Path

import pytest
import torch
from ganframe_example import Example

import ganframe
from ganframe.testing import check_term

RECIPE = Path(__file__).parent.parent / "example.toml"


def test_conformance():
    check_term(Example)


# TO CHANGE with the formula: the means are (2, 3) and (0, 0).
def test_term_matches_a_value_computed_by_hand():
    y = torch.zeros(2, dtype=torch.long)
    real, fake = (ganframe.Scored(torch.tensor(x), y, None) for x in ([[1.0, 2.0], [3.0, 4.0]], [[0.0, 0.0]] * 2))
    turn = ganframe.Turn(None, None, real, fake, None, 0, ganframe.Parts())
    assert Example(weight=2.0).generator_term(turn).item() == pytest.approx(2 * (2**2 + 3**2))


def test_recipe_trains(tmp_path):
    recipe = ganframe.load_recipe(RECIPE, ["train.steps=3"])
    run = ganframe.run(recipe, out=tmp_path / "run")
    assert ganframe.load_generator(run.folder).sample(4).isfinite().all()
