"""Tries penalties on a copy of the discriminator, so that one that cannot train is refused before anything does."""

from __future__ import annotations

from typing import Any

import attrs
import torch
from torch import Tensor, nn

from ganframe.components import Constraint
from ganframe.engine.state import Batch, Game
from ganframe.recipes.problems import unexpected
from ganframe.training.networks import copied

FREED = "penalty frees the graph of the scores; use create_graph=True"
NOT_REACHED = "no gradient of the penalty reaches D's weights; is create_graph=True missing, or a tensor detached?"


def remedy(text: str, called: bool) -> str:
    """What to do about torch's error `text` in a penalty, which has called D itself or not; "" for other errors."""
    if "not require grad" not in text and "not have been used" not in text:
        return ""
    where = (
        "points x̂ at which the penalty calls D need x̂.requires_grad_()"
        if called
        else "a penalty that differentiates real.scores or fake.scores needs input_gradients = True"
    )
    return f"scores have no gradient with respect to x ({text}); {where}"


def penalty_faults(game: Game, batch: Batch) -> list[str]:
    """A line for each constraint whose penalty fails or does not reach D's weights. Changes none of the networks."""
    found = []
    for index, (name, constraint) in enumerate(game.constraints.items()):
        if type(constraint).penalty is Constraint.penalty:
            continue
        fault = _fault(attrs.evolve(game, constraints={name: constraint}, terms={}), constraint, batch)
        if fault:
            found.append(f"constraints[{index}]: {fault}")
    return found


def _fault(game: Game, constraint: Any, batch: Batch) -> str:
    """What is wrong with the penalty on D's scores of this batch, real, and of as many other samples; or nothing."""
    assert batch.x is not None
    D = copied(game.D, game.D)
    weights = [p for p in D.parameters() if p.requires_grad]
    called: list[bool] = []
    with game.scoring.cached_weights():
        real, fake = game.scoring.both_sides(D, batch.x, batch.x.flip(0).mul(0.9), batch.y, batch.z)
        handle = D.register_forward_pre_hook(lambda *_: called.append(True))
        try:
            value = constraint.penalty(D, real, fake)
        except Exception as error:
            text = str(error).partition("\n")[0]
            if isinstance(error, ValueError):
                return f"penalty(D, real, fake): {error}"
            return remedy(text, bool(called)) or f"penalty(D, real, fake) {unexpected(error)}"
        finally:
            handle.remove()
        if value is None or not weights:
            return ""
        if not isinstance(value, Tensor):
            return f"penalty(D, real, fake) returns a {type(value).__name__}, not a tensor or None"
        if value.shape != ():
            return (
                f"penalty(D, real, fake) returns a tensor of shape {tuple(value.shape)}, not a scalar; is .mean() "
                "missing?"
            )
        return _gradient_fault(value, real.scores, fake.scores, weights)


def _gradient_fault(value: Tensor, a: Tensor, b: Tensor, weights: list[nn.Parameter]) -> str:
    """What is wrong with the gradient of D's loss, here the mean difference of scores, plus the penalty."""
    if not value.requires_grad:
        return NOT_REACHED if value.item() else ""  # a constant 0, as of a penalty that is not due
    try:
        slopes = torch.autograd.grad(value, weights, allow_unused=True, retain_graph=True)
        torch.autograd.grad(a.mean() - b.mean() + value, weights, allow_unused=True)
    except RuntimeError as error:
        if "second time" in str(error):
            return FREED
        return f"penalty(D, real, fake): its gradient {unexpected(error)}"
    return NOT_REACHED if all(slope is None for slope in slopes) else ""
