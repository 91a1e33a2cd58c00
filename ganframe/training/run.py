"""Runs: trains a recipe into a run folder, or resumes one."""

from __future__ import annotations

import functools
import itertools
import sys
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager, nullcontext
from pathlib import Path

import attrs
import torch
from accelerate import Accelerator
from accelerate.utils import broadcast_object_list

from ganframe.engine.algorithm import train
from ganframe.engine.recording import NotCompilable
from ganframe.engine.state import Callback, State
from ganframe.errors import RecipeError, RequestError, RunError, counted, note, warn
from ganframe.judging.best import score_curves
from ganframe.recipes.problems import is_out_of_memory, lost_worker, no_memory
from ganframe.recipes.tables import Recipe
from ganframe.report.notebook import run_html
from ganframe.storage import checkpoints, evaluations, log, provenance, run_folder
from ganframe.storage.log import Record
from ganframe.storage.messages import Messages, kept_warnings
from ganframe.storage.run_folder import RunFolder
from ganframe.training import changes, checkpoint, health
from ganframe.training.accelerator import process_state_kept
from ganframe.training.background import Writer
from ganframe.training.cadence import STEPS
from ganframe.training.callbacks import (
    draw_run_curves,
    make_watch,
    refuse_late_state_of_first_step,
    standard_callbacks,
)
from ganframe.training.compatibility import LateState
from ganframe.training.compiling import compiled_iteration
from ganframe.training.describe import describe_run, first_line
from ganframe.training.gain import warn_without_gain
from ganframe.training.interrupts import Interrupted, interrupts
from ganframe.training.page import write_page
from ganframe.training.prepare import prepare
from ganframe.training.progress import progress
from ganframe.training.scores import Scores
from ganframe.training.trainer import Trainer

ROLLBACKS = 3
"""Rollbacks from non-finite values in one run of the program."""


@attrs.frozen
class Run:
    """A finished run: its folder and the records of log.jsonl."""

    folder: Path
    log: list[Record] = attrs.field(repr=lambda log: f"<{counted(len(log), 'record')}>")

    def _repr_html_(self) -> str:
        """What a notebook shows of it: the last means, scores and picture."""
        return run_html(RunFolder(self.folder), self.log)


@process_state_kept()
def run(recipe: Recipe, out: str | Path | None = None, callbacks: Sequence[Callback] = ()) -> Run:
    """Trains as the recipe says, in `out` or the next runs/<name>/<number>/.

    `callbacks` are functions of the engine's State, called after each generator step. Checkpoints and pictures are
    written in a thread meanwhile, so those of a step may appear after its callbacks. torch's random state and other
    state of the process are restored at the end.

    Raises RequestError before anything is written where the recipe cannot be built or the folder cannot be used;
    KeyboardInterrupt after an interrupted run has saved.
    """
    with kept_warnings() as messages:
        return _begin(recipe, out, callbacks, messages)


def _begin(recipe: Recipe, out: str | Path | None, callbacks: Sequence[Callback], messages: Messages) -> Run:
    trainer = prepare(recipe)
    _ = trainer.toml  # raises for a component that no plugin offers, before a folder is made
    main = trainer.accelerator.is_main_process
    if main:
        _ = trainer.fingerprint  # of the data as it is at the start, for the checkpoints
    chosen = [str(run_folder.create(recipe.name, out).path)] if main else [""]
    folder = RunFolder(Path(broadcast_object_list(chosen)[0]))
    try:
        with (
            _reported(trainer, folder, messages),
            run_folder.locked(folder) if main else nullcontext(),
            _failures(folder, trainer.recipe),
        ):
            if main:
                run_folder.refuse_begun(folder)
                describe_run(trainer, folder)
                messages.begin(folder)  # last: a folder with nothing but messages would be taken for a begun run
            return _train(trainer, folder, [], callbacks)
    except (LateState, NotCompilable) as fault:
        if main:
            run_folder.remove(folder)
        place = "" if isinstance(fault, LateState) else "train.compile: "
        raise RecipeError([f"{recipe.title}: {place}{fault}"]) from None


