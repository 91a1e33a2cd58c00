"""Runs: trains a recipe into its run folder, resumes one, or only checks that it would train."""

from __future__ import annotations

import functools
import itertools
import json
import resource
import sys
import time
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager, nullcontext
from pathlib import Path
from typing import Any

import attrs
import torch
from accelerate import Accelerator
from accelerate.utils import broadcast_object_list, gather_object

from ganframe import callbacks, health, provenance, runfolder
from ganframe.build import Session, lacks_memory, prepare, seeds
from ganframe.components import DataSpec
from ganframe.engine import Callback, State, train
from ganframe.errors import RequestError, RunError
from ganframe.recipe import Recipe, load_recipe, to_toml
from ganframe.runfolder import RunFolder
from ganframe.sampling import draw_latents

ROLLBACKS = 3  # from what is not finite, in one go
NO_MEMORY = "there is not the memory to train this; a smaller train.batch_size or smaller networks need less"


@attrs.frozen
class Run:
    """A finished run: its folder and the records of metrics.jsonl."""

    folder: Path
    metrics: list[dict[str, Any]]


def run(recipe: Recipe, out: str | Path | None = None, callbacks: Sequence[Callback] = ()) -> Run:
    """Trains as the recipe says, in `out` or the next runs/<name>/<number>/.

    `callbacks` are functions of the engine's State, called after each generator step.

    Raises RequestError before anything is written where the recipe cannot be built or the folder cannot be used;
    KeyboardInterrupt after an interrupted run has saved itself.
    """
    session = prepare(recipe)
    text = to_toml(recipe, session.registry)
    main = session.accelerator.is_main_process
    chosen = [str(runfolder.create(recipe.name, out).path)] if main else [""]
    folder = RunFolder(Path(broadcast_object_list(chosen)[0]))
    with runfolder.locked(folder) if main else nullcontext(), _failures(folder):
        if main:
            _describe_run(session, folder, text)
        return _train(session, folder, [], callbacks)


def resume(path: str | Path, overrides: Iterable[str] = (), callbacks: Sequence[Callback] = ()) -> Run:
    """Goes on with a run from its newest whole checkpoint, or from the start where there is none yet.

    `overrides` may change how long to train and what to log; all else would make it another run. Damaged checkpoints
    are named on standard error and put aside. Raises RequestError where they are all that there is, where `overrides`
    change more, where there is no run, where it has finished, or where another process is at it. `callbacks` as in
    `run`.
    """
    folder = runfolder.existing(path)
    with provenance.telling_what_is_missing(folder):
        kept, asked = load_recipe(folder.recipe), load_recipe(folder.recipe, overrides)
    free = attrs.evolve(
        kept.train, steps=asked.train.steps, workers=asked.train.workers, on_nonfinite=asked.train.on_nonfinite
    )
    changed = attrs.evolve(kept, train=free, log=asked.log, name=asked.name)
    fixed = [a.name for a in attrs.fields(Recipe) if getattr(changed, a.name) != getattr(asked, a.name)]
    if fixed:
        raise RequestError(
            f"{path}: a resumed run keeps its recipe, and --set changes {', '.join(fixed)}; "
            "only train.steps, train.workers, train.on_nonfinite and [log] may change"
        )
    session = prepare(asked)
    main = session.accelerator.is_main_process
    with runfolder.locked(folder) if main else nullcontext(), _failures(folder):
        records = _go_back(session, folder)
        if main:
            _describe_run(session, folder, to_toml(asked, session.registry))
        return _train(session, folder, records, callbacks)


def _go_back(session: Session, folder: RunFolder) -> list[dict[str, Any]]:
    """Restores the newest whole checkpoint, puts away what was written after it, and returns the metrics up to it."""
    accelerator = session.accelerator
    newest, faults = _newest(session, folder)
    if newest is None and faults:
        raise RequestError("\n".join([*faults, f"{folder.path}: no checkpoint is whole; run its recipe.toml anew"]))
    step, keep = 0 if newest is None else runfolder.step_of(newest), session.recipe.log.keep
    if step >= session.recipe.train.steps:
        if accelerator.is_main_process:  # it may have been killed between its last checkpoint and its end
            runfolder.tidy(folder, step, keep)
        finished = f"this run has finished, at step {step}; --set train.steps=… beyond it goes on"
        raise RequestError(f"{folder.path}: {finished}")
    if newest is not None:
        if accelerator.is_main_process:
            _say([*faults, f"going on from {newest}"])
            changed = provenance.differences(runfolder.read_about(newest), _versions(session))
            _say(f"warning: {newest}: {line}" for line in changed)
        _restore(session, newest)
    records = [record for record in runfolder.read_metrics(folder) if record["step"] <= step]
    if accelerator.is_main_process:
        _say(runfolder.damaged_metrics(folder))
        runfolder.complete(folder)
        runfolder.put_away(folder, after=step)
        runfolder.tidy(folder, step, keep)
        runfolder.write_metrics(folder, records)
    return records


