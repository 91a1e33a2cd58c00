from __future__ import annotations

import json
import os
import re
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file

import ganframe

DIGITS = [
    "dataset={use='digits'}",
    "generator={use='dcgan', width=8}",
    "discriminator={use='dcgan', width=8, norm='none'}",
    "constraints=[{use='spectral_norm'}]",
    "optimizer={}",
]
FIVE_MISTAKES = """
[dataset]
use = "ring"
nodes = 3
[generator]
use = "mpl"
[discriminator]
use = "mlp"
dropout = "half"
[objective]
use = "wgan"
[[constraints]]
use = "gradient_penalty"
weigth = 1
[train]
steps = 1.5
"""


def sets(*changes):
    """The arguments --set of some overrides."""
    return [argument for change in changes for argument in ("--set", change)]


def records(folder):
    return [json.loads(line) for line in Path(folder, "log.jsonl").read_text().splitlines()]


def steps(folder):
    return [record["step"] for record in records(folder)]


def assert_same_weights(folder, other):
    a, b = (Path(f, "generator.safetensors") for f in (folder, other))
    ours, theirs = load_file(a), load_file(b)
    assert ours.keys() == theirs.keys()
    assert all(torch.equal(ours[name], theirs[name]) for name in ours)
    assert a.read_bytes() == b.read_bytes()


# ----------------------------------------------------------------------------------------------------------------- run


def test_recipe_mistakes_are_printed_one_a_line_with_exit_code_2(python, tmp_path, install, monkeypatch):
    """In a process, with a broken plugin installed."""
    (tmp_path / "x.toml").write_text(FIVE_MISTAKES)
    site = install("broken", "import no_such_module_anywhere")
    monkeypatch.setenv("PYTHONPATH", str(site), prepend=os.pathsep)
    done = python("-m", "ganframe", "run", "x.toml")
    assert done.returncode == 2
    assert done.stdout == ""
    lines = done.stderr.splitlines()
    assert len(lines) == 5
    assert all(line.startswith("x.toml: ") for line in lines)
    assert "x.toml: constraints[0].weigth: unknown option; did you mean 'weight'?" in lines
    (unknown,) = (line for line in lines if "'mpl'" in line)
    assert "plugin broken (broken 1.0) failed: ModuleNotFoundError: No module named 'no_such_module_any" in unknown
    assert not (tmp_path / "runs").exists()


def test_run_numbers_its_folders(call, tiny, files):
    tiny(name="my.toml")
    first, second = (call("run", "my.toml", "--set", "log.every=2") for _ in range(2))
    assert sorted(p.name for p in Path("runs/my").iterdir()) == ["1", "2"]
    for number, result in ((1, first), (2, second)):
        folder = Path(f"runs/my/{number}")
        assert result.stdout == f"done: {folder}/ has generator.safetensors, samples/step-000006.png, log.jsonl\n"
        assert set(files(folder)) >= {"recipe.toml", "environment.json", "log.jsonl", "generator.safetensors"}
        assert [p.name for p in (folder / "checkpoints").iterdir()] == ["step-000006"]
        assert steps(folder) == [2, 4, 6]
    assert_same_weights("runs/my/1", "runs/my/2")  # one recipe, one machine


def test_run_writes_to_out_and_applies_set(call, tiny):
    call("run", tiny(), "--out", "a/b", "--set", "train.steps=2", "--set", "seed=7")
    assert not Path("runs").exists()
    resolved = ganframe.load_recipe("a/b/recipe.toml")
    assert (resolved.train.steps, resolved.seed) == (2, 7)


def test_run_accepts_an_empty_folder(call, tiny):
    Path("empty").mkdir()
    call("run", tiny(), "--out", "empty", "--set", "train.steps=1")
    assert Path("empty/generator.safetensors").exists()


def test_run_refuses_a_folder_that_is_not_empty(call, tiny, files):
    Path("full").mkdir()
    Path("full/thesis.txt").write_text("years of work")
    result = call("run", tiny(), "--out", "full", code=2)
    assert result.stderr.startswith("full exists and is not empty; ")
    assert files(Path("full")) == {"thesis.txt": b"years of work"}
    result = call("run", tiny(), "--out", "full/thesis.txt", code=2)
    assert "full/thesis.txt" in result.stderr
    assert files(Path("full")) == {"thesis.txt": b"years of work"}


def test_run_does_not_overwrite_a_finished_run(call, tiny, finished, files):
    before = files(finished)
    result = call("run", tiny(), "--out", finished, code=2)
    assert f"--resume {finished}" in result.stderr
    assert files(finished) == before


