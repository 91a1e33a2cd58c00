"""A run to sample from, and helpers for all commands."""

import os
import subprocess
import sys

import pytest

import ganframe

RECIPE = """
seed = 5
[dataset]
use = "ring"
[latent]
dim = 4
[generator]
use = "mlp"
hidden = [16]
[discriminator]
use = "mlp"
hidden = [16]
dropout = 0.3
[objective]
use = "non_saturating"
[optimizer.generator]
use = "Adam"
lr = 1e-2
schedule = { use = "LinearLR", start_factor = 1.0, end_factor = 0.1, total_iters = 12 }
[optimizer.discriminator]
use = "SGD"
lr = 1e-2
momentum = 0.9
[train]
steps = 12
critic_steps = 2
batch_size = 16
ema = 0.9
[log]
every = 1
checkpoint_every = 4
"""


@pytest.fixture
def recipe(tmp_path):
    """The file of a recipe of twelve steps with everything that a checkpoint must hold, in the test's folder."""
    file = tmp_path / "x.toml"
    file.write_text(RECIPE)
    return file


@pytest.fixture(scope="session")
def finished(tmp_path_factory):
    """A finished run on the ring. Tests must not change it."""
    folder = tmp_path_factory.mktemp("finished")
    (folder / "x.toml").write_text(RECIPE)
    return ganframe.run(ganframe.load_recipe(folder / "x.toml"), folder / "run").folder


@pytest.fixture
def files():
    """files(folder): every file below a folder, with its bytes."""
    return lambda folder: {str(p.relative_to(folder)): p.read_bytes() for p in folder.rglob("*") if p.is_file()}


@pytest.fixture
def lines_of():
    """lines_of(text): the lines of a table without the blanks around them."""
    return lambda text: "\n".join(line.strip() for line in text.splitlines())


@pytest.fixture
def python(tmp_path):
    """python(*arguments): runs Python in a process of its own, in the test's folder."""

    def run(*arguments):
        environment = {**os.environ, "OMP_NUM_THREADS": "1"}
        command = [sys.executable, *arguments]
        return subprocess.run(command, capture_output=True, text=True, timeout=100, env=environment, cwd=tmp_path)

    return run