def _newest(session: Session, folder: RunFolder, every: int = 1) -> tuple[Path | None, list[str]]:
    """The newest whole checkpoint of each `every`-th step, the same for all processes, and the faults of newer ones."""
    found = [runfolder.newest_checkpoint(folder, every) if session.accelerator.is_main_process else (None, [])]
    newest, faults = broadcast_object_list(found)[0]
    return newest, faults


@attrs.frozen
class Report:
    """What `check` found out. Seconds are of one generator step with its critic steps; memory in bytes."""

    spec: DataSpec
    device: str
    generator_parameters: int
    discriminator_parameters: int
    seconds_per_step: float
    seconds: float
    memory: int


def check(recipe: Recipe) -> Report:
    """Builds everything and takes real steps, which are thrown away. Raises RequestError as `run` does."""
    session = prepare(recipe)
    state = session.state

    def steps(count: int) -> float:
        begun = time.perf_counter()
        train(state, state.step + count, recipe.train.critic_steps)
        _ = {name: value.detach().float().mean().item() for name, value in state.latest.items()}  # waits for the device
        return time.perf_counter() - begun

    try:
        first = steps(1)
    except (MemoryError, RuntimeError) as error:
        if not lacks_memory(error):
            raise
        raise RunError(f"{recipe.name}: {NO_MEMORY}") from error
    each = first if first > 2 else min(steps(2) / 2 for _ in range(3))
    health.Watch(1, lambda step: True, lambda found: found)(state)  # raises where they were no numbers
    cuda = state.device.type == "cuda"
    return Report(
        spec=session.spec,
        device=_device_name(state.device),
        generator_parameters=sum(p.numel() for p in state.G.network.parameters()),
        discriminator_parameters=sum(p.numel() for p in state.D.network.parameters()),
        seconds_per_step=each,
        seconds=each * recipe.train.steps,
        memory=torch.cuda.max_memory_allocated() if cuda else resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024,
    )


# ------------------------------------------------------------------------------------------------------------ the run


def _train(session: Session, folder: RunFolder, records: list[dict[str, Any]], others: Sequence[Callback]) -> Run:
    """Trains from the session's step to the end, with all callbacks, and leaves the run folder complete."""
    accelerator, state, settings = session.accelerator, session.state, session.recipe.train
    _start_trackers(session, folder)
    main, watch = accelerator.is_main_process, watching(session)

    def leave(state: State) -> None:
        """Saves before an interruption; what is to be rolled back is left for the resumed run to meet again."""
        try:
            _save(session, folder, watch, state)
        except health.NotFinite as error:
            if settings.on_nonfinite == "stop":
                raise
            said = f"{error}; nothing saved; go on with: ganframe run --resume {folder.path}"
            raise KeyboardInterrupt(said) from None

    agree = functools.partial(_agree, accelerator, state)
    due = [*actions(session, folder, records, watch), *others]
    try:
        with callbacks.interrupts(agree, leave) as stop:  # around all rollbacks: none forgets a signal
            for rollbacks in itertools.count():
                with callbacks.progress(settings.steps, state.step, records, shown=main) as bar:
                    try:
                        train(state, settings.steps, settings.critic_steps, [*due, bar, stop])
                        break
                    except health.NotFinite as error:
                        _roll_back(session, folder, records, error, rollbacks)
    except callbacks.Interrupted:
        more = "the last one" if state.step == settings.steps else f"go on with: ganframe run --resume {folder.path}"
        raise KeyboardInterrupt(f"saved at step {state.step}; {more}") from None
    finally:
        accelerator.end_training()
    return Run(folder.path, records)


@contextmanager
def _failures(folder: RunFolder) -> Iterator[None]:
    """A full disk and a lack of memory are failures of the run, and no defects of the program."""
    try:
        yield
    except OSError as error:
        raise RunError(f"{folder.path}: cannot be written: {error}") from error
    except (MemoryError, RuntimeError) as error:
        if not lacks_memory(error):
            raise
        raise RunError(f"{folder.path}: {NO_MEMORY}") from error


