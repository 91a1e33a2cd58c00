"""Two processes train the same networks, encoders included, as one process does on the whole batch."""

import os
import subprocess
import sys
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file

FOLDER = Path(__file__).parent.parent
SGD = "{use='SGD',lr=0.05}"  # follows the gradient itself
SETTINGS = [
    "train.steps=4",
    "train.batch_size=16",
    "log.checkpoint_every=4",
    "log.samples_every=4",
    f"optimizer.generator={SGD}",
    f"optimizer.discriminator={SGD}",
]


@pytest.mark.slow
@pytest.mark.parametrize(
    ("name", "more"),
    [
        ("vae_gan_digits", []),
        ("bigan_ring", []),
        ("bigan_ring", ["terms[0].stochastic=true"]),
        ("aae_digits", []),
    ],
)
def test_two_processes_equal_one(name, more, tmp_path):
    alone = [sys.executable, "-m", "ganframe"]
    together = ["-m", "torch.distributed.run", "--standalone", "--nproc_per_node", "2", "-m", "ganframe"]
    options = [part for setting in [*SETTINGS, *more] for part in ("--set", setting)]
    environment = {**os.environ, "ACCELERATE_USE_CPU": "true", "OMP_NUM_THREADS": "1"}
    for folder, command in (("one", alone), ("two", [sys.executable, *together])):
        arguments = ["run", str(FOLDER / f"{name}.toml"), "--out", str(tmp_path / folder), *options]
        subprocess.run([*command, *arguments], check=True, env=environment, capture_output=True, timeout=300)
    one, two = (tmp_path / folder / "checkpoints/step-000004" for folder in ("one", "two"))
    files = sorted(file.name for file in one.glob("*.safetensors"))
    assert len(files) >= 3
    for file in files:
        weights = load_file(two / file)
        for key, expected in load_file(one / file).items():
            torch.testing.assert_close(weights[key], expected, rtol=1e-5, atol=1e-6)
