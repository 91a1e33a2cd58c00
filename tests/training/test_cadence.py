"""When pictures and checkpoints are due: by the recipe's numbers, or by steps and time."""

import pytest
import torch
from safetensors.torch import load_file

import ganframe
from ganframe.recipes.tables import Log, Train
from ganframe.training import cadence
from ganframe.training.cadence import Cadence, cadences


def due_steps(due, steps, clock=None, seconds=0.0):
    """The steps up to `steps` at which it is due, where each takes so many seconds."""
    found = []
    for step in range(1, steps + 1):
        if clock is not None:
            clock[0] += seconds
        if due(step):
            found.append(step)
    return found


@pytest.fixture
def timed():
    """timed(seconds, steps, first=None): the steps at which it is due by the clock, of steps that take so long."""

    def find(seconds, steps, first=None):
        clock = [0.0]
        return due_steps(Cadence(None, steps, first, clock=lambda: clock[0]), steps, clock, seconds)

    return find


def test_number_of_the_recipe_is_exact_whatever_the_clock_says():
    def clock():
        return 0.0

    assert due_steps(Cadence(3, 10, 50, clock=clock), 10) == [3, 6, 9, 10]
    assert due_steps(Cadence(1000, 7, 50, clock=clock), 7) == [7]


def test_by_the_clock_slow_steps_have_each_500th(timed):
    assert timed(2.0, 2100, 50) == [50, 500, 1000, 1500, 2000, 2100]


def test_by_the_clock_quick_steps_have_ever_longer_pauses_up_to_30_seconds(timed):
    steps = timed(1 / 1024, 100_000)
    assert steps == [500, 1000, 2000, 4000, 8000, 16_000, 32_000, 63_000, 94_000, 100_000]


def test_short_run_has_its_last_step_alone(timed):
    assert timed(0.001, 20, 50) == timed(100.0, 20, 50) == [20]


def test_asked_twice_it_gives_the_same_answer_and_asks_the_others_once():
    asked = []
    due = Cadence(None, 10**6, agree=lambda own: not asked.append(own), clock=lambda: 0.0)
    assert [due(500), due(500), due(501), due(1000), due(1000)] == [True, True, False, True, True]
    assert asked == [True, True]


def test_the_first_process_decides():
    """This one's clock says that it is due, and the first one's that it is not."""
    assert due_steps(Cadence(None, 2000, agree=lambda own: False), 2000) == [2000]


def test_rollbacks_have_steps_that_do_not_depend_on_the_clock():
    """They return to a checkpoint, and go on with the data of the step where the fault was found."""
    for chosen in cadences(Train(steps=10**6, on_nonfinite="rollback"), Log()):
        assert chosen.every == 500
    assert [chosen.every for chosen in cadences(Train(steps=1), Log(samples_every=7))] == [7, None]


@pytest.mark.parametrize("steps", [6, 20])
def test_short_run_without_numbers_has_its_last_picture_and_checkpoint(tiny, tmp_path, steps):
    run = ganframe.run(ganframe.load_recipe(tiny(), [f"train.steps={steps}"]), tmp_path / "run").folder
    assert [path.name for path in (run / "samples").glob("*.png")] == [f"step-{steps:06d}.png"]
    assert [path.name for path in (run / "checkpoints").iterdir()] == [f"step-{steps:06d}"]


def test_weights_and_log_do_not_depend_on_the_clock(tiny, tmp_path, monkeypatch, read_records):
    """Of a run with pictures and checkpoints wherever they can be, and of one with the last ones alone."""
    monkeypatch.setattr(cadence, "STEPS", 2)
    recipe = ganframe.load_recipe(tiny("[log]\nevery = 4\n"), ["train.steps=9", "discriminator.dropout=0.3"])
    runs = {}
    for name, answer in (("often", True), ("seldom", False)):
        monkeypatch.setattr(cadence, "broadcast_object_list", lambda found, answer=answer: [answer])
        runs[name] = ganframe.run(recipe, tmp_path / name).folder
    often, seldom = (sorted(int(p.stem[5:]) for p in (run / "samples").glob("*.png")) for run in runs.values())
    assert (often, seldom) == ([2, 4, 6, 8, 9], [9])
    ours, theirs = (load_file(run / "generator.safetensors") for run in runs.values())
    assert all(torch.equal(ours[name], theirs[name]) for name in theirs)
    assert read_records(runs["often"]) == read_records(runs["seldom"])
