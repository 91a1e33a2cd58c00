"""Every recipe in recipes/ loads, and trains where its data is available."""

from __future__ import annotations

from pathlib import Path

import attrs
import pytest
import torch
from torch.utils.data import TensorDataset

import ganframe
from ganframe.analysis import divergence, optimum
from ganframe.declarations import growth
from ganframe.engine.algorithm import train
from ganframe.recipes.tables import Comparison
from ganframe.studies.plan import load_study
from ganframe.training.prepare import prepare

FOLDER = Path(__file__).parent.parent / "recipes"
RECIPES = sorted(FOLDER.glob("*.toml"))
STUDIES = sorted((FOLDER / "studies").glob("*.toml"))
NEEDED = {
    "wgan_sn", "gan_1d", "vanilla_ring", "non_saturating_ring", "wgan_clip_grid", "wgan_gp_grid", "dcgan_digits",
    "conditional_digits", "sngan_fashion_mnist", "wgan_gp_cifar10", "sngan_cifar10",
    "dcgan_faces", "non_saturating_grid", "conditional_grid", "stacked_digits",
}  # fmt: skip


def test_documented_recipes_exist():
    assert {recipe.stem for recipe in RECIPES} >= NEEDED


@pytest.mark.parametrize("path", RECIPES, ids=lambda path: path.stem)
def test_recipe_trains_a_few_steps(path, tmp_path):
    few = ["train.steps=3", "train.critic_steps=2", "log.every=1", "log.samples_every=3", "log.checkpoint_every=3"]
    recipe = ganframe.load_recipe(path, few)
    try:
        recipe.dataset.build()
    except ValueError as absent:
        pytest.skip(str(absent))
    run = ganframe.run(recipe, out=tmp_path / "run")
    assert [record["step"] for record in run.log] == [1, 2, 3]
    losses = [record[f"loss_{player}"] for record in run.log for player in ("generator", "discriminator")]
    assert torch.tensor(losses).isfinite().all()
    assert (run.folder / "samples" / "step-000003.png").stat().st_size > 1000
    samples = ganframe.load_generator(run.folder).sample(5)
    assert samples.shape == (5, *recipe.dataset.spec.shape)
    assert samples.isfinite().all()


@pytest.mark.parametrize("path", STUDIES, ids=lambda path: path.stem)
def test_study_can_be_read_with_all_its_cells(path):
    """Every cell is sound, has a metric or a side to compare with, and builds its D, objective and constraints."""
    study = load_study(path)
    assert len(study.file.seeds) == 5
    for run in study.runs[: len(study.cells())]:
        recipe = run.recipe
        assert isinstance(recipe, Comparison) or recipe.metrics
        D = recipe.discriminator.build(recipe.dataset.spec)
        for constraint in recipe.constraints:
            constraint.check(D)
            D = constraint.wrap(D)
        schedules = (recipe.optimizer.generator.schedule, recipe.optimizer.discriminator.schedule)
        ends = {dict(schedule.options)["total_iters"] for schedule in schedules if schedule is not None}
        assert ends <= {recipe.train.steps}, "the learning rate ends where the training does"


def test_critics_of_the_study_of_w1_take_a_step_and_are_certified(install_package, tmp_path, monkeypatch):
    install_package(FOLDER.parent / "plugins" / "ganframe-lipschitz")
    monkeypatch.setattr(divergence, "JUDGED_LAST", (1_000, 1_000))
    monkeypatch.setattr(divergence, "GRADIENTS", (100, 100))
    monkeypatch.setattr(divergence, "TRANSPORTED", 20)
    monkeypatch.setattr(optimum, "SAMPLES", 2_000)
    study = load_study(FOLDER / "studies" / "w1.toml")
    runs = {run.cell["critic"]: run.recipe for run in study.runs[: len(study.cells())]}
    assert {"lp", "orthogonal_layers, fullsort", "aol, maxmin", "sll", "cpl", "sorted_branches"} < runs.keys()
    for name, comparison in runs.items():
        short = attrs.evolve(comparison, train=attrs.evolve(comparison.train, steps=1))
        measured = divergence.measure(short, tmp_path / name)
        assert measured.no_bound is None
        assert measured.agreement is not None
        if name in ("orthogonal_layers, fullsort", "aol, maxmin", "sll", "cpl", "sorted_branches"):
            assert measured.lipschitz <= 1 + 1e-6


