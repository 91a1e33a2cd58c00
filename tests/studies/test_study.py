"""`ganframe study`: processes that work on a study, are killed, interrupted, and leave each run done once."""

import os
import re
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

import ganframe
from ganframe.storage import run_folder
from ganframe.storage.run_folder import RunFolder
from ganframe.studies import crew
from ganframe.studies.outcomes import Outcome, read_outcomes
from ganframe.studies.plan import load_study
from ganframe.studies.progress import Watched

MEASURE = Path(__file__).parents[1] / "measure" / "studies.py"
ENDLESS = 'base = "tiny.toml"\nseeds = 2\nset = ["train.steps=1_000_000", "log.every=1"]\n'


def start(tmp_path, *arguments):
    return subprocess.Popen(
        [sys.executable, "-P", "-m", "ganframe", "study", *map(str, arguments)],
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        cwd=tmp_path,
        env={**os.environ, "PYTHONPATH": os.pathsep.join(sys.path)},
    )


def wait_for(found, seconds=90):
    deadline = time.monotonic() + seconds
    while not found():
        assert time.monotonic() < deadline
        time.sleep(0.05)


def training(out):
    """Whether two runs of the study have written to their logs."""
    return len([log for log in out.glob("runs/*/log.jsonl") if log.stat().st_size > 200]) == 2


def held(study, out):
    return [outcome.status for outcome in read_outcomes(study, out)].count("running")


def test_study_with_jobs_makes_all_runs(call, write_study, tmp_path):
    file = write_study()
    result = call("study", file, "--jobs", 2)
    assert result.stdout.endswith("\ndone: studies/study/ has 4 runs: 4 finished\n")
    assert sorted(path.name for path in (tmp_path / "studies/study").glob("study.*")) == [
        *("study.json", "study.md", "study.toml"),
    ]
    assert "study.toml: building 2 cells\n" in result.stderr
    assert "4/4 runs done" in result.stderr
    assert call("study", file).stdout == result.stdout
    lines = call("study", file, "--status").stdout.splitlines()
    assert lines[-1] == "so far: studies/study/ has 4 runs: 4 finished"
    assert re.fullmatch(r"studies/study/runs/\w{12}  finished  objective = vanilla, seed 0", lines[0])
    copy = call("study", "studies/study/study.toml", "--status").stdout
    assert copy.splitlines() == lines


@pytest.mark.parametrize(
    ("more", "said"),
    [
        ("seed = 2", r"study\.toml: seed: unknown option; did you mean 'seeds'\?"),
        ('[[axes.a]]\nname = "a"\nset = ["train.setps=1"]', r"axes\.a\[0\]\.set\[0\]: train\.setps: unknown option"),
        ('[[axes.a]]\nname = "a"\nset = ["train.batch_size=0"]', r"axes\.a\[0\]\.set\[0\]: train\.batch_size: must be"),
        (
            '[[axes.a]]\nname = "a"\n[[axes.a]]\nname = "b"\ndiscriminator = { use = "mlp", norm = "batch" }\n'
            "set = ['constraints=[{use=\"gradient_penalty\"}]']",
            r"axes\.a\[1\]\.set\[0\]: constraints\[0\]: .*BatchNorm",
        ),
        ('[[metrics]]\nuse = "modes"\nsamples = 1', r"study\.toml: metrics\[0\]"),
    ],
)
def test_wrong_study_exits_with_2_and_writes_nothing(call, write_study, tmp_path, more, said):
    result = call("study", write_study(more, study='base = "tiny.toml"\n'), code=2)
    assert re.search(said, result.stderr), result.stderr
    assert sorted(path.name for path in tmp_path.iterdir()) == ["study.toml", "tiny.toml"]


def test_another_study_in_the_folder_exits_with_2(call, write_study, tmp_path, in_process):
    file = write_study()
    call("study", file, "--out", "x")
    before = sorted(path for path in (tmp_path / "x").rglob("*"))
    result = call("study", file, "--out", "x", "--set", "seeds=3", code=2)
    assert re.fullmatch(
        r"x: this folder holds another study: seeds was \[0, 1\] and is \[0, 1, 2\]; .*\n", result.stderr
    )
    assert before == sorted(path for path in (tmp_path / "x").rglob("*"))
    (tmp_path / "x" / "study.toml").unlink()
    assert call("study", file, "--out", "x", "--set", "seeds=3").stdout.endswith("done: x/ has 6 runs: 6 finished\n")


def test_status_of_no_study_exits_with_2(call, write_study):
    assert call("study", write_study(), "--status", code=2).stderr == "studies/study: there is no study yet\n"


