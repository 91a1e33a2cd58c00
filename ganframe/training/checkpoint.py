"""Saves the state of a run to its folder, and restores it."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from accelerate.utils import gather_object

from ganframe.data.randomness import random_state, set_random_state
from ganframe.errors import RequestError, RunError
from ganframe.recipes.strict import split_index
from ganframe.storage import checkpoints
from ganframe.storage.copies import Copies, Weights
from ganframe.storage.run_folder import RunFolder
from ganframe.storage.weights import save_generator
from ganframe.training.background import Writer
from ganframe.training.compatibility import LateState, refuse_late_state
from ganframe.training.health import Watch
from ganframe.training.scores import Scores
from ganframe.training.trainer import Trainer

DRAWN = ("data", "latents")
"""The parts of `Trainer.stateful` that decide which data and noise come next."""

KIND = "checkpoint"
"""What a checkpoint is called in the background writer."""


def save(
    trainer: Trainer, folder: RunFolder, watch: Watch, scores: Scores | None = None, writer: Writer | None = None
) -> None:
    """Writes a checkpoint and generator.safetensors. Called in every process; the first one writes.

    Where `scores` have a best step, generator.safetensors is that of it. With a `writer`, everything is copied to host
    memory and written later, in its thread; no second copy is made before the first has been written.

    Raises NotFinite, and writes nothing, where a value or weight is not finite, and what an earlier writing raised.
    """
    watch.check(trainer.state)
    try:
        refuse_late_state(trainer.state_keys, trainer.state.game)
    except LateState as fault:  # a penalty that was not due before
        raise RunError(f"{folder.path}: step {trainer.state.step}: {fault}") from None
    parts = {name: part.state_dict() for name, part in trainer.stateful.items()}
    random_states = gather_object([random_state(trainer.state.device)])
    if not trainer.accelerator.is_main_process:
        return
    step, recipe = trainer.state.step, trainer.recipe
    updates = {"generator": trainer.state.G.updates, "discriminator": trainer.state.D.updates}
    training: dict[str, Any] = {"step": step, "updates": updates, "parts": parts, "random_states": random_states}
    networks: dict[str, Weights] = {**trainer.networks}
    sampled: Weights = trainer.sampled
    best = None if scores is None else scores.best
    about = {**trainer.versions, "data": trainer.fingerprint}
    if writer is not None:
        writer.wait(KIND)
        copies = Copies()
        networks = {name: copies.weights(network) for name, network in networks.items()}
        sampled, training = copies.weights(sampled), copies.tables(training)

    def write() -> None:
        # The checkpoint last: a run has finished when its last one exists, and then it must have its generator.
        if best in (None, step):
            chosen = None if best is None else {"by": recipe.log.keep_best, "step": best}
            save_generator(folder.generator, sampled, trainer.spec, chosen)
        checkpoints.save_checkpoint(folder, step, networks, training, recipe.log.keep, about, trainer.toml, best)

    write() if writer is None else writer.give(KIND, write)


def restore(trainer: Trainer, checkpoint: Path, randomness: bool = True) -> None:
    """Restores the state that `save` saved; without `randomness`, data, latents and the random state continue.

    Raises RequestError where the checkpoint belongs to another recipe.
    """
    try:
        training = checkpoints.load_checkpoint(checkpoint, trainer.networks)
        step = trainer.state.step = training["step"]
        # An earlier version did not count: there each step had all its updates.
        all_of_them = {"generator": step, "discriminator": step * trainer.recipe.train.critic_steps}
        updates = training.get("updates", all_of_them)
        trainer.state.G.updates, trainer.state.D.updates = updates["generator"], updates["discriminator"]
        for name, part in trainer.stateful.items():
            if randomness or name not in DRAWN:
                part.load_state_dict(training["parts"][name])
        rank = trainer.accelerator.process_index
        if randomness and rank < len(training["random_states"]):
            set_random_state(trainer.state.device, training["random_states"][rank])
    except (LookupError, ValueError, TypeError, AttributeError, RuntimeError) as error:
        raise RequestError(f"{checkpoint}: does not fit its run's recipe: {type(error).__name__}: {error}") from None
    if not (
        checkpoint / checkpoints.RECIPE
    ).exists():  # of an earlier version: an edit of recipe.toml was not found yet
        _refuse_other_options(trainer, checkpoint)


def _refuse_other_options(trainer: Trainer, checkpoint: Path) -> None:
    """Raises RequestError where an option of an optimiser is not that of the checkpoint, which holds from now on.

    Options that move, and those that a schedule may move, are left out.
    """
    for player, (config, optimizer) in zip(("generator", "discriminator"), trainer.optimizers, strict=True):
        moving = {split_index(place)[0] for place in config.ramps}
        if config.schedule is not None:
            moving |= {"lr", "momentum", "betas"}
        for name, value in config.options.items():
            used = optimizer.param_groups[0].get(name, value)
            used, wanted = (list(v) if isinstance(v, (tuple, list)) else v for v in (used, value))
            if name not in moving and used != wanted:
                raise RequestError(
                    f"{checkpoint}: a resumed run keeps its recipe: optimizer.{player}.{name} was {used} and is "
                    f"{wanted} (recipe.toml); undo that, or start a new run from these weights with train.from"
                )