def _roll_back(
    session: Session, folder: RunFolder, records: list[dict[str, Any]], error: health.NotFinite, rollbacks: int
) -> None:
    """Goes back to the newest whole checkpoint, with data and noise going on: the same ones would lead here again.

    Raises RunError where the recipe does not want that, where there is no checkpoint, or where it was done too often.
    """
    # A checkpoint that an interruption left between is passed by: without that there would be none.
    regular = _newest(session, folder, session.recipe.log.checkpoint_every)[0]
    newest = regular or _newest(session, folder)[0]
    wanted = session.recipe.train.on_nonfinite == "rollback"
    if newest is None or not wanted or rollbacks == ROLLBACKS:
        last = f"the last good checkpoint is {newest}" if newest else "there is no checkpoint to go back to"
        tried = f" {rollbacks} rollbacks did not help." if rollbacks else ""
        other = "" if wanted else "; train.on_nonfinite = 'rollback' goes back and on with other data and noise"
        raise RunError(
            f"{folder.path}: {error}; {last}.{tried} Lower learning rates, a constraint on the critic, a loss whose "
            f"slopes are bounded, or precision 'bf16' in the place of 'fp16' commonly help{other}"
        ) from None
    _restore(session, newest, randomness=False)
    step = session.state.step
    records[:] = [record for record in records if record["step"] <= step]
    if session.accelerator.is_main_process:
        runfolder.put_away(folder, after=step)
        runfolder.write_metrics(folder, records)
        health.warn(f"{error}; back to {newest} ({rollbacks + 1} of {ROLLBACKS} times at the most)")


def watching(session: Session) -> health.Watch:
    """The watch that looks wherever anything of a step is stored."""
    steps, log = session.recipe.train.steps, session.recipe.log
    often = (log.every, log.samples_every, log.checkpoint_every)

    def stored(step: int) -> bool:
        return step == steps or any(step % every == 0 for every in often)

    agree = functools.partial(session.accelerator.reduce, reduction="sum")
    return health.Watch(log.every, stored, agree, tell=session.accelerator.is_main_process)


def actions(session: Session, folder: RunFolder, records: list[dict[str, Any]], watch: health.Watch) -> list[Callback]:
    """What the recipe wants done between steps: a watch, schedules, moving average, metrics, pictures, checkpoints."""
    accelerator, train, log = session.accelerator, session.recipe.train, session.recipe.log
    main = accelerator.is_main_process
    record = callbacks.record_metrics(
        records,
        folder.metrics if main else None,
        functools.partial(accelerator.reduce, reduction="mean"),
        accelerator.log,
    )
    due: list[Callback] = [watch]
    if session.schedules:
        due.append(callbacks.advance(session.schedules))
    if session.averaged is not None and train.ema is not None:
        due.append(callbacks.average_into(session.averaged, train.ema))
    due.append(callbacks.every(log.every, train.steps, record))
    if main:
        due.append(callbacks.every(log.samples_every, train.steps, _pictures(session, folder)))
    save = functools.partial(_save, session, folder, watch)
    due.append(callbacks.every(log.checkpoint_every, train.steps, save))
    return due


def _agree(accelerator: Accelerator, state: State, asked: bool) -> bool:
    """Whether any process was asked to stop; processes ask each other at every tenth step."""
    if accelerator.num_processes == 1:
        return asked
    if state.step % 10:
        return False
    return bool(accelerator.reduce(torch.tensor(float(asked), device=state.device), "sum") > 0)


def _start_trackers(session: Session, folder: RunFolder) -> None:
    if session.recipe.log.trackers:
        session.accelerator.project_configuration.logging_dir = str(folder.path)
        session.accelerator.init_trackers(session.recipe.name)


