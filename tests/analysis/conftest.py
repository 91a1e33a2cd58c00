"""Runs with known generators, for the tests of sampling, interpolation and arithmetic."""

import shutil

import numpy as np
import pytest
import torch
from PIL import Image

import ganframe
from ganframe import load_generator
from ganframe.storage.weights import save_generator

RECIPE = """
[dataset]
{dataset}
[latent]
dim = {dim}
distribution = "{distribution}"
[generator]
{generator}
[discriminator]
use = "mlp"
hidden = [4]
[objective]
use = "non_saturating"
[train]
steps = 1
batch_size = 4
one_sided_labels = true
"""
LINEAR = 'use = "mlp"\nhidden = []'  # one linear layer, so that the sample of a sum is the sum of the samples


def _train(folder, weights, dataset='use = "ring"', generator=LINEAR, dim=2, distribution="normal"):
    """A finished run, with the generator's parameters then set by weights(network)."""
    folder.mkdir()
    recipe = folder / "recipe.toml"
    recipe.write_text(RECIPE.format(dataset=dataset, generator=generator, dim=dim, distribution=distribution))
    run = ganframe.run(ganframe.load_recipe(recipe), out=folder / "run").folder
    G = load_generator(run)
    with torch.no_grad():
        weights(G.network)
    save_generator(run / "generator.safetensors", G.network, G.spec)
    return run


def _identity(network):
    """The sample is the latent."""
    network.last.weight.copy_(torch.eye(2))
    network.last.bias.zero_()


def _shade(network):
    """Images of one grey, tanh(z): dark for negative latents, light for positive ones."""
    network.last.weight.fill_(1)
    network.last.bias.zero_()


def _random(network):
    """Parameters that give each class clearly different samples, which one step of training does not."""
    torch.manual_seed(0)
    for parameter in network.parameters():
        torch.nn.init.normal_(parameter, 0, 0.5)


def _grey_images(root):
    """A dataset of grey images in two classes: 0 a little darker than the middle, 1 a little lighter."""
    for name, value in (("dark", 100), ("light", 155)):
        (root / name).mkdir(parents=True)
        for i in range(6):
            Image.fromarray(np.full((8, 8), value + i - 3, np.uint8)).save(root / name / f"{i}.png")
    return f'use = "image_folder"\nroot = "{root.as_posix()}"\nchannels = 1'


@pytest.fixture(scope="session")
def runs(tmp_path_factory):
    """Finished runs by name, not to be changed. The datasets of "labelled" and "orphan" have been deleted."""
    folder = tmp_path_factory.mktemp("runs")
    made = {
        "ring": _train(folder / "ring", _identity),
        "uniform": _train(folder / "uniform", _identity, distribution="uniform"),
        "plain": _train(folder / "plain", _identity, 'use = "swiss_roll"'),
        "single": _train(folder / "single", _identity, 'use = "ring"\nmodes = 1'),
        "shades": _train(folder / "shades", _shade, _grey_images(folder / "data"), dim=1),
    }
    label = 'use = "dcgan"\nwidth = 4\ncondition = "concat"'
    gone = _grey_images(folder / "gone")
    made["labelled"] = _train(folder / "labelled", _random, gone, label, dim=3)
    made["orphan"] = _train(folder / "orphan", _shade, gone, dim=1)
    shutil.rmtree(folder / "gone")
    in_norm = 'use = "mlp"\nhidden = [8]\nbatch_norm = true\ncondition = "batch_norm"'
    made["in_norm"] = _train(folder / "in_norm", _random, 'use = "ring"\nmodes = 3', in_norm)
    return made


@pytest.fixture
def generators(runs):
    return {name: load_generator(run) for name, run in runs.items()}


@pytest.fixture
def train_on(tmp_path):
    """train_on(dataset): a run on a dataset (a table of a recipe) whose samples are its latents in two dimensions."""
    return lambda dataset: _train(tmp_path / "made", _identity, dataset)


@pytest.fixture
def greys():
    """greys(file, rows, columns): the greys of a picture of one-grey images, as the generator made them, in [-1, 1]."""

    def read(file, rows, columns):
        # Images of 8 pixels, enlarged by a whole factor to 48 pixels at least and the picture to 500; names around it.
        each = next(side for side in range(50, 999, 8) if max(rows, columns) * side + 2 >= 500)
        width, height = each * columns + 2, each * rows + 2
        with Image.open(file) as picture:
            assert picture.width == width or picture.width > width + 20  # names of rows
            assert picture.height - height in (0, 24)
            values = np.asarray(picture.convert("L")).astype(float)[-height:, -width:]
        return torch.from_numpy(values[each // 2 :: each, each // 2 :: each] / 127.5 - 1).float()

    return read


@pytest.fixture
def refused(call, runs):
    """refused(*arguments): the one line that the command line, which writes no file, answers with exit code 2."""

    def run(*arguments):
        result = call(*(runs.get(a, a) for a in arguments), code=2)
        assert len(result.stderr.splitlines()) == 1
        assert result.stdout == ""
        return result.stderr.strip()

    return run