def test_failed_runs_are_named_and_can_be_tried_again(call, write_study, in_process):
    rates = '[[axes.rate]]\nname = "slow"\n[[axes.rate]]\nname = "mad"\nset = ["optimizer.generator.lr=1e30"]\n'
    file = write_study(rates, study='base = "tiny.toml"\nseeds = 1\n', base="[log]\nevery = 1\n")
    for arguments in ([], ["--retry"]):
        result = call("study", file, *arguments)
        assert result.stdout.endswith("done: studies/study/ has 2 runs: 1 finished, 1 failed\n")
        assert re.search(r"^failed: rate = mad, seed 0: .* is (nan|inf)", result.stderr, re.MULTILINE)


def test_study_from_python(write_study, tmp_path, in_process):
    found = ganframe.study(write_study(study='base = "tiny.toml"\nseeds = 1\n'), tmp_path / "x")
    assert [(outcome.seed, outcome.status) for outcome in found.outcomes] == [(0, "finished")]


@pytest.mark.parametrize("number", [signal.SIGINT, pytest.param(signal.SIGTERM, marks=pytest.mark.slow)])
def test_interrupted_study_saves_its_runs_and_exits_with_130(write_study, tmp_path, number):
    file, out = write_study(study=ENDLESS), tmp_path / "out"
    process = start(tmp_path, file, "--out", out, "--jobs", 2)
    try:
        wait_for(lambda: training(out))
        process.send_signal(number)
        output, errors = process.communicate(timeout=180)
    finally:
        process.kill()
    assert (process.returncode, output) == (130, "")
    assert errors.endswith(f"{out}: 2 runs: 2 waiting; the same command continues\n")
    assert len(list(out.glob("runs/*/checkpoints/step-*"))) == 2
    assert held(load_study(out / "study.toml"), out) == 0


def test_workers_of_a_killed_study_save_and_end(write_study, tmp_path):
    file, out = write_study(study=ENDLESS), tmp_path / "out"
    process = start(tmp_path, file, "--out", out, "--jobs", 2)
    try:
        wait_for(lambda: training(out))
    finally:
        process.kill()
        process.communicate()
    study = load_study(file)
    wait_for(lambda: held(study, out) == 0)
    assert len(list(out.glob("runs/*/checkpoints/step-*"))) == 2


def test_launch_of_several_processes_makes_independent_workers(call, write_study, monkeypatch, in_process):
    for variable, value in {"SLURM_STEP_NUM_TASKS": "4", "SLURM_PROCID": "2"}.items():
        monkeypatch.setenv(variable, value)
    call("study", write_study(study='base = "tiny.toml"\nseeds = 1\n'))


def test_environment_of_a_worker():
    """No trace of a launch, threads of the study whatever the number of workers, one GPU each where there are more."""
    own = {"RANK": "1", "WORLD_SIZE": "2", "MASTER_ADDR": "x", "SLURM_PROCID": "1", "HOME": "y", "OMP_NUM_THREADS": "8"}
    found = crew._environment({**own, "CUDA_VISIBLE_DEVICES": "3,5"}, threads=2, index=3)
    assert not found.keys() & {"RANK", "WORLD_SIZE", "MASTER_ADDR", "SLURM_PROCID"}
    assert (found["OMP_NUM_THREADS"], found["MKL_NUM_THREADS"], found["HOME"]) == ("2", "2", "y")
    assert found["CUDA_VISIBLE_DEVICES"] == "5"
    assert crew._environment({"CUDA_VISIBLE_DEVICES": ""}, 1, 0)["CUDA_VISIBLE_DEVICES"] == ""


def test_time_left_is_that_of_the_runs_that_have_finished(write_study, tmp_path):
    study = load_study(write_study())
    watched = Watched(study, tmp_path)
    watched.look()
    assert (watched.text(), watched.left()) == ("0/4 runs done", None)
    path = RunFolder(tmp_path / "runs" / study.runs[1].name)
    path.path.mkdir(parents=True)
    path.log.write_text('{"step": 3, "seconds": 1.0}\n')
    first = Outcome(study.runs[0].cell, 0, tmp_path, "finished", seconds=10.0)
    failed = Outcome(study.runs[2].cell, 0, tmp_path, "failed", message="x")
    watched.outcomes |= {study.runs[0].name: first, study.runs[2].name: failed}
    with run_folder.locked(path):
        watched.look()
        assert watched.left() == 10.0 * (2 - 3 / 6)
        assert watched.text() == "2/4 runs done  1 failed  about 0:15 left"


@pytest.mark.slow
def test_study_killed_while_three_processes_work_on_it_makes_each_run_once():
    """The short form of `python tests/measure/studies.py`."""
    done = subprocess.run(
        [sys.executable, MEASURE, "--kills", "3", "--seeds", "1", "--steps", "800"],
        capture_output=True,
        text=True,
        timeout=600,
    )
    assert done.returncode == 0, done.stdout + done.stderr
    assert "faults 0" in done.stdout
