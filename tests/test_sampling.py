"""Sampling from a run: the same for the same seed, labels as asked for, and no dataset needed."""

import shutil

import numpy as np
import pytest
import torch
from PIL import Image

import ganframe
from ganframe import DataSpec, RequestError
from ganframe.recipe import Latent
from ganframe.sampling import TrainedGenerator, draw_latents, load_generator

RECIPE = """
[dataset]
use = "image_folder"
root = "{root}"

[latent]
dim = 5

[generator]
use = "dcgan"
width = 4
condition = "{generator}"

[discriminator]
use = "dcgan"
width = 4

[objective]
use = "non_saturating"

[train]
steps = 2
batch_size = 4
{train}
"""


@pytest.fixture(scope="module")
def runs(tmp_path_factory):
    """Two short runs on folders of images that are gone by now: with classes and a condition, and without."""
    folder = tmp_path_factory.mktemp("sampling")
    generator = np.random.default_rng(0)
    for i in range(9):
        for place in (folder / "flat", folder / "classes" / "abc"[i % 3]):
            place.mkdir(parents=True, exist_ok=True)
            Image.fromarray(generator.integers(0, 256, (8, 8, 3), dtype=np.uint8)).save(place / f"{i}.png")
    options = {"flat": {"generator": "none", "train": "ema = 0.5"}, "classes": {"generator": "concat", "train": ""}}
    for name, values in options.items():
        recipe = folder / f"{name}.toml"
        recipe.write_text(RECIPE.format(root=(folder / name).as_posix(), **values))
        ganframe.run(ganframe.load_recipe(recipe), out=folder / "runs" / name)
        shutil.rmtree(folder / name)
    return folder / "runs"


@pytest.fixture(params=["flat", "classes"])
def G(runs, request):
    return load_generator(runs / request.param)


@pytest.fixture
def labelled(runs):
    return load_generator(runs / "classes")


def test_a_generator_is_loaded_in_evaluation_without_its_dataset(G):
    assert isinstance(G, torch.nn.Module)
    assert not any(module.training for module in G.modules())
    assert G.spec.shape == (3, 8, 8)
    images = G.sample(7)
    assert images.shape == (7, 3, 8, 8)
    assert images.dtype == torch.float32
    assert images.device.type == "cpu"
    assert images.abs().max() <= 1
    assert not images.requires_grad
    assert images.std(0).max() > 0


def test_the_seed_decides_the_samples(runs, G):
    first = G.sample(6, seed=3)
    assert torch.equal(G.sample(6, seed=3), first)
    assert not torch.equal(G.sample(6, seed=4), first)
    assert torch.equal(G.sample(6), G.sample(6, seed=0))
    torch.manual_seed(1)
    before = torch.get_rng_state()
    assert torch.equal(G.sample(6, seed=3), first)
    assert torch.equal(torch.get_rng_state(), before)


def test_a_loaded_generator_is_loaded_alike_again(runs):
    for name in ("flat", "classes"):
        assert torch.equal(load_generator(runs / name).sample(4), load_generator(str(runs / name)).sample(4))


def test_many_samples_are_made_in_parts_that_leave_no_trace(G):
    n = 600
    z, y = draw_latents(G.latent, G.spec, n, 2)
    with torch.no_grad():
        whole = G(z, y)
    torch.testing.assert_close(G.sample(n, seed=2), whole, atol=1e-5, rtol=1e-5)
    assert G.sample(256, seed=2).shape == (256, 3, 8, 8)
    assert G.sample(257, seed=2).shape == (257, 3, 8, 8)


def test_no_samples_are_an_empty_batch(G):
    assert G.sample(0).shape == (0, 3, 8, 8)


def test_sampling_changes_no_buffer(G):
    before = {name: value.clone() for name, value in G.state_dict().items()}
    G.sample(20)
    assert all(torch.equal(value, before[name]) for name, value in G.state_dict().items())


def test_a_label_for_all_or_one_for_each(labelled):
    assert labelled.spec == DataSpec((3, 8, 8), classes=3)
    torch.manual_seed(0)
    for parameter in labelled.parameters():  # two steps of training tell classes hardly apart
        torch.nn.init.normal_(parameter, 0, 0.5)
    twos = labelled.sample(4, seed=1, y=2)
    assert torch.equal(twos, labelled.sample(4, seed=1, y=[2, 2, 2, 2]))
    assert torch.equal(twos, labelled.sample(4, seed=1, y=torch.tensor([2] * 4)))
    assert torch.equal(twos, labelled.sample(4, seed=1, y=torch.tensor(2)))
    assert not torch.equal(twos, labelled.sample(4, seed=1, y=0))
    mixed = labelled.sample(4, seed=1, y=(0, 1, 2, 2))
    torch.testing.assert_close(mixed[2:], twos[2:])
    assert not torch.equal(mixed[:2], twos[:2])


