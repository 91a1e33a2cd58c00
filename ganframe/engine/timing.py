"""What changes over a run: options that move, penalties and terms that are due only at some steps."""

from __future__ import annotations

import copy
import math
from collections.abc import Callable, Mapping
from typing import Any, Literal, TypeVar

import attrs
from attrs.validators import ge
from torch import Tensor

from ganframe.components import option

C = TypeVar("C")

Numbers = Callable[[Callable[[int], Any]], Any]
"""Gives a number of a step from a function of the step; see `State.number`."""


def numbers_at(step: int) -> Numbers:
    """The numbers of a generator step."""
    return lambda of_step: of_step(step)


@attrs.frozen
class Ramp:
    """A number that moves with the generator steps, from `from_` at step 0 to `to` at step `steps` and later.

    linear: in a straight line; cosine: along half a period of the cosine, slowly at both ends; constant: `from_` until
    step `steps`, then `to`.
    """

    from_: float = option(help="value at the first step")
    to: float = option(help="value from step `steps` on")
    steps: int = option(help="generator steps of the way", validator=ge(1))
    shape: Literal["constant", "linear", "cosine"] = option("linear", help="how the value moves")

    def at(self, step: int) -> float:
        """The value at a generator step."""
        if step >= self.steps:
            return self.to
        share = step / self.steps
        if self.shape == "constant":
            return self.from_
        if self.shape == "cosine":
            share = (1 - math.cos(math.pi * share)) / 2
        return self.from_ + share * (self.to - self.from_)


@attrs.frozen
class Timing:
    """When an objective, a constraint or a term acts, and how its options move.

    From generator step `start` on it acts at each `every`-th update of the player whose loss it adds to, with `every`
    times its value, so that its mean gradient stays the same.
    """

    every: int = option(1, help="acts at each n-th update of its player, with n times its value", validator=ge(1))
    start: int = option(0, help="generator step from which it acts", validator=ge(0))
    ramps: Mapping[str, Ramp] = attrs.field(factory=dict)

    def is_due(self, step: int, update: int) -> bool:
        return step >= self.start and update % self.every == 0

    def moved(self, component: C, number: Numbers) -> C:
        """The component with its options as they are at a step, whose numbers `number` gives."""
        if not self.ramps:
            return component
        values: dict[str, Any] = {name: number(ramp.at) for name, ramp in self.ramps.items()}
        if any(isinstance(value, Tensor) for value in values.values()):  # checks of options need numbers
            moved = copy.copy(component)
            for name, value in values.items():
                object.__setattr__(moved, name, value)
            return moved
        return attrs.evolve(component, **values)  # type: ignore[misc]


ALWAYS = Timing()
