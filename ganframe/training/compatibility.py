"""Tries the parts of a recipe together on two samples, so that parts that cannot train together are refused at once.

`ganframe.testing` tests one component thoroughly; this is a short check of a recipe's parts as they are.
"""

from __future__ import annotations

import functools
from collections.abc import Callable
from typing import Any

import attrs
import torch
from torch import Tensor, nn

from ganframe.components import DataSpec, Objective, Term
from ganframe.declarations import group_size, growth, has_many_scores, mixes_samples
from ganframe.engine.algorithm import discriminator_loss, generator_loss
from ganframe.engine.state import Batch, Game
from ganframe.engine.timing import ALWAYS
from ganframe.recipes.problems import unexpected
from ganframe.recipes.tables import Recipe
from ganframe.training.directions import active_players, slopes_of, wrong_direction
from ganframe.training.networks import copied, evaluation
from ganframe.training.penalties import penalty_faults


class _Fault(Exception):
    """What is wrong with a part, for the user."""


class LateState(_Fault):
    """A part of the recipe creates state when it is first called."""


def faults(recipe: Recipe, game: Game, spec: DataSpec) -> list[str]:
    """The faults of networks, objective, constraints and terms, each on its own. Changes none of them."""
    found: list[str] = []

    def attempt(trial: Callable[[], Any]) -> Any:
        try:
            return trial()
        except _Fault as fault:
            found.append(str(fault))
            return None

    attempt(lambda: _refuse_other_growth(game))
    with torch.random.fork_rng():
        x = attempt(lambda: _try_generator(recipe, game, spec))
        given = torch.zeros(2 * group_size(game.D), *spec.shape, device=_device_of(game.D)) if x is None else x
        shape = attempt(lambda: _try_discriminator(game, spec, given))
        attempt(lambda: _try_objective(game, shape or torch.Size([2 * group_size(game.D)])))
        if shape is not None:
            found += penalty_faults(game, _batch(recipe, game, spec))
        if not found:
            attempt(lambda: _try_losses(recipe, game, spec))
    return found


def faults_of_single_samples(recipe: Recipe, G: nn.Module, D: nn.Module, spec: DataSpec) -> list[str]:
    """The fault of networks that cannot train on batches of one sample, as under BatchNorm. Changes neither network."""
    device = _device_of(D)
    z, y = torch.zeros(1, recipe.latent.dim, device=device), spec.blank(1, device)
    remedy = "give each process two samples by batch_size and generator_batch_size, or use a network without BatchNorm"
    with torch.random.fork_rng(), torch.no_grad():
        x: Tensor = z
        for player, network in (("generator", G), ("discriminator", D)):
            try:
                x = copied(network, network).train()(x, y)
            except ValueError as error:
                return [f"{player}: cannot train on batches of one sample: {error}; {remedy}"]
            if not x.isfinite().all():
                return [f"{player}: returns non-finite values for a batch of one sample; {remedy}"]
    return []


def _device_of(D: nn.Module) -> torch.device:
    return next((p.device for p in D.parameters()), torch.device("cpu"))


def _batch(recipe: Recipe, game: Game, spec: DataSpec) -> Batch:
    """A batch of two samples, or of two groups where D mixes groups. Its samples are random, its y blank."""
    device, n = _device_of(game.D), 2 * group_size(game.D)
    x, z = torch.randn(n, *spec.shape, device=device), torch.randn(n, recipe.latent.dim, device=device)
    return Batch(x.clamp(-1, 1) if spec.is_image else x, spec.blank(n, device), z)


def _refuse_other_growth(game: Game) -> None:
    """Networks that both declare when they grow must do so at the same steps; one alone may grow."""
    of_G, of_D = growth(game.G), growth(game.D)
    if of_G and of_D and of_G != of_D:
        raise _Fault(
            f"generator, discriminator: they grow at different steps, at {', '.join(map(str, of_G))} and at "
            f"{', '.join(map(str, of_D))}; give both tables the same schedule of stages"
        )


def _try_generator(recipe: Recipe, game: Game, spec: DataSpec) -> Tensor:
    """G's samples for latents of 0."""
    G, device, n = game.G, _device_of(game.D), 2 * group_size(game.D)
    y, z = spec.blank(n, device), torch.zeros(n, recipe.latent.dim, device=device)
    with evaluation(G), torch.no_grad():
        x: Tensor = _call("generator: G(z, y)", lambda: G(z, y))
    if x.shape[1:] != spec.shape:
        raise _Fault(f"generator: returns samples of shape {tuple(x.shape[1:])}; the data has {spec.shape}")
    return x


