"""When a network grows: the options that generator and discriminator share, and the stage of a training step."""

from __future__ import annotations

import bisect
import itertools

import attrs
import torch
from attrs.validators import ge
from torch import Tensor, nn

from ganframe import DataSpec, option
from ganframe.layers import resolutions

WIDE = 3
"""The last stage with the full number of channels: 32 pixels, where the smallest grid has 4."""


def _check_steps(_: object, __: object, steps: int | tuple[int, ...]) -> None:
    given = steps if isinstance(steps, tuple) else (steps,)
    if not given or any(type(n) is not int or n < 0 for n in given):
        raise ValueError(
            f"stage_steps must be a number of steps ≥ 0, or one for each stage but the last, not {steps!r}"
        )


@attrs.frozen
class Growing:
    """The options of both networks. Stage k trains the k-th resolution, from the smallest grid to the image."""

    width: int = option(
        128, help="channels of the first four stages, halved by each further one; 512 in the paper", validator=ge(1)
    )
    stage_steps: int | tuple[int, ...] = option(
        25_000,
        help="generator steps of each stage but the last: one number for all, or one for each; 0: no such stage",
        validator=_check_steps,
    )
    fade_steps: int = option(
        12_500, help="first steps of a stage, in which its resolution is faded in", validator=ge(0)
    )

    def __attrs_post_init__(self) -> None:
        steps = (self.stage_steps,) * 2 if isinstance(self.stage_steps, int) else self.stage_steps
        trained = steps[_leading_zeros(steps) :]
        if 0 in trained:
            raise ValueError(
                f"stage_steps = {self.stage_steps}: only the first stages may be left out; give a number for each "
                "stage but the last, zeros first"
            )
        if any(n < self.fade_steps for n in trained[1:]):
            raise ValueError(
                f"fade_steps = {self.fade_steps} is longer than a stage of {min(trained[1:])} steps; choose no more"
            )

    def sizes(self, data: DataSpec) -> tuple[tuple[int, int], ...]:
        """The (height, width) of each stage. Raises ValueError unless the data are images of at least 8×8."""
        return resolutions("progressive", data)

    def widths(self, stages: int) -> list[int]:
        """The channels of each stage."""
        return [max(1, self.width >> max(0, stage - WIDE)) for stage in range(stages)]

    def growth(self, data: DataSpec) -> Growth:
        """The schedule for this data. Raises ValueError if `stage_steps` has another number of stages."""
        sizes = self.sizes(data)
        steps = self.stage_steps
        if isinstance(steps, int):
            steps = (steps,) * (len(sizes) - 1)
        elif len(steps) != len(sizes) - 1:
            stages = ", ".join(f"{height}×{width}" for height, width in sizes)
            raise ValueError(
                f"stage_steps = {steps} must have a number for each stage but the last: {len(sizes) - 1}, as the "
                f"stages are {stages}; or give one number for all"
            )
        return Growth(steps, self.fade_steps)


def _leading_zeros(steps: tuple[int, ...]) -> int:
    return len(list(itertools.takewhile(lambda n: n == 0, steps)))


class Growth(nn.Module):
    """The stage of the training step, which the engine writes into the buffer `training_step`.

    `begins` are the steps at which stages 0, 1, … begin, `first` is the first that lasts at least one step. Beginnings
    and ends of fading are declared in `grows_at`, so that two networks can be compared.
    """

    def __init__(self, stage_steps: tuple[int, ...], fade_steps: int) -> None:
        super().__init__()
        self.begins = [0, *itertools.accumulate(stage_steps)]
        self.first = _leading_zeros(stage_steps)
        self.fade_steps = fade_steps
        changes = self.begins[self.first + 1 :]
        self.grows_at = tuple(sorted({step + faded for step in changes for faded in (0, fade_steps)}))
        self.register_buffer("training_step", torch.zeros((), dtype=torch.long))
        self.training_step: Tensor

    def _apply(self, *_args: object, **_options: object) -> Growth:
        """Leaves the buffer where it is, on the CPU, when the network is moved to a device or another type.

        `now` needs it as a Python number, to call the layers of one stage and no others. Read from a GPU, each forward
        pass would wait until all earlier work there is done.
        """
        return self

    def now(self) -> tuple[int, float]:
        """The current stage, and the share α in [0, 1] of its own resolution: 1 in the first one and after fading."""
        step = int(self.training_step)
        stage = bisect.bisect_right(self.begins, step) - 1
        passed = step - self.begins[stage]
        return stage, 1.0 if stage == self.first or passed >= self.fade_steps else passed / self.fade_steps
