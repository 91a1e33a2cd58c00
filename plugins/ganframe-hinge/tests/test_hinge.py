"""The hinge objective keeps the promises of its kind, has the value that theory gives it, and its recipe trains."""

from pathlib import Path

import pytest
import torch
from ganframe_hinge import Hinge

import ganframe
from ganframe.testing import check_objective

FOLDER = Path(__file__).parent.parent
RECIPE = FOLDER / "hinge_digits.toml"


@pytest.mark.parametrize("margin", [1.0, 0.5, 3.0])
def test_it_keeps_the_promises_of_its_kind(margin):
    check_objective(Hinge(margin=margin))


def test_values_by_hand():
    real, fake = torch.tensor([0.5, 2.0]), torch.tensor([-2.0, 0.0])
    assert Hinge().discriminator_loss(real, fake).item() == pytest.approx(0.25 + 0.5)
    assert Hinge(margin=0.0).discriminator_loss(real, fake).item() == 0
    assert Hinge().generator_loss(fake).item() == 1.0


def test_loss_at_optimal_discriminator_is_2_minus_2_tv():
    # p = N(0, 1), q = N(1, 1): the optimal critic is the sign of log p/q, and TV = .3829249.
    x = torch.special.ndtri((torch.arange(200_000, dtype=torch.float64) + 0.5) / 200_000)
    real, fake = (0.5 - x).sign(), (0.5 - (x + 1)).sign()
    assert Hinge().discriminator_loss(real, fake).item() == pytest.approx(2 - 2 * 0.3829249, abs=1e-4)


def test_it_is_found_by_its_name():
    assert ganframe.component("objective", "hinge") is Hinge


def test_its_recipe_trains(tmp_path):
    recipe = ganframe.load_recipe(RECIPE, ["train.steps=3"])
    run = ganframe.run(recipe, out=tmp_path / "run")
    assert ganframe.load_generator(run.folder).sample(4).shape == (4, 1, 16, 16)


def test_recipe_of_sagan_trains_with_attention(tmp_path):
    small = ["dataset={use='digits', size=32}", "generator.width=1", "discriminator.width=2", "train.batch_size=8"]
    recipe = ganframe.load_recipe(FOLDER / "sagan_fashion_mnist.toml", [*small, "train.steps=3"])
    run = ganframe.run(recipe, out=tmp_path / "run")
    G = ganframe.load_generator(run.folder)
    assert G.sample(4).shape == (4, 1, 32, 32)
    assert dict(G.named_parameters())["network.attention.gamma"] != 0
