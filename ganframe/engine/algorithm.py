"""Algorithm 1 of Goodfellow et al. 2014: k discriminator steps, one generator step, then callbacks.

A step is three moves: draw a batch, compute the gradient of the player's loss, descend it. The losses are pure
functions (game, batch) -> (loss, logs): they change nothing but the networks' own buffers and torch's random state.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager, nullcontext

import torch
from torch import Tensor

from ganframe.components import Parts, Scored, Term, Turn
from ganframe.declarations import mean_scores
from ganframe.engine.scoring import same_parametrized_weights
from ganframe.engine.state import Batch, Callback, Game, Logs, Player, State, itself

NO_PARTS = Parts()


def train(
    state: State,
    steps: int,
    critic_steps: int,
    callbacks: Iterable[Callback] = (),
    iteration: Callable[[State, int], None] | None = None,
) -> None:
    """Algorithm 1 from `state.step` to `steps`, with k = `critic_steps`.

    `iteration` may take the place of `training_iteration`, as its compiled form does.
    """
    callbacks = tuple(callbacks)
    while state.step < steps:  # for number of training iterations do
        (iteration or training_iteration)(state, critic_steps)
        state.step += 1
        for callback in callbacks:
            callback(state)


def training_iteration(state: State, critic_steps: int) -> None:
    """k discriminator steps and a generator step, then the moving average of G's weights."""
    state.latest = {}
    for buffer in state.step_buffers:
        buffer.fill_(state.number(itself))
    k = critic_steps if state.timetable.starts(state.step) else 0
    for i in range(k):  # for k steps do
        state.last = i == k - 1
        discriminator_step(state)  # update D by ascending its stochastic gradient
    generator_step(state)  # update G by descending its stochastic gradient
    if state.moving_average is not None:
        state.moving_average(state)


def discriminator_step(state: State) -> None:
    """One update of D. Adds its logs to `state.latest`: a penalty that is not due does not hide an earlier one.

    With `state.share_fakes` the batch and the fakes of the last one are kept for the generator step.
    """
    x, y = state.batches()
    batch = Batch(x, y, state.latents(y.shape[0]))
    game = state.timetable.game(state.game, state.step, state.D.updates, state.number)
    if state.share_fakes and state.last:
        with game.scoring.autocast():
            batch = batch._replace(fakes=game.G(batch.z, y))
        state.shared = batch
    with frozen(state.G) if game.terms else nullcontext():
        logs = differentiate(state, state.D, discriminator_loss, game, batch)
        descend(state, state.D)
    for constraint in state.timetable.constraints(state.game, state.number):
        constraint.project(state.D.network)
    state.latest |= logs
    state.labels = y


def discriminator_loss(game: Game, batch: Batch) -> tuple[Tensor, Logs]:
    """L_D on a real batch and as many fakes, which have the y of the real samples, plus each penalty and term.

    G is in training mode, so the running statistics of its BatchNorm follow these fakes too. They then average over
    more samples of the same G, and nothing reads them before evaluation.
    """
    x, y, z, fakes = batch
    assert x is not None
    scoring, logs = game.scoring, {}
    if fakes is None:
        with torch.no_grad(), scoring.autocast():
            fakes = game.G(z, y)
    with scoring.cached_weights():
        real, fake = scoring.both_sides(game.D, x, fakes.detach(), y, z)
        loss = game.objective.discriminator_loss(real.scores, fake.scores)
        logs["loss_discriminator"] = loss.detach()
        logs["score_real"] = mean_scores(real.scores.detach())
        logs["score_fake"] = mean_scores(fake.scores.detach())
        for name, constraint in game.constraints.items():
            penalty = constraint.penalty(game.D, real, fake)
            loss = _with(loss, penalty, game, f"penalty_{name}", logs)
        for name, term, turn in _turns(game, real, fake):
            loss = _with(
                loss, term.discriminator_term(turn), game, f"term_{name}", logs, log_suffix(term, "discriminator")
            )
    return loss, logs


def generator_step(state: State) -> None:
    """One update of G. Adds its logs to `state.latest`."""
    n = state.generator_batch_size
    game = state.timetable.game(state.game, state.step, state.G.updates, state.number)
    if state.shared is not None:
        batch, state.shared = state.shared, None
    else:
        x, y = None, state.labels
        if (
            game.scoring.generator_real or y is None or not game.started
        ):  # D draws no labels before the objective starts
            x, y = state.batches()
        batch = Batch(x, _repeated(y, n), state.latents(n))
    if not game.scoring.generator_real:
        batch = batch._replace(x=None)
    with frozen(state.D):
        logs = differentiate(state, state.G, generator_loss, game, batch)
        descend(state, state.G)
    state.latest |= logs