def _try_discriminator(game: Game, spec: DataSpec, x: Tensor) -> torch.Size:
    """The shape of D's scores."""
    D, size, n = game.D, group_size(game.D), len(x)
    y = spec.blank(n, x.device)
    with evaluation(D):
        with torch.no_grad():
            scores = _call("discriminator: D(x, y)", lambda: D(x, y))
        if not has_many_scores(D) and scores.shape != (n,):
            raise _Fault(
                f"discriminator: returns scores of shape {tuple(scores.shape)} for {n} samples, not ({n},); set "
                "many_scores = True on a network that is meant to return more than one for each sample"
            )
        if scores.shape[:1] != (n,):
            raise _Fault(f"discriminator: returns scores of shape {tuple(scores.shape)} for {n} samples")
        if not mixes_samples(D):
            _check_independence(D, torch.randn_like(x, requires_grad=True), y, size)
    return scores.shape


def _check_independence(D: nn.Module, x: Tensor, y: Tensor, size: int) -> None:
    """∂D(x)_i/∂x_j must be 0 unless D declares that it mixes i and j. D is in evaluation mode, so nothing changes."""
    scores = _call("discriminator: D(x, y)", lambda: D(x, y))
    (slope,) = torch.autograd.grad(scores[0].sum(), x, allow_unused=True)
    if slope is not None and bool(slope[size:].any()):
        raise _Fault(
            "discriminator: the score of one sample depends on another sample; set mixes_samples = True on a layer or "
            "network that is meant to mix samples, and real and fake samples are scored in separate calls"
        )


def _try_objective(game: Game, shape: torch.Size) -> None:
    objective = game.objective
    # Not zeros: losses of distances between scores have no gradient there.
    a, b = (torch.randn(shape, device=_device_of(game.D), requires_grad=True) for _ in range(2))
    real = a if objective.compares_real else None
    losses = [
        _check_loss("discriminator_loss(real, fake)", lambda: objective.discriminator_loss(a, b), game),
        _check_loss("generator_loss(fake, real)", lambda: objective.generator_loss(b, real), game),
    ]
    if not game.terms and not any(slope.any() for loss in losses for slope in _slopes(loss, a, b)):
        raise _Fault("objective: both losses have no gradient, so nothing would be trained; add [[terms]] that train")
    wrong = _wrong_direction(objective)
    if wrong:
        raise _Fault(f"objective: {wrong}")


def _wrong_direction(objective: Objective) -> str:
    """What is wrong with the signs of the losses, or nothing; nothing too for losses that are not of scores (N,)."""
    slopes = slopes_of(objective)
    if objective.scores_are_vectors:
        return ""
    try:
        return wrong_direction(slopes, active_players(slopes))
    except Exception:  # of scores (64,) in float64 on the CPU, which no step has
        return ""


def _slopes(loss: Tensor, *scores: Tensor) -> list[Tensor]:
    return [slope for slope in torch.autograd.grad(loss, scores, allow_unused=True) if slope is not None]


def _try_losses(recipe: Recipe, game: Game, spec: DataSpec) -> None:
    """Both losses with each term, on a copy of the game. A term must give a scalar or None, and have its state already.

    Penalties are tried too where D returns many scores or mixes groups, which not all of them support.
    """
    unusual = has_many_scores(game.D) or group_size(game.D) > 1
    if not game.terms and not unusual:
        return
    batch = _batch(recipe, game, spec)
    G, D, parts = copied((game.G, game.D, game.parts), game.G, game.D)
    tried = attrs.evolve(game, G=G, D=D, parts=parts)
    before = state_keys(tried)
    for player, loss_of in (("discriminator", discriminator_loss), ("generator", generator_loss)):
        alone = attrs.evolve(tried, constraints={}, terms={})
        _call(f"objective: {player}_loss", functools.partial(loss_of, alone, _batch_for(alone, player, batch)))
        for index, (name, constraint) in enumerate(tried.constraints.items() if unusual else ()):
            with_it = attrs.evolve(alone, constraints={name: constraint})
            place = f"constraints[{index}]: penalty(D, real, fake)"
            _call(place, functools.partial(discriminator_loss, with_it, batch))
        for index, (name, term) in enumerate(tried.terms.items()):
            with_it = attrs.evolve(alone, terms={name: term})
            given = _batch_for(with_it, player, batch)
            place = f"terms[{index}]: {player}_term(turn)"
            hint = "" if given.x is not None else "; a term that reads turn.real declares needs_real = 'x' or 'scores'"
            _check_extras(tried, index, term, batch)
            _, logs = _call(place, functools.partial(loss_of, with_it, given), hint)
            _check_scalar(place, logs.get(f"term_{name}", logs.get(f"term_{name}_{player}")))
    refuse_late_state(before, tried)
    _try_terms_alone(recipe, tried, batch)