@process_state_kept()
def resume(path: str | Path, overrides: Iterable[str] = (), callbacks: Sequence[Callback] = ()) -> Run:
    """Resumes a run from its newest intact checkpoint, or from the start where it has none yet.

    `overrides` may change how long to train, what to log and where the data lies; other changes would make it another
    run. Damaged checkpoints are named on standard error and set aside. `callbacks` as in `run`.

    Raises RequestError where all checkpoints are damaged, where `overrides` or an edit of recipe.toml change more than
    allowed, where the data is not that of the run, where there is no run, where it has finished, or where another
    process is training in the folder.
    """
    folder = run_folder.existing(path)
    if folder.is_published:
        raise RequestError(
            f"{path}: a published model has no checkpoint to resume from; use train.from to start from it"
        )
    with kept_warnings() as messages:
        return _go_on(folder, overrides, callbacks, messages)


def _go_on(folder: RunFolder, overrides: Iterable[str], callbacks: Sequence[Callback], messages: Messages) -> Run:
    begun = bool(folder.checkpoints())  # else the run of `train.from` is read, as at the first start
    resumed = changes.resumed_recipe(folder, overrides)
    try:
        trainer = prepare(resumed.recipe, start=not begun)
    except RecipeError as error:
        raise RecipeError([*error.problems, *changes.missing_paths(resumed.recipe)]) from None
    main = trainer.accelerator.is_main_process
    if main:
        _ = trainer.fingerprint
    with (
        _reported(trainer, folder, messages),
        run_folder.locked(folder) if main else nullcontext(),
        _failures(folder, trainer.recipe),
    ):
        records = _restore_newest(trainer, folder, resumed)
        if main:
            messages.begin(folder, resumed=trainer.state.step)
            _say_other_threads(trainer, folder)
            describe_run(trainer, folder)
        return _train(trainer, folder, records, callbacks)


def _restore_newest(trainer: Trainer, folder: RunFolder, resumed: changes.Resumed) -> list[Record]:
    """Restores the newest intact checkpoint, sets later ones aside, and returns the log up to it.

    Raises RequestError, before anything is changed, where the data is not that of the checkpoint.
    """
    main = trainer.accelerator.is_main_process
    newest, damages = _newest(trainer, folder)
    if newest is None and damages:
        raise RequestError("\n".join([*damages, f"{folder.path}: no checkpoint is intact; run its recipe.toml again"]))
    step, keep = 0 if newest is None else run_folder.step_of(newest), trainer.recipe.log.keep
    if step >= trainer.recipe.train.steps:
        if main:  # it may have been killed between its last checkpoint and its end
            checkpoints.remove_leftovers(folder, step, keep, _best_step(trainer, folder))
            _draw_missing_curves(trainer, folder)
        raise RequestError(
            f"{folder.path}: this run has finished, at step {step}; continue it with --set train.steps=…"
        )
    if newest is not None:
        found = [changes.other_data(folder, newest, resumed, trainer.fingerprint) if main else None]
        problem = broadcast_object_list(found)[0]
        if problem is not None:
            raise RequestError(problem)
        if main:
            _say([*damages, f"resuming from {newest}"])
            for line in provenance.differences(checkpoints.read_manifest(newest), trainer.versions):
                warn(f"{newest}: {line}")
        checkpoint.restore(trainer, newest)
    records = [record for record in log.read_log(folder) if record["step"] <= step]
    if main:
        _say(log.damaged_lines(folder))
        run_folder.add_missing_folders(folder)
        checkpoints.set_aside(folder, after=step)
        evaluations.keep_evaluations(folder, step)
        checkpoints.remove_leftovers(folder, step, keep, _best_step(trainer, folder))
        log.write_log(folder, records)
    return records


def _draw_missing_curves(trainer: Trainer, folder: RunFolder) -> None:
    if not folder.curves.exists():
        judge, scores = trainer.judge, evaluations.read_evaluations(folder)
        lines = {} if judge is None else score_curves(scores, judge.evaluations)
        draw_run_curves(folder, trainer.recipe.name, log.read_log(folder), lines)