def test_run_reports_a_folder_that_cannot_be_created(call, tiny):
    Path("file").write_text("not a folder")
    result = call("run", tiny(), "--out", "file/run", code=2)
    assert len(result.stderr.splitlines()) == 1
    assert "cannot be created" in result.stderr
    assert "file" in result.stderr
    Path("runs").write_text("not a folder either")
    result = call("run", tiny(), code=2)
    assert len(result.stderr.splitlines()) == 1
    assert "runs" in result.stderr


def test_parts_that_do_not_fit_are_reported_before_a_folder_is_made(call, tiny):
    more = "[[constraints]]\nuse = 'gradient_penalty'\n"
    changes = sets("discriminator.norm='batch'", "generator.condition='batch_norm'")
    result = call("run", tiny(more), *changes, code=2)
    assert [line.split(": ")[1] for line in result.stderr.splitlines()] == ["generator", "constraints[0]"]
    assert not Path("runs").exists()


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["run", "none.toml"], "none.toml: no such file"),
        (["check", "none.toml"], "none.toml: no such file"),
        (["run", "."], ".: cannot be read: "),
        (["run", "tiny.toml", "--set", "train.steps"], "--set train.steps: write it as"),
        (["run", "tiny.toml", "--block", "builtin"], "tiny.toml: dataset.use: unknown dataset 'ring'"),
        (["run", "tiny.toml", "--set", "log.trackers=['tensorbord']"], "tiny.toml: log.trackers: 'tensorbord' is not"),
        (["run", "--resume", "none"], "none: not the folder of a run"),
        (["run", "--resume", "."], ".: not the folder of a run"),
    ],
)
def test_wrong_requests_are_refused_before_anything_is_written(call, tiny, arguments, message):
    tiny()
    assert call(*arguments, code=2).stderr.startswith(message)
    assert [p.name for p in Path().iterdir()] == ["tiny.toml"]


@pytest.mark.parametrize(
    ("variable", "name"),
    [
        ("ACCELERATE_USE_FSDP", "FSDP"),
        ("ACCELERATE_USE_DEEPSPEED", "DeepSpeed"),
        ("ACCELERATE_USE_MEGATRON_LM", "Megatron-LM"),
        ("ACCELERATE_USE_PARALLELISM_CONFIG", "a parallelism config"),
    ],
)
@pytest.mark.parametrize("command", ["run", "check"])
def test_sharded_launches_are_refused(call, tiny, monkeypatch, command, variable, name):
    """`accelerate launch` sets these variables."""
    monkeypatch.setenv(variable, "true")
    (line,) = call(command, tiny(), code=2).stderr.splitlines()
    assert line.startswith(f"this launch asks for {name}, which ganframe does not support: ")
    assert [p.name for p in Path().iterdir()] == ["tiny.toml"]


def test_first_line_says_where_on_what_and_how_large(call, tiny):
    """Of a set of samples it says how many, of a distribution that they are drawn."""
    small = ["generator={use='mlp', hidden=[]}", "discriminator={use='mlp', hidden=[]}", "latent.dim=1"]
    for change, line in (
        ([], "run: on cpu; G 42 parameters, D 33 parameters; samples are drawn"),
        (["dataset={use='digits'}"], "digits: on cpu; G 600 parameters, D 529 parameters; 1,797 samples"),
        ([*small, "dataset={use='gaussian_1d'}"], "line: on cpu; G 2 parameters, D 2 parameters; samples are drawn"),
    ):
        out = line.partition(":")[0]
        errors = call("run", tiny(), "--out", out, *sets("train.steps=2", *change)).stderr.splitlines()
        assert line in errors
    errors = call("run", "--resume", "run", *sets("train.steps=3")).stderr.splitlines()
    assert f"{'run: on cpu; G 42 parameters, D 33 parameters; samples are drawn'}; step 2 of 3" in errors


# -------------------------------------------------------------------------------------------------------------- resume


@pytest.mark.parametrize("changes", [[], DIGITS], ids=["ring", "digits"])
def test_resumed_run_equals_an_uninterrupted_run(call, recipe, changes):
    call("run", recipe, *sets(*changes), "--out", "straight")
    call("run", recipe, *sets(*changes, "train.steps=6"), "--out", "halves")
    half = load_file("halves/generator.safetensors")
    call("run", "--resume", "halves", "--set", "train.steps=12")
    full = load_file("straight/generator.safetensors")
    assert any((half[name] != full[name]).any() for name in half)
    assert_same_weights("halves", "straight")
    first, second = ([{**r, "seconds": 0} for r in records(folder)] for folder in ("straight", "halves"))
    assert first == second
    assert steps("halves") == list(range(1, 13))
    checkpoints = [Path(folder, "checkpoints/step-000012") for folder in ("straight", "halves")]
    for network in ("generator", "discriminator", "average"):
        assert len({(c / f"{network}.safetensors").read_bytes() for c in checkpoints}) == 1
    assert ganframe.load_recipe("halves/recipe.toml").train.steps == 12


