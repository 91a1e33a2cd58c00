"""Saving and restoring the whole state of a run."""

from __future__ import annotations

import copy

import attrs
import pytest
import torch

import ganframe
from ganframe.engine.algorithm import train
from ganframe.engine.state import State
from ganframe.storage import checkpoints, run_folder
from ganframe.training import checkpoint
from ganframe.training.callbacks import advance, make_watch
from ganframe.training.moving_average import average_into
from ganframe.training.prepare import prepare
from ganframe.training.trainer import Trainer

NETWORKS = ("generator", "discriminator", "average")
PARTS = (
    "optimizer.generator",
    "optimizer.discriminator",
    "schedule.generator",
    "schedule.discriminator",
    "scaler",
    "data",
    "latents",
    "means",
)
SCHEDULE = {"use": "ExponentialLR", "gamma": 0.9}


@pytest.fixture(params=["digits", "ring"])
def trainer(make_recipe, request):
    """A trainer that has every part, after three steps."""
    adam = {"use": "Adam", "lr": 1e-3, "schedule": SCHEDULE}
    trainer = prepare(
        make_recipe(
            dataset={"use": request.param},
            generator={"use": "mlp", "hidden": [8], "batch_norm": True},
            discriminator={"use": "mlp", "hidden": [8], "dropout": 0.3},
            optimizer={"generator": adam, "discriminator": adam},
            train={"steps": 100, "batch_size": 8, "ema": 0.9},
        )
    )
    trainer.state.scaler = torch.amp.GradScaler("cpu", init_scale=2.0, growth_interval=1)  # it grows in each step
    advance_by(trainer, 3)
    return trainer


def advance_by(trainer, steps):
    trainer.state.moving_average = average_into(trainer.averaged, 0.9, 10)
    due = [trainer.means, advance(trainer.schedules.values())]
    train(trainer.state, trainer.state.step + steps, 1, due)


def snapshot(trainer):
    """A copy of all that a checkpoint holds."""
    parts = {name: part.state_dict() for name, part in {**trainer.networks, **trainer.stateful}.items()}
    state = {**parts, "step": trainer.state.step, "torch": torch.get_rng_state()}
    return copy.deepcopy(state)


def equal(a, b):
    if isinstance(a, torch.Tensor):
        return torch.equal(a, b)
    if isinstance(a, dict):
        return a.keys() == b.keys() and all(equal(a[key], b[key]) for key in a)
    if isinstance(a, (list, tuple)):
        return len(a) == len(b) and all(map(equal, a, b))
    return a == b


@pytest.mark.parametrize("randomness", [True, False], ids=["resume", "rollback"])
def test_restore_restores_every_part(trainer, tmp_path, randomness):
    """A rollback leaves data, latents and torch's random state as they are: the same ones would fail again."""
    folder = run_folder.create("name", tmp_path / "run")
    checkpoint.save(trainer, folder, make_watch(trainer))
    saved = snapshot(trainer)
    assert set(saved) == {*NETWORKS, *PARTS, "step", "torch"}
    advance_by(trainer, 2)
    trainer.means.fold(trainer.state.step)
    changed = snapshot(trainer)
    assert [name for name in saved if equal(saved[name], changed[name])] == []
    checkpoint.restore(trainer, folder.checkpoint(3), randomness)
    restored = snapshot(trainer)
    kept = set() if randomness else {"data", "latents", "torch"}
    for name in saved:
        assert equal(restored[name], (changed if name in kept else saved)[name]), name
    assert trainer.state.G.optimizer.param_groups[0]["lr"] == pytest.approx(1e-3 * 0.9**3)


def test_restored_training_continues_with_the_same_numbers(trainer, tmp_path):
    folder = run_folder.create("name", tmp_path / "run")
    checkpoint.save(trainer, folder, make_watch(trainer))
    ends = []
    for _ in range(2):
        advance_by(trainer, 4)
        ends.append({**snapshot(trainer), "taken": trainer.means.take(trainer.state.step)})
        checkpoint.restore(trainer, folder.checkpoint(3))
    first, second = ends
    for name in first:
        assert equal(first[name], second[name]), name


def test_checkpoint_holds_every_stateful_part_of_trainer_and_state(trainer):
    """A part that is added to either must be saved, or be named here as one that need not be."""
    parts = [*trainer.networks.values(), *trainer.stateful.values()]
    state = trainer.state
    objects = [getattr(trainer, a.name) for a in attrs.fields(Trainer)]
    objects += [getattr(state, a.name) for a in attrs.fields(State)] + [state.game.G, state.game.D]
    objects += [value for player in (state.G, state.D) for value in (player.network, player.optimizer)]
    stateful = [found for found in objects if hasattr(found, "load_state_dict")]
    assert len(stateful) >= 9
    for found in stateful:
        assert any(found is part for part in parts), type(found).__name__
    assert {a.name for a in attrs.fields(State)} == {
        *("game", "G", "D", "batches", "latents", "scaler", "step"),  # saved
        *("generator_batch_size", "device", "average"),  # decided by the recipe and the launch
        *("timetable", "accumulate", "step_buffers", "share_fakes", "moving_average"),  # decided by the recipe
        *("labels", "latest"),  # set anew in each discriminator step
        *("last", "shared", "stand_in"),  # within an iteration only
    }
    assert {a.name for a in attrs.fields(Trainer)} == {
        *("recipe", "spec", "accelerator", "state_keys", "optimizers", "judged", "heeding"),
        *("judge", "best"),  # fitted anew; the best step is found in evaluations.jsonl
        *("state", "averaged", "schedules", "means"),  # saved
    }


def test_checkpoint_of_another_recipe_is_refused(trainer, make_recipe, tmp_path):
    """Of one without schedules."""
    other = prepare(attrs.evolve(trainer.recipe, optimizer=make_recipe().optimizer))
    folder = run_folder.create("name", tmp_path / "run")
    checkpoint.save(other, folder, make_watch(other))
    with pytest.raises(ganframe.RequestError, match="step-000000: does not fit its run's recipe: KeyError: 'schedule"):
        checkpoint.restore(trainer, folder.checkpoint(0))


def test_checkpoint_without_counts_of_updates_is_resumed(make_recipe, tmp_path, monkeypatch):
    """As an earlier version wrote them, where each step had all its updates."""
    monkeypatch.chdir(tmp_path)
    recipe = make_recipe(train={"steps": 4, "batch_size": 8, "critic_steps": 3})
    ganframe.run(recipe, "run")
    load = checkpoints.load_checkpoint
    found = {}

    def without(*args):
        found.update(load(*args))
        return {name: part for name, part in found.items() if name != "updates"}

    monkeypatch.setattr(checkpoints, "load_checkpoint", without)
    trainer = prepare(recipe)
    checkpoint.restore(trainer, tmp_path / "run" / "checkpoints" / "step-000004")
    updates = {"generator": trainer.state.G.updates, "discriminator": trainer.state.D.updates}
    assert updates == found["updates"] == {"generator": 4, "discriminator": 12}
