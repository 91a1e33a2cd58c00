"""Tries the parts of a recipe together on two samples, so that what cannot train is refused before it does.

Knows what each part promises; `ganframe.testing` asks one part for all of it.
"""

from __future__ import annotations

import copy
import os
from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor, nn

from ganframe.components import DataSpec, mixes_samples
from ganframe.plugins import STRICT_VARIABLE
from ganframe.recipe import Recipe


class _Fault(Exception):
    """What is wrong with a part, for the user."""


def faults(recipe: Recipe, G: nn.Module, D: nn.Module, spec: DataSpec) -> list[str]:
    """What is wrong with networks or objective: the first thing found, or nothing. Changes neither network."""
    try:
        _try(recipe, G, D, spec)
    except _Fault as fault:
        return [str(fault)]
    return []


def faults_alone(recipe: Recipe, G: nn.Module, D: nn.Module) -> list[str]:
    """What is wrong with batches of one sample, of which BatchNorm has no statistics. Changes neither network."""
    device = next((p.device for p in D.parameters()), torch.device("cpu"))
    z, y = torch.zeros(1, recipe.latent.dim, device=device), torch.zeros(1, dtype=torch.long, device=device)
    remedy = "batch_size and generator_batch_size must leave each process two samples, or the network be without it"
    with torch.random.fork_rng(), torch.no_grad():
        x: Tensor = z
        for player, network in (("generator", G), ("discriminator", D)):
            try:
                x = copy.deepcopy(network).train()(x, y)
            except ValueError as error:
                return [f"{player}: does not train on batches of one sample: {error}; {remedy}"]
            if not x.isfinite().all():
                return [f"{player}: gives what is not finite for a batch of one sample; {remedy}"]
    return []


def _try(recipe: Recipe, G: nn.Module, D: nn.Module, spec: DataSpec) -> None:
    device = next((p.device for p in D.parameters()), torch.device("cpu"))
    y = torch.zeros(2, dtype=torch.long, device=device)
    with torch.random.fork_rng():
        z = torch.zeros(2, recipe.latent.dim, device=device)
        with torch.no_grad():
            x = _asked("generator: G(z, y)", lambda: G.eval()(z, y))
            if x.shape[1:] != spec.shape:
                raise _Fault(f"generator: gives samples of shape {tuple(x.shape[1:])}; the data has {spec.shape}")
            scores = _asked("discriminator: D(x, y)", lambda: D.eval()(x, y))
            if scores.shape != y.shape:
                shape = tuple(scores.shape)
                raise _Fault(f"discriminator: gives scores of shape {shape} for 2 samples, not (2,)")
        if not mixes_samples(D):
            _try_apart(D, torch.randn_like(x, requires_grad=True), y)
    G.train()
    D.train()
    objective, scores = recipe.objective, torch.zeros(2, device=device, requires_grad=True)
    real = scores if objective.compares_real else None
    _check_loss("discriminator_loss(real, fake)", lambda: objective.discriminator_loss(scores, scores))
    _check_loss("generator_loss(fake, real)", lambda: objective.generator_loss(scores, real))


def _try_apart(D: nn.Module, x: Tensor, y: Tensor) -> None:
    """∂D(x)_0/∂x_1 must be 0 of a critic that does not say that it mixes samples; evaluation changes nothing in it."""
    scores = _asked("discriminator: D(x, y)", lambda: D(x, y))
    (slope,) = torch.autograd.grad(scores[0], x, allow_unused=True)
    if slope is not None and bool(slope[1].any()):
        raise _Fault(
            "discriminator: one sample's score depends on another sample; a layer or network that is meant to mix "
            "them has the attribute mixes_samples = True, so that real and fake samples are scored apart"
        )


def _check_loss(name: str, game: Callable[[], Any]) -> None:
    loss = _asked(f"objective: {name}", game)
    if not isinstance(loss, Tensor) or loss.shape != () or not loss.requires_grad:
        shape = f" of shape {tuple(loss.shape)}" if isinstance(loss, Tensor) else ""
        hint = "is .mean() or return missing? ganframe.testing.check_objective tells more"
        raise _Fault(f"objective: {name} gives a {type(loss).__name__}{shape}, not a scalar with a gradient; {hint}")


def _asked(what: str, call: Callable[[], Any]) -> Any:
    """What a component's code returns; what it raises becomes one line, but for GANFRAME_STRICT=1."""
    try:
        return call()
    except Exception as error:
        if os.environ.get(STRICT_VARIABLE) == "1":
            raise
        text = str(error).partition("\n")[0]
        shown = f"{type(error).__name__}{text and ': '}{text}"
        raise _Fault(f"{what} raised {shown}; {STRICT_VARIABLE}=1 shows where") from error
