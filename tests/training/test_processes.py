"""A run of two or four processes (gloo, on the CPU) does what a run of one does, and survives one that dies."""

from __future__ import annotations

import json
import os
import socket
import subprocess
import sys
import time
from pathlib import Path

import pytest
import torch

SCRIPT = Path(__file__).with_name("two_processes.py")
RECIPES = Path(__file__).parents[2] / "recipes"
TORCH_LAUNCHER = [sys.executable, "-m", "torch.distributed.run"]
LAUNCHER = [*TORCH_LAUNCHER, "--standalone", "--nproc_per_node"]
TORCHRUN = [*LAUNCHER, "2"]
ONE_THREAD = {**os.environ, "OMP_NUM_THREADS": "1", "ACCELERATE_USE_CPU": "true"}


def launch(*command: object, variables=None, **options) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        list(map(str, command)),
        env=ONE_THREAD | (variables or {}),
        capture_output=True,
        text=True,
        timeout=300,
        **options,
    )


def launch_on_two_nodes(*command: object, processes: int = 1) -> list[tuple[int, str]]:
    """The exit codes and standard errors of two launchers that meet at a port, each as on a machine of its own."""
    with socket.socket() as free:
        free.bind(("localhost", 0))
        port = free.getsockname()[1]
    meeting = ["--rdzv_backend", "c10d", "--rdzv_id", "test", "--rdzv_endpoint", f"localhost:{port}"]
    node = [*TORCH_LAUNCHER, "--nnodes", "2", "--nproc_per_node", processes, *meeting, *command]
    launchers = [
        subprocess.Popen(list(map(str, node)), env=ONE_THREAD, stderr=subprocess.PIPE, text=True) for _ in range(2)
    ]
    try:
        errors = [launcher.communicate(timeout=300)[1] for launcher in launchers]
    finally:
        for launcher in launchers:
            launcher.kill()
    return [(launcher.returncode, error) for launcher, error in zip(launchers, errors, strict=True)]


@pytest.fixture(scope="module")
def results(tmp_path_factory) -> list[dict]:
    folder = tmp_path_factory.mktemp("processes")
    stored = []
    for name, launcher in (("one.pt", [sys.executable]), ("two.pt", TORCHRUN), ("four.pt", [*LAUNCHER, "4"])):
        done = launch(*launcher, SCRIPT, folder / name)
        assert done.returncode == 0, done.stderr
        stored.append(torch.load(folder / name, weights_only=True))
    for code, error in launch_on_two_nodes(SCRIPT, folder / "nodes.pt"):
        assert code == 0, error
    return [*stored, torch.load(folder / "nodes.pt", weights_only=True)]


@pytest.mark.slow
def test_several_processes_have_the_gradients_of_one(results):
    """Two and four on one machine, and one on each of two."""
    one, *several = results
    assert [stored["processes"] for stored in results] == [1, 2, 4, 2]
    assert len(one["weights"]) == 15
    for stored in several:
        assert one["weights"].keys() == stored["weights"].keys()
        for case, tensors in one["weights"].items():
            for name, tensor in tensors.items():
                message = f"{stored['processes']} processes, {case}: {name}"
                torch.testing.assert_close(stored["weights"][case][name], tensor, rtol=1e-4, atol=1e-6, msg=message)


@pytest.mark.slow
def test_log_means_of_several_processes_are_those_of_one(results):
    """Each process reports its share of a batch; the sums are saved and restored after two of the three steps."""
    one, *several = (stored["means"] for stored in results)
    assert len(one) == 15
    for means in several:
        for case, values in one.items():
            assert means[case] == pytest.approx(values, rel=1e-4, abs=1e-6), case


@pytest.mark.slow
def test_batch_norm_statistics_are_those_of_the_whole_batch(results):
    """After one discriminator step the first layer's mean is over all shares of the latents, whatever the variances."""
    one, *several = (stored["batch_norm_mean"] for stored in results)
    assert one.abs().max() > 0.01
    for mean in several:
        torch.testing.assert_close(mean, one)


@pytest.mark.slow
def test_all_ranks_end_with_the_same_weights_and_draw_their_own_latents(results):
    for stored in results[1:]:
        assert stored["ranks_agree"]
        assert stored["shares_differ"]


