"""Trackers: TensorBoard shows each step of a run once, also after a crash or a rollback."""

from __future__ import annotations

import math
from collections import Counter

import pytest

import ganframe

MORE = """
[log]
every = 1
checkpoint_every = 2
trackers = ["tensorboard"]
"""


class Killed(Exception):
    pass


@pytest.fixture
def shown():
    """shown(run): how often TensorBoard shows each step of the generator's loss."""
    reading = pytest.importorskip("tensorboard.backend.event_processing.event_accumulator")

    def read(run):
        events = reading.EventAccumulator(str(run.folder / "tiny"))
        events.Reload()
        return Counter(event.step for event in events.Scalars("loss_generator"))

    return read


@pytest.mark.parametrize("killed", [1, 2, 5, 6])
def test_steps_after_a_crash_are_shown_once(tiny, tmp_path, shown, killed):
    """At step 1 there is no checkpoint yet, and the run begins again."""

    def kill(state):
        if state.step == killed:
            raise Killed

    with pytest.raises(Killed):
        ganframe.run(ganframe.load_recipe(tiny(MORE), ["train.steps=8"]), tmp_path / "run", callbacks=[kill])
    run = ganframe.resume(tmp_path / "run")
    assert shown(run) == dict.fromkeys(range(1, 9), 1)
    assert [record["step"] for record in run.log] == [*range(1, 9)]


def test_steps_after_a_rollback_are_shown_once(tiny, tmp_path, shown):
    spoiled = []

    def spoil(state):
        if state.step == 5 and not spoiled:
            spoiled.append(next(state.G.network.parameters()).data.fill_(math.nan))

    settings = ["train.steps=8", "train.on_nonfinite='rollback'"]
    run = ganframe.run(ganframe.load_recipe(tiny(MORE), settings), tmp_path / "run", callbacks=[spoil])
    assert spoiled
    assert shown(run) == dict.fromkeys(range(1, 9), 1)


def test_run_that_is_continued_shows_its_first_steps_too(tiny, tmp_path, shown):
    ganframe.run(ganframe.load_recipe(tiny(MORE), ["train.steps=4"]), tmp_path / "run")
    run = ganframe.resume(tmp_path / "run", ["train.steps=6"])
    assert shown(run) == dict.fromkeys(range(1, 7), 1)
