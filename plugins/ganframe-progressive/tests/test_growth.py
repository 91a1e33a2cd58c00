"""The schedule of stages: which stage a step belongs to, how far it is faded in, and which schedules are refused."""

import copy

import pytest
import torch
from ganframe_progressive import ProgressiveDiscriminator, ProgressiveGenerator
from ganframe_progressive.growth import Growth

from ganframe import DataSpec

DATA = DataSpec((1, 32, 32))  # four stages: 4, 8, 16 and 32 pixels


def at(growth, step):
    growth.training_step.fill_(step)
    return growth.now()


def test_stages_begin_one_after_the_other_and_are_faded_in_linearly():
    growth = Growth((10, 20, 30), 8)
    assert growth.grows_at == (10, 18, 30, 38, 60, 68)
    expected = {
        0: (0, 1.0),
        9: (0, 1.0),
        10: (1, 0.0),
        14: (1, 0.5),
        17: (1, 0.875),
        18: (1, 1.0),
        29: (1, 1.0),
        30: (2, 0.0),
        59: (2, 1.0),
        60: (3, 0.0),
        67: (3, 0.875),
        68: (3, 1.0),
        10**7: (3, 1.0),
    }
    assert {step: at(growth, step) for step in expected} == expected


def test_stages_without_fading_begin_at_once():
    growth = Growth((10, 20), 0)
    assert growth.grows_at == (10, 30)
    assert [at(growth, step) for step in (9, 10, 29, 30)] == [(0, 1.0), (1, 1.0), (1, 1.0), (2, 1.0)]


def test_first_stages_of_no_steps_are_left_out_and_the_next_begins_without_fading():
    growth = Growth((0, 0, 10), 4)
    assert growth.grows_at == (10, 14)
    assert [at(growth, step) for step in (0, 9, 10, 12, 14)] == [(2, 1.0), (2, 1.0), (3, 0.0), (3, 0.5), (3, 1.0)]
    never = Growth((0, 0, 0), 4)
    assert never.grows_at == ()
    assert at(never, 0) == at(never, 1000) == (3, 1.0)


@pytest.mark.parametrize("component", [ProgressiveGenerator, ProgressiveDiscriminator])
def test_one_number_holds_for_each_stage_but_the_last(component):
    for steps in (20, (20, 20, 20)):
        assert component(stage_steps=steps, fade_steps=5).growth(DATA).grows_at == (20, 25, 40, 45, 60, 65)
    assert component(stage_steps=0).growth(DATA).begins == [0, 0, 0, 0]


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"stage_steps": -1}, "stage_steps must be a number of steps ≥ 0, or one for each stage but the last, not -1"),
        ({"stage_steps": (5, -1, 5)}, "stage_steps"),
        ({"stage_steps": ()}, "stage_steps"),
        ({"stage_steps": 10, "fade_steps": 11}, "fade_steps = 11 is longer than a stage of 10 steps; choose no more"),
        ({"stage_steps": (5, 10, 20), "fade_steps": 11}, "fade_steps = 11 is longer than a stage of 10 steps"),
        ({"stage_steps": (5, 0, 20), "fade_steps": 0}, "only the first stages may be left out"),
        ({"width": 0}, "width"),
    ],
)
def test_schedules_without_sense_are_refused(options, message):
    with pytest.raises(ValueError, match=message):
        ProgressiveGenerator(**options)


def test_first_stage_may_be_shorter_than_fading():
    """Nothing is faded in there, nor after the last of the numbers ends."""
    assert ProgressiveGenerator(stage_steps=(5, 11, 20), fade_steps=11).growth(DATA).grows_at == (5, 16, 27, 36, 47)


def test_another_number_of_stages_is_refused_in_one_line():
    message = r"stage_steps = \(5, 5\) must have .*: 3, as the stages are 4×4, 8×8, 16×16, 32×32; or give one number"
    for build in (
        lambda: ProgressiveGenerator(stage_steps=(5, 5), fade_steps=0).build(DATA, 4),
        lambda: ProgressiveDiscriminator(stage_steps=(5, 5), fade_steps=0).build(DATA),
    ):
        with pytest.raises(ValueError, match=message):
            build()


def test_step_stays_on_the_cpu_and_an_integer_wherever_the_network_goes():
    G = ProgressiveGenerator(width=2, stage_steps=5, fade_steps=2).build(DATA, 4)
    G.growth.training_step.fill_(7)
    for moved in (copy.deepcopy(G).to("meta"), copy.deepcopy(G).double(), copy.deepcopy(G).half()):
        step = moved.growth.training_step
        assert (step.device.type, step.dtype, step.item()) == ("cpu", torch.long, 7)
    assert G.to("meta")(torch.zeros(2, 4, device="meta"), None).shape == (2, 1, 32, 32)


def test_step_is_part_of_the_state():
    G, other = (ProgressiveGenerator(width=2, stage_steps=5, fade_steps=2).build(DATA, 4) for _ in range(2))
    G.growth.training_step.fill_(6)
    other.load_state_dict(G.state_dict())
    assert other.growth.now() == (1, 0.5)


def test_channels_halve_above_32_pixels():
    assert ProgressiveGenerator(width=16).widths(8) == [16, 16, 16, 16, 8, 4, 2, 1]
    assert ProgressiveGenerator(width=2).widths(7) == [2, 2, 2, 2, 1, 1, 1]
