"""A run of two processes (gloo, on the CPU) does what a run of one does."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest
import torch

SCRIPT = Path(__file__).with_name("two_processes.py")
TORCHRUN = [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc_per_node", "2"]
ONE_THREAD = {**os.environ, "OMP_NUM_THREADS": "1", "ACCELERATE_USE_CPU": "true"}


def call(*command: str, **options) -> subprocess.CompletedProcess[str]:
    return subprocess.run(command, env=ONE_THREAD, capture_output=True, text=True, timeout=300, **options)


@pytest.fixture(scope="module")
def results(tmp_path_factory) -> list[dict]:
    folder = tmp_path_factory.mktemp("processes")
    stored = []
    for name, launcher in (("one.pt", [sys.executable]), ("two.pt", TORCHRUN)):
        done = call(*launcher, str(SCRIPT), str(folder / name))
        assert done.returncode == 0, done.stderr
        stored.append(torch.load(folder / name, weights_only=True))
    return stored


def test_two_processes_follow_the_gradients_of_one(results):
    one, two = results
    assert (one["processes"], two["processes"]) == (1, 2)
    assert one["weights"].keys() == two["weights"].keys()
    assert len(one["weights"]) == 15
    for case, tensors in one["weights"].items():
        for name, tensor in tensors.items():
            torch.testing.assert_close(two["weights"][case][name], tensor, rtol=1e-4, atol=1e-6, msg=f"{case}: {name}")


def test_batch_norms_statistics_are_those_of_the_whole_batch(results):
    """After one critic step the first layer's mean is over both shares of the latents, whatever their variances."""
    one, two = (stored["batch_norm_mean"] for stored in results)
    assert one.abs().max() > 0.01
    torch.testing.assert_close(two, one)


def test_all_ranks_end_with_the_same_weights_and_draw_their_own_noise(results):
    assert results[1]["ranks_agree"]
    assert results[1]["shares_differ"]


def test_a_recipe_runs_in_two_processes_and_the_first_alone_writes(tmp_path):
    recipe = tmp_path / "tiny.toml"
    recipe.write_text(
        """
        dataset = { use = "ring" }
        generator = { use = "mlp", hidden = [8], batch_norm = true }
        discriminator = { use = "mlp", hidden = [8] }
        objective = { use = "non_saturating" }
        train = { steps = 4, batch_size = 16, ema = 0.9 }
        log = { every = 1, samples_every = 4, checkpoint_every = 2 }
        """.replace("\n        ", "\n")
    )
    done = call(*TORCHRUN, "-m", "ganframe", "run", str(recipe), "--out", str(tmp_path / "run"))
    assert done.returncode == 0, done.stderr
    lines = [json.loads(line) for line in (tmp_path / "run" / "metrics.jsonl").read_text().splitlines()]
    assert [line["step"] for line in lines] == [1, 2, 3, 4]
    assert json.loads((tmp_path / "run" / "environment.json").read_text())["processes"] == 2
    assert done.stdout.count("done:") == 1


def test_a_batch_that_processes_cannot_share_evenly_is_refused(tmp_path):
    recipe = SCRIPT.parent.parent / "recipes" / "wgan_sn.toml"
    done = call(*TORCHRUN, "-m", "ganframe", "run", str(recipe), "--set", "train.batch_size=63", cwd=tmp_path)
    assert done.returncode != 0
    assert "train.batch_size: 2 processes cannot share 63 evenly" in done.stderr
    assert not (tmp_path / "runs").exists()
