"""Runs: trains a recipe into its run folder, resumes one, or only checks that it would train."""

from __future__ import annotations

import functools
import json
import platform
import resource
import time
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any

import accelerate
import attrs
import torch
from accelerate import Accelerator
from accelerate.utils import broadcast_object_list, gather_object

from ganframe import __version__, callbacks, runfolder
from ganframe.build import Session, prepare, seeds
from ganframe.components import DataSpec
from ganframe.engine import Callback, State, train
from ganframe.errors import RequestError, RunError
from ganframe.recipe import Recipe, load_recipe, to_toml
from ganframe.runfolder import RunFolder
from ganframe.sampling import draw_latents


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
    if main:
        _describe_run(session, folder, text)
    return _train(session, folder, [], callbacks)


def resume(path: str | Path, overrides: Iterable[str] = (), callbacks: Sequence[Callback] = ()) -> Run:
    """Goes on with a run from its newest checkpoint, or from the start where there is none yet.

    `overrides` may change how long to train and what to log; all else would make it another run. Raises RequestError
    where they change more, where there is no run, or where it has finished. `callbacks` as in `run`.
    """
    folder = runfolder.existing(path)
    kept, asked = load_recipe(folder.recipe), load_recipe(folder.recipe, overrides)
    free = attrs.evolve(kept.train, steps=asked.train.steps, workers=asked.train.workers)
    changed = attrs.evolve(kept, train=free, log=asked.log, name=asked.name)
    fixed = [a.name for a in attrs.fields(Recipe) if getattr(changed, a.name) != getattr(asked, a.name)]
    if fixed:
        raise RequestError(
            f"{path}: a resumed run keeps its recipe, and --set changes {', '.join(fixed)}; "
            "only train.steps, train.workers and [log] may change"
        )
    saved = folder.checkpoints()
    if saved and int(saved[-1].name.removeprefix("step-")) >= asked.train.steps:
        step = int(saved[-1].name.removeprefix("step-"))
        raise RequestError(f"{path}: this run has finished, at step {step}; --set train.steps=… beyond it goes on")
    session = prepare(asked)
    if saved:
        _restore(session, saved[-1])
    step = session.state.step
    records = [record for record in runfolder.read_metrics(folder) if record["step"] <= step]
    if session.accelerator.is_main_process:
        runfolder.complete(folder)
        _describe_run(session, folder, to_toml(asked, session.registry))
        runfolder.write_metrics(folder, records)
    return _train(session, folder, records, callbacks)


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

    first = steps(1)
    each = first if first > 2 else min(steps(2) / 2 for _ in range(3))
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
    save = functools.partial(_save, session, folder)
    agree = functools.partial(_agree, accelerator, state)
    try:
        with (
            callbacks.progress(settings.steps, state.step, records, shown=accelerator.is_main_process) as bar,
            callbacks.interrupts(agree, save) as stop,
        ):
            due = [*actions(session, folder, records), *others, bar, stop]
            train(state, settings.steps, settings.critic_steps, due)
    except callbacks.Interrupted:
        raise KeyboardInterrupt(
            f"saved at step {state.step}; go on with: ganframe run --resume {folder.path}"
        ) from None
    except OSError as error:
        raise RunError(f"{folder.path}: cannot be written: {error}") from error
    finally:
        accelerator.end_training()
    return Run(folder.path, records)


def actions(session: Session, folder: RunFolder, records: list[dict[str, Any]]) -> list[Callback]:
    """What the recipe wants done between steps: schedules, moving average, metrics, pictures, checkpoints."""
    accelerator, train, log = session.accelerator, session.recipe.train, session.recipe.log
    main = accelerator.is_main_process
    record = callbacks.record_metrics(
        records,
        folder.metrics if main else None,
        functools.partial(accelerator.reduce, reduction="mean"),
        accelerator.log,
    )
    due: list[Callback] = []
    if session.schedules:
        due.append(callbacks.advance(session.schedules))
    if session.averaged is not None and train.ema is not None:
        due.append(callbacks.average_into(session.averaged, train.ema))
    due.append(callbacks.every(log.every, train.steps, record))
    if main:
        due.append(callbacks.every(log.samples_every, train.steps, _pictures(session, folder)))
    due.append(callbacks.every(log.checkpoint_every, train.steps, functools.partial(_save, session, folder)))
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
    return callbacks.draw_samples(session.sampled, spec, z.to(device), y.to(device), real, folder.samples)


def _describe_run(session: Session, folder: RunFolder, text: str) -> None:
    """Writes recipe.toml and environment.json."""
    registry = session.registry
    used = {p.name: p for _, c in session.recipe.components() for p, _ in [registry.locate(type(c))]}
    environment = {
        "python": platform.python_version(),
        "torch": torch.__version__,
        "accelerate": accelerate.__version__,
        "ganframe": __version__,
        "plugins": {name: {"distribution": p.distribution, "version": p.version} for name, p in sorted(used.items())},
        "device": _device_name(session.state.device),
        "processes": session.accelerator.num_processes,
        "precision": session.recipe.train.precision,
    }
    runfolder.write_text(folder.recipe, text)
    runfolder.write_text(folder.environment, json.dumps(environment, indent=2) + "\n")


def _device_name(device: torch.device) -> str:
    return f"{device} ({torch.cuda.get_device_name(device)})" if device.type == "cuda" else str(device)


# -------------------------------------------------------------------------------------------------------- checkpoints


def _save(session: Session, folder: RunFolder, state: State) -> None:
    """A checkpoint and the generator to sample from. Each process hands over its random state; the first one writes."""
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
    runfolder.save_checkpoint(folder, state.step, session.networks, training, session.recipe.log.keep)
    runfolder.save_generator(folder.generator, session.sampled, session.spec)


def _restore(session: Session, checkpoint: Path) -> None:
    """Puts everything back as `_save` found it."""
    state = session.state
    training = runfolder.load_checkpoint(checkpoint, session.networks)
    state.step = training["step"]
    state.G.optimizer.load_state_dict(training["optimizers"]["generator"])
    state.D.optimizer.load_state_dict(training["optimizers"]["discriminator"])
    for schedule, saved in zip(session.schedules, training["schedules"], strict=True):
        schedule.load_state_dict(saved)
    if state.scaler is not None and training["scaler"] is not None:
        state.scaler.load_state_dict(training["scaler"])
    session.feed.load_state_dict(training["feed"])
    session.latents.load_state_dict(training["latents"])
    if session.averaged is not None:
        session.averaged.n_averaged.fill_(training["averaged"])
    rank = session.accelerator.process_index
    if rank < len(training["rng"]):
        torch.set_rng_state(training["rng"][rank]["cpu"])
        if state.device.type == "cuda" and "cuda" in training["rng"][rank]:
            torch.cuda.set_rng_state(training["rng"][rank]["cuda"], state.device)
