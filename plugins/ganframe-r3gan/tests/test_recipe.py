"""The README's recipe trains end to end, loaded through the plugin's entry point."""

import shutil
from pathlib import Path

import pytest
import torch

import ganframe

FOLDER = Path(__file__).parent.parent
RECIPE = FOLDER / "r3gan_digits.toml"
FEW = ["train.steps=3", "train.batch_size=8", "log.every=1", "log.samples_every=3", "log.checkpoint_every=3"]


def test_recipe_trains_a_few_steps(tmp_path):
    run = ganframe.run(ganframe.load_recipe(RECIPE, FEW), out=tmp_path / "run")
    assert [record["step"] for record in run.log] == [1, 2, 3]
    for record in run.log:
        assert {"loss_generator", "loss_discriminator", "penalty_r1", "penalty_r2"} <= record.keys()
        assert torch.tensor([value for key, value in record.items() if "_" in key]).isfinite().all()
    samples = ganframe.load_generator(run.folder).sample(5)
    assert samples.shape == (5, *ganframe.load_recipe(RECIPE).dataset.spec.shape)
    assert samples.isfinite().all()


def test_schedules_of_the_paper_move_along_a_cosine(tmp_path):
    """γ falls to a tenth, the learning rate to a quarter, β2 rises to 0.99; after half of the steps all are halfway."""
    places = ["constraints[0].gamma", "constraints[1].gamma"]
    places += [f"optimizer.{player}.{name}" for player in ("generator", "discriminator") for name in ("lr", "betas[1]")]
    recipe = ganframe.load_recipe(RECIPE, [*FEW, *(f"{place}.steps=2" for place in places)])
    gammas, rates, betas = [], [], []

    def remember(state):
        game = state.timetable.game(state.game, state.step, 0)
        gammas.append([constraint.gamma for constraint in game.constraints.values()])
        for player in (state.G, state.D):
            (group,) = player.optimizer.param_groups
            rates.append(group["lr"])
            betas.append(group["betas"])

    ganframe.run(recipe, tmp_path / "run", [remember])
    torch.testing.assert_close(gammas, [[0.165, 0.165], [0.03, 0.03], [0.03, 0.03]])
    torch.testing.assert_close(rates, [0.0025] * 2 + [0.001] * 4)
    torch.testing.assert_close(betas, [(0.0, 0.945)] * 2 + [(0.0, 0.99)] * 4)


def test_recipe_resumes_exactly_while_schedules_move(tmp_path):
    run = ganframe.run(ganframe.load_recipe(RECIPE, [*FEW, "log.checkpoint_every=1", "log.keep=3"]), tmp_path / "run")
    shutil.copytree(run.folder, tmp_path / "killed")
    for step in (2, 3):
        shutil.rmtree(tmp_path / f"killed/checkpoints/step-{step:06d}")
    ganframe.resume(tmp_path / "killed")
    last, again = (tmp_path / folder / "checkpoints/step-000003" for folder in ("run", "killed"))
    for file in last.glob("*.safetensors"):
        assert file.read_bytes() == (again / file.name).read_bytes(), file.name
    one, other = (torch.load(folder / "training.pt") for folder in (last, again))
    torch.testing.assert_close(one, other, rtol=0, atol=0)


def test_recipe_of_the_paper_is_read():
    recipe = ganframe.load_recipe(FOLDER / "r3gan_cifar10.toml")
    gamma = recipe.timing["constraints[0]"].ramps["gamma"]
    assert (gamma.from_, gamma.to, gamma.shape) == (0.05, 0.005, "cosine")
    assert gamma.steps * recipe.train.batch_size == pytest.approx(20e6, rel=1e-3)
    assert recipe.train.ema ** (5e6 / recipe.train.batch_size) == pytest.approx(0.5, rel=1e-2)  # half-life in steps
    for player in (recipe.optimizer.generator, recipe.optimizer.discriminator):
        assert {name: (ramp.from_, ramp.to) for name, ramp in player.ramps.items()} == {
            "lr": (2e-4, 5e-5),
            "betas[1]": (0.9, 0.99),
        }


def test_recipe_trains_with_labels(tmp_path):
    labels = ["generator.condition='concat'", "discriminator.condition='projection'"]
    run = ganframe.run(ganframe.load_recipe(RECIPE, FEW + labels), out=tmp_path / "run")
    assert ganframe.load_generator(run.folder).sample(2, y=7).isfinite().all()


def test_discriminator_with_batchnorm_raises_recipe_error(tmp_path):
    recipe = ganframe.load_recipe(RECIPE, ["dataset.size=16", "discriminator={use='dcgan', norm='batch'}"])
    with pytest.raises(ganframe.RecipeError, match="mixes samples"):
        ganframe.run(recipe, out=tmp_path / "run")
