"""Runs that are killed, interrupted or out of disk space resume to the bytes of a run without a break."""

import os
import re
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

import ganframe
from ganframe import RequestError, RunError
from ganframe.storage import checkpoints, run_folder
from ganframe.storage.run_folder import RunFolder
from ganframe.training import prepare

STRESS = Path(__file__).parents[1] / "measure" / "stress.py"
ENVIRONMENT = {**os.environ, "OMP_NUM_THREADS": "1"}
MORE = """
[log]
every = 1
samples_every = 1_000_000
checkpoint_every = 1
keep = 2
"""


def program(*arguments):
    return subprocess.Popen(
        [sys.executable, *map(str, arguments)],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        env=ENVIRONMENT,
    )


def wait_for(found, process, seconds=60):
    deadline = time.monotonic() + seconds
    while not found():
        assert time.monotonic() < deadline
        assert process.poll() is None, process.communicate()
        time.sleep(0.005)


def newest_step(run):
    return run_folder.step_of(checkpoints.newest_intact(RunFolder(run))[0])


@pytest.fixture
def assert_equals_straight_run(recipe, tmp_path, read_records):
    """assert_equals_straight_run(run, steps): a run without a break has the same weights, to the byte, and records."""

    def check(run, steps=6):
        straight = ganframe.run(ganframe.load_recipe(recipe, [f"train.steps={steps}"]), tmp_path / "straight").folder
        assert read_records(run) == read_records(straight)
        assert (run / "generator.safetensors").read_bytes() == (straight / "generator.safetensors").read_bytes()

    return check


@pytest.fixture
def recipe(tiny):
    return tiny(MORE)


@pytest.fixture
def endless(recipe, tmp_path):
    """endless(): a run in another process that saves at each step. It is killed after the test."""
    started = []

    def start(folder=tmp_path / "run"):
        process = program("-m", "ganframe", "run", recipe, "--out", folder, "--set", "train.steps=1_000_000")
        started.append(process)
        wait_for(lambda: RunFolder(folder).checkpoints(), process)
        return process

    yield start
    for process in started:
        process.kill()
        process.communicate()


# --------------------------------------------------------------------------------------------------------------- kills


@pytest.mark.slow
@pytest.mark.parametrize("form", [("6", "5"), ("--moments", "12")])
def test_run_killed_at_any_moment_resumes_to_the_same_bytes(form):
    """The short form of `python tests/measure/stress.py 100` and `--moments`."""
    done = subprocess.run([sys.executable, STRESS, *form], capture_output=True, text=True, env=ENVIRONMENT, timeout=300)
    assert done.returncode == 0, done.stdout + done.stderr
    assert "faults 0" in done.stdout


def test_folder_of_a_run_killed_before_it_wrote_its_recipe_can_be_used(recipe, tmp_path):
    run = tmp_path / "run"
    for name in ("samples", "checkpoints"):
        (run / name).mkdir(parents=True)
    (run / ".lock").touch()
    (run / ".recipe.toml.partial").write_text("seed = ")
    with pytest.raises(RequestError, match="not the folder of a run"):
        ganframe.resume(run)
    ganframe.run(ganframe.load_recipe(recipe), run)
    assert sorted(p.name for p in run.iterdir() if p.name != ".lock") == [
        "checkpoints",
        "curves.png",
        "environment.json",
        "generator.safetensors",
        "log.jsonl",
        "recipe.toml",
        "samples",
    ]


def test_leftovers_of_a_process_killed_after_its_last_checkpoint_are_removed(recipe, tmp_path):
    run = ganframe.run(ganframe.load_recipe(recipe), tmp_path / "run").folder
    saved = run / "checkpoints"
    (saved / "step-000005").rename(saved / ".step-000005.old")
    (saved / ".step-000006.partial").mkdir()
    for step in (2, 3, 4):
        (saved / f"step-{step:06d}").mkdir()
    complete = sorted(run.glob("*"))
    curves = (run / "curves.png").read_bytes()
    for name in (".curves.png.partial", ".report.html.partial", "samples/.step-000006.png.partial", ".tmpAb12Cd"):
        (run / name).write_bytes(b"half")
    (run / "curves.png").unlink()
    with pytest.raises(RequestError, match="has finished"):
        ganframe.resume(run)
    assert sorted(p.name for p in saved.iterdir()) == ["step-000004", "step-000006"]
    assert sorted(run.glob("*")) == complete
    assert (run / "curves.png").read_bytes() == curves
    assert [p.name for p in [*run.glob(".*"), *(run / "samples").glob(".*")] if p.name != ".lock"] == []


def test_resume_reports_its_checkpoint_and_newer_damaged_ones(recipe, tmp_path, capsys, assert_equals_straight_run):
    run = ganframe.run(ganframe.load_recipe(recipe), tmp_path / "run").folder
    ganframe.resume(run, ["train.steps=7"])
    assert f"resuming from {run}/checkpoints/step-000006\n" in capsys.readouterr().err
    file = run / "checkpoints" / "step-000007" / "training.pt"
    file.write_bytes(file.read_bytes()[:-100])
    ganframe.resume(run, ["train.steps=8"])
    said = capsys.readouterr().err
    assert f"{run}/checkpoints/step-000007: training.pt is not what was written\n" in said
    assert f"resuming from {run}/checkpoints/step-000006\n" in said
    # Step 6 was the last one of the first run; there is nothing else by which the two could differ.
    assert_equals_straight_run(run, 8)