@pytest.fixture
def recipe(tmp_path):
    """recipe(steps, every): a recipe with random numbers of each process's own."""

    def write(steps, every):
        file = tmp_path / "tiny.toml"
        file.write_text(
            f"""
            dataset = {{ use = "ring" }}
            generator = {{ use = "mlp", hidden = [8], batch_norm = true }}
            discriminator = {{ use = "mlp", hidden = [8], dropout = 0.3 }}
            objective = {{ use = "wgan" }}
            constraints = [{{ use = "gradient_penalty" }}]
            train = {{ steps = {steps}, batch_size = 16, ema = 0.9 }}
            log = {{ every = {every}, samples_every = {steps}, checkpoint_every = 5 }}
            """.replace("\n            ", "\n")
        )
        return file

    return write


@pytest.mark.slow
@pytest.mark.parametrize("asked", ["true", "false"])
def test_recipe_runs_in_two_processes_and_only_the_first_writes(recipe, tmp_path, read_records, asked):
    """On a machine without a GPU, also where nobody asked for the CPU."""
    variables = {"ACCELERATE_USE_CPU": asked, "CUDA_VISIBLE_DEVICES": ""}
    sets = ["--set", 'metrics=[{use="modes", every=2, samples=50}]', "--set", "log.keep_best=modes.kl"]
    command = ["-m", "ganframe", "run", recipe(4, 1), "--out", tmp_path / "run", *sets]
    done = launch(*TORCHRUN, *command, variables=variables)
    assert done.returncode == 0, done.stderr
    scores = [json.loads(line) for line in (tmp_path / "run" / "evaluations.jsonl").read_text().splitlines()]
    chosen = [score for score in scores if score["protocol"]["chosen_by"]]
    assert [score["judged"]["step"] for score in scores if score not in chosen] == [2, 4]
    assert len(chosen) == 1
    assert [record["step"] for record in read_records(tmp_path / "run")] == [1, 2, 3, 4]
    assert json.loads((tmp_path / "run" / "environment.json").read_text())["processes"] == 2
    assert done.stdout.count("done:") == 1


@pytest.mark.slow
def test_first_process_decides_by_its_clock_when_both_save(recipe, tmp_path):
    """The second one's clock stands still, so by itself it would save at its first due step alone."""
    script = tmp_path / "clocks.py"
    script.write_text(
        "import itertools, os, sys, ganframe\n"
        "from ganframe.training import cadence\n"
        "cadence.STEPS = 2\n"
        "ticks = itertools.count(0, 0 if os.environ['RANK'] == '1' else 20)\n"
        "cadence.Cadence.__init__.__defaults__ = (*cadence.Cadence.__init__.__defaults__[:-1], lambda: next(ticks))\n"
        "ganframe.run(ganframe.load_recipe(sys.argv[1]), sys.argv[2])\n"
    )
    file = recipe(9, 3)
    text = file.read_text()
    file.write_text(text[: text.index(", samples_every")] + ", keep = 9 }\n")
    done = launch(*TORCHRUN, script, file, tmp_path / "run")
    assert done.returncode == 0, done.stderr
    saved = sorted(int(path.name.removeprefix("step-")) for path in (tmp_path / "run" / "checkpoints").iterdir())
    assert saved == [2, 4, 6, 8, 9]


@pytest.mark.slow
def test_program_of_two_processes_runs_twice(recipe, tmp_path):
    """The first run leaves the process group of the launch to the second."""
    script = tmp_path / "twice.py"
    script.write_text(
        "import sys, ganframe\n"
        "for folder in sys.argv[2:]:\n"
        "    ganframe.run(ganframe.load_recipe(sys.argv[1]), folder)\n"
    )
    done = launch(*TORCHRUN, script, recipe(2, 1), tmp_path / "first", tmp_path / "second")
    assert done.returncode == 0, done.stderr
    one, other = ((tmp_path / name / "generator.safetensors").read_bytes() for name in ("first", "second"))
    assert one == other


