"""Loading the networks of a run: samples depend on the seed alone, and no dataset is needed."""

import copy
import importlib.metadata
import platform
import shutil
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image
from safetensors.torch import load_file

import ganframe
from ganframe import DataSpec, RequestError, load_recipe
from ganframe.analysis.trained import TrainedGenerator, load_generator, load_networks, newest_checkpoint
from ganframe.data.latents import fixed_latents
from ganframe.plugins.registry import load
from ganframe.recipes.tables import Prior
from ganframe.training.networks import samples_at_a_time

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
def image_runs(tmp_path_factory):
    """Two short runs whose images have been deleted: "classes" is conditional, "flat" has an EMA and no classes."""
    folder = tmp_path_factory.mktemp("sampling")
    generator = np.random.default_rng(0)
    for i in range(9):
        for place in (folder / "flat", folder / "classes" / "abc"[i % 3]):
            place.mkdir(parents=True, exist_ok=True)
            Image.fromarray(generator.integers(0, 256, (8, 8, 3), dtype=np.uint8)).save(place / f"{i}.png")
    options = {
        "flat": {"generator": "none", "train": "ema = 0.5"},
        "classes": {"generator": "concat", "train": "one_sided_labels = true"},
    }
    for name, values in options.items():
        recipe = folder / f"{name}.toml"
        recipe.write_text(RECIPE.format(root=(folder / name).as_posix(), **values))
        ganframe.run(ganframe.load_recipe(recipe), out=folder / "runs" / name)
        shutil.rmtree(folder / name)
    return folder / "runs"


@pytest.fixture(params=["flat", "classes"])
def G(image_runs, request):
    return load_generator(image_runs / request.param)


@pytest.fixture
def labelled(image_runs):
    return load_generator(image_runs / "classes")


def test_generator_is_loaded_in_evaluation_mode_without_its_dataset(G):
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


def test_samples_depend_on_the_seed_alone(image_runs, G):
    first = G.sample(6, seed=3)
    assert torch.equal(G.sample(6, seed=3), first)
    assert not torch.equal(G.sample(6, seed=4), first)
    assert torch.equal(G.sample(6), G.sample(6, seed=0))
    torch.manual_seed(1)
    before = torch.get_rng_state()
    assert torch.equal(G.sample(6, seed=3), first)
    assert torch.equal(torch.get_rng_state(), before)


def test_loading_twice_gives_equal_generators(image_runs):
    for name in ("flat", "classes"):
        by_path, by_name = (load_generator(path).sample(4) for path in (image_runs / name, str(image_runs / name)))
        assert torch.equal(by_path, by_name)


def test_sampling_changes_no_buffer(G):
    before = {name: value.clone() for name, value in G.state_dict().items()}
    G.sample(20)
    assert all(torch.equal(value, before[name]) for name, value in G.state_dict().items())


def test_label_for_all_samples_or_one_for_each(labelled):
    assert labelled.spec == DataSpec((3, 8, 8), classes=3)
    torch.manual_seed(0)
    for parameter in labelled.parameters():  # after two steps of training the classes hardly differ
        torch.nn.init.normal_(parameter, 0, 0.5)
    twos = labelled.sample(4, seed=1, y=2)
    assert torch.equal(twos, labelled.sample(4, seed=1, y=[2, 2, 2, 2]))
    assert torch.equal(twos, labelled.sample(4, seed=1, y=torch.tensor([2] * 4)))
    assert torch.equal(twos, labelled.sample(4, seed=1, y=torch.tensor(2)))
    assert not torch.equal(twos, labelled.sample(4, seed=1, y=0))
    mixed = labelled.sample(4, seed=1, y=(0, 1, 2, 2))
    torch.testing.assert_close(mixed[2:], twos[2:])
    assert not torch.equal(mixed[:2], twos[:2])


@pytest.mark.parametrize(
    ("bad", "message"),
    [
        *[(y, "the data has classes 0 to 2") for y in (3, -1, [0, 1, 2, 3], torch.tensor([0, 1, -1, 2]))],
        *[(y, "must be one integer, or 4 of them") for y in ([0, 1], [0, 1, 2, 0, 1], [[0, 1], [1, 0]])],
        *[(y, "must be one integer, or 4 of them") for y in (1.5, [0.5, 1.0, 2.0, 0.0], True, torch.ones(4))],
    ],
)
def test_unknown_classes_and_labels_of_another_shape_or_type_are_refused(labelled, bad, message):
    with pytest.raises(ValueError, match=message):
        labelled.sample(4, y=bad)


def test_labels_are_refused_for_data_without_classes(image_runs):
    unlabelled = load_generator(image_runs / "flat")
    assert unlabelled.spec.classes is None
    for y in (0, [0, 0], torch.tensor(0)):
        with pytest.raises(ValueError, match="the data has no classes"):
            unlabelled.sample(2, y=y)


