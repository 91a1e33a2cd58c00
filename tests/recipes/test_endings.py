"""Learning rates that end before the training does are warned of."""

import re

import pytest

from ganframe.recipes.endings import ended_rates
from ganframe.recipes.optimizers import structure_optimizer

ENDED = [
    ({"use": "LinearLR", "start_factor": 1.0, "end_factor": 0.0, "total_iters": 5}, "schedule: .* is 0 from step 5"),
    ({"use": "PolynomialLR", "total_iters": 5}, "schedule: .* is 0 from step 5"),
    ({"use": "MultiStepLR", "milestones": [2, 5], "gamma": 0.0}, "schedule: .* is 0 from step 2"),
    ({"use": "StepLR", "step_size": 3, "gamma": 0.0}, "schedule: .* is 0 from step 3"),
    ({"use": "CosineAnnealingLR", "T_max": 5}, "ends at step 5, and train.steps is 20: .* climbs again"),
]
GOING_ON = [
    {"use": "LinearLR", "start_factor": 1.0, "end_factor": 0.1, "total_iters": 5},
    {"use": "LinearLR", "start_factor": 1.0, "end_factor": 0.0, "total_iters": 20},
    {"use": "LinearLR", "start_factor": 0.1, "total_iters": 5},
    {"use": "PolynomialLR", "total_iters": 20},
    {"use": "CosineAnnealingLR", "T_max": 20},
    {"use": "CosineAnnealingLR", "T_max": 19},
    {"use": "CosineAnnealingWarmRestarts", "T_0": 5},
    {"use": "CyclicLR", "base_lr": 0.0, "max_lr": 0.1, "step_size_up": 2, "cycle_momentum": False},
    {"use": "ExponentialLR", "gamma": 0.5},
    {"use": "StepLR", "step_size": 3},
]


@pytest.mark.parametrize(("schedule", "said"), ENDED)
def test_ended_schedule_gives_one_line(schedule, said):
    (line,) = ended_rates(structure_optimizer({"lr": 0.1, "schedule": schedule}), 20)
    assert re.search(said, line), line


@pytest.mark.parametrize("schedule", GOING_ON)
def test_schedule_that_lasts_or_begins_again_on_purpose_gives_none(schedule):
    assert not list(ended_rates(structure_optimizer({"lr": 0.1, "schedule": schedule}), 20))


@pytest.mark.parametrize("shape", ["linear", "cosine", "constant"])
def test_ramp_to_zero_that_has_ended_gives_one_line(shape):
    ramp = {"from": 0.1, "to": 0.0, "steps": 5, "shape": shape}
    (line,) = ended_rates(structure_optimizer({"lr": ramp}), 20)
    assert "lr: the learning rate is 0 from step 5 on" in line
    assert not list(ended_rates(structure_optimizer({"lr": ramp}), 5))
    assert not list(ended_rates(structure_optimizer({"lr": {**ramp, "to": 0.01}}), 20))


def test_resume_to_more_steps_than_the_schedule_has_warns(tiny, call):
    schedule = 'schedule = { use = "PolynomialLR", total_iters = 6 }'
    recipe = tiny(f"[optimizer.generator]\n{schedule}\n[log]\ncheckpoint_every = 6\n")
    assert "learning rate" not in call("run", recipe, "--out", "run").output
    said = call("run", "--resume", "run", "--set", "train.steps=9").output
    assert "optimizer.generator.schedule: the learning rate is 0 from step 6 on" in said