def test_resume_continues_from_the_newest_intact_checkpoint(call, recipe):
    """As after a power cut at step 11: records beyond the checkpoint, one of them torn, and half of a checkpoint."""
    call("run", recipe, "--out", "straight")
    call("run", recipe, "--out", "cut")
    cut = Path("cut")
    (cut / "checkpoints/step-000012").rename(cut / "checkpoints/.step-000012.partial")
    (cut / "checkpoints/.step-000012.partial/training.pt").unlink()
    (cut / "generator.safetensors").unlink()
    lines = (cut / "log.jsonl").read_text().splitlines(keepends=True)
    (cut / "log.jsonl").write_text("".join(lines[:10]) + lines[10][:20])
    call("run", "--resume", "cut")
    assert_same_weights("cut", "straight")
    assert steps(cut) == list(range(1, 13))


def test_resume_refuses_a_finished_run(call, finished, files):
    before = files(finished)
    result = call("run", "--resume", finished, code=2)
    assert result.stderr.startswith(f"{finished}: this run has finished")
    assert "--set train.steps=" in result.stderr
    assert files(finished) == before


@pytest.mark.parametrize(
    "change",
    [
        "generator.hidden=[4]",
        "optimizer.generator.use=SGD",
        "optimizer.generator.lr=0.5",
        "optimizer.generator.weight_decay=0.5",
        "optimizer.generator.schedule={use='ExponentialLR', gamma=0.9}",
        "train.ema=0.5",
        "seed=9",
        "dataset.use=digits",
    ],
)
def test_resume_refuses_changes_of_the_recipe(call, tiny, files, change):
    call("run", tiny(), "--out", "run", "--set", "train.steps=1")
    before = files(Path("run"))
    result = call("run", "--resume", "run", "--set", "train.steps=2", "--set", change, code=2)
    assert result.stderr.strip()
    assert files(Path("run")) == before


@pytest.mark.slow
def test_sigint_saves_a_checkpoint_and_exits_with_130(recipe, monkeypatch, tmp_path):
    monkeypatch.chdir(tmp_path)
    endless = sets("train.steps=1_000_000", "log.checkpoint_every=1_000_000")
    process = subprocess.Popen(
        [sys.executable, "-m", "ganframe", "run", "x.toml", "--out", "run", *endless],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        env={**os.environ, "OMP_NUM_THREADS": "1"},
    )
    try:
        log = Path("run/log.jsonl")
        deadline = time.monotonic() + 60
        while not (log.exists() and log.stat().st_size) and time.monotonic() < deadline:
            assert process.poll() is None, process.communicate()
            time.sleep(0.05)
        process.send_signal(signal.SIGINT)
        output, errors = process.communicate(timeout=60)
    finally:
        process.kill()
    assert process.returncode == 130, errors
    assert "Traceback" not in errors
    assert output == ""
    message = re.search(r"saved at step (\d+); resume with: ganframe run --resume run$", errors, re.MULTILINE)
    step = int(message[1])
    assert [p.name for p in Path("run/checkpoints").iterdir()] == [f"step-{step:06d}"]

    # In this process, not the one that was interrupted.
    ganframe.resume("run", [f"train.steps={step + 5}"])
    straight = ganframe.run(ganframe.load_recipe("x.toml", [f"train.steps={step + 5}"]), "straight")
    assert_same_weights("run", "straight")
    assert straight.log[-1]["step"] == step + 5


# --------------------------------------------------------------------------------------------------------------- check


def test_check_counts_parameters_and_writes_nothing(call, tiny):
    output = call("check", tiny()).stdout
    sound, data, labels, generator, discriminator, seconds, memory = output.splitlines()
    assert sound == f"{tiny()}: sound"
    assert re.fullmatch(r"data +shape \(2,\), 8 classes", data)
    assert re.fullmatch(r"labels +neither player heeds them: .*", labels)
    assert re.fullmatch(r"generator +42 parameters", generator)  # 2·8 + 8, 8·2 + 2
    assert re.fullmatch(r"discriminator +33 parameters", discriminator)  # 2·8 + 8, 8 + 1
    assert re.fullmatch(r"time +[\d.e-]+ s a step, about \d+ s in all", seconds)
    assert re.fullmatch(r"memory +\d+\.\d\d GiB at most so far, on \w+.*", memory)
    assert sorted(p.name for p in Path().iterdir()) == ["tiny.toml"]