def test_forward_without_labels_uses_class_0(labelled):
    z = torch.randn(3, 5)
    with torch.no_grad():
        assert torch.equal(labelled(z), labelled(z, torch.zeros(3, dtype=torch.long)))


def test_default_labels_are_uniform_over_classes():
    z, y = fixed_latents(Prior(dim=4), DataSpec((2,), classes=5), 20_000, 0)
    assert z.shape == (20_000, 4)
    counts = torch.bincount(y)
    assert len(counts) == 5
    assert ((counts - 4000).abs() < 5 * (20_000 * 0.2 * 0.8) ** 0.5).all()
    assert (fixed_latents(Prior(dim=4), DataSpec((2,)), 10, 0)[1] == 0).all()


def test_latents_have_the_distribution_of_the_prior():
    for distribution, largest in (("uniform", 1.74), ("normal", 6.0)):
        z, _ = fixed_latents(Prior(dim=4, distribution=distribution), DataSpec((2,)), 5000, 0)
        assert abs(z.var() - 1) < 0.05
        assert 0.6 * largest < z.abs().max() < largest


def test_moving_average_is_sampled_where_the_run_has_one(image_runs):
    stored = load_file(image_runs / "flat" / "generator.safetensors")
    checkpoint = sorted((image_runs / "flat" / "checkpoints").iterdir())[-1]
    average, live = (load_file(checkpoint / f"{name}.safetensors") for name in ("average", "generator"))
    assert all(torch.equal(stored[name], average[f"module.{name}"]) for name in stored)
    assert not all(torch.equal(stored[name], live[name]) for name in live)
    loaded = load_generator(image_runs / "flat").network.state_dict()
    assert all(torch.equal(loaded[name], stored[name]) for name in stored)


def test_networks_are_sampled_in_evaluation_mode():
    network = torch.nn.Sequential(torch.nn.Dropout(0.5), torch.nn.BatchNorm1d(2)).train()
    network.forward = lambda z, y: network[1](network[0](z))
    G = TrainedGenerator(network, DataSpec((2,)), Prior(dim=2))
    z = fixed_latents(Prior(dim=2), DataSpec((2,)), 5, 0)[0]
    torch.testing.assert_close(G.sample(5), z / (1 + 1e-5) ** 0.5)


def test_images_of_a_network_without_tanh_are_clipped():
    network = torch.nn.Module()
    network.forward = lambda z, y: 2 * z.view(-1, 1, 2, 2)
    G = TrainedGenerator(network, DataSpec((1, 2, 2)), Prior(dim=4))
    z = G.latents(50)[0]
    torch.testing.assert_close(G.sample(50), (2 * z).clamp(-1, 1).view(-1, 1, 2, 2))
    assert G(z, torch.zeros(50, dtype=torch.long)).abs().max() > 1


def test_missing_run_and_missing_weights_are_refused(image_runs, tmp_path):
    with pytest.raises(RequestError, match="not the folder of a run"):
        load_generator(tmp_path)
    copy = tmp_path / "copy"
    shutil.copytree(image_runs / "flat", copy)
    (copy / "generator.safetensors").unlink()
    with pytest.raises(RequestError, match="has not saved a generator yet"):
        load_generator(copy)


def test_weights_of_another_network_are_refused(image_runs, tmp_path):
    copy = tmp_path / "copy"
    shutil.copytree(image_runs / "flat", copy)
    recipe = copy / "recipe.toml"
    text = recipe.read_text()
    assert "width = 4" in text
    recipe.write_text(text.replace("width = 4", "width = 8"))
    with pytest.raises(RequestError, match=r"generator\.width was 4 and is 8"):
        load_generator(copy)
    shutil.rmtree(copy / "checkpoints")  # which say what the recipe was
    with pytest.raises(RequestError, match="cannot be loaded"):
        load_generator(copy)


def test_load_generator_uses_a_given_registry_without_loading_plugins(image_runs, monkeypatch):
    registry = load()
    loaded = []
    monkeypatch.setattr(importlib.metadata.EntryPoint, "load", loaded.append)
    G = load_generator(image_runs / "flat", registry)
    assert G.registry is registry
    assert loaded == []
    assert G.sample(2).shape == (2, 3, 8, 8)


@pytest.mark.parametrize("name", ["flat", "classes"])
def test_load_networks_opens_no_dataset_and_builds_no_optimizer(image_runs, monkeypatch, name):
    """The images have been deleted, so the dataset cannot be opened."""
    recipe = load_recipe(image_runs / name / "recipe.toml")
    with pytest.raises(ValueError, match="no such folder"):
        recipe.dataset.build()
    monkeypatch.setattr(torch.optim.Optimizer, "__init__", lambda *_: pytest.fail("an optimiser is built"))
    sampled = load_generator(image_runs / name)
    checkpoint = newest_checkpoint(image_runs / name)
    G, D = load_networks(checkpoint, recipe, sampled.spec, torch.device("cpu"))
    assert torch.equal(G.sample(4), sampled.sample(4))  # in "flat" both are the moving average
    saved = load_file(checkpoint / "discriminator.safetensors")
    assert all(torch.equal(value, saved[name]) for name, value in D.state_dict().items())
    for network in (G, D):
        assert not any(module.training for module in network.modules())
        assert not any(parameter.requires_grad for parameter in network.parameters())