@pytest.mark.parametrize("y", [3, -1, [0, 1, 2, 3], torch.tensor([0, 1, -1, 2])])
def test_classes_that_do_not_exist_are_refused(labelled, y):
    with pytest.raises(ValueError, match="the data has classes 0 to 2"):
        labelled.sample(4, y=y)


@pytest.mark.parametrize("y", [[0, 1], [0, 1, 2, 0, 1], [[0, 1], [1, 0]]])
def test_labels_that_are_not_one_for_each_sample_are_refused(labelled, y):
    with pytest.raises(ValueError, match="y = "):
        labelled.sample(4, y=y)


@pytest.mark.parametrize("y", [1.5, [0.5, 1.0, 2.0, 0.0], True, torch.ones(4)])
def test_labels_are_whole_numbers_and_never_rounded(labelled, y):
    with pytest.raises(ValueError, match="y = "):
        labelled.sample(4, y=y)


def test_data_without_classes_takes_no_label(runs):
    unlabelled = load_generator(runs / "flat")
    assert unlabelled.spec.classes is None
    for y in (0, [0, 0], torch.tensor(0)):
        with pytest.raises(ValueError, match="the data has no classes"):
            unlabelled.sample(2, y=y)


def test_calling_the_generator_without_labels_takes_the_first_class(labelled):
    z = torch.randn(3, 5)
    with torch.no_grad():
        assert torch.equal(labelled(z), labelled(z, torch.zeros(3, dtype=torch.long)))


def test_without_labels_classes_are_drawn_evenly():
    z, y = draw_latents(Latent(dim=4), DataSpec((2,), classes=5), 20_000, 0)
    assert z.shape == (20_000, 4)
    counts = torch.bincount(y)
    assert len(counts) == 5
    assert ((counts - 4000).abs() < 5 * (20_000 * 0.2 * 0.8) ** 0.5).all()
    assert (draw_latents(Latent(dim=4), DataSpec((2,)), 10, 0)[1] == 0).all()


def test_latents_follow_the_runs_distribution():
    for distribution, largest in (("uniform", 1.74), ("normal", 6.0)):
        z, _ = draw_latents(Latent(dim=4, distribution=distribution), DataSpec((2,)), 5000, 0)
        assert abs(z.var() - 1) < 0.05
        assert 0.6 * largest < z.abs().max() < largest


def test_the_average_is_what_is_sampled_where_there_is_one(runs):
    from safetensors.torch import load_file

    stored = load_file(runs / "flat" / "generator.safetensors")
    checkpoint = sorted((runs / "flat" / "checkpoints").iterdir())[-1]
    average, live = (load_file(checkpoint / f"{name}.safetensors") for name in ("average", "generator"))
    assert all(torch.equal(stored[name], average[name]) for name in average)
    assert not all(torch.equal(stored[name], live[name]) for name in live)
    loaded = load_generator(runs / "flat").network.state_dict()
    assert all(torch.equal(loaded[name], stored[name]) for name in stored)


def test_a_network_that_mixes_or_drops_in_training_is_sampled_in_evaluation():
    network = torch.nn.Sequential(torch.nn.Dropout(0.5), torch.nn.BatchNorm1d(2)).train()
    network.forward = lambda z, y: network[1](network[0](z))
    G = TrainedGenerator(network, DataSpec((2,)), Latent(dim=2))
    z = draw_latents(Latent(dim=2), DataSpec((2,)), 5, 0)[0]
    torch.testing.assert_close(G.sample(5), z / (1 + 1e-5) ** 0.5)


def test_a_run_that_is_missing_or_has_no_weights_is_refused(runs, tmp_path):
    with pytest.raises(RequestError, match="no run there"):
        load_generator(tmp_path)
    copy = tmp_path / "copy"
    shutil.copytree(runs / "flat", copy)
    (copy / "generator.safetensors").write_bytes(b"damaged")
    with pytest.raises(RequestError, match=r"generator\.safetensors: not a generator's weights"):
        load_generator(copy)
    (copy / "generator.safetensors").unlink()
    with pytest.raises(RequestError, match="has not saved a generator yet"):
        load_generator(copy)


def test_weights_that_do_not_fit_the_recipe_are_refused(runs, tmp_path):
    copy = tmp_path / "copy"
    shutil.copytree(runs / "flat", copy)
    recipe = copy / "recipe.toml"
    text = recipe.read_text()
    assert "width = 4" in text
    recipe.write_text(text.replace("width = 4", "width = 8"))
    with pytest.raises(RequestError, match="cannot be loaded"):
        load_generator(copy)
