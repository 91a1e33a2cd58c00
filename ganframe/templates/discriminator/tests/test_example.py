"""The example discriminator passes ganframe's conformance kit, and its recipe trains."""

from pathlib import Path

from ganframe_example import Example

import ganframe
from ganframe.testing import check_discriminator

RECIPE = Path(__file__).parent.parent / "example.toml"


def test_conformance():
    check_discriminator(Example)


def test_recipe_trains(tmp_path):
    recipe = ganframe.load_recipe(RECIPE, ["train.steps=3"])
    run = ganframe.run(recipe, out=tmp_path / "run")
    assert ganframe.load_generator(run.folder).sample(4).isfinite().all()
