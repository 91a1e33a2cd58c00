"""What happens between steps: health, schedules, log, pictures, checkpoints."""

from __future__ import annotations

import functools
import warnings
from collections.abc import Callable, Iterable, Mapping
from contextlib import nullcontext, suppress
from pathlib import Path

import torch
from torch import Tensor, nn
from torch.optim.lr_scheduler import LRScheduler

from ganframe.components import DataSpec
from ganframe.data.latents import fixed_latents
from ganframe.data.randomness import own_random_state
from ganframe.data.real import at_most, real_samples
from ganframe.data.seeds import derive_seeds
from ganframe.declarations import group_size, mean_scores
from ganframe.engine.state import Callback, State
from ganframe.errors import RunError
from ganframe.recipes.optimizers import Optimizer
from ganframe.report import curves, pictures
from ganframe.report.curves import Line
from ganframe.storage import log
from ganframe.storage.files import write_atomically
from ganframe.storage.log import Record
from ganframe.storage.run_folder import RunFolder
from ganframe.training import health
from ganframe.training.background import Writer
from ganframe.training.compatibility import refuse_late_state
from ganframe.training.log import write_line
from ganframe.training.networks import evaluation, in_parts
from ganframe.training.page import rewrite_page
from ganframe.training.points import has_points, keep_points
from ganframe.training.scores import Scores
from ganframe.training.trackers import track_pictures
from ganframe.training.trainer import Trainer

BESIDE = 24  # samples in a picture where each is beside its condition and a real sample
WIDEST = 3_072  # pixels along a side of a grid of images, unless two of them have more


def standard_callbacks(
    trainer: Trainer,
    folder: RunFolder,
    records: list[Record],
    watch: health.Watch,
    save: Callback,
    scores: Scores | None,
    writer: Writer | None = None,
) -> list[Callback]:
    """What a recipe wants done between steps: watch, schedules, log, scores, pictures, checkpoints.

    With a `writer`, the files of pictures are written in its thread where that helps.
    """
    accelerator, settings, log_settings = trainer.accelerator, trainer.recipe.train, trainer.recipe.log
    main = accelerator.is_main_process
    append = functools.partial(log.append_record, folder) if main else lambda record: None
    write = write_line(trainer.means, records, append, accelerator.log)
    # Before schedules advance, so that the log has the learning rates of the step.
    due: list[Callback] = [watch, every(log_settings.every, settings.steps, write)]
    trackers = accelerator.trackers
    if trainer.schedules:
        due.append(advance(trainer.schedules.values()))
    if any(config.ramps for config, _ in trainer.optimizers):
        due.append(move_options(trainer.optimizers))
    if scores is not None:
        due.append(scores)
    # Trackers take pictures in the order of their steps, so none are written in a thread then.
    draw = draw_pictures(trainer, folder.samples, None if trackers else writer) if main else _nothing
    if main and trackers:
        draw = in_turn(draw, track_pictures(trackers, folder.samples))
    due.append(when(trainer.cadences.pictures, draw))  # asked in every process, which agree on the answer
    if main and has_points(trainer.spec):
        due.append(when(trainer.cadences.pictures, keep_points(trainer, folder.points)))
    due.append(when(trainer.cadences.checkpoints, save))
    if main and log_settings.report_every is not None:
        due.append(every(log_settings.report_every, settings.steps, rewrite_page(folder, writer)))
    return due


def refuse_late_state_of_first_step(trainer: Trainer) -> Callback:
    """Raises LateState after the first step where it has created weights or buffers, before anything is saved."""

    def callback(state: State) -> None:
        if state.step == 1:
            refuse_late_state(trainer.state_keys, state.game)

    return callback


def make_watch(trainer: Trainer) -> health.Watch:
    """The watch that checks wherever anything of a step is stored."""
    steps, log_settings = trainer.recipe.train.steps, trainer.recipe.log
    often = {log_settings.every, *(entry.every for entry in trainer.recipe.metrics if entry.every is not None)}
    pictures, saved = trainer.cadences

    def stored(step: int) -> bool:
        return any(step % every == 0 for every in often) or step == steps or pictures(step) or saved(step)

    agree = functools.partial(trainer.accelerator.reduce, reduction="sum")
    tell = trainer.accelerator.is_main_process
    return health.Watch(trainer.means, log_settings.every, stored, agree, tell)


