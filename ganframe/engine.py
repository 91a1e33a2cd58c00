"""Algorithm 1 of Goodfellow et al. 2014: k critic steps, one generator step, then callbacks.

The engine knows components by their base types alone. It does not know recipes, plugins, files or how anything is
shown; what it leaves for callbacks to read (`State.latest`) stays on the device.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from contextlib import AbstractContextManager, nullcontext

import attrs
import torch
from torch import Tensor, nn
from torch.nn.utils import parametrize
from torch.optim import Optimizer

from ganframe.components import Constraint, Objective, Scored

Batches = Callable[[], tuple[Tensor, Tensor]]
"""Draws a real batch: x (N, *shape), y (N,), on the device."""

Latents = Callable[[int], Tensor]
"""Draws this process's share of a batch of latents: n -> z (n, latent_dim), on the device."""

Average = Callable[[list[Tensor]], None]
"""Replaces tensors by their averages over all processes, in place."""


@attrs.define
class Player:
    """A network and the optimiser that trains it."""

    network: nn.Module
    optimizer: Optimizer
    parameters: list[nn.Parameter] = attrs.field(init=False)

    def __attrs_post_init__(self) -> None:
        self.parameters = [p for p in self.network.parameters() if p.requires_grad]


@attrs.define
class State:
    """All that a step needs and changes.

    `joint` says that real and fake samples share one call of the critic: it treats samples independently, and no
    constraint differentiates one side's scores, which would run back through the other side on zeros.
    `average` is None in a run of one process, `scaler` is None but in fp16.
    """

    G: Player
    D: Player
    objective: Objective
    constraints: dict[str, Constraint]
    batches: Batches
    latents: Latents
    joint: bool
    generator_batch_size: int
    device: torch.device
    autocast: Callable[[], AbstractContextManager[None]] = nullcontext
    scaler: torch.amp.GradScaler | None = None
    average: Average | None = None
    step: int = 0
    labels: Tensor | None = None
    latest: dict[str, Tensor] = attrs.field(factory=dict)


Callback = Callable[[State], None]


def train(state: State, steps: int, critic_steps: int, callbacks: Iterable[Callback] = ()) -> None:
    """Algorithm 1 (Goodfellow et al. 2014), from `state.step` to `steps`, with k = `critic_steps`."""
    callbacks = tuple(callbacks)
    while state.step < steps:  # for number of training iterations do
        for _ in range(critic_steps):  # for k steps do
            discriminator_step(state)  # update D by ascending its stochastic gradient
        generator_step(state)  # update G by descending its stochastic gradient
        state.step += 1
        for callback in callbacks:
            callback(state)


def discriminator_step(state: State) -> None:
    """One update of D on a real batch and as many fakes, which wear the labels of the real ones.

    G is in training mode, so the running statistics of its BatchNorm follow the fakes of critic steps too: they
    average over more samples of the same G, and nothing reads them before evaluation. Its weights and gradients stay
    as they are.
    """
    x, y = state.batches()
    with torch.no_grad(), state.autocast():
        fakes = state.G.network(state.latents(y.shape[0]), y)
    with _one_weight(state):
        real, fake = _both_sides(state, x, fakes, y)
        loss = state.objective.discriminator_loss(real.scores, fake.scores)
        state.latest = {"loss_discriminator": loss, "score_real": real.scores, "score_fake": fake.scores}
        for name, constraint in state.constraints.items():
            penalty = constraint.penalty(state.D.network, real, fake)  # outside autocast: in float32
            if penalty is not None:
                state.latest[f"penalty_{name}"] = penalty
                loss = loss + penalty
    descend(state, state.D, loss)
    for constraint in state.constraints.values():
        constraint.project(state.D.network)
    state.labels = y


def generator_step(state: State) -> None:
    """One update of G. D's weights are frozen meanwhile: gradients pass through them and stop at none.

    D is in training mode here too: its dropout drops, and the running statistics of a BatchNorm follow these fakes.
    """
    n = state.generator_batch_size
    for parameter in state.D.parameters:
        parameter.requires_grad_(False)
    x, y = state.batches() if state.objective.compares_real else (None, _cycle(state.labels, n))
    with state.autocast(), _one_weight(state):
        fakes = state.G.network(state.latents(n), y)
        real, fake = (None, state.D.network(fakes, y).float()) if x is None else score(state, x, fakes, y)
    loss = state.objective.generator_loss(fake, real)
    descend(state, state.G, loss)
    for parameter in state.D.parameters:
        parameter.requires_grad_(True)
    state.latest["loss_generator"] = loss


def score(state: State, x: Tensor, fakes: Tensor, y: Tensor) -> tuple[Tensor, Tensor]:
    """Scores (N,) of real and of fake samples: in one call of D where it treats samples independently.

    Raises ValueError for scores of another shape: (N, 1) would pair every real sample with every fake one.
    """
    D = state.D.network
    if state.joint:
        real, fake = D(torch.cat([x, fakes]), torch.cat([y, y])).float().split(y.shape[0])
    else:
        real, fake = D(x, y).float(), D(fakes, y).float()
    if real.shape != y.shape:
        raise ValueError(f"the discriminator gives scores of shape {tuple(real.shape)}, not {tuple(y.shape)}")
    return real, fake


def _both_sides(state: State, x: Tensor, fakes: Tensor, y: Tensor) -> tuple[Scored, Scored]:
    """Both sides of a critic step.

    Where a constraint differentiates the scores by the samples, these require grad and D runs in float32.
    """
    fakes = fakes.to(x.dtype)
    if any(constraint.input_gradients for constraint in state.constraints.values()):
        x, fakes = x.requires_grad_(), fakes.requires_grad_()
        real, fake = score(state, x, fakes, y)
    else:
        with state.autocast():
            real, fake = score(state, x, fakes, y)
    return Scored(x, y, real), Scored(fakes, y, fake)


def descend(state: State, player: Player, loss: Tensor) -> None:
    """One step of a player's optimiser down the gradient of its loss, averaged over processes."""
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


def _one_weight(state: State) -> AbstractContextManager[None]:
    """D's weights are computed once in a step, however often D is called: spectral normalisation iterates once."""
    return parametrize.cached() if state.constraints else nullcontext()


def _cycle(labels: Tensor | None, n: int) -> Tensor:
    """n labels for fakes: those of the last real batch, repeated or cut where G's batch is of another size."""
    assert labels is not None, "a generator step follows a critic step"
    size = labels.shape[0]
    return labels if size == n else labels.repeat(-(-n // size))[:n]
