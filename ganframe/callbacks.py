"""What happens between steps: moving averages, schedules, metrics, pictures, a progress bar, a clean stop.

Each is a plain function of the engine's state, or makes one. They read from the device only when they are due.
"""

from __future__ import annotations

import json
import math
import signal
import sys
import threading
import time
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path
from types import FrameType
from typing import Any

import torch
from torch import Tensor, nn
from torch.optim.lr_scheduler import LRScheduler
from torch.optim.swa_utils import AveragedModel, get_ema_multi_avg_fn

from ganframe import pictures
from ganframe.components import DataSpec
from ganframe.engine import Callback, State


class Interrupted(Exception):
    """The run was asked to stop, and did so between two steps."""


def every(n: int, last: int, act: Callback) -> Callback:
    """Calls `act` at each n-th step and at step `last`."""

    def callback(state: State) -> None:
        if state.step % n == 0 or state.step == last:
            act(state)

    return callback


def advance(schedules: Iterable[LRScheduler]) -> Callback:
    """Learning-rate schedules: one step of each per generator step."""
    schedules = tuple(schedules)

    def callback(state: State) -> None:
        for schedule in schedules:
            schedule.step()

    return callback


def moving_average(network: nn.Module) -> AveragedModel:
    """A copy of `network` for `average_into`: parameters and floating buffers are averaged, other buffers copied."""
    return AveragedModel(network, use_buffers=True).eval().requires_grad_(False)


def average_into(averaged: AveragedModel, decay: float) -> Callback:
    """The exponential moving average of G's weights, and of BatchNorm's statistics, which belong to the weights.

    The decay grows as (1 + t) / (10 + t) up to `decay`, so that a short run does not carry its first weights along.
    """

    def callback(state: State) -> None:
        averaged.multi_avg_fn = get_ema_multi_avg_fn(min(decay, (1 + state.step) / (10 + state.step)))
        averaged.update_parameters(state.G.network)
        for buffer, live in zip(averaged.module.buffers(), state.G.network.buffers(), strict=True):
            if not buffer.is_floating_point():
                buffer.copy_(live)

    return callback


# ------------------------------------------------------------------------------------------------------------- metrics


def record_metrics(
    records: list[dict[str, Any]], file: Path | None, reduce: Callable[[Tensor], Tensor], track: Callable[..., None]
) -> Callback:
    """Reads `state.latest` from the device into one record; appends it to `records`, `file` and the trackers.

    `reduce` averages over processes and is called in each of them; `file` is None but in the first.
    """
    begun = time.monotonic() - (records[-1]["seconds"] if records else 0.0)

    def callback(state: State) -> None:
        means = torch.stack([value.detach().float().mean() for value in state.latest.values()])
        values = dict(zip(state.latest, reduce(means).tolist(), strict=True))
        finite = {name: value if math.isfinite(value) else None for name, value in values.items()}  # JSON has no NaN
        record = {"step": state.step, **finite, "seconds": round(time.monotonic() - begun, 3)}
        records.append(record)
        if file is not None:
            with file.open("a", encoding="utf-8") as lines:
                lines.write(json.dumps(record) + "\n")
        track(values, step=state.step)

    return callback


# ------------------------------------------------------------------------------------------------------------ pictures


def draw_samples(
    network: nn.Module,
    spec: DataSpec,
    z: Tensor,
    y: Tensor,
    real: Tensor,
    file: Callable[[int], Path],
    look: Callable[[Tensor, Tensor, int], None] = lambda fake, real, step: None,
) -> Callback:
    """A picture of `network`'s samples from fixed latents, with the critic's view of the plane or the line.

    `look` is shown the samples too, beside real ones.
    """

    def callback(state: State) -> None:
        D = state.D.network

        def scores(x: Tensor) -> Tensor:
            return D(x.to(state.device), y.new_zeros(len(x)))

        with torch.no_grad(), evaluation(network, D):
            fakes = network(z, y)
            look(fakes, real, state.step)
            pictures.draw(file(state.step), spec, fakes, real, scores)

    return callback


@contextmanager
def evaluation(*networks: nn.Module) -> Iterator[None]:
    """The networks in evaluation mode meanwhile."""
    modes = [network.training for network in networks]
    for network in networks:
        network.eval()
    try:
        yield
    finally:
        for network, mode in zip(networks, modes, strict=True):
            network.train(mode)


# ------------------------------------------------------------------------------------------------------------ progress


@contextmanager
def progress(steps: int, done: int, records: list[dict[str, Any]], shown: bool) -> Iterator[Callback]:
    """A bar with losses and time left on a terminal; elsewhere a line now and then. Gives the callback for it."""
    if not shown:
        yield lambda state: None
        return
    if not sys.stderr.isatty():
        yield _lines(steps, done, records)
        return
    from rich.console import Console
    from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

    columns = (BarColumn(), MofNCompleteColumn(), TimeRemainingColumn(), TextColumn("{task.fields[losses]}"))
    with Progress(*columns, console=Console(stderr=True), auto_refresh=False) as bar:
        task = bar.add_task("", total=steps, completed=done, losses="")
        due = 0.0

        def callback(state: State) -> None:
            nonlocal due
            now = time.monotonic()
            if now >= due or state.step == steps:
                due = now + 0.25
                bar.update(task, completed=state.step, losses=_losses(records), refresh=True)

        yield callback


def _lines(steps: int, done: int, records: list[dict[str, Any]]) -> Callback:
    begun = time.monotonic()
    due = begun + 10

    def callback(state: State) -> None:
        nonlocal due
        now = time.monotonic()
        if now >= due or state.step == steps:
            due = now + 10
            left = (now - begun) / max(1, state.step - done) * (steps - state.step)
            print(f"step {state.step}/{steps}  {_losses(records)}  {left:.0f} s left", file=sys.stderr, flush=True)

    return callback


def _losses(records: list[dict[str, Any]]) -> str:
    if not records:
        return ""
    shown = {"D": "loss_discriminator", "G": "loss_generator"}
    last = {player: records[-1].get(key) for player, key in shown.items()}
    return "  ".join(f"loss {player} {'not finite' if v is None else f'{v:+.3f}'}" for player, v in last.items())


# ---------------------------------------------------------------------------------------------------------- interrupts


@contextmanager
def interrupts(agree: Callable[[bool], bool], save: Callback) -> Iterator[Callback]:
    """Turns SIGINT and SIGTERM into a stop between two steps; a second signal ends the process at once.

    Gives the callback that stops: it calls `save`, then raises Interrupted. `agree` says whether any process was
    asked to stop.
    """
    asked = False

    def ask(number: int, frame: FrameType | None) -> None:
        nonlocal asked
        if asked:
            signal.signal(number, signal.SIG_DFL)
            signal.raise_signal(number)
        asked = True

    def callback(state: State) -> None:
        if agree(asked):
            save(state)
            raise Interrupted

    if threading.current_thread() is not threading.main_thread():
        yield callback  # Python delivers signals to the main thread alone
        return
    before = {number: signal.signal(number, ask) for number in (signal.SIGINT, signal.SIGTERM)}
    try:
        yield callback
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
