"""How fast recipes train: steps a second, the time of each phase, operations a second, memory; two recipes interleaved.

A recipe is prepared as for a run and trains with all that is done between steps, in a temporary folder. Rounds of plain
steps, which give the speed, alternate with rounds whose phases are timed, and with those of the other recipe, because
the speed of a machine drifts.
"""

from __future__ import annotations

import math
import statistics
import tempfile
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

import attrs
import torch

from ganframe.analysis.flops import counted_flops, peak_flops
from ganframe.analysis.phases import Clock, milliseconds, moment, timed, timed_callbacks
from ganframe.engine.algorithm import train
from ganframe.engine.compiled import COMPARED, CompiledIteration
from ganframe.engine.recording import NotCompilable
from ganframe.engine.state import Callback, State
from ganframe.errors import RecipeError, RequestError, note
from ganframe.recipes.tables import Recipe
from ganframe.storage.run_folder import RunFolder, add_missing_folders
from ganframe.training import checkpoint
from ganframe.training.accelerator import process_state_kept, single_device
from ganframe.training.background import Writer
from ganframe.training.callbacks import make_watch, standard_callbacks
from ganframe.training.check import failures, peak_memory, step_with_all_parts
from ganframe.training.compiling import compiled_iteration
from ganframe.training.describe import describe_run, device_name
from ganframe.training.prepare import prepare
from ganframe.training.scores import Scores
from ganframe.training.trainer import Trainer

SECONDS = 10.0  # of measuring, by default
ROUND = 0.25  # seconds
ROUNDS = 20  # of each kind at most where a number of steps is given
COUNTED = 64  # steps at most in which operations are counted


@attrs.frozen
class Spread:
    """The median and the quartiles of what the rounds found."""

    low: float
    median: float
    high: float

    @classmethod
    def of(cls, values: Sequence[float]) -> Spread:
        if len(values) == 1:
            return cls(values[0], values[0], values[0])
        return cls(*statistics.quantiles(values, n=4, method="inclusive"))


@attrs.frozen
class Benchmark:
    """How fast a recipe trains. A step is one of the generator with its discriminator steps and what follows it.

    `milliseconds` are those of a step, by rounds, and `steps_per_second` the mean over all of them, with rare things as
    pictures. `samples_per_second` counts the real samples that D sees. `phases` are milliseconds of a step by phase,
    which add up to a step whose phases are timed; None for a compiled step, which has none. `flops` are those of matrix
    products and convolutions in a step, `peak_flops` those a second that a large product reaches on this device, in
    this precision. `memory` is the most that was held, in bytes, or None where it is unknown or of two recipes at once.
    """

    recipe: str
    device: str
    threads: int
    precision: str
    compiled: bool
    steps: int
    rounds: int
    milliseconds: Spread
    steps_per_second: float
    samples_per_second: float
    phases: dict[str, float] | None
    flops: float
    flops_per_second: float
    peak_flops: float
    share_of_peak: float
    memory: int | None


@attrs.frozen
class Comparison:
    """Two recipes whose rounds were interleaved. `ratio` is the second one's time of a step to that of the first."""

    first: Benchmark
    second: Benchmark
    ratio: Spread


@process_state_kept()
def bench(recipe: Recipe, seconds: float = SECONDS, steps: int | None = None) -> Benchmark:
    """Measures how fast a recipe trains, for about `seconds` or in `steps` steps. Writes nothing.

    Raises RequestError as `run` does, and where the recipe has too few steps.
    """
    with _contestant(recipe) as contestant:
        _measure([contestant], seconds, steps)
        memory = peak_memory(contestant.trainer.state.device)
        return contestant.found(memory)


@process_state_kept()
def compare(recipe: Recipe, other: Recipe, seconds: float = SECONDS, steps: int | None = None) -> Comparison:
    """Measures two recipes in turn, each for about `seconds` or in `steps` steps. Raises as `bench` does."""
    with _contestant(recipe) as first, _contestant(other) as second:
        _measure([first, second], seconds, steps)
        ratios = [theirs / ours for ours, theirs in zip(first.plain, second.plain, strict=True)]
        return Comparison(first.found(None), second.found(None), Spread.of(ratios))


