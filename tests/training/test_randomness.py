"""Random numbers of any part of a run: a resumed run draws those of a run without a break, and pictures change none."""

import random

import numpy as np
import pytest
import torch

import ganframe
from ganframe.plugins.registry import load

PLUGIN = """
import random
import attrs, numpy as np, torch
from torch import nn
from torch.utils.data import Dataset as TorchDataset
from ganframe import Constraint, Dataset, DataSpec, Generator, hookimpl, option

DRAW = {
    "torch": lambda: torch.rand(()).item(),
    "numpy": lambda: np.random.rand(),
    "python": lambda: random.random(),
}

class Items(TorchDataset):
    def __init__(self, source): self.source = source
    def __len__(self): return 16
    def __getitem__(self, index): return torch.tensor([index / 16, 0, 0, 0, DRAW[self.source]()]), 0

@attrs.frozen
class Augmented(Dataset):
    "Points with a random coordinate."
    source: str = option("numpy", help="the generator")

    @property
    def spec(self): return DataSpec((5,))

    def build(self): return Items(self.source)

@attrs.frozen
class Split(Augmented):
    "Points whose first coordinate is drawn by build, as a random split is."

    def build(self):
        data = Items(self.source)
        start = DRAW[self.source]()
        return torch.utils.data.TensorDataset(
            start + torch.arange(16.0)[:, None].repeat(1, 5), torch.zeros(16, dtype=torch.long)
        )

@attrs.frozen
class Jitter(Constraint):
    "A penalty times a random number."
    source: str = option("numpy", help="the generator")

    def penalty(self, D, real, fake): return DRAW[self.source]() * real.scores.square().mean()

class NoisyNetwork(nn.Module):
    def __init__(self, dim, source):
        super().__init__()
        self.layer, self.source = nn.Linear(dim, 5), source

    def forward(self, z, y):
        noise = torch.randn(len(z), 5, device=z.device) if self.source == "torch" else DRAW[self.source]()
        return self.layer(z) + noise

@attrs.frozen
class Noisy(Generator):
    "Adds noise in evaluation mode too."
    source: str = option("numpy", help="the generator")

    def build(self, data, latent_dim): return NoisyNetwork(latent_dim, self.source)

@hookimpl
def ganframe_datasets(): return {"augmented": Augmented, "split": Split}

@hookimpl
def ganframe_constraints(): return {"jitter": Jitter}

@hookimpl
def ganframe_generators(): return {"noisy": Noisy}
"""

RECIPE = """
seed = 1
[dataset]
use = "augmented"
[latent]
dim = 2
[generator]
use = "mlp"
hidden = [4]
[discriminator]
use = "mlp"
hidden = [4]
[objective]
use = "vanilla"
[train]
steps = 4
batch_size = 4
[log]
every = 1
samples_every = 1000
checkpoint_every = 2
"""

PARTS = {
    "dataset": 'dataset={{use="augmented", source="{}"}}',
    "build of a dataset": 'dataset={{use="split", source="{}"}}',
    "constraint": 'constraints=[{{use="jitter", source="{}"}}]',
    "generator": 'generator={{use="noisy", source="{}"}}',
}


@pytest.fixture
def train(install, tmp_path):
    """train(name, *overrides, stop=None): the bytes of the generator after four steps; resumed where it stops first."""
    install("ganframe-random", PLUGIN)
    (tmp_path / "recipe.toml").write_text(RECIPE)
    registry = load()

    def run(name, *overrides, stop=None):
        steps = [] if stop is None else [f"train.steps={stop}"]
        recipe = ganframe.load_recipe(tmp_path / "recipe.toml", [*overrides, *steps], registry)
        folder = ganframe.run(recipe, tmp_path / name).folder
        if stop is not None:
            random.seed(9)
            np.random.seed(9)
            torch.manual_seed(9)
            ganframe.resume(folder, ["train.steps=4"])
        return (folder / "generator.safetensors").read_bytes()

    return run


@pytest.mark.parametrize("source", ["torch", "numpy", "python"])
@pytest.mark.parametrize("part", PARTS)
def test_resumed_run_draws_what_a_run_without_a_break_draws(train, part, source):
    setting = PARTS[part].format(source)
    assert train("resumed", setting, stop=2) == train("whole", setting)


def test_resumed_run_with_workers_draws_what_a_run_without_them_draws(train):
    assert train("resumed", "train.workers=1", stop=2) == train("whole")


@pytest.mark.parametrize("source", ["torch", "numpy", "python"])
@pytest.mark.parametrize("part", ["dataset", "generator"])
def test_pictures_do_not_change_a_run(train, part, source):
    setting = PARTS[part].format(source)
    assert train("many", setting, "log.samples_every=1") == train("few", setting)


def test_run_leaves_the_random_state_of_its_caller(train):
    before = torch.get_rng_state(), np.random.get_state()[1].tolist(), random.getstate()
    train("run")
    assert torch.equal(torch.get_rng_state(), before[0])
    assert (np.random.get_state()[1].tolist(), random.getstate()) == before[1:]