@pytest.mark.parametrize("dataset", ["ring", "digits"])
def test_resume_draws_only_the_batches_of_its_steps(recipe, tmp_path, dataset, monkeypatch):
    """It draws none of the earlier ones again, and pictures take none from the training data's feed."""
    change = [f"dataset.use={dataset}"]
    run = ganframe.run(ganframe.load_recipe(recipe, change), tmp_path / "run").folder
    drawn = []

    def counted(*arguments, opened=prepare.open_feed):
        feed = opened(*arguments)
        kind = type(feed)
        feed.__class__ = type("Counting", (kind,), {"__call__": lambda self: (drawn.append(1), kind.__call__(self))[1]})
        return feed

    monkeypatch.setattr(prepare, "open_feed", counted)
    ganframe.resume(run, ["train.steps=8"])
    assert len(drawn) == 2


# ----------------------------------------------------------------------------------------------------------- full disk


LIMITED = """
import resource, signal, sys
import ganframe
recipe = ganframe.load_recipe(sys.argv[1], ["train.steps=2"])
ganframe.run(recipe, sys.argv[2])
signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
for limit in map(int, sys.argv[3:]):
    resource.setrlimit(resource.RLIMIT_FSIZE, (limit, resource.RLIM_INFINITY))
    try:
        ganframe.resume(sys.argv[2], ["train.steps=4"])
    except ganframe.RunError as error:
        print(error)
"""


def test_full_disk_stops_the_run_with_one_line(recipe, tmp_path, assert_equals_straight_run):
    """By a limit on the size of files, which the writers of torch and safetensors also meet."""
    run, limits = tmp_path / "run", [0, 600, 1500, 2500, 4000]
    process = program("-c", LIMITED, recipe, run, *limits)
    output, errors = process.communicate()
    assert process.returncode == 0, errors
    lines = output.splitlines()
    assert len(lines) == len(limits), output
    assert all(line.startswith(f"{run}: cannot be written") for line in lines), output
    assert newest_step(run) == 2
    ganframe.resume(run, ["train.steps=4"])
    assert_equals_straight_run(run, 4)


def test_run_folder_that_cannot_be_written_fails_a_resume_in_one_message(recipe, tmp_path):
    run = ganframe.run(ganframe.load_recipe(recipe), tmp_path / "run").folder
    (run / "environment.json").unlink()
    (run / "environment.json").mkdir()
    with pytest.raises(RunError, match="cannot be written"):
        ganframe.resume(run, ["train.steps=7"])


# ---------------------------------------------------------------------------------------------------------------- lock


def test_run_folder_is_locked_until_its_process_dies(endless, tmp_path):
    first = endless()
    run = tmp_path / "run"
    second = program("-m", "ganframe", "run", "--resume", run)
    output, errors = second.communicate(timeout=60)
    assert (second.returncode, output) == (2, "")
    assert errors == f"{run}: another process is training in this folder\n"
    with pytest.raises(RequestError, match="another process"):
        ganframe.resume(run)
    first.kill()
    first.wait()
    ganframe.resume(run, [f"train.steps={newest_step(run) + 2}"])


def test_run_folder_is_locked_before_its_recipe_is_written(recipe, tmp_path):
    folder = run_folder.create("x", tmp_path / "run")
    with run_folder.locked(folder):
        process = program("-m", "ganframe", "run", recipe, "--out", folder.path)
        _, errors = process.communicate(timeout=60)
    assert process.returncode == 2
    assert errors == f"{folder.path}: another process is training in this folder\n"


# ------------------------------------------------------------------------------------------------------------- signals


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_signal_saves_and_exits_with_130(endless, tmp_path, assert_equals_straight_run, number):
    process = endless()
    process.send_signal(number)
    output, errors = process.communicate(timeout=60)
    assert (process.returncode, output) == (130, "")
    message = re.search(r"saved at step (\d+); resume with: ganframe run --resume \S+$", errors, re.MULTILINE)
    assert message, errors
    assert "Traceback" not in errors
    folder, step = RunFolder(tmp_path / "run"), int(message[1])
    assert checkpoints.newest_intact(folder) == (folder.checkpoint(step), [])
    ganframe.resume(folder.path, [f"train.steps={step + 2}"])
    assert_equals_straight_run(folder.path, step + 2)


SLOW_SAVING = """
import sys, time
from ganframe import cli
from ganframe.storage import checkpoints
sync = checkpoints.sync
def slow(path):
    if ".partial" in str(path) and "step-000003" in str(path):
        print("saving", flush=True)
        for _ in range(300):
            time.sleep(0.1)
    sync(path)
checkpoints.sync = slow
cli.main(sys.argv[1:], prog_name="ganframe")
"""


def test_second_signal_ends_a_process_that_writes_a_checkpoint(recipe, tmp_path, assert_equals_straight_run):
    run = tmp_path / "run"
    process = program("-c", SLOW_SAVING, "run", recipe, "--out", run)
    try:
        assert process.stdout.readline() == "saving\n"
        process.send_signal(signal.SIGINT)
        time.sleep(0.3)
        assert process.poll() is None
        begun = time.monotonic()
        process.send_signal(signal.SIGINT)
        process.communicate(timeout=20)
    finally:
        process.kill()
    assert time.monotonic() - begun < 5
    assert process.returncode == -signal.SIGINT
    assert [p.name for p in RunFolder(run).checkpoints()] == ["step-000001", "step-000002"]
    ganframe.resume(run)
    assert_equals_straight_run(run)


def test_interruption_after_the_last_step_says_so(recipe, tmp_path):
    """It does not name a command by which to resume a finished run."""

    def press(state):
        if state.step == 6:
            signal.raise_signal(signal.SIGINT)

    with pytest.raises(KeyboardInterrupt, match="saved at step 6; the last step"):
        ganframe.run(ganframe.load_recipe(recipe), tmp_path / "run", callbacks=[press])
