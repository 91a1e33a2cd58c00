"""Runs that are killed, interrupted or out of room on the disk go on to the bytes of one that never was."""

import os
import re
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

import ganframe
from ganframe import RequestError, RunError, build, runfolder
from ganframe.runfolder import RunFolder

STRESS = Path(__file__).parent / "measure" / "stress.py"
ENVIRONMENT = {**os.environ, "OMP_NUM_THREADS": "1"}
MORE = """
[log]
every = 1
samples_every = 1_000_000
checkpoint_every = 1
keep = 2
"""


def program(*arguments, **options):
    return subprocess.Popen(
        [sys.executable, "-m", "ganframe", *map(str, arguments)],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        env=ENVIRONMENT,
        **options,
    )


def wait_for(found, process=None, seconds=60):
    deadline = time.monotonic() + seconds
    while not found():
        assert time.monotonic() < deadline
        assert process is None or process.poll() is None, process.communicate()
        time.sleep(0.005)


def same(first, second):
    """Whether two runs ended alike: weights to the byte, metrics but for their seconds."""
    records = [[{**r, "seconds": 0} for r in runfolder.read_metrics(RunFolder(f))] for f in (first, second)]
    weights = [(Path(f) / "generator.safetensors").read_bytes() for f in (first, second)]
    return records[0] == records[1] and weights[0] == weights[1]


@pytest.fixture
def recipe(tiny):
    return tiny(MORE)


@pytest.fixture
def endless(recipe, tmp_path):
    """endless(): a run in another process that saves at each step; ended with the test."""
    started = []

    def start(folder=tmp_path / "run"):
        process = program("run", recipe, "--out", folder, "--set", "train.steps=1_000_000")
        started.append(process)
        wait_for(lambda: RunFolder(folder).checkpoints(), process)
        return process

    yield start
    for process in started:
        process.kill()
        process.communicate()


# --------------------------------------------------------------------------------------------------------------- kills


@pytest.mark.parametrize("form", [("6", "5"), ("--moments", "12")])
def test_a_run_killed_at_any_moment_goes_on_to_the_same_bytes(form):
    """The short form; `python tests/measure/stress.py 100` and `--moments` are the long ones."""
    done = subprocess.run([sys.executable, STRESS, *form], capture_output=True, text=True, env=ENVIRONMENT, timeout=300)
    assert done.returncode == 0, done.stdout + done.stderr
    assert "faults 0" in done.stdout


def test_a_folder_left_before_its_recipe_was_written_is_taken_again(recipe, tmp_path):
    run = tmp_path / "run"
    for name in ("samples", "checkpoints"):
        (run / name).mkdir(parents=True)
    (run / ".lock").touch()
    (run / ".recipe.toml.partial").write_text("seed = ")
    with pytest.raises(RequestError, match="no run there"):
        ganframe.resume(run)
    ganframe.run(ganframe.load_recipe(recipe), run)
    assert sorted(p.name for p in run.iterdir() if p.name != ".lock") == [
        "checkpoints",
        "environment.json",
        "generator.safetensors",
        "metrics.jsonl",
        "recipe.toml",
        "samples",
    ]


def test_what_a_process_killed_after_its_last_checkpoint_left_is_removed(recipe, tmp_path):
    run = ganframe.run(ganframe.load_recipe(recipe), tmp_path / "run").folder
    checkpoints = run / "checkpoints"
    (checkpoints / "step-000005").rename(checkpoints / ".step-000005.old")
    (checkpoints / ".step-000006.partial").mkdir()
    for step in (2, 3, 4):
        (checkpoints / f"step-{step:06d}").mkdir()
    with pytest.raises(RequestError, match="has finished"):
        ganframe.resume(run)
    assert sorted(p.name for p in checkpoints.iterdir()) == ["step-000004", "step-000006"]


def test_resuming_says_from_where(recipe, tmp_path, capsys):
    run = ganframe.run(ganframe.load_recipe(recipe), tmp_path / "run").folder
    ganframe.resume(run, ["train.steps=7"])
    assert f"going on from {run}/checkpoints/step-000006\n" in capsys.readouterr().err
    file = run / "checkpoints" / "step-000007" / "training.pt"
    file.write_bytes(file.read_bytes()[:-100])
    ganframe.resume(run, ["train.steps=8"])
    said = capsys.readouterr().err
    assert f"{run}/checkpoints/step-000007: training.pt is not what was written\n" in said
    assert f"going on from {run}/checkpoints/step-000006\n" in said
    ganframe.run(ganframe.load_recipe(recipe, ["train.steps=8"]), tmp_path / "straight")
    # Step 6 was the last one of the first run; there is nothing else by which the two could differ.
    assert same(run, tmp_path / "straight")


