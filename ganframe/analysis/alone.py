"""Trains a discriminator alone, between two fixed sides."""

from __future__ import annotations

from collections.abc import Iterator

from ganframe.engine.algorithm import discriminator_step
from ganframe.training.callbacks import move_options
from ganframe.training.progress import progress
from ganframe.training.trainer import Trainer


def train_alone(trainer: Trainer, shown: bool = True) -> Iterator[int]:
    """Trains D for `train.steps` steps, and gives the number of steps after each. `shown`: with a progress bar."""
    steps, state = trainer.recipe.train.steps, trainer.state
    move = move_options(trainer.optimizers)
    with progress(steps, 0, [], shown=shown) as bar:
        while state.step < steps:
            for buffer in state.step_buffers:
                buffer.fill_(state.step)
            discriminator_step(state)
            if "discriminator" in trainer.schedules:
                trainer.schedules["discriminator"].step()
            state.step += 1
            move(state)
            yield state.step
            bar(state)
