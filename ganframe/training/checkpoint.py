"""Saves the state of a run to its folder, and restores it."""

from __future__ import annotations

from pathlib import Path

from accelerate.utils import gather_object

from ganframe.data.randomness import random_state, set_random_state
from ganframe.errors import RequestError, RunError
from ganframe.recipes.strict import split_index
from ganframe.recipes.writing import to_toml
from ganframe.storage import checkpoints, provenance
from ganframe.storage.run_folder import RunFolder
from ganframe.storage.weights import save_generator
from ganframe.training.compatibility import LateState, refuse_late_state
from ganframe.training.health import Watch
from ganframe.training.scores import Scores
from ganframe.training.trainer import Trainer

DRAWN = ("data", "latents")
"""The parts of `Trainer.stateful` that decide which data and noise come next."""


def save(trainer: Trainer, folder: RunFolder, watch: Watch, scores: Scores | None = None) -> None:
    """Writes a checkpoint and generator.safetensors. Called in every process; the first one writes.

    Where `scores` have a best step, generator.safetensors is that of it.

    Raises NotFinite, and writes nothing, where a value or weight is not finite.
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
    # The checkpoint last: a run has finished when its last checkpoint exists, and then it must have its generator.
    best = None if scores is None else scores.best
    if best in (None, trainer.state.step):
        chosen = None if best is None else {"by": trainer.recipe.log.keep_best, "step": best}
        save_generator(folder.generator, trainer.sampled, trainer.spec, chosen)
    updates = {"generator": trainer.state.G.updates, "discriminator": trainer.state.D.updates}
    training = {"step": trainer.state.step, "updates": updates, "parts": parts, "random_states": random_states}
    recipe = trainer.recipe
    versions = provenance.versions(recipe.components(), recipe.registry, recipe.optimizer.of_plugins())
    about = {**versions, "data": trainer.fingerprint}
    checkpoints.save_checkpoint(
        folder, trainer.state.step, trainer.networks, training, recipe.log.keep, about, to_toml(recipe), best
    )


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
