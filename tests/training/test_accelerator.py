"""Devices, precision, launch settings, and what a run leaves behind in the process that called it."""

from __future__ import annotations

import threading
from pathlib import Path

import pytest
import torch
from accelerate import Accelerator
from accelerate.state import AcceleratorState, GradientState, PartialState, is_initialized

import ganframe
from ganframe.training import check as checks
from ganframe.training.accelerator import mixed_precision, process_state_kept, single_device
from ganframe.training.prepare import prepare


@pytest.fixture(autouse=True)
def no_accelerator_state(monkeypatch):
    """No state of Accelerate from other tests, or for them, and no launch settings."""
    for name in ("MIXED_PRECISION", "GRADIENT_ACCUMULATION_STEPS", "DYNAMO_BACKEND"):
        monkeypatch.delenv(f"ACCELERATE_{name}", raising=False)
    AcceleratorState._reset_state()
    yield
    AcceleratorState._reset_state()


@pytest.fixture
def train(tiny, tmp_path):
    """train(*overrides): runs the tiny recipe."""
    count = iter(range(100))

    def run(*overrides):
        return ganframe.run(ganframe.load_recipe(tiny(), overrides), tmp_path / f"run-{next(count)}")

    return run


# ----------------------------------------------------------------------------------------------------------- precision


@pytest.mark.skipif(torch.cuda.is_available(), reason="a GPU has fp16")
def test_precision_that_the_device_does_not_have_is_refused(make_recipe, refused):
    (problem,) = refused(make_recipe(train={"steps": 1, "precision": "fp16"}))
    assert "train.precision: fp16 needs a GPU" in problem


def test_autocast_has_the_precision_of_the_recipe(make_recipe):
    cpu, a = torch.device("cpu"), torch.ones(2, 2)
    for precision, dtype in (("no", torch.float32), ("bf16", torch.bfloat16)):
        autocast, scaler = mixed_precision(make_recipe(train={"steps": 1, "precision": precision}), cpu)
        assert scaler is None
        with autocast():
            assert (a @ a).dtype == dtype
    assert (a @ a).dtype == torch.float32


def test_runs_of_different_precision_work_in_one_process(train):
    runs = {precision: train(f"train.precision={precision}") for precision in ("no", "bf16")}
    again = train("train.precision=no")
    weights = {name: (run.folder / "generator.safetensors").read_bytes() for name, run in runs.items()}
    assert weights["no"] != weights["bf16"]
    assert (again.folder / "generator.safetensors").read_bytes() == weights["no"]


# ------------------------------------------------------------------------------------------------------- process state


def test_run_resume_and_check_restore_the_random_state(train, tiny):
    torch.manual_seed(5)
    before = torch.get_rng_state()
    folder = train().folder
    assert torch.equal(torch.get_rng_state(), before)
    ganframe.resume(folder, ["train.steps=7"])
    assert torch.equal(torch.get_rng_state(), before)
    checks.check(ganframe.load_recipe(tiny()))
    assert torch.equal(torch.get_rng_state(), before)
    with pytest.raises(ganframe.RequestError, match="has finished"):
        ganframe.resume(folder)
    assert torch.equal(torch.get_rng_state(), before)


def test_run_leaves_no_accelerator_state_where_there_was_none(train):
    folder = train().folder
    assert not is_initialized()
    with pytest.raises(ganframe.RequestError, match="has finished"):
        ganframe.resume(folder)
    assert not is_initialized()


def test_accelerator_of_the_caller_keeps_its_precision_beside_a_run(train):
    alone = train("train.precision=no")
    accelerator = Accelerator(cpu=True, mixed_precision="bf16")
    beside = train("train.precision=no")
    assert is_initialized()
    assert accelerator.mixed_precision == AcceleratorState().mixed_precision == "bf16"
    weights = [(run.folder / "generator.safetensors").read_bytes() for run in (alone, beside)]
    assert weights[0] == weights[1]


def test_gradient_accumulation_of_the_caller_is_kept(train):
    accelerator = Accelerator(gradient_accumulation_steps=4)
    train()
    assert accelerator.gradient_accumulation_steps == 4
    GradientState._reset_state()


def test_runs_in_threads_keep_the_state_of_each_other(tiny, tmp_path):
    """The short run ends while the long one trains."""
    ended, errors = threading.Event(), []

    def run(name, steps, callback):
        try:
            recipe = ganframe.load_recipe(tiny(name=f"{name}.toml"), [f"train.steps={steps}"])
            ganframe.run(recipe, tmp_path / name, callbacks=[callback])
        except BaseException as error:
            errors.append(error)
        if name == "short":
            ended.set()

    begun = threading.Event()
    long = threading.Thread(target=run, args=("long", 6, lambda state: (begun.set(), ended.wait(60))))
    short = threading.Thread(target=run, args=("short", 1, lambda state: begun.wait(60)))
    for thread in (long, short):
        thread.start()
    for thread in (long, short):
        thread.join(120)
    assert not errors
    assert ended.is_set()
    assert not is_initialized()