@attrs.define(eq=False)
class _Contestant:
    """A recipe that is being measured: milliseconds of a step in each round, and those of its phases."""

    trainer: Trainer
    callbacks: list[Callback]
    iteration: CompiledIteration | None
    flops: float = 0.0
    each: float = 0.0  # seconds of a step, roughly
    size: int = 1  # steps a round
    plain: list[float] = attrs.field(factory=list)
    phases: list[dict[str, float]] = attrs.field(factory=list)

    @property
    def left(self) -> int:
        """Steps before the recipe's last one, after which a run does what belongs to its end."""
        return self.trainer.recipe.train.steps - 1 - self.trainer.state.step

    @property
    def compiled(self) -> bool:
        """Whether the step is a compiled graph, as far as has been seen."""
        return self.iteration is not None and any(self.iteration.graphs.values())

    def warm_up(self) -> None:
        """Steps that are not measured: in the first ones operations are counted, in others the step is compiled."""
        recipe, state = self.trainer.recipe, self.trainer.state
        state.step = step_with_all_parts(self.trainer)
        period = min(math.lcm(*(timing.every for timing in recipe.timing.values())), COUNTED)
        counted = min(period, max(1, self.left))
        self.flops = counted_flops(lambda: self._train(counted, (), plain=True)) / counted
        before = period * COMPARED if self.iteration is not None else 0
        self.each = self._train(min(1 + before, max(1, self.left)), self.callbacks)
        if self.left > 2 and (before or self.each < 2):
            self.each = self._train(1, self.callbacks)
        if self.left < 2:
            raise RequestError(
                f"{recipe.title}: train.steps: {recipe.train.steps} are too few to measure; --set train.steps=1000"
            )

    def round(self) -> None:
        """Some plain steps."""
        self.plain.append(self._train(self.size, self.callbacks) / self.size * 1e3)

    def timed_round(self) -> None:
        """As many steps with their phases, which a compiled one has not."""
        if self.compiled:
            return
        state = self.trainer.state
        clock = Clock(state.device)
        with failures(self.trainer.recipe), timed(state, clock):
            clock.enter(clock.phase)
            train(state, state.step + self.size, self._critic_steps, timed_callbacks(self.callbacks, clock))
        self.phases.append({phase: total / self.size for phase, total in clock.totals().items()})

    def found(self, memory: int | None) -> Benchmark:
        recipe, state = self.trainer.recipe, self.trainer.state
        mean = statistics.mean(self.plain) / 1e3
        peak = peak_flops(state.device, state.game.autocast)
        names = self.phases[0] if self.phases else ()
        return Benchmark(
            recipe=recipe.title,
            device=device_name(state.device),
            threads=torch.get_num_threads(),
            precision=recipe.train.precision,
            compiled=self.compiled,
            steps=self.size * (len(self.plain) + len(self.phases)),
            rounds=len(self.plain),
            milliseconds=Spread.of(self.plain),
            steps_per_second=1 / mean,
            samples_per_second=recipe.train.batch_size * self._critic_steps / mean,
            phases={name: statistics.mean(phases[name] for phases in self.phases) for name in names} or None,
            flops=self.flops,
            flops_per_second=self.flops / mean,
            peak_flops=peak,
            share_of_peak=self.flops / mean / peak,
            memory=memory,
        )

    @property
    def _critic_steps(self) -> int:
        return self.trainer.recipe.train.critic_steps

    def _train(self, count: int, callbacks: Sequence[Callback], plain: bool = False) -> float:
        """Trains for some steps, or for as many without a compiled one; the seconds that they took."""
        state, title = self.trainer.state, self.trainer.recipe.title
        begin = moment(state.device)
        try:
            with failures(self.trainer.recipe):
                iteration = None if plain else self.iteration
                train(state, state.step + count, self._critic_steps, callbacks, iteration)
        except NotCompilable as fault:
            raise RecipeError([f"{title}: train.compile: {fault}"]) from None
        return milliseconds(begin, moment(state.device)) / 1e3


@contextmanager
def _contestant(recipe: Recipe) -> Iterator[_Contestant]:
    """A recipe made ready to be measured. What a run would write lies in a temporary folder meanwhile."""
    single_device()  # raises RequestError for several processes
    trainer = prepare(recipe)
    with tempfile.TemporaryDirectory() as path:
        folder, watch, writer = RunFolder(Path(path)), make_watch(trainer), Writer()
        add_missing_folders(folder)
        describe_run(trainer, folder)

        def save(state: State) -> None:
            checkpoint.save(trainer, folder, watch, scores, writer)

        scores = None if trainer.judge is None else Scores(trainer, folder, save)
        callbacks = standard_callbacks(trainer, folder, [], watch, save, scores, writer)
        try:
            yield _Contestant(trainer, callbacks, compiled_iteration(trainer, folder))
        finally:
            writer.close()


def _measure(contestants: list[_Contestant], seconds: float, steps: int | None) -> None:
    """Warms up, then has rounds of all contestants alternate."""
    for contestant in contestants:
        recipe = contestant.trainer.recipe
        note(f"{recipe.name}: built; measuring on {device_name(contestant.trainer.state.device)}")
        contestant.warm_up()
        wanted = max(1, round(ROUND / contestant.each)) if steps is None else max(1, steps // (2 * ROUNDS))
        contestant.size = min(wanted, contestant.left // 2)
    until = time.monotonic() + seconds * len(contestants)
    taken = 0
    while taken == 0 or all(contestant.left >= 2 * contestant.size for contestant in contestants):
        for contestant in contestants if taken % 2 == 0 else reversed(contestants):
            contestant.round()
        for contestant in contestants:
            contestant.timed_round()
        taken += 1
        if time.monotonic() > until if steps is None else 2 * taken * contestants[0].size >= steps:
            break
