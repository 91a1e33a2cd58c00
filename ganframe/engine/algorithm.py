"""Algorithm 1 of Goodfellow et al. 2014: k discriminator steps, one generator step, then callbacks.

A step is three moves: draw a batch, compute the player's loss, descend its gradient. The losses are pure functions
(game, batch) -> (loss, logs): they change nothing but the networks' own buffers and torch's random state.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from contextlib import contextmanager

import torch
from torch import Tensor

from ganframe.engine.state import Batch, Callback, Game, Logs, Player, State


def train(state: State, steps: int, critic_steps: int, callbacks: Iterable[Callback] = ()) -> None:
    """Algorithm 1 from `state.step` to `steps`, with k = `critic_steps`."""
    callbacks = tuple(callbacks)
    while state.step < steps:  # for number of training iterations do
        for _ in range(critic_steps):  # for k steps do
            discriminator_step(state)  # update D by ascending its stochastic gradient
        generator_step(state)  # update G by descending its stochastic gradient
        state.step += 1
        for callback in callbacks:
            callback(state)


def discriminator_step(state: State) -> None:
    """One update of D. Sets `state.latest` to its logs."""
    x, y = state.batches()
    batch = Batch(x, y, state.latents(y.shape[0]))
    loss, state.latest = discriminator_loss(state.game, batch)
    descend(state, state.D, loss)
    for constraint in state.game.constraints.values():
        constraint.project(state.D.network)
    state.labels = y


def discriminator_loss(game: Game, batch: Batch) -> tuple[Tensor, Logs]:
    """L_D on a real batch and as many fakes, which have the labels of the real samples, plus each penalty.

    G is in training mode, so the running statistics of its BatchNorm follow these fakes too. They then average over
    more samples of the same G, and nothing reads them before evaluation.
    """
    x, y, z = batch
    assert x is not None
    scoring, logs = game.scoring, {}
    with torch.no_grad(), scoring.autocast():
        fakes = game.G(z, y)
    with scoring.cached_weights():
        real, fake = scoring.both_sides(game.D, x, fakes, y)
        loss = game.objective.discriminator_loss(real.scores, fake.scores)
        logs["loss_discriminator"] = loss.detach()
        logs["score_real"], logs["score_fake"] = real.scores.detach(), fake.scores.detach()
        for name, constraint in game.constraints.items():
            penalty = constraint.penalty(game.D, real, fake)
            if penalty is not None:
                logs[f"penalty_{name}"] = penalty.detach()
                loss = loss + penalty
    return loss, logs


def generator_step(state: State) -> None:
    """One update of G. Adds its logs to `state.latest`."""
    n = state.generator_batch_size
    x, y = state.batches() if state.game.objective.compares_real else (None, _repeated(state.labels, n))
    batch = Batch(x, y, state.latents(n))
    with frozen(state.D):
        loss, logs = generator_loss(state.game, batch)
        descend(state, state.G, loss)
    state.latest |= logs


def generator_loss(game: Game, batch: Batch) -> tuple[Tensor, Logs]:
    """L_G on fakes, and on a real batch where the objective compares the two.

    D is in training mode here too: its dropout is active, and the running statistics of a BatchNorm follow these fakes.
    """
    x, y, z = batch
    scoring = game.scoring
    with scoring.autocast(), scoring.cached_weights():
        fakes = game.G(z, y)
        real, fake = (None, game.D(fakes, y).float()) if x is None else scoring.scores(game.D, x, fakes, y)
    loss = game.objective.generator_loss(fake, real)
    return loss, {"loss_generator": loss.detach()}


def descend(state: State, player: Player, loss: Tensor) -> None:
    """One step of a player's optimiser along the gradient of its loss, averaged over processes."""
    player.optimizer.zero_grad(set_to_none=True)
    if state.scaler is None:
        loss.backward()
    else:
        state.scaler.scale(loss).backward()
    if state.average is not None:
        gradients = [p.grad for p in player.parameters if p.grad is not None]
        buffers = [b for p in (state.G, state.D) for b in p.network.buffers() if b.is_floating_point()]
        state.average(gradients + buffers)
    if state.scaler is None:
        player.optimizer.step()
    else:
        state.scaler.step(player.optimizer)
        state.scaler.update()


@contextmanager
def frozen(player: Player) -> Iterator[None]:
    """The player's weights require no gradient meanwhile: gradients pass through the network and none is stored."""
    for parameter in player.parameters:
        parameter.requires_grad_(False)
    try:
        yield
    finally:
        for parameter in player.parameters:
            parameter.requires_grad_(True)


def _repeated(labels: Tensor | None, n: int) -> Tensor:
    """n labels for fakes: those of the last real batch, repeated or cut where G's batch has another size."""
    assert labels is not None, "a generator step follows a discriminator step"
    size = labels.shape[0]
    return labels if size == n else labels.repeat(-(-n // size))[:n]
