"""At which steps a run draws pictures and saves checkpoints."""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import NamedTuple

from accelerate.utils import broadcast_object_list

from ganframe.recipes.tables import Log, Train

STEPS = 500  # between two pictures or checkpoints, at least, where a recipe does not say
SECONDS = 30.0  # between them, at least, once a run has taken so long
FIRST = 50  # the step of a first picture


class Cadence:
    """The steps at which something is due, as a function of the step: each `every`-th, and the `last` one.

    Where `every` is None, the clock decides: it is due at the step `first`, and at a multiple of STEPS once SECONDS
    have passed since the last time, or as many as the run had taken by then: often in the beginning, for those who
    watch. `agree` gives all processes the answer of the first one. Nothing that is trained may depend on it.
    """

    def __init__(
        self,
        every: int | None,
        last: int,
        first: int | None = None,
        agree: Callable[[bool], bool] = lambda due: due,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self.every, self.last, self.first, self.agree, self.clock = every, last, first, agree, clock
        self.begun = self.latest = clock()
        self.asked, self.answer = 0, False

    def may_be_due(self, step: int) -> bool:
        """Whether it can be due at a step, whatever the clock says."""
        return step % (self.every or STEPS) == 0 or step == self.last or (self.every is None and step == self.first)

    def __call__(self, step: int) -> bool:
        """Whether it is due at a step: the same answer each time it is asked. Asked in every process."""
        if not self.may_be_due(step):
            return False
        if self.every is not None or step in (self.first, self.last):
            return True
        if step != self.asked:
            now = self.clock()
            self.asked, self.answer = step, self.agree(now - self.latest >= min(SECONDS, self.latest - self.begun))
            if self.answer:
                self.latest = now
        return self.answer


class Cadences(NamedTuple):
    """Those of a run."""

    pictures: Cadence
    checkpoints: Cadence


def cadences(train: Train, log: Log) -> Cadences:
    """Those that a recipe asks for. Their clock starts now."""

    def agree(due: bool) -> bool:
        return bool(broadcast_object_list([due])[0])

    # A rollback returns to a checkpoint, and goes on from where the fault was found: neither may depend on a clock.
    steps = STEPS if train.on_nonfinite == "rollback" else None
    pictures = Cadence(log.samples_every or steps, train.steps, FIRST, agree)
    return Cadences(pictures, Cadence(log.checkpoint_every or steps, train.steps, None, agree))