def test_every_study_is_described():
    readme = (FOLDER / "studies" / "README.md").read_text(encoding="utf-8")
    assert STUDIES
    for path in STUDIES:
        assert f"`{path.name}`" in readme


def test_study_of_the_packages_can_be_read_and_grows_alike(install_package):
    """plugins/backbones.toml: each cell is built, its constraints take its discriminator, its terms its networks."""
    packages = FOLDER.parent / "plugins"
    for package in ("biggan", "hinge", "progressive", "r3gan", "stylegan2"):
        install_package(packages / f"ganframe-{package}")
    study = load_study(packages / "backbones.toml")
    assert len(study.file.seeds) == 5
    assert len(study.cells()) == 5
    for run in study.runs[:5]:
        recipe, spec = run.recipe, run.recipe.dataset.spec
        assert recipe.metrics
        G, D = recipe.generator.build(spec, recipe.latent.dim), recipe.discriminator.build(spec)
        assert growth(G) == growth(D)
        assert max(growth(G), default=0) < recipe.train.steps
        for constraint in recipe.constraints:
            constraint.check(D)
        for term in recipe.terms:
            term.prepare(G, D, spec)


def test_dcgan_trains_on_a_folder_of_small_images_of_any_size(tmp_path):
    """From files to samples: a folder of images of different sizes, some in colour and some in grey."""
    from PIL import Image

    folder = tmp_path / "faces"
    folder.mkdir()
    for i in range(12):
        pixels = torch.randint(256, (70 + 5 * i, 90, 3), dtype=torch.uint8).numpy()
        image = Image.fromarray(pixels)
        (image.convert("L") if i % 3 == 0 else image).save(folder / f"{i}.{'png' if i % 2 else 'jpg'}")
    few = [f"dataset.root={folder}", "train.steps=2", "train.batch_size=4", "generator.width=8"]
    few += ["discriminator.width=8", "train.workers=0", "log.every=1", "log.samples_every=2"]
    recipe = ganframe.load_recipe(next(path for path in RECIPES if path.stem == "dcgan_faces"), few)
    assert recipe.dataset.spec == ganframe.DataSpec((3, 64, 64))
    run = ganframe.run(recipe, out=tmp_path / "run")
    samples = ganframe.load_generator(run.folder).sample(3)
    assert samples.shape == (3, 3, 64, 64)
    assert samples.abs().max() <= 1
    assert (run.folder / "samples" / "step-000002.png").stat().st_size > 10_000


@attrs.frozen
class Noise(ganframe.Dataset):
    """Random images in the shape of a dataset that is not available."""

    spec: ganframe.DataSpec

    def build(self):
        images = torch.randint(256, (8, *self.spec.shape), dtype=torch.uint8)
        return TensorDataset(images, torch.zeros(8, dtype=torch.long))


@pytest.mark.parametrize("name", ["wgan_gp_cifar10", "sngan_cifar10", "sngan_fashion_mnist"])
def test_recipe_for_a_larger_dataset_takes_a_step_on_noise(name):
    path = next(recipe for recipe in RECIPES if recipe.stem == name)
    recipe = ganframe.load_recipe(path, ["train.batch_size=2", "train.generator_batch_size=4"])
    assert recipe.dataset.spec.shape == ((1, 32, 32) if "mnist" in name else (3, 32, 32))
    state = prepare(attrs.evolve(recipe, dataset=Noise(recipe.dataset.spec))).state
    before = [p.detach().clone() for p in state.G.network.parameters()]
    train(state, 1, 1)
    assert all(torch.isfinite(value).all() for value in state.latest.values())
    assert any(not torch.equal(b, p) for b, p in zip(before, state.G.network.parameters(), strict=True))