# -------------------------------------------------------------------------------------------------- latents and decode


def test_decoded_latents_of_a_seed_are_its_samples(generators):
    for G in generators.values():
        z, y = G.latents(20, seed=3)
        assert z.shape == (20, G.prior.dim)
        assert y.shape == (20,)
        assert torch.equal(G.decode(z, y), G.sample(20, seed=3))
        assert G.sample(0).shape == (0, *G.spec.shape)
        assert torch.equal(G.latents(20)[0], G.latents(20, seed=0)[0])


def test_decoding_in_chunks_equals_one_batch(generators):
    G = generators["labelled"]
    sizes = []
    G.network.register_forward_hook(lambda module, inputs, output: sizes.append(len(output)))
    z, y = G.latents(600, seed=1)
    torch.testing.assert_close(G.decode(z, y), G(z, y).detach(), atol=1e-5, rtol=1e-5)
    assert max(sizes[:-1]) <= samples_at_a_time(G.spec, torch.device("cpu"))
    for n in (0, 1, 255, 256, 257):
        assert G.decode(z[:n], y[:n]).shape == (n, 1, 8, 8)
        torch.testing.assert_close(G.decode(z[:n], y[:n]), G.decode(z, y)[:n], atol=1e-5, rtol=1e-5)


def test_weights_for_images_are_channels_last_and_samples_are_not(image_runs, G):
    weights = [p for p in G.parameters() if p.ndim == 4]
    assert weights
    assert all(p.is_contiguous(memory_format=torch.channels_last) for p in weights)
    x = G.sample(20, seed=2)
    assert x.is_contiguous()
    other = copy.deepcopy(G).to(memory_format=torch.contiguous_format)
    torch.testing.assert_close(other.sample(20, seed=2), x)


def test_decoded_samples_have_no_gradient(generators):
    G = generators["labelled"]
    z = torch.randn(5, 3, requires_grad=True)
    assert not G.decode(z).requires_grad
    assert z.grad is None


def test_decoding_without_labels_uses_class_0(generators):
    G = generators["labelled"]
    z = torch.randn(300, 3)
    zeros = torch.zeros(300, dtype=torch.long)
    assert torch.equal(G.decode(z), G.decode(z, zeros))
    assert not torch.equal(G.decode(z), G.decode(z, zeros + 1))


# ---------------------------------------------------------------------------------------------------------- precision


def test_bf16_changes_what_the_network_computes_in_and_not_the_samples_type(labelled):
    seen = []
    labelled.network.last.register_forward_hook(lambda module, inputs, output: seen.append(output.dtype))
    plain = labelled.sample(8, seed=1)
    assert seen[-1] == torch.float32
    half = labelled.with_precision("bf16").sample(8, seed=1)
    assert seen[-1] == torch.bfloat16
    assert half.dtype == torch.float32
    assert not torch.equal(half, plain)
    torch.testing.assert_close(half, plain, atol=0.05, rtol=0.05)
    assert torch.equal(labelled.with_precision("bf16").with_precision("no").sample(8, seed=1), plain)


def test_precision_is_that_of_generators_made_of_it(labelled):
    half = labelled.with_precision("bf16")
    for made in (half.with_standing_statistics(2, 4), half.under_one_condition()):
        assert made.precision == "bf16"


def test_bf16_is_refused_on_a_gpu_without_it_and_noted_on_a_processor_without_it(labelled, monkeypatch, capsys):
    monkeypatch.setattr(platform, "machine", lambda: "x86_64")
    for has_it in (True, False):
        monkeypatch.setattr(torch.cpu, "_is_avx512_bf16_supported", lambda has_it=has_it: has_it, raising=False)
        labelled.with_precision("bf16")
        assert ("no instructions for it" in capsys.readouterr().err) is not has_it
    monkeypatch.setattr(TrainedGenerator, "_device", torch.device("cuda", 0))
    monkeypatch.setattr(torch.cuda, "is_bf16_supported", lambda including_emulation: False)
    monkeypatch.setattr(torch.cuda, "get_device_name", lambda device: "an old GPU")
    with pytest.raises(RequestError, match=r"^precision bf16: an old GPU does not support it; leave it out$"):
        labelled.with_precision("bf16")


def test_sample_command_refuses_unknown_labels_and_writes_nothing(refused):
    message = refused("sample", "labelled", "--label", 2, "--out", "new/x.npy")
    assert message.startswith("y = 2: the data has classes 0 to 1")
    assert [*Path().iterdir()] == []