def generator_loss(game: Game, batch: Batch) -> tuple[Tensor, Logs]:
    """L_G on fakes, and on a real batch where the objective or a term needs one, plus each term.

    D is in training mode here too: its dropout is active, and the running statistics of a BatchNorm follow these fakes.
    """
    x, y, z, fakes = batch
    scoring, logs = game.scoring, {}
    with scoring.cached_weights():
        with scoring.autocast():
            fakes = game.G(z, y) if fakes is None else fakes
            real, fake = scoring.generator_sides(game.D, x, fakes, y, z)
        if game.started:
            compared = real.scores if real is not None and game.objective.compares_real else None
            loss = game.objective.generator_loss(fake.scores, compared)
            logs["loss_generator"] = loss.detach()
        else:
            loss = z.new_zeros(())
        for name, term, turn in _turns(game, real, fake):
            loss = _with(loss, term.generator_term(turn), game, f"term_{name}", logs, log_suffix(term, "generator"))
    return loss, logs


def differentiate(
    state: State, player: Player, loss_of: Callable[[Game, Batch], tuple[Tensor, Logs]], game: Game, batch: Batch
) -> Logs:
    """Leaves the gradient of the player's loss in its weights, and returns the logs.

    With `state.accumulate` = m the loss is the mean over m parts of the batch: of losses that are means over samples,
    the same. Parametrised weights are those of the first part, so spectral normalisation iterates once.
    """
    player.optimizer.zero_grad(set_to_none=True)
    m, reported = state.accumulate, []
    for index, part in enumerate(batch.parts(m)):
        with same_parametrized_weights(*state.G.modules, *state.D.modules) if index else nullcontext():
            loss, logs = loss_of(game, part)
        loss = loss if m == 1 else loss / m
        if loss.requires_grad:  # not where no term is due before the objective starts
            (loss if state.scaler is None else state.scaler.scale(loss)).backward()
        reported.append(logs)
    return reported[0] if m == 1 else _together(reported)


def descend(state: State, player: Player) -> None:
    """One step of a player's optimiser along its gradient, averaged over processes and clipped."""
    gradients = [p.grad for p in player.parameters if p.grad is not None]
    if state.average is not None:
        modules = [*state.G.modules, *state.D.modules]
        state.average(gradients + [b for m in modules for b in m.buffers() if b.is_floating_point()])
    player.updates += 1
    if not gradients:
        return
    if player.max_norm is not None:
        if state.scaler is not None:
            state.scaler.unscale_(player.optimizer)
        torch.nn.utils.clip_grad_norm_(player.parameters, player.max_norm)
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


def log_suffix(term: Term, player: str) -> str:
    """What follows term_<name> in the log: the player's name where the term adds to both losses."""
    both = all(getattr(type(term), m) is not getattr(Term, m) for m in ("discriminator_term", "generator_term"))
    return f"_{player}" if both else ""


def _turns(game: Game, real: Scored | None, fake: Scored) -> Iterator[tuple[str, Term, Turn]]:
    """(name, term, turn) of each term that is due."""
    for name, term in game.terms.items():
        parts = game.parts.get(name, NO_PARTS)
        yield name, term, Turn(game.G, game.D, real, fake, game.objective, game.step, parts)


def _with(loss: Tensor, value: Tensor | None, game: Game, name: str, logs: Logs, suffix: str = "") -> Tensor:
    """The loss plus a penalty or a term, where it has a value, times its factor."""
    if value is None:
        return loss
    logs[name + suffix] = value.detach()
    factor = game.factors.get(name, 1) if game.factors else 1
    return loss + (value if factor == 1 else factor * value)


def _repeated(y: Tensor, n: int) -> Tensor:
    """n labels or conditions for fakes: those of a real batch, repeated or cut where G's batch has another size."""
    size = y.shape[0]
    return y if size == n else torch.cat([y] * -(-n // size))[:n]


def _together(reported: list[Logs]) -> Logs:
    """The logs of the parts of a batch as those of the batch: means of values, all scores."""
    names = dict.fromkeys(name for logs in reported for name in logs)
    found = {name: [logs[name] for logs in reported if name in logs] for name in names}
    return {name: torch.cat(v) if v[0].ndim else torch.stack(v).mean() for name, v in found.items()}