def _pictures(session: Session, folder: RunFolder) -> Callback:
    """Draws the same latents each time, beside real samples that do not disturb the training's order of data."""
    spec, device = session.spec, session.state.device
    points = not spec.is_image
    # A square grid; where the classes fill its width, each column is a class.
    columns = spec.classes if spec.classes and 6 <= spec.classes <= 12 else 8
    z, y = draw_latents(session.recipe.latent, spec, 2000 if points else columns**2, seeds(session.recipe.seed)[4])
    if spec.classes and not points:
        y = torch.arange(len(z)) % spec.classes
    before = session.feed.state_dict()
    batches = -(-1000 // session.recipe.train.batch_size) if points else 1
    real = torch.cat([session.feed()[0] for _ in range(batches)])[:1000]
    session.feed.load_state_dict(before)
    z, y = z.to(device), y.to(device)
    with torch.no_grad(), torch.random.fork_rng(), callbacks.evaluation(session.sampled):
        watch = health.CollapseWatch(session.sampled(z, y))
    return callbacks.draw_samples(session.sampled, spec, z, y, real, folder.samples, watch)


def _describe_run(session: Session, folder: RunFolder, text: str) -> None:
    """Writes recipe.toml and environment.json."""
    environment = {
        **_versions(session),
        "device": _device_name(session.state.device),
        "processes": session.accelerator.num_processes,
        "precision": session.recipe.train.precision,
    }
    runfolder.write_text(folder.recipe, text)
    runfolder.write_text(folder.environment, json.dumps(environment, indent=2) + "\n")


def _versions(session: Session) -> dict[str, Any]:
    return provenance.versions(session.recipe.components(), session.registry)


def _say(lines: Iterable[str]) -> None:
    for line in lines:
        print(line, file=sys.stderr, flush=True)


def _device_name(device: torch.device) -> str:
    return f"{device} ({torch.cuda.get_device_name(device)})" if device.type == "cuda" else str(device)


# -------------------------------------------------------------------------------------------------------- checkpoints


def _save(session: Session, folder: RunFolder, watch: health.Watch, state: State) -> None:
    """A checkpoint and the generator to sample from. Each process hands over its random state; the first one writes.

    Raises NotFinite, and writes nothing, where it could not be gone on from.
    """
    watch.check(state)
    rng = {"cpu": torch.get_rng_state()}
    if state.device.type == "cuda":
        rng["cuda"] = torch.cuda.get_rng_state(state.device)
    every_rng = gather_object([rng])
    if not session.accelerator.is_main_process:
        return
    training = {
        "step": state.step,
        "optimizers": {"generator": state.G.optimizer.state_dict(), "discriminator": state.D.optimizer.state_dict()},
        "schedules": [schedule.state_dict() for schedule in session.schedules],
        "scaler": None if state.scaler is None else state.scaler.state_dict(),
        "feed": session.feed.state_dict(),
        "latents": session.latents.state_dict(),
        "averaged": 0 if session.averaged is None else int(session.averaged.n_averaged),
        "rng": every_rng,
    }
    # The checkpoint last: a run is finished when the last one stands, and must then have its generator.
    runfolder.save_generator(folder.generator, session.sampled, session.spec)
    keep, about = session.recipe.log.keep, _versions(session)
    runfolder.save_checkpoint(folder, state.step, session.networks, training, keep, about)


def _restore(session: Session, checkpoint: Path, randomness: bool = True) -> None:
    """Puts everything back as `_save` found it; without `randomness` all but data, noise and their order.

    Raises RequestError where the checkpoint is of another recipe.
    """
    try:
        _put_back(session, runfolder.load_checkpoint(checkpoint, session.networks), randomness)
    except (LookupError, ValueError, TypeError, AttributeError, RuntimeError) as error:
        raise RequestError(f"{checkpoint}: does not fit its run's recipe: {type(error).__name__}: {error}") from None


def _put_back(session: Session, training: dict[str, Any], randomness: bool) -> None:
    state = session.state
    state.step = training["step"]
    state.G.optimizer.load_state_dict(training["optimizers"]["generator"])
    state.D.optimizer.load_state_dict(training["optimizers"]["discriminator"])
    for schedule, saved in zip(session.schedules, training["schedules"], strict=True):
        schedule.load_state_dict(saved)
    if state.scaler is not None and training["scaler"] is not None:
        state.scaler.load_state_dict(training["scaler"])
    if session.averaged is not None:
        session.averaged.n_averaged.fill_(training["averaged"])
    if not randomness:
        return
    session.feed.load_state_dict(training["feed"])
    session.latents.load_state_dict(training["latents"])
    rank = session.accelerator.process_index
    if rank < len(training["rng"]):
        torch.set_rng_state(training["rng"][rank]["cpu"])
        if state.device.type == "cuda" and "cuda" in training["rng"][rank]:
            torch.cuda.set_rng_state(training["rng"][rank]["cuda"], state.device)
