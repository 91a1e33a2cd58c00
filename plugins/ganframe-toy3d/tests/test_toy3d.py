"""Distribution, labels and seeding of the datasets; measure.py; training of the recipes."""

from __future__ import annotations

import importlib.util
import math
from pathlib import Path

import attrs
import pytest
import torch
from ganframe_toy3d import CubeCorners, Helix, Walk

import ganframe
from ganframe.testing import check_dataset

HERE = Path(__file__).parent
RECIPES = sorted(HERE.parent.glob("*.toml"))
RECIPES.remove(HERE.parent / "pyproject.toml")
DATA = {"helix": Helix(), "cube_corners": CubeCorners(), "walk": Walk()}


@pytest.fixture(scope="module")
def measure():
    spec = importlib.util.spec_from_file_location("measure", HERE / "measure.py")
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


@pytest.fixture(params=DATA)
def config(request):
    return DATA[request.param]


def drawn(config, n, seed=0):
    return config.build().draw(n, torch.Generator().manual_seed(seed))


# ------------------------------------------------------------------------------------------------------ all datasets


@pytest.mark.parametrize("name", DATA)
def test_component_is_registered(name):
    assert ganframe.component("dataset", name) is type(DATA[name])


@pytest.mark.parametrize("name", DATA)
def test_conformance(name):
    check_dataset(type(DATA[name]))


def test_every_option_has_help_and_default(config):
    for field in attrs.fields(type(config)):
        assert field.metadata["help"]
        assert field.default is not attrs.NOTHING


@pytest.mark.parametrize(
    ("config", "shape", "classes"),
    [
        (Helix(), (3,), 2),
        (Helix(strands=5), (3,), 5),
        (CubeCorners(), (3,), 8),
        (Walk(), (16, 3), None),
        (Walk(points=2), (2, 3), None),
    ],
)
def test_samples_match_spec(config, shape, classes):
    assert config.spec == ganframe.DataSpec(shape, classes)
    x, y = drawn(config, 500)
    assert x.shape == (500, *shape)
    assert x.dtype == torch.float32
    assert x.isfinite().all()
    assert y.shape == (500,)
    assert y.dtype == torch.long
    assert y.unique().tolist() == list(range(classes or 1))
    x, y = config.build()[7]
    assert x.shape == shape
    assert y.shape == ()


def test_draws_depend_only_on_the_generator_seed(config):
    torch.manual_seed(0)
    first = drawn(config, 50, seed=3)
    torch.manual_seed(1)
    before = torch.get_rng_state()
    second, other = drawn(config, 50, seed=3), drawn(config, 50, seed=4)
    assert torch.equal(torch.get_rng_state(), before)
    assert torch.equal(first[0], second[0])
    assert torch.equal(first[1], second[1])
    assert not torch.equal(first[0], other[0])
    data, generator = config.build(), torch.Generator().manual_seed(3)
    assert torch.equal(data.draw(50, generator)[0], first[0])
    assert not torch.equal(data.draw(50, generator)[0], first[0])  # each batch differs


def test_draws_are_on_the_generator_device(config):
    data, generator = config.build(), torch.Generator()
    with torch.device("meta"):  # a tensor created without a device would be on "meta", and adding it to others raises
        x, y = data.draw(8, generator)
    assert x.device == y.device == generator.device


@pytest.mark.parametrize(
    "make",
    [
        lambda: Helix(strands=0),
        lambda: Helix(turns=0.0),
        lambda: Helix(radius=-1.0),
        lambda: Helix(height=0.0),
        lambda: Helix(noise=-0.1),
        lambda: CubeCorners(side=0.0),
        lambda: CubeCorners(std=0.0),
        lambda: Walk(points=1),
        lambda: Walk(turns=0.0),
        lambda: Walk(radius=0.0),
        lambda: Walk(noise=-0.1),
    ],
)
def test_option_out_of_range_raises_value_error(make):
    with pytest.raises(ValueError, match="must be"):
        make()


def test_readme_lists_every_option_and_default():
    text = (HERE.parent / "README.md").read_text(encoding="utf-8")
    for name, config in DATA.items():
        (row,) = (line for line in text.splitlines() if line.startswith(f"| `{name}` | "))
        options = ", ".join(f"`{field.name}` {field.default}" for field in attrs.fields(type(config)))
        assert row.endswith(f"| {options} |")


# --------------------------------------------------------------------------------------------------------- the helix