@pytest.mark.parametrize("dataset", ["ring", "digits"])
def test_resuming_draws_no_batch_again(recipe, tmp_path, dataset, monkeypatch):
    change = [f"dataset.use={dataset}"]
    run = ganframe.run(ganframe.load_recipe(recipe, change), tmp_path / "run").folder
    drawn = []
    opened = build.open_feed

    def counted(*arguments, **options):
        feed = opened(*arguments, **options)
        kind = type(feed)
        counting = type("Counting", (kind,), {"__call__": lambda self: (drawn.append(1), kind.__call__(self))[1]})
        feed.__class__ = counting
        return feed

    monkeypatch.setattr(build, "open_feed", counted)
    ganframe.resume(run, ["train.steps=8"])
    pictures = 125 if dataset == "ring" else 1  # real samples to show, 1,000 points or a batch of images
    assert len(drawn) == 2 + pictures


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


def test_files_that_outgrow_the_disk_stop_the_run_with_one_line(recipe, tmp_path):
    """By a limit on the size of files, which torch's and safetensors' own writers meet too."""
    run, limits = tmp_path / "run", [0, 600, 1500, 2500, 4000]
    arguments = [sys.executable, "-c", LIMITED, recipe, run, *map(str, limits)]
    done = subprocess.run(arguments, capture_output=True, text=True, env=ENVIRONMENT)
    assert done.returncode == 0, done.stderr
    lines = done.stdout.splitlines()
    assert len(lines) == len(limits), done.stdout
    assert all(line.startswith(f"{run}: cannot be written") for line in lines), done.stdout
    assert runfolder.newest_checkpoint(RunFolder(run))[0].name == "step-000002"
    ganframe.resume(run, ["train.steps=4"])
    ganframe.run(ganframe.load_recipe(recipe, ["train.steps=4"]), tmp_path / "straight")
    assert same(run, tmp_path / "straight")


# ---------------------------------------------------------------------------------------------------------------- lock


def test_a_second_process_is_refused_and_a_killed_ones_lock_is_free(endless, tmp_path):
    first = endless()
    run = tmp_path / "run"
    second = program("run", "--resume", run)
    output, errors = second.communicate(timeout=60)
    assert (second.returncode, output) == (2, "")
    assert errors == f"{run}: another process is training in this folder\n"
    with pytest.raises(RequestError, match="another process"):
        ganframe.resume(run)
    first.kill()
    first.wait()
    step = runfolder.step_of(runfolder.newest_checkpoint(RunFolder(run))[0])
    ganframe.resume(run, [f"train.steps={step + 2}"])


def test_a_second_process_is_refused_a_folder_whose_recipe_is_not_written_yet(recipe, tmp_path):
    folder = runfolder.create("x", tmp_path / "run")
    with runfolder.locked(folder):
        process = program("run", recipe, "--out", folder.path)
        _, errors = process.communicate(timeout=60)
    assert process.returncode == 2
    assert errors == f"{folder.path}: another process is training in this folder\n"


# ------------------------------------------------------------------------------------------------------------- signals


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_a_signal_saves_and_exits_with_130(endless, recipe, tmp_path, number):
    process = endless()
    process.send_signal(number)
    output, errors = process.communicate(timeout=60)
    assert (process.returncode, output) == (130, "")
    message = re.search(r"saved at step (\d+); go on with: ganframe run --resume \S+$", errors, re.MULTILINE)
    assert message, errors
    assert "Traceback" not in errors
    folder, step = RunFolder(tmp_path / "run"), int(message[1])
    assert runfolder.newest_checkpoint(folder) == (folder.checkpoint(step), [])
    ganframe.resume(folder.path, [f"train.steps={step + 2}"])
    ganframe.run(ganframe.load_recipe(recipe, [f"train.steps={step + 2}"]), tmp_path / "straight")
    assert same(folder.path, tmp_path / "straight")


SLOW_SAVING = """
import sys, time
from ganframe import cli, runfolder
sync = runfolder._sync
def slow(path):
    if ".partial" in str(path) and "step-000003" in str(path):
        print("saving", flush=True)
        for _ in range(300):
            time.sleep(0.1)
    sync(path)
runfolder._sync = slow
cli.main(sys.argv[1:], prog_name="ganframe")
"""


def test_a_second_signal_ends_the_process_at_once_while_a_checkpoint_is_written(recipe, tmp_path):
    run = tmp_path / "run"
    arguments = [sys.executable, "-c", SLOW_SAVING, "run", recipe, "--out", run]
    process = subprocess.Popen(arguments, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, env=ENVIRONMENT)
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
    ganframe.run(ganframe.load_recipe(recipe), tmp_path / "straight")
    assert same(run, tmp_path / "straight")


def test_an_interruption_after_the_last_step_does_not_send_one_to_a_finished_run(recipe, tmp_path):
    def press(state):
        if state.step == 6:
            signal.raise_signal(signal.SIGINT)

    with pytest.raises(KeyboardInterrupt, match="saved at step 6; the last one"):
        ganframe.run(ganframe.load_recipe(recipe), tmp_path / "run", callbacks=[press])


def test_a_folder_that_cannot_be_written_while_resuming_is_one_message(recipe, tmp_path):
    run = ganframe.run(ganframe.load_recipe(recipe), tmp_path / "run").folder
    (run / "environment.json").unlink()
    (run / "environment.json").mkdir()
    with pytest.raises(RunError, match="cannot be written"):
        ganframe.resume(run, ["train.steps=7"])
