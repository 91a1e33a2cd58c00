"""Learning rates that have ended before the training does."""

from __future__ import annotations

import bisect
from collections.abc import Callable, Iterator

import torch

from ganframe.recipes.eager_optimizers import eager
from ganframe.recipes.optimizers import Optimizer, Schedule


def ended_rates(config: Optimizer, steps: int) -> Iterator[str]:
    """A line where the learning rate is 0 in the last of `steps` generator steps, or climbs again after a cosine.

    A schedule that begins again on purpose, as CosineAnnealingWarmRestarts, gives none.
    """
    remedy = "lengthen the schedule in a new run"
    schedule = config.schedule
    if schedule is not None and schedule.use == "CosineAnnealingLR" and schedule.options["T_max"] < steps - 1:
        end = schedule.options["T_max"]
        yield (
            f"schedule: CosineAnnealingLR ends at step {end}, and train.steps is {steps}: the learning rate climbs "
            f"again from there on; train for {end} steps, or {remedy}"
        )
        return
    for place, rate in _rates(config):
        if rate(steps - 1) == 0:
            first = bisect.bisect_left(range(steps), True, key=lambda step: rate(step) == 0)
            if 0 < first < steps - 1:
                yield (
                    f"{place}: the learning rate is 0 from step {first} on, and train.steps is {steps}; "
                    f"train for {first} steps, or {remedy}"
                )


def _rates(config: Optimizer) -> Iterator[tuple[str, Callable[[int], float]]]:
    """The learning rate at a generator step, up to a factor, with its place; where it is known in closed form."""
    if "lr" in config.ramps:
        yield "lr", config.ramps["lr"].at
    if config.schedule is not None and (rate := _closed_form(config.schedule)) is not None:
        yield "schedule", rate


def _closed_form(schedule: Schedule) -> Callable[[int], float] | None:
    built = schedule.build(eager(torch.optim.SGD)([torch.zeros(1, requires_grad=True)], lr=1.0, momentum=0.9))
    form = getattr(built, "_get_closed_form_lr", None)
    if form is None:
        return None

    def rate(step: int) -> float:
        built.last_epoch = step
        (found,) = form()
        return float(found)

    return rate