def test_helix_without_noise_is_on_the_strand_of_its_label():
    helix = Helix(strands=3, turns=2.5, radius=0.7, height=4.0, noise=0.0)
    x, y = drawn(helix, 10_000)
    assert x[:, 2].abs().max() <= 2
    assert x[:, 2].aminmax()[1] > 1.99
    angle = 2 * math.pi * (2.5 * (x[:, 2] / 4 + 0.5) + y / 3)  # from the third coordinate
    expected = 0.7 * torch.stack([angle.cos(), angle.sin()], dim=1)
    torch.testing.assert_close(x[:, :2], expected, atol=1e-5, rtol=0)


def test_helix_is_uniform_along_strands_and_over_strands():
    n = 200_000
    x, y = drawn(Helix(noise=0.0), n)
    assert abs(y.double().mean() - 0.5) < 5 * 0.5 / n**0.5
    for strand in range(2):
        counts = torch.histc(x[y == strand, 2], bins=10, min=-1, max=1)
        assert (counts / counts.sum() - 0.1).abs().max() < 5 * (0.09 / counts.sum()) ** 0.5


def test_helix_noise_has_the_requested_std():
    n = 100_000
    noise = drawn(Helix(noise=0.1), n)[0] - drawn(Helix(noise=0.0), n)[0]  # same seed, same points
    torch.testing.assert_close(noise.T.cov(), 0.01 * torch.eye(3), atol=0.01 * 8 / n**0.5, rtol=0)
    assert noise.mean(0).abs().max() < 5 * 0.1 / n**0.5


# ---------------------------------------------------------------------------------------------------------- the cube


@pytest.mark.parametrize("cube", [CubeCorners(), CubeCorners(side=5.0, std=0.3)])
def test_cube_corners_have_mean_std_share_and_label(cube):
    n = 200_000
    x, y = drawn(cube, n)
    half = cube.side / 2
    corners = [(a, b, c) for a in (-half, half) for b in (-half, half) for c in (-half, half)]
    offset = (x - torch.tensor(corners)[y]) / cube.std
    assert offset.abs().max() < 6  # each label is the corner of its sample
    for corner in range(8):
        of_corner = offset[y == corner]
        assert abs(len(of_corner) / n - 1 / 8) < 5 * (7 / 64 / n) ** 0.5
        assert (of_corner.mean(0).abs() < 5 / len(of_corner) ** 0.5).all()
        torch.testing.assert_close(of_corner.T.cov(), torch.eye(3), atol=8 / len(of_corner) ** 0.5, rtol=0)


# --------------------------------------------------------------------------------------------------------- the walks


@pytest.mark.parametrize("cube", [CubeCorners(), CubeCorners(side=3.0, std=0.2)])
def test_cube_corners_tell_their_modes(cube):
    """In the order of the labels, with the share of samples within 3 σ of them that a Gaussian in space has."""
    means, stds, weights = cube.build().modes()
    x, y = drawn(cube, 50_000)
    torch.testing.assert_close(torch.stack([x[y == k].mean(0) for k in range(8)]), means, atol=0.02, rtol=0)
    assert ((x - means[y]).norm(dim=1) <= 3 * stds[y]).double().mean().item() == pytest.approx(0.9707, abs=0.004)
    assert weights.sum().item() == pytest.approx(1.0)


def test_walk_without_noise_has_constant_speed_on_a_circle():
    walk = Walk(points=9, turns=0.25, radius=2.0, noise=0.0)
    x, y = drawn(walk, 1000)
    torch.testing.assert_close(x.norm(dim=2), torch.full((1000, 9), 2.0))
    chord = 2 * 2.0 * math.sin(2 * math.pi * 0.25 / 8 / 2)
    torch.testing.assert_close((x[:, 1:] - x[:, :-1]).norm(dim=2), torch.full((1000, 8), chord), atol=1e-4, rtol=0)
    torch.testing.assert_close((x[:, 0] * x[:, -1]).sum(1), torch.zeros(1000), atol=1e-4, rtol=0)  # a quarter turn
    assert torch.linalg.svdvals(x)[:, 2].max() < 1e-4  # each walk is in a plane through 0
    assert (y == 0).all()