def _try_terms_alone(recipe: Recipe, game: Game, batch: Batch) -> None:
    """G's loss with each term that acts before the objective starts: D may not be called there."""
    start = recipe.timing.get("objective", ALWAYS).start
    for index, (name, term) in enumerate(game.terms.items()):
        if recipe.timing.get(f"terms[{index}]", ALWAYS).start >= start:
            continue
        alone = attrs.evolve(game, constraints={}, terms={name: term}, started=False)
        hint = (
            "; D is not called before objective.start, so a term that reads scores declares needs_real = 'scores', or "
            f"starts later: terms[{index}].start = {start}"
        )
        place = f"terms[{index}]: generator_term(turn) before the objective starts"
        _call(place, functools.partial(generator_loss, alone, _batch_for(alone, "generator", batch)), hint)


def _check_extras(game: Game, index: int, term: Term, batch: Batch) -> None:
    """D must fill what the term reads of it."""
    extras: dict[str, Tensor] = {}
    if term.needs_extras:
        _call("discriminator: D(x, y, extras)", lambda: game.D(batch.x, batch.y, extras))
    missing = [name for name in term.needs_extras if name not in extras]
    if missing:
        there = f"gives {', '.join(extras)}" if extras else "gives nothing"
        raise _Fault(f"terms[{index}]: reads {', '.join(missing)} of the discriminator, which {there}")


def _batch_for(game: Game, player: str, batch: Batch) -> Batch:
    """The batch as the player's step would have it."""
    return batch if player == "discriminator" or game.scoring.generator_real else batch._replace(x=None)


def state_keys(game: Game) -> set[tuple[str, str]]:
    """(owner, name) of every weight and buffer that a checkpoint holds."""
    owners = [("generator", game.G), ("discriminator", game.D)]
    for name, part in game.parts.items():
        owners += [(f"term '{name}': its {player} part", module) for player, module in part.trained.items()]
    return {(owner, key) for owner, module in owners for key in module.state_dict()}


def refuse_late_state(before: set[tuple[str, str]], game: Game) -> None:
    """Raises LateState where a weight or buffer has appeared since `before`: a new network would not have it."""
    new = sorted(state_keys(game) - before)
    if new:
        owner, name = new[0]
        raise LateState(
            f"{owner}: '{name}' appears in the first step, and a checkpoint with it could not be resumed; create it "
            "in build, wrap or prepare"
        )


def _check_scalar(place: str, value: Tensor | None) -> None:
    if value is not None and value.shape != ():
        raise _Fault(f"{place} returns a tensor of shape {tuple(value.shape)}, not a scalar; is .mean() missing?")


def _check_loss(name: str, loss_of: Callable[[], Tensor], game: Game) -> Tensor:
    """The loss: a scalar with a gradient. Beside terms it may be a constant 0."""
    loss = _call(f"objective: {name}", loss_of)
    scalar = isinstance(loss, Tensor) and loss.shape == ()
    if not scalar or not (loss.requires_grad or (game.terms and loss == 0)):
        shape = f" of shape {tuple(loss.shape)}" if isinstance(loss, Tensor) else ""
        hint = "is .mean() or return missing? ganframe.testing.check_objective tells more"
        raise _Fault(f"objective: {name} returns a {type(loss).__name__}{shape}, not a scalar with a gradient; {hint}")
    return loss


def _call(what: str, call: Callable[[], Any], hint: str = "") -> Any:
    """What a component's code returns. What it raises becomes one line, unless GANFRAME_STRICT=1."""
    try:
        return call()
    except Exception as error:
        if isinstance(error, ValueError):
            raise _Fault(f"{what}: {error}") from error
        raise _Fault(f"{what} {unexpected(error)}{hint}") from error
