"""The example dataset passes ganframe's conformance kit, and its recipe trains."""

from pathlib import Path

import torch
from ganframe_example import Example

import ganframe
from ganframe.testing import check_dataset

RECIPE = Path(__file__).parent.parent / "example.toml"


def test_conformance():
    check_dataset(Example)


# TO CHANGE with the data.
def test_points_without_noise_are_on_the_circle():
    x, _ = Example(noise=0.0).build().tensors
    torch.testing.assert_close(x.norm(dim=1), torch.ones(len(x)))


def test_recipe_trains(tmp_path):
    recipe = ganframe.load_recipe(RECIPE, ["train.steps=3"])
    run = ganframe.run(recipe, out=tmp_path / "run")
    assert ganframe.load_generator(run.folder).sample(4).isfinite().all()
