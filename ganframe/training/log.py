"""The training log: means over the steps since the last line, in log.jsonl and in trackers."""

from __future__ import annotations

import ctypes
import math
import time
from collections.abc import Callable, Iterable
from typing import Any

import torch
from torch.nn.utils import get_total_norm

from ganframe.engine.state import Callback, Logs, State
from ganframe.storage.log import Record

Sums = dict[str, tuple[float, int]]
"""Name -> sum and number of summands."""


class LogMeans:
    """Means of what the steps since the last line reported, as a callback of each step.

    The values stay on the device until `fold` reads them. What a step did not report, as a penalty that is not due,
    does not count in its mean. `gather` returns the sums of all processes; `first` is true in the first of them.
    """

    def __init__(self, gather: Callable[[Sums], list[Sums]] = lambda own: [own], first: bool = True) -> None:
        self.gather, self.first = gather, first
        self.kept: list[Logs] = []
        self.sums: Sums = {}

    def __call__(self, state: State) -> None:
        self.kept.append(dict(state.latest))  # other callbacks may change it

    def fold(self, step: int) -> str | None:
        """Adds what was reported up to `step` to the sums. Returns a message for the first non-finite value, or None.

        Reads from the device, once.
        """
        kept, self.kept = self.kept, []
        names = dict.fromkeys(name for logs in kept for name in logs)
        if not names:
            return None
        values = {name: [logs[name] for logs in kept if name in logs] for name in names}
        means = [_means(reported) for reported in values.values()]
        # Summed in double precision: then it does not matter how a resumed run groups the steps.
        read = torch.cat(means).cpu().double()
        parts = read.split([len(mean) for mean in means])
        new = {name: (part.sum().item(), len(part)) for name, part in zip(values, parts, strict=True)}
        self.sums = _added([self.sums, new])
        finite = all(math.isfinite(value) for value in read.tolist())  # for few numbers quicker than torch's own
        return None if finite else _first_non_finite(kept, step)

    def take(self, step: int) -> dict[str, float]:
        """The means since the last call, over all processes. Called in every process."""
        self.fold(step)
        total, self.sums = _added(self.gather(self.sums)), {}
        return {name: value / count for name, (value, count) in total.items()}

    def state_dict(self) -> dict[str, Any]:
        """The sums over all processes, which the first one then holds. Called in every process, after `fold`."""
        state = {"sums": _added(self.gather(self.sums))}
        self.load_state_dict(state)
        return state

    def load_state_dict(self, state: dict[str, Any]) -> None:
        self.kept = []
        self.sums = dict(state["sums"]) if self.first else {}


def _means(reported: list[torch.Tensor]) -> torch.Tensor:
    """The mean of each of the values that steps reported, in float32."""
    rows = torch.stack(reported).float()
    return rows if rows.ndim == 1 else rows.flatten(1).mean(1)


def _added(parts: Iterable[Sums]) -> Sums:
    """The sums of several, which need not have the same names."""
    total: Sums = {}
    for part in parts:
        for name, (value, count) in part.items():
            before, number = total.get(name, (0.0, 0))
            total[name] = before + value, number + count
    return total


def _first_non_finite(kept: list[Logs], step: int) -> str | None:
    """The step, name and value. None where only a mean overflowed."""
    for at, logs in enumerate(kept, step - len(kept) + 1):
        for name, value in logs.items():
            wrong = value[~value.isfinite()]
            if len(wrong):
                return f"step {at}: {name} is {wrong[0].item()}"
    return None


def rates_and_norms(state: State) -> dict[str, float]:
    """The learning rates of this step, and the norms of the gradients that its last updates have descended along.

    Of a player with several groups of weights, the rate is that of the first. In fp16 there are no norms, as gradients
    are scaled.
    """
    found: dict[str, float] = {}
    for name, player in (("discriminator", state.D), ("generator", state.G)):
        gradients = [p.grad for p in player.parameters if p.grad is not None]
        if gradients and state.scaler is None:
            found[f"gradient_norm_{name}"] = get_total_norm(gradients).item()
        if player.optimizer.param_groups:
            found[f"lr_{name}"] = float(player.optimizer.param_groups[0]["lr"])
    return found


def write_line(
    means: LogMeans, records: list[Record], append: Callable[[Record], None], track: Callable[..., None]
) -> Callback:
    """A callback that makes a record of the means, `rates_and_norms` and the time, for `records`, a file and trackers.

    Called in every process; `append` does nothing except in the first one.
    """
    begun = time.monotonic() - (records[-1]["seconds"] if records else 0.0)

    def callback(state: State) -> None:
        # Rounded to float32, so that a resumed run, which added the values in other groups, writes the same numbers.
        values = {name: ctypes.c_float(mean).value for name, mean in means.take(state.step).items()}
        values |= rates_and_norms(state)
        finite = {name: value if math.isfinite(value) else None for name, value in values.items()}  # JSON has no NaN
        record = {"step": state.step, **finite, "seconds": round(time.monotonic() - begun, 3)}
        records.append(record)
        append(record)
        track(values, step=state.step)

    return callback