def _say_other_threads(trainer: Trainer, folder: RunFolder) -> None:
    """Warns where steps before this one were taken with another number of threads, as sums have other orders then."""
    before, now = provenance.threads_of(folder), torch.get_num_threads()
    if before is not None and before != now and trainer.state.step and trainer.state.device.type == "cpu":
        warn(
            f"{folder.path}: it was trained with {counted(before, 'thread')}, and this process has {now}, so that the "
            f"last digits of weights may differ from those of an unbroken run; OMP_NUM_THREADS={before} avoids it"
        )


def _best_step(trainer: Trainer, folder: RunFolder) -> int | None:
    """The step of the best checkpoint, where the recipe keeps it."""
    return None if trainer.best is None else trainer.best.step(evaluations.read_evaluations(folder))


def _newest(trainer: Trainer, folder: RunFolder, every: int = 1) -> tuple[Path | None, list[str]]:
    """`checkpoints.newest_intact`, the same in all processes."""
    found = [checkpoints.newest_intact(folder, every) if trainer.accelerator.is_main_process else (None, [])]
    newest, damages = broadcast_object_list(found)[0]
    return newest, damages


# ----------------------------------------------------------------------------------------------------------- the steps


def _train(trainer: Trainer, folder: RunFolder, records: list[Record], others: Sequence[Callback]) -> Run:
    """Trains from the trainer's step to the last one, with all callbacks."""
    accelerator, state, settings = trainer.accelerator, trainer.state, trainer.recipe.train
    _start_trackers(trainer, folder)
    if accelerator.is_main_process:
        note(first_line(trainer, folder))
    main, watch, writer = accelerator.is_main_process, make_watch(trainer), Writer()

    def save(state: State) -> None:
        checkpoint.save(trainer, folder, watch, scores, writer)

    scores = None if trainer.judge is None else Scores(trainer, folder, save)

    def save_and_leave(state: State) -> None:
        """Saves before an interruption. A resumed run will meet non-finite values again, and then roll back."""
        try:
            save(state)
            writer.wait()
        except health.NotFinite as error:
            if settings.on_nonfinite == "stop":
                raise
            said = f"{error}; nothing saved; resume with: ganframe run --resume {folder.path}"
            raise KeyboardInterrupt(said) from None

    agree = functools.partial(_any_process, accelerator, state)
    due = [*standard_callbacks(trainer, folder, records, watch, save, scores, writer), *others]
    iteration = compiled_iteration(trainer, folder, watching=bool(others))
    if state.step == 0:
        due.insert(0, refuse_late_state_of_first_step(trainer))
    if main and state.average is not None and state.device.type == "cpu":
        due.insert(0, warn_without_gain(state, accelerator.num_processes))
    try:
        with interrupts(agree, save_and_leave) as stop:  # around all rollbacks, so that no signal is lost
            for rollbacks in itertools.count():
                text = scores.text if scores is not None else str
                with progress(settings.steps, state.step, records, main, text) as bar:
                    try:
                        train(state, settings.steps, settings.critic_steps, [*due, bar, stop], iteration)
                        break
                    except health.NotFinite as error:
                        writer.wait()
                        _roll_back(trainer, folder, records, error, rollbacks)
                        if scores is not None:
                            scores.return_to(state.step)
            writer.wait()
        if scores is not None:
            scores.judge_chosen()
    except Interrupted:
        last = state.step == settings.steps
        how = "the last step" if last else f"resume with: ganframe run --resume {folder.path}"
        raise KeyboardInterrupt(f"saved at step {state.step}; {how}") from None
    finally:
        writer.close()
        if main:
            draw_run_curves(folder, trainer.recipe.name, records, {} if scores is None else scores.curves())
        for tracker in accelerator.trackers:  # not `end_training`, which destroys the caller's process group
            tracker.finish()
    return Run(folder.path, records)