def test_state_is_restored_where_the_call_raises():
    before = torch.get_rng_state()

    @process_state_kept()
    def fail():
        torch.rand(3)
        Accelerator(cpu=True)
        raise KeyError

    for _ in range(2):
        with pytest.raises(KeyError):
            fail()
        assert torch.equal(torch.get_rng_state(), before)
        assert not is_initialized()


# ------------------------------------------------------------------------------------------------------------ launches


@pytest.mark.parametrize(
    ("variable", "value", "warning"),
    [
        (
            "MIXED_PRECISION",
            "bf16",
            "--mixed_precision bf16 is ignored: the recipe has train.precision = 'no'",
        ),
        ("GRADIENT_ACCUMULATION_STEPS", "4", "ACCELERATE_GRADIENT_ACCUMULATION_STEPS is ignored: "),
        ("DYNAMO_BACKEND", "INDUCTOR", "--dynamo_backend is ignored: "),
    ],
)
def test_launch_settings_that_are_ignored_are_warned_of(make_recipe, monkeypatch, capsys, variable, value, warning):
    monkeypatch.setenv(f"ACCELERATE_{variable}", value)
    trainer = prepare(make_recipe())
    assert capsys.readouterr().err.startswith(f"warning: {warning}")
    assert trainer.state.scaler is None
    assert not torch.is_autocast_enabled("cpu")


def test_launch_precision_that_the_recipe_also_has_is_not_warned_of(make_recipe, monkeypatch, capsys):
    monkeypatch.setenv("ACCELERATE_MIXED_PRECISION", "bf16")
    prepare(make_recipe(train={"steps": 1, "precision": "bf16"}, objective={"use": "non_saturating"}))
    assert capsys.readouterr().err == ""


@pytest.mark.parametrize(
    ("variable", "name"),
    [
        ("USE_FSDP", "FSDP"),
        ("USE_DEEPSPEED", "DeepSpeed"),
        ("USE_MEGATRON_LM", "Megatron-LM"),
        ("USE_PARALLELISM_CONFIG", "a parallelism config"),
    ],
)
def test_sharded_launches_are_refused(call, tiny, monkeypatch, variable, name):
    monkeypatch.setenv(f"ACCELERATE_{variable}", "true")
    result = call("run", tiny(), "--out", "run", code=2)
    assert result.stderr.startswith(f"this launch asks for {name}, which ganframe does not support: ")
    assert len(result.stderr.splitlines()) == 1


# -------------------------------------------------------------------------------------------- several processes, no GPU


@pytest.mark.parametrize(
    "variables",
    [
        {"WORLD_SIZE": "2"},
        {"WORLD_SIZE": "2", "LOCAL_RANK": "0"},
        {"WORLD_SIZE": "2", "RANK": "0"},
        {"WORLD_SIZE": "2", "RANK": "0", "MASTER_ADDR": "127.0.0.1", "MASTER_PORT": "29500"},
        {"OMPI_COMM_WORLD_SIZE": "2", "OMPI_COMM_WORLD_RANK": "1"},
        {"OMPI_COMM_WORLD_SIZE": "2", "OMPI_COMM_WORLD_RANK": "1", "ACCELERATE_USE_CPU": "true"},
        {"PMI_SIZE": "2", "PMI_RANK": "0"},
        {"SLURM_STEP_NUM_TASKS": "2", "SLURM_PROCID": "0"},
        {"WORLD_SIZE": "2", "ACCELERATE_USE_CPU": "true"},
    ],
)
def test_processes_that_cannot_train_together_are_refused(call, tiny, monkeypatch, variables):
    """Else each would be the same run, or wait for the others."""
    for name, value in variables.items():
        monkeypatch.setenv(name, value)
    PartialState._reset_state()
    for arguments in (["run", tiny()], ["check", tiny()]):
        (line,) = call(*arguments, code=2).stderr.splitlines()
        assert "2 processes" in line
        assert "start them with torchrun" in line
    assert not Path("runs").exists()


def test_work_in_one_process_is_refused_in_several(monkeypatch):
    assert single_device().type in ("cpu", "cuda")
    monkeypatch.setenv("WORLD_SIZE", "2")
    with pytest.raises(ganframe.RequestError, match="works in one process, and 2 were started"):
        single_device()


@pytest.mark.parametrize("variables", [{"WORLD_SIZE": "1"}, {"SLURM_STEP_NUM_TASKS": "1"}, {"WORLD_SIZE": ""}])
def test_launch_of_one_process_trains(train, monkeypatch, variables):
    for name, value in variables.items():
        monkeypatch.setenv(name, value)
    assert train().folder.is_dir()
