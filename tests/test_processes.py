"""A run of two or four processes (gloo, on the CPU) does what a run of one does, and survives one that dies."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import time
from pathlib import Path

import pytest
import torch

SCRIPT = Path(__file__).with_name("two_processes.py")
LAUNCHER = [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc_per_node"]
TORCHRUN = [*LAUNCHER, "2"]
ONE_THREAD = {**os.environ, "OMP_NUM_THREADS": "1", "ACCELERATE_USE_CPU": "true"}


def call(*command: str, **options) -> subprocess.CompletedProcess[str]:
    return subprocess.run(command, env=ONE_THREAD, capture_output=True, text=True, timeout=300, **options)


@pytest.fixture(scope="module")
def results(tmp_path_factory) -> list[dict]:
    folder = tmp_path_factory.mktemp("processes")
    stored = []
    for name, launcher in (("one.pt", [sys.executable]), ("two.pt", TORCHRUN), ("four.pt", [*LAUNCHER, "4"])):
        done = call(*launcher, str(SCRIPT), str(folder / name))
        assert done.returncode == 0, done.stderr
        stored.append(torch.load(folder / name, weights_only=True))
    return stored


def test_several_processes_follow_the_gradients_of_one(results):
    one, *several = results
    assert [stored["processes"] for stored in results] == [1, 2, 4]
    assert len(one["weights"]) == 15
    for stored in several:
        assert one["weights"].keys() == stored["weights"].keys()
        for case, tensors in one["weights"].items():
            for name, tensor in tensors.items():
                message = f"{stored['processes']} processes, {case}: {name}"
                torch.testing.assert_close(stored["weights"][case][name], tensor, rtol=1e-4, atol=1e-6, msg=message)


def test_batch_norms_statistics_are_those_of_the_whole_batch(results):
    """After one critic step the first layer's mean is over all shares of the latents, whatever their variances."""
    one, *several = (stored["batch_norm_mean"] for stored in results)
    assert one.abs().max() > 0.01
    for mean in several:
        torch.testing.assert_close(mean, one)


def test_all_ranks_end_with_the_same_weights_and_draw_their_own_noise(results):
    for stored in results[1:]:
        assert stored["ranks_agree"]
        assert stored["shares_differ"]


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


DYING = """
import os, sys
import ganframe

def die(state):
    if os.environ.get("DIES") == os.environ["RANK"] and state.step == 7:
        print("this rank dies", file=sys.stderr, flush=True)
        os._exit(3)

recipe, folder = sys.argv[1:]
if os.path.exists(f"{folder}/recipe.toml"):
    ganframe.resume(folder, callbacks=[die])
else:
    ganframe.run(ganframe.load_recipe(recipe), folder, callbacks=[die])
"""


def test_a_rank_that_dies_takes_the_job_down_and_the_run_resumes_to_the_same_bytes(tmp_path):
    recipe, script = tmp_path / "tiny.toml", tmp_path / "dying.py"
    recipe.write_text(
        """
        dataset = { use = "ring" }
        generator = { use = "mlp", hidden = [8], batch_norm = true }
        discriminator = { use = "mlp", hidden = [8], dropout = 0.3 }
        objective = { use = "wgan" }
        constraints = [{ use = "gradient_penalty" }]
        train = { steps = 12, batch_size = 16, ema = 0.9 }
        log = { every = 1, samples_every = 12, checkpoint_every = 5 }
        """.replace("\n        ", "\n")
    )
    script.write_text(DYING)
    whole, broken = tmp_path / "whole", tmp_path / "broken"
    assert call(*TORCHRUN, str(script), str(recipe), str(whole)).returncode == 0
    begun = time.monotonic()
    died = subprocess.run(
        [*TORCHRUN, str(script), str(recipe), str(broken)],
        env=ONE_THREAD | {"DIES": "1"},
        capture_output=True,
        text=True,
        timeout=300,
    )
    assert died.returncode != 0
    assert "this rank dies" in died.stderr
    assert time.monotonic() - begun < 60
    assert not (broken / "checkpoints" / "step-000012").exists()
    done = call(*TORCHRUN, str(script), str(recipe), str(broken))
    assert done.returncode == 0, done.stderr
    assert (broken / "generator.safetensors").read_bytes() == (whole / "generator.safetensors").read_bytes()
    records = [
        [{k: v for k, v in json.loads(line).items() if k != "seconds"} for line in (f / "metrics.jsonl").open()]
        for f in (broken, whole)
    ]
    assert records[0] == records[1]
    assert [record["step"] for record in records[0]] == list(range(1, 13))


def test_a_mistake_in_a_recipe_is_told_once_however_many_processes_read_it(tmp_path):
    recipe = SCRIPT.parent.parent / "recipes" / "wgan_sn.toml"
    done = call(*TORCHRUN, "-m", "ganframe", "run", str(recipe), "--set", "train.stepz=3", cwd=tmp_path)
    assert done.returncode != 0
    assert done.stderr.count("train.stepz: unknown option") == 1