def _roll_back(
    trainer: Trainer, folder: RunFolder, records: list[Record], error: health.NotFinite, rollbacks: int
) -> None:
    """Returns to the newest intact checkpoint. Data and noise are not restored: the same ones would fail again.

    Raises RunError where the recipe does not ask for that, where there is no checkpoint, or after ROLLBACKS times.
    """
    if isinstance(error, health.NotFiniteData):
        raise RunError(f"{folder.path}: {error}") from None
    # A checkpoint that an interruption left between the regular ones is passed by: without the interruption there
    # would be none.
    regular = _newest(trainer, folder, trainer.recipe.log.checkpoint_every or STEPS)[0]
    newest = regular or _newest(trainer, folder)[0]
    wanted = trainer.recipe.train.on_nonfinite == "rollback"
    if newest is None or not wanted or rollbacks == ROLLBACKS:
        last = f"the last good checkpoint is {newest}" if newest else "there is no checkpoint to return to"
        tried = f" {counted(rollbacks, 'rollback')} did not help." if rollbacks else ""
        other = ""
        if newest and not wanted:
            other = "; train.on_nonfinite = 'rollback' returns to it and continues with other data and noise"
        raise RunError(
            f"{folder.path}: {error}; {last}.{tried} Lower learning rates, a constraint on the discriminator, a loss "
            f"with bounded slopes, or precision 'bf16' instead of 'fp16' commonly help{other}"
        ) from None
    checkpoint.restore(trainer, newest, randomness=False)
    step = trainer.state.step
    _hide_later_values(trainer)
    records[:] = [record for record in records if record["step"] <= step]
    if trainer.accelerator.is_main_process:
        checkpoints.set_aside(folder, after=step)
        log.write_log(folder, records)
        warn(f"{error}; returning to {newest} (rollback {rollbacks + 1} of at most {ROLLBACKS})")


@contextmanager
def _reported(trainer: Trainer, folder: RunFolder, messages: Messages) -> Iterator[None]:
    """Keeps why the run ended, and then writes its page once more, where the recipe asks for one."""
    try:
        with messages.end_kept():
            yield
    finally:
        if messages.begun and trainer.recipe.log.report_every is not None:
            write_page(folder, running=False)


@contextmanager
def _failures(folder: RunFolder, recipe: Recipe) -> Iterator[None]:
    """Turns a full disk, a lack of memory and a dead worker into RunError: the run failed, the program did not."""
    try:
        yield
    except OSError as error:
        raise RunError(f"{folder.path}: cannot be written: {error}") from error
    except (MemoryError, RuntimeError) as error:
        if (lost := lost_worker(error)) is not None:
            raise RunError(f"{folder.path}: {lost}") from error
        if not is_out_of_memory(error):
            raise
        raise RunError(f"{folder.path}: {no_memory(recipe.train.batch_size)}") from error


def _any_process(accelerator: Accelerator, state: State, asked: bool) -> bool:
    """Whether any process was asked to stop. Several processes compare at every tenth step."""
    if accelerator.num_processes == 1:
        return asked
    if state.step % 10:
        return False
    return bool(accelerator.reduce(torch.tensor(float(asked), device=state.device), "sum") > 0)


def _start_trackers(trainer: Trainer, folder: RunFolder) -> None:
    if trainer.recipe.log.trackers:
        trainer.accelerator.project_configuration.logging_dir = str(folder.path)
        trainer.accelerator.init_trackers(trainer.recipe.name)
        _hide_later_values(trainer)


def _hide_later_values(trainer: Trainer) -> None:
    """Tells TensorBoard to drop what it has of later steps, as of a run that was killed: they come once more."""
    for tracker in trainer.accelerator.trackers:
        writer = getattr(tracker, "writer", None)  # None in other processes
        if tracker.name == "tensorboard" and writer is not None:
            writer.close()
            writer.purge_step = trainer.state.step + 1  # written when the next value opens it again


def _say(lines: Iterable[str]) -> None:
    for line in lines:
        print(line, file=sys.stderr, flush=True)