@pytest.mark.parametrize(
    ("override", "message"),
    [
        ("train.batch_size=63", "train.batch_size: 2 processes cannot share 63 evenly"),
        ("train.stepz=3", "train.stepz: unknown option"),
        (
            'metrics=[{use="frechet", features="pixels", real=9}]',
            "metrics[0]: 9 real samples give a singular covariance",
        ),
    ],
)
@pytest.mark.slow
def test_mistake_in_a_recipe_is_reported_once_by_all_processes(tmp_path, override, message):
    recipe = RECIPES / "wgan_sn.toml"
    done = launch(*TORCHRUN, "-m", "ganframe", "run", recipe, "--set", override, cwd=tmp_path)
    assert done.returncode != 0
    assert done.stderr.count(message) == 1
    assert not (tmp_path / "runs").exists()


@pytest.mark.slow
def test_mistake_is_reported_although_the_first_process_finds_it_last(tmp_path):
    """The launcher stops the others as soon as one process ends with an error."""
    script = tmp_path / "late.py"
    script.write_text(
        "import os, time\nfrom ganframe.cli import main\ntime.sleep(8 * (os.environ['LOCAL_RANK'] == '0'))\nmain()\n"
    )
    recipe = RECIPES / "wgan_sn.toml"
    done = launch(*TORCHRUN, script, "run", recipe, "--set", "train.stepz=3", cwd=tmp_path)
    assert done.returncode != 0
    assert done.stderr.count("train.stepz: unknown option") == 1


LEAVING = """
import atexit, gc, sys, weakref
import torch
import ganframe

def look():
    gc.collect()
    print("connected at exit:", torch.distributed.is_initialized(), "held:", group() is not None)

atexit.register(look)  # is called after what is registered later
recipe, folder = sys.argv[1:]
ganframe.run(ganframe.load_recipe(recipe), folder)
print("connected after the run:", torch.distributed.is_initialized())
group = weakref.ref(torch.distributed.group.WORLD)
import torch.distributed.nn.functional  # as torch does in some gradients
"""


@pytest.mark.slow
def test_connection_of_a_program_ends_before_the_interpreter(recipe, tmp_path):
    """Where it is left to the interpreter, gloo sometimes aborts, and a run that is complete counts as failed."""
    script = tmp_path / "leaving.py"
    script.write_text(LEAVING)
    done = launch(*TORCHRUN, script, recipe(2, 1), tmp_path / "run")
    assert done.returncode == 0, done.stderr
    assert done.stdout.count("connected after the run: True") == 2
    assert done.stdout.count("connected at exit: False held: False") == 2


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


@pytest.mark.slow
def test_job_ends_with_a_rank_that_dies_and_resumes_to_the_same_bytes(recipe, tmp_path, read_records):
    """It resumes from step 5, between the lines of steps 3 and 6: the sums of both processes are restored."""
    script, file = tmp_path / "dying.py", recipe(12, 3)
    script.write_text(DYING)
    unbroken, broken = tmp_path / "unbroken", tmp_path / "broken"
    assert launch(*TORCHRUN, script, file, unbroken).returncode == 0
    begun = time.monotonic()
    died = launch(*TORCHRUN, script, file, broken, variables={"DIES": "1"})
    assert died.returncode != 0
    assert "this rank dies" in died.stderr
    assert time.monotonic() - begun < 60
    assert not (broken / "checkpoints" / "step-000012").exists()
    done = launch(*TORCHRUN, script, file, broken)
    assert done.returncode == 0, done.stderr
    assert (broken / "generator.safetensors").read_bytes() == (unbroken / "generator.safetensors").read_bytes()
    records = read_records(broken)
    assert records == read_records(unbroken)
    assert [record["step"] for record in records] == [3, 6, 9, 12]
    singly = launch(*TORCHRUN, "-m", "ganframe", "run", file, "--set", "log.every=1", "--out", tmp_path / "singly")
    assert singly.returncode == 0, singly.stderr
    steps = read_records(tmp_path / "singly")
    for at, record in enumerate(records):
        for name in record.keys() - {"step"}:
            since = [step[name] for step in steps[3 * at : 3 * at + 3]]
            expected = since[-1] if name.startswith(("gradient_norm_", "lr_")) else sum(since) / 3
            assert record[name] == pytest.approx(expected, abs=1e-6), name