def draw_pictures(trainer: Trainer, file: Callable[[int], Path], writer: Writer | None = None) -> Callback:
    """Draws samples of the same latents each time, beside real samples; where data has conditions, of the same ones.

    `file` is the picture of a step. Samples are made in parts no larger than a training step's, and fewer are drawn
    where they are large, so that a picture needs no more memory than training does.
    """
    spec, recipe, state = trainer.spec, trainer.recipe, trainer.state
    seed, points = derive_seeds(recipe.seed).judging, not spec.is_image
    shown = number_shown(spec)
    count = at_most(1000 if points else min(1000, recipe.train.batch_size), spec)
    if spec.condition is not None:
        count = max(count, shown)
    try:
        real, conditions = (side.cpu() for side in real_samples(trainer.judged, spec, count, seed, state.device))
    except ValueError as error:  # of data that is read item by item only a part was checked before
        raise RunError(f"{recipe.title}: dataset: {error}") from None
    if pictures.shows_conditions(spec):
        shown = min(shown, len(real))
    z, y = fixed_latents(recipe.latent, spec, shown, seed, conditions)
    if spec.classes and not points:
        deaf = trainer.heeding is not None and not trainer.heeding.generator
        y = spec.blank(len(z)) if deaf else torch.arange(len(z)) % spec.classes
    part = max(1, state.generator_batch_size // state.accumulate)
    with torch.no_grad(), own_random_state(seed, state.device), evaluation(trainer.sampled):
        watch = health.CollapseWatch(in_parts(trainer.sampled, part, state.device, z, y))
    return draw_samples(trainer.sampled, spec, z, y, real, file, watch, part, seed, writer)


def draw_run_curves(folder: RunFolder, name: str, records: list[Record], scores: Mapping[str, Line]) -> None:
    """Writes curves.png of a run's log and of the scores of its metrics, where there are two points to connect.

    `name` is that of its recipe: the picture of equal runs is the same in any folder.

    Called once, at the end. Left out where it cannot be written, as on a full disk: no run is lost for it.
    """
    if len(records) < 2:
        return
    panels = curves.of_run(records, scores)
    with suppress(OSError):
        write_atomically(folder.curves, lambda partial: curves.draw_curves(partial, panels, name))


def number_shown(spec: DataSpec) -> int:
    """The number of generated samples in a picture: fewer where they are large."""
    if not spec.is_image:
        return at_most(2000, spec)
    # A square grid. Where the number of classes suits its width, each column is of one class.
    columns = spec.classes * max(1, 8 // spec.classes) if spec.classes and 2 <= spec.classes <= 12 else 8
    columns = min(columns, max(2, WIDEST // max(spec.shape[1:])))
    return min(BESIDE, columns**2) if pictures.shows_conditions(spec) else columns**2


def every(n: int, last: int, act: Callback) -> Callback:
    """Calls `act` at every n-th step and at the step `last`."""

    def callback(state: State) -> None:
        if state.step % n == 0 or state.step == last:
            act(state)

    return callback


def when(due: Callable[[int], bool], act: Callback) -> Callback:
    """Calls `act` at the steps for which `due` says so."""

    def callback(state: State) -> None:
        if due(state.step):
            act(state)

    return callback


def in_turn(*acts: Callback) -> Callback:
    """Calls each of several."""

    def callback(state: State) -> None:
        for act in acts:
            act(state)

    return callback


def _nothing(state: State) -> None:
    pass


def advance(schedules: Iterable[LRScheduler]) -> Callback:
    """Advances learning-rate schedules by one step per generator step."""
    schedules, begun = tuple(schedules), False

    def callback(state: State) -> None:
        nonlocal begun
        # At the first call torch warns of a player that has made no step, as a D that no loss needs.
        with nullcontext() if begun else warnings.catch_warnings():
            if not begun:
                warnings.filterwarnings("ignore", "Detected call of `lr_scheduler.step")
            for schedule in schedules:
                schedule.step()
        begun = True

    return callback


def move_options(optimizers: Iterable[tuple[Optimizer, torch.optim.Optimizer]]) -> Callback:
    """Sets the options of optimisers that move to their values for the next step."""
    optimizers = tuple(optimizers)

    def callback(state: State) -> None:
        for config, optimizer in optimizers:
            config.move(optimizer, state.step)

    return callback


def draw_samples(
    network: nn.Module,
    spec: DataSpec,
    z: Tensor,
    y: Tensor,
    real: Tensor,
    file: Callable[[int], Path],
    inspect: Callable[[Tensor, Tensor, int], None] = lambda fake, real, step: None,
    part: int = 256,
    seed: int = 0,
    writer: Writer | None = None,
) -> Callback:
    """Draws `network`'s samples of fixed latents and y, with D's scores for blank y in the plane or on the line.

    `inspect` is called with the samples, real samples and the step. Networks are called for at most `part` samples at
    a time. `seed` is that of noise inside the networks: it is the same in each picture, and training's random state
    stays as it is. Images are written in the thread of a `writer`, if it is given.
    """

    def later(write: Callable[[], None]) -> None:
        write() if writer is None else writer.give("picture", write)

    def callback(state: State) -> None:
        D = state.D.network

        def scores(x: Tensor) -> Tensor:
            return in_parts(lambda *part: mean_scores(D(*part)), part, state.device, x, spec.blank(len(x)))

        with torch.no_grad(), own_random_state(seed, state.device), evaluation(network, D):
            fakes = in_parts(network, part, state.device, z, y)
            inspect(fakes, real, state.step)
            shown = scores if group_size(D) == 1 else None  # a point has no score of its own
            title = f"Samples at step {state.step:,}"
            pictures.draw(file(state.step), spec, fakes, real, shown, conditions=y, later=later, title=title)

    return callback
