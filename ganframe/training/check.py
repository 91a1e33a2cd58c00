"""Checks that a recipe trains, by a few real steps that are thrown away."""

from __future__ import annotations

import math
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from fractions import Fraction
from pathlib import Path

import attrs
import torch

from ganframe.components import DataSpec
from ganframe.declarations import growth
from ganframe.engine.algorithm import train
from ganframe.errors import RecipeError, RunError, note
from ganframe.recipes.problems import is_out_of_memory, lost_worker, no_memory
from ganframe.recipes.tables import Recipe
from ganframe.training import health
from ganframe.training.accelerator import process_state_kept
from ganframe.training.callbacks import draw_pictures
from ganframe.training.compatibility import LateState, refuse_late_state
from ganframe.training.describe import device_name, parameters
from ganframe.training.heeding import Heeding
from ganframe.training.moving_average import decay_at
from ganframe.training.prepare import prepare
from ganframe.training.trainer import Trainer

SMALL = 0.05  # seconds of a step, below which one thread may do better than several


@attrs.frozen
class CheckResult:
    """What `check` found. Seconds are for one generator step with its discriminator steps, of networks
    as large as they grow; memory is in bytes, a picture of samples included, or None where the system does not tell it.

    `full_decay_at` is the step at which the moving average reaches its decay, or None without a moving average.
    `heeding` says which players heed y, or is None where all samples have the same. `threads` are those of this
    process, and `one_thread` is the share of their time that a step takes with one thread: None where that was not
    measured, on a GPU and where a step takes long.
    """

    spec: DataSpec
    device: str
    generator_parameters: int
    discriminator_parameters: int
    seconds_per_step: float
    seconds: float
    memory: int | None
    full_decay_at: int | None
    heeding: Heeding | None
    threads: int
    one_thread: float | None


@process_state_kept()
def check(recipe: Recipe) -> CheckResult:
    """Builds everything and takes real steps, which are thrown away. Raises RequestError as `run` does."""
    trainer = prepare(recipe)
    state = trainer.state
    note(f"{recipe.name}: built; taking a few steps on {device_name(state.device)}")

    def steps(count: int) -> float:
        begun = time.perf_counter()
        train(state, state.step + count, recipe.train.critic_steps)
        _ = {name: value.float().mean().item() for name, value in state.latest.items()}  # waits for the device
        return time.perf_counter() - begun

    def draw() -> None:
        with tempfile.TemporaryDirectory() as folder:
            draw_pictures(trainer, lambda step: Path(folder) / "picture.png")(state)

    with failures(recipe):
        first = steps(1)
        start = step_with_all_parts(trainer)
        if start:  # parts that start later are tried too, and the time is that with all of them
            state.step = start
            first = max(first, steps(1))
        refuse_late_state(trainer.state_keys, state.game)
        draw()
    each = first if first > 2 else min(steps(2) / 2 for _ in range(3))
    one_thread = one_thread_share(steps, each) if state.device.type == "cpu" else None
    with failures(recipe):
        health.Watch(trainer.means, 1, lambda step: True, lambda found: found)(state)
    return CheckResult(
        spec=trainer.spec,
        device=device_name(state.device),
        generator_parameters=parameters(state.G.network),
        discriminator_parameters=parameters(state.D.network),
        seconds_per_step=each,
        seconds=each * recipe.train.steps,
        memory=peak_memory(state.device),
        full_decay_at=_full_decay_at(recipe),
        heeding=trainer.heeding,
        threads=torch.get_num_threads(),
        one_thread=one_thread,
    )


def one_thread_share(steps: Callable[[int], float], each: float) -> float | None:
    """The time of steps with one thread, as a share of that with all of this process, by turns; the best of each.

    `steps` takes some steps and returns the seconds; `each` is about how many one takes. None where there is one thread
    only, and where a step takes so long that several threads have enough to do.
    """
    threads = torch.get_num_threads()
    if threads == 1 or each > SMALL:
        return None
    count = max(1, round(SMALL / each))
    single, several = [], []
    try:
        for _ in range(5):
            torch.set_num_threads(1)
            single.append(steps(count))
            torch.set_num_threads(threads)
            several.append(steps(count))
    finally:
        torch.set_num_threads(threads)
    return min(single) / min(several)


def step_with_all_parts(trainer: Trainer) -> int:
    """The first generator step with every part of the recipe, and with networks as large as they grow in the run."""
    recipe, game = trainer.recipe, trainer.state.game
    starts = [timing.start for timing in recipe.timing.values()]
    grown = [step for network in (game.G, game.D) for step in growth(network) if step < recipe.train.steps]
    return max([*starts, *grown], default=0)


@contextmanager
def failures(recipe: Recipe) -> Iterator[None]:
    """Turns what trial steps fail for into RecipeError or RunError, with the recipe's name."""
    try:
        yield
    except LateState as fault:
        raise RecipeError([f"{recipe.title}: {fault}"]) from None
    except health.NotFinite as fault:
        raise RunError(f"{recipe.title}: {fault}") from None
    except (MemoryError, RuntimeError) as error:
        if (lost := lost_worker(error)) is not None:
            raise RunError(f"{recipe.title}: {lost}") from error
        if not is_out_of_memory(error):
            raise
        raise RunError(f"{recipe.title}: {no_memory(recipe.train.batch_size)}") from error


def peak_memory(device: torch.device) -> int | None:
    """The most memory, in bytes, that torch has held on a GPU, or the process on a CPU; None where it is unknown."""
    return torch.cuda.max_memory_allocated() if device.type == "cuda" else _largest_memory()


def _largest_memory() -> int | None:
    """The most memory that the process has held, in bytes, or None where the system does not tell it."""
    try:
        import resource
    except ModuleNotFoundError:  # on Windows
        return None
    largest = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return largest if sys.platform == "darwin" else largest * 1024  # macOS counts bytes, others KiB


def _full_decay_at(recipe: Recipe) -> int | None:
    """The first step t with (1 + t) / (warmup + t) ≥ decay, that of the last step where it is a ramp."""
    if recipe.train.ema is None:
        return None
    last = decay_at(recipe.train.ema, recipe.train.steps)
    decay = Fraction(str(last))  # as it is written: 1 - 0.99999 in floats is off by a step
    return max(1, math.ceil((recipe.train.ema_warmup * decay - 1) / (1 - decay)))