def test_walk_orientation_is_uniform():
    """The start and the normal of the plane are uniform on the sphere: mean 0, covariance I/3."""
    n = 100_000
    x, _ = drawn(Walk(points=2, turns=0.25, noise=0.0), n)
    first, second = x.unbind(1)
    for direction in (first, second, torch.linalg.cross(first, second)):
        assert direction.mean(0).abs().max() < 5 / (3 * n) ** 0.5
        torch.testing.assert_close(direction.T.cov(), torch.eye(3) / 3, atol=5 * 0.3 / n**0.5, rtol=0)


def test_walk_noise_has_the_requested_std():
    noise = drawn(Walk(noise=0.1), 10_000)[0] - drawn(Walk(noise=0.0), 10_000)[0]
    assert noise.std().item() == pytest.approx(0.1, rel=0.01)
    assert noise.std(0).min() > 0.095  # at each point of a walk and in each coordinate


# -------------------------------------------------------------------------------------------------------- measure.py


def test_corner_count_of_perfect_sampler_is_8_with_97_07_percent_high_quality(measure):
    expected = math.erf(3 / 2**0.5) - 3 * (2 / math.pi) ** 0.5 * math.exp(
        -4.5
    )  # chi distribution, 3 degrees of freedom
    assert expected == pytest.approx(0.9707, abs=5e-5)
    captured, high = measure.corner_count(drawn(CubeCorners(), 200_000)[0], CubeCorners())
    assert captured == 8
    assert high == pytest.approx(expected, abs=5 * (0.03 / 200_000) ** 0.5)


def test_corner_count_of_mode_collapse_and_of_shifted_samples(measure):
    corners = CubeCorners().corners(torch.tensor([0, 5, 5]))
    assert measure.corner_count(corners, CubeCorners()) == (2, 1.0)
    assert measure.corner_count(corners + 0.1, CubeCorners()) == (0, 0.0)


def test_distance_to_helix_of_shifted_points(measure):
    helix = Helix(noise=0.0)
    x, _ = drawn(helix, 500)
    outward = torch.cat([x[:, :2], torch.zeros(500, 1)], dim=1)  # unit vectors, orthogonal to the strands
    for distance in (0.05, 0.2):
        measured = measure.distance_to_helix(x + distance * outward, helix)
        torch.testing.assert_close(measured, torch.full((500,), distance), atol=1e-3, rtol=0)
    assert measure.distance_to_helix(x, helix).max() < 2e-3


def test_distance_to_walk_of_scaled_and_noisy_walks(measure):
    walk = Walk(noise=0.0)
    x, _ = drawn(walk, 500)
    assert measure.distance_to_walk(x, walk).max() < 1e-4
    torch.testing.assert_close(measure.distance_to_walk(1.1 * x, walk), torch.full((500,), 0.1))
    # The nearest walk absorbs the noise along rotations: 3 of the 3 · 16 dimensions.
    noisy = measure.distance_to_walk(drawn(Walk(noise=0.02), 2000)[0], walk).square().mean().sqrt()
    assert noisy.item() == pytest.approx(0.02 * (45 / 16) ** 0.5, rel=0.01)


# ------------------------------------------------------------------------------------------------------- the recipes


def test_every_dataset_has_a_recipe():
    assert {recipe.stem for recipe in RECIPES} == set(DATA)


@pytest.mark.parametrize("path", RECIPES, ids=lambda path: path.stem)
def test_recipe_trains_a_few_steps(path, tmp_path, measure):
    few = ["train.steps=3", "log.every=1", "log.samples_every=3", "log.checkpoint_every=3"]
    recipe = ganframe.load_recipe(path, few)
    assert recipe.dataset == DATA[path.stem]  # the README's results are for the default options
    run = ganframe.run(recipe, out=tmp_path / "run")
    losses = [record[f"loss_{player}"] for record in run.log for player in ("generator", "discriminator")]
    assert len(losses) == 6
    assert torch.tensor(losses).isfinite().all()
    samples = ganframe.load_generator(run.folder).sample(5)
    assert samples.shape == (5, *recipe.dataset.spec.shape)
    assert samples.isfinite().all()
    assert "(" in measure.report(samples, recipe.dataset)


def test_conditional_networks_train_on_labelled_points(tmp_path):
    conditional = ["generator.condition='concat'", "discriminator.condition='projection'", "train.steps=2"]
    recipe = ganframe.load_recipe(HERE.parent / "cube_corners.toml", conditional)
    G = ganframe.load_generator(ganframe.run(recipe, out=tmp_path / "run").folder)
    assert G.sample(4, y=7).shape == (4, 3)
    with pytest.raises(ValueError, match="classes 0 to 7"):
        G.sample(4, y=8)
