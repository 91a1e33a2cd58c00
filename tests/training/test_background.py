"""Files that are written in a thread: order, bounded memory, errors, and the state that is written."""

import threading
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file

import ganframe
from ganframe.engine.algorithm import train
from ganframe.report import pictures
from ganframe.storage import checkpoints, run_folder
from ganframe.training import checkpoint
from ganframe.training.background import Writer
from ganframe.training.callbacks import make_watch
from ganframe.training.prepare import prepare


@pytest.fixture
def writer():
    made = Writer()
    yield made
    made.close()


def test_all_is_written_in_one_thread_in_order(writer):
    written = []
    for kind in ("picture", "checkpoint", "picture"):
        writer.give(kind, lambda kind=kind: written.append((kind, threading.current_thread())))
    writer.wait()
    assert [kind for kind, _ in written] == ["picture", "checkpoint", "picture"]
    assert len({thread for _, thread in written}) == 1
    assert written[0][1] is not threading.current_thread()


def test_second_of_a_kind_waits_for_the_first(writer):
    """So that at most one copy of the state is held."""
    go, held = threading.Event(), []
    writer.give("checkpoint", lambda: (go.wait(60), held.append("first")))
    writer.give("picture", lambda: held.append("picture"))  # does not wait
    assert held == []
    threading.Timer(0.05, go.set).start()
    writer.wait("checkpoint")
    assert held[0] == "first"


def test_error_is_raised_once_at_the_next_of_its_kind_or_at_the_end(writer):
    def fail():
        raise OSError("no space")

    for surfaces in (lambda: writer.give("checkpoint", list), writer.wait):
        writer.give("checkpoint", fail)
        writer.give("picture", list)
        with pytest.raises(OSError, match="no space"):
            surfaces()
        writer.wait()


@pytest.fixture
def trainer(make_recipe):
    """One with every part of a checkpoint, after three steps."""
    adam = {"use": "Adam", "schedule": {"use": "MultiStepLR", "milestones": [4, 5]}}
    players = {"hidden": [8]}
    trainer = prepare(
        make_recipe(
            dataset={"use": "ring"},
            latent={"dim": 2},
            generator={"use": "mlp", "batch_norm": True, **players},
            discriminator={"use": "mlp", "dropout": 0.3, **players},
            optimizer={"generator": adam, "discriminator": adam},
            train={"steps": 100, "batch_size": 8, "ema": 0.9},
        )
    )
    train(trainer.state, 3, 1, [trainer.means])
    return trainer


def files(folder):
    return {path.name: path.read_bytes() for path in sorted(folder.iterdir())}


def test_state_of_the_step_is_written_though_training_goes_on(trainer, tmp_path, writer):
    """Of two savings of the same step, one at once and one that is written three steps later."""
    at_once, later = (run_folder.create("name", tmp_path / name) for name in ("at_once", "later"))
    watch, go = make_watch(trainer), threading.Event()
    checkpoint.save(trainer, at_once, watch)
    writer.give("picture", lambda: go.wait(60))
    checkpoint.save(trainer, later, watch, None, writer)
    for schedule in trainer.schedules.values():
        schedule.step()
    train(trainer.state, 6, 1, [trainer.means])
    trainer.averaged.update_parameters(trainer.state.G.network)
    trainer.means.fold(6)
    go.set()
    writer.wait()
    ours, theirs = (files(folder.checkpoint(3)) for folder in (later, at_once))
    assert ours.keys() == theirs.keys()
    assert [name for name in theirs if ours[name] != theirs[name] and name.endswith("safetensors")] == []
    assert later.generator.read_bytes() == at_once.generator.read_bytes()
    saved = [torch.load(folder.checkpoint(3) / "training.pt", weights_only=True) for folder in (later, at_once)]
    assert repr(saved[0]) == repr(saved[1])
    assert checkpoints.newest_intact(later) == (later.checkpoint(3), [])


def test_run_saves_in_a_thread_and_ends_after_it(tiny, tmp_path, monkeypatch):
    threads = []
    plain = checkpoints.save_checkpoint

    def noted(*arguments):
        threads.append(threading.current_thread())
        plain(*arguments)

    monkeypatch.setattr(checkpoints, "save_checkpoint", noted)
    run = ganframe.run(ganframe.load_recipe(tiny("[log]\ncheckpoint_every = 2\n")), tmp_path / "run").folder
    assert len(threads) == 3
    assert threading.main_thread() not in threads
    assert not any(thread.is_alive() for thread in threads)
    assert load_file(run / "checkpoints" / "step-000006" / "generator.safetensors")


def test_error_of_the_last_writing_fails_the_run_in_one_line(tiny, tmp_path, monkeypatch):
    def full(*arguments):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(checkpoints, "save_checkpoint", full)
    with pytest.raises(ganframe.RunError, match=r"run: cannot be written: .*No space left") as raised:
        ganframe.run(ganframe.load_recipe(tiny()), tmp_path / "run")
    assert len(str(raised.value).splitlines()) == 1


def test_writing_ends_before_a_failed_run_lets_its_folder_go(tiny, tmp_path, monkeypatch):
    """Else two processes could write to it."""
    written, plain = [], checkpoints.sync

    def slow(path: Path):
        threading.Event().wait(0.02)
        plain(path)
        written.append(path)

    def fail(state):
        if state.step == 2:
            raise ZeroDivisionError

    monkeypatch.setattr(checkpoints, "sync", slow)
    with pytest.raises(ZeroDivisionError):
        ganframe.run(ganframe.load_recipe(tiny("[log]\ncheckpoint_every = 1\n")), tmp_path / "run", callbacks=[fail])
    assert written[-1] == tmp_path / "run" / "checkpoints"
    count = len(written)
    assert sorted(p.name for p in (tmp_path / "run" / "checkpoints").iterdir()) == ["step-000001", "step-000002"]
    assert len(written) == count


def test_images_are_written_in_the_thread_and_points_at_once(tmp_path):
    given = []
    for name, shape in (("images", (1, 8, 8)), ("points", (2,))):
        file = tmp_path / f"{name}.png"
        pictures.draw(file, ganframe.DataSpec(shape), torch.zeros(4, *shape), later=given.append)
        assert file.exists() == (name == "points")
    (write,) = given
    write()
    assert (tmp_path / "images.png").exists()