def test_check_says_what_takes_its_time(call, tiny):
    assert call("check", tiny()).stderr == "tiny: built; taking a few steps on cpu\n"


def test_check_stays_within_100_columns(call, tiny, monkeypatch):
    from ganframe.training import check

    monkeypatch.setattr(check, "device_name", lambda device: "cuda:0 (an accelerator with a name of many words)")
    output = call("check", tiny(), *sets("train.ema=0.99999")).stdout
    assert max(map(len, output.splitlines())) <= 100
    assert "an accelerator with a name of many words" in " ".join(output.split())


def test_check_reports_the_mistakes_that_run_reports(call):
    Path("x.toml").write_text(FIVE_MISTAKES)
    checked, run = (call(command, "x.toml", code=2).stderr for command in ("check", "run"))
    assert checked == run
    assert len(checked.splitlines()) == 5


@pytest.mark.parametrize(
    ("decay", "warmup"), [(0.5, 10), (0.9, 10), (0.9, 25), (0.99, 3), (0.9, 1), (0.9, 0), (0.99999, 3)]
)
def test_check_names_the_step_at_which_the_moving_average_decay_is_reached(call, tiny, decay, warmup):
    """One line, only if training ends before that step."""
    reached = next(t for t in range(1, 1_000_000) if warmup <= 1 or (1 + t) / (warmup + t) >= decay)
    for last, expected in ((reached - 1, True), (reached, False), (reached + 1, False)):
        if last:
            options = sets(f"train.ema={decay}", f"train.ema_warmup={warmup}", f"train.steps={last}")
            lines = [x for x in call("check", tiny(), *options).stdout.splitlines() if x.startswith("moving average")]
            line = f"moving average decay {decay} is reached at step {reached:,}, after the last step"
            assert lines == [line] * expected


def test_check_trains_with_all_parts_that_start_later(call, tiny, monkeypatch):
    from ganframe.engine import algorithm

    seen = []
    descend = algorithm.descend
    monkeypatch.setattr(algorithm, "descend", lambda state, player: seen.append(state.step) or descend(state, player))
    call("check", tiny('[[constraints]]\nuse = "gradient_penalty"\nstart = 1000\n'))
    assert seen[0] == 0
    assert max(seen) >= 1000


@pytest.fixture
def one_thread():
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


@pytest.mark.parametrize(
    ("asked", "cores", "used"), [(None, 2, 2), ("1", 2, 1), (None, 1, 1)], ids=["free", "asked", "fewer cores"]
)
def test_resumed_run_has_as_many_threads_as_before_or_warns(call, tiny, monkeypatch, one_thread, asked, cores, used):
    recipe = tiny()
    call("run", recipe, "--out", "run")
    file = Path("run", "environment.json")
    environment = json.loads(file.read_text())
    assert environment["threads"] == 1
    file.write_text(json.dumps(environment | {"threads": 2}))
    monkeypatch.setattr(os, "cpu_count", lambda: cores)
    for variable in ("OMP_NUM_THREADS", "MKL_NUM_THREADS"):
        monkeypatch.delenv(variable, raising=False)
    if asked is not None:
        monkeypatch.setenv("OMP_NUM_THREADS", asked)
    said = call("run", "--resume", "run", "--set", "train.steps=7").stderr
    assert ("it was trained with 2 threads, and this process has 1" in said) == (used == 1)
    assert torch.get_num_threads() == used
    assert json.loads(file.read_text())["threads"] == used


@pytest.mark.parametrize("threads", ["missing", True, 0, "2"])
def test_resume_ignores_threads_that_are_no_number(call, tiny, monkeypatch, one_thread, threads):
    """As of runs of earlier versions, or edited by hand."""
    call("run", tiny(), "--out", "run")
    file = Path("run", "environment.json")
    environment = json.loads(file.read_text())
    environment.pop("threads")
    file.write_text(json.dumps(environment if threads == "missing" else environment | {"threads": threads}))
    monkeypatch.delenv("OMP_NUM_THREADS", raising=False)
    said = call("run", "--resume", "run", "--set", "train.steps=7").stderr
    assert "it was trained with" not in said
    assert torch.get_num_threads() == 1
