"""Whether several processes on CPUs are faster than one would be."""

from __future__ import annotations

import time

from torch import Tensor

from ganframe.engine.state import Callback, State
from ganframe.errors import warn

FIRST, LAST = 2, 22
"""Steps of this process that are measured, counted from its first: that one is slower than the others."""


def warn_without_gain(state: State, processes: int) -> Callback:
    """Measures some of the first steps, and warns where averaging gradients takes longer than the processes save.

    With n processes a step computes for at least 1/n of the time that one process would compute. So all of them
    together are slower than one where averaging takes more than 1 - 1/n of a step. It is measured on the CPU only: on a
    GPU, calls return before their work is done.
    """
    average, seen, spent, begun = state.average, 0, 0.0, 0.0
    assert average is not None

    def timed(tensors: list[Tensor]) -> None:
        nonlocal spent
        start = time.perf_counter()
        average(tensors)
        spent += time.perf_counter() - start

    def callback(state: State) -> None:
        nonlocal seen, spent, begun
        seen += 1
        if seen == FIRST:
            spent, begun, state.average = 0.0, time.perf_counter(), timed
        elif seen == LAST:
            state.average = average
            if (share := spent / (time.perf_counter() - begun)) > 1 - 1 / processes:
                warn(
                    f"averaging gradients over {processes} processes takes {share:.0%} of a step: these networks are "
                    "too small to gain from several processes on CPUs, and one process would be faster"
                )

    return callback
