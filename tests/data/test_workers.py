"""Worker processes that read data: start methods, signals, what cannot be sent to them, and one that dies."""

import multiprocessing
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
import torch
from torch.utils.data import Dataset as TorchDataset

import ganframe
from ganframe import DataSpec, RequestError, RunError
from ganframe.data import workers as processes
from ganframe.data.feed import Share, open_feed

READ = """
import attrs, torch
from torch.utils.data import Dataset as TorchDataset
from ganframe import Dataset, DataSpec, hookimpl

class Points(TorchDataset):
    def __len__(self):
        return 40
    def __getitem__(self, index):
        return torch.full((2,), float(index)), 0

@attrs.frozen
class Read(Dataset):
    "Points that are read one by one."
    @property
    def spec(self):
        return DataSpec((2,))
    def build(self):
        return Points()

@hookimpl
def ganframe_datasets():
    return {"read": Read}
"""


@pytest.fixture
def recipe(install, tiny):
    """recipe(*overrides): the tiny recipe on a plugin's dataset that is read item by item."""
    install("ganframe-read", READ)
    return lambda *overrides: ganframe.load_recipe(tiny(), ["dataset={use='read'}", *overrides])


@pytest.fixture
def start_method(monkeypatch):
    """start_method(name): how processes are started until the test ends."""
    before = multiprocessing.get_start_method()
    yield lambda name: multiprocessing.set_start_method(name, force=True)
    multiprocessing.set_start_method(before, force=True)


@pytest.mark.slow
@pytest.mark.parametrize("method", multiprocessing.get_all_start_methods())
def test_run_with_workers_of_any_start_method_is_that_without(recipe, tmp_path, start_method, method):
    """Linux forks before Python 3.14, which forks from a server; macOS and Windows spawn."""
    alone = ganframe.run(recipe("train.steps=2"), tmp_path / "alone").folder
    start_method(method)
    together = ganframe.run(recipe("train.steps=2", "train.workers=1"), tmp_path / "together").folder
    assert (together / "generator.safetensors").read_bytes() == (alone / "generator.safetensors").read_bytes()


def test_dataset_that_cannot_be_sent_to_a_spawned_worker_is_refused_in_one_line(start_method):
    class Local(TorchDataset):
        def __len__(self):
            return 40

        def __getitem__(self, index):
            return torch.zeros(2), 0

    start_method("spawn")
    feed = open_feed(Local(), DataSpec((2,)), 4, 0, Share(torch.device("cpu")), workers=1)
    with pytest.raises(RunError, match=r"cannot be sent .*Local.*top of a module, .*train.workers = 0"):
        feed()


@pytest.mark.parametrize("kill", [signal.SIGKILL, signal.SIGBUS])
def test_killed_worker_is_one_line_with_a_remedy(recipe, tmp_path, kill):
    def end(state):
        for worker in multiprocessing.active_children():
            os.kill(worker.pid, kill)
            worker.join()

    message = r"run: a process that reads data (was killed by signal: \w+|ended), as .*; use fewer train.workers"
    with pytest.raises(RunError, match=message) as caught:
        ganframe.run(recipe("train.workers=1", "train.steps=1000"), tmp_path / "run", callbacks=[end])
    assert "\n" not in str(caught.value)


SPAWNING = """
import multiprocessing, sys
if __name__ == "__main__":
    multiprocessing.set_start_method(sys.argv.pop(1))
    from ganframe.cli import main
    main()
"""


@pytest.mark.slow
@pytest.mark.parametrize("method", ["spawn", "forkserver"])
@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_signal_to_all_processes_while_a_worker_starts_saves_and_stops(site, recipe, tmp_path, method, number):
    """As Ctrl-C in a terminal: the run waits for the worker, which takes seconds to import torch."""
    recipe()
    (tmp_path / "spawning.py").write_text(SPAWNING, encoding="utf-8")
    settings = ["--set", "dataset={use='read'}", "--set", "train.workers=1", "--set", "train.steps=100000"]
    process = subprocess.Popen(
        [
            sys.executable,
            "spawning.py",
            method,
            "run",
            "tiny.toml",
            "--out",
            "run",
            *settings,
        ],
        cwd=tmp_path,
        stderr=subprocess.PIPE,
        text=True,
        start_new_session=True,
        env={**os.environ, "PYTHONPATH": os.pathsep.join([str(site), *sys.path])},
    )
    try:
        deadline = time.monotonic() + 120
        while len(_processes(process.pid)) < 2 and time.monotonic() < deadline:  # the tracker of resources, the worker
            time.sleep(0.02)
        os.killpg(process.pid, number)
        errors = process.communicate(timeout=120)[1]
    finally:
        process.kill()
    assert process.returncode == 130, errors
    assert "Traceback" not in errors
    assert "saved at step" in errors
    assert list((tmp_path / "run" / "checkpoints").iterdir())


def _processes(parent):
    """The children of a process, by Linux's /proc."""
    task = Path(f"/proc/{parent}/task/{parent}/children")
    return task.read_text(encoding="ascii").split() if task.exists() else []


def test_run_that_a_spawned_worker_starts_again_is_refused(monkeypatch):
    """As it imports a script that calls ganframe.run outside of `if __name__ == "__main__":`."""
    monkeypatch.setattr(multiprocessing.current_process(), "_inheriting", True, raising=False)
    with pytest.raises(RequestError, match="put the call under if __name__"):
        processes.refuse_in_worker()
