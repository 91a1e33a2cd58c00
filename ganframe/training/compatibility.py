"""Tries the parts of a recipe together on two samples, so that parts that cannot train together are refused at once.

`ganframe.testing` tests one component thoroughly; this is a short check of a recipe's parts as they are.
"""

from __future__ import annotations

import copy
from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor, nn

from ganframe.components import DataSpec, mixes_samples
from ganframe.recipes.tables import Recipe
from ganframe.training.problems import unexpected


class _Fault(Exception):
    """What is wrong with a part, for the user."""


def faults(recipe: Recipe, G: nn.Module, D: nn.Module, spec: DataSpec) -> list[str]:
    """The first fault of the networks or the objective, or nothing. Changes neither network."""
    try:
        _try(recipe, G, D, spec)
    except _Fault as fault:
        return [str(fault)]
    return []


def faults_of_single_samples(recipe: Recipe, G: nn.Module, D: nn.Module) -> list[str]:
    """The fault of networks that cannot train on batches of one sample, as under BatchNorm. Changes neither network."""
    device = next((p.device for p in D.parameters()), torch.device("cpu"))
    z, y = torch.zeros(1, recipe.latent.dim, device=device), torch.zeros(1, dtype=torch.long, device=device)
    remedy = "give each process two samples by batch_size and generator_batch_size, or use a network without BatchNorm"
    with torch.random.fork_rng(), torch.no_grad():
        x: Tensor = z
        for player, network in (("generator", G), ("discriminator", D)):
            try:
                x = copy.deepcopy(network).train()(x, y)
            except ValueError as error:
                return [f"{player}: cannot train on batches of one sample: {error}; {remedy}"]
            if not x.isfinite().all():
                return [f"{player}: returns non-finite values for a batch of one sample; {remedy}"]
    return []


def _try(recipe: Recipe, G: nn.Module, D: nn.Module, spec: DataSpec) -> None:
    device = next((p.device for p in D.parameters()), torch.device("cpu"))
    y = torch.zeros(2, dtype=torch.long, device=device)
    with torch.random.fork_rng():
        z = torch.zeros(2, recipe.latent.dim, device=device)
        with torch.no_grad():
            x = _call("generator: G(z, y)", lambda: G.eval()(z, y))
            if x.shape[1:] != spec.shape:
                raise _Fault(f"generator: returns samples of shape {tuple(x.shape[1:])}; the data has {spec.shape}")
            scores = _call("discriminator: D(x, y)", lambda: D.eval()(x, y))
            if scores.shape != y.shape:
                shape = tuple(scores.shape)
                raise _Fault(f"discriminator: returns scores of shape {shape} for 2 samples, not (2,)")
        if not mixes_samples(D):
            _check_independence(D, torch.randn_like(x, requires_grad=True), y)
    G.train()
    D.train()
    objective, scores = recipe.objective, torch.zeros(2, device=device, requires_grad=True)
    real = scores if objective.compares_real else None
    _check_loss("discriminator_loss(real, fake)", lambda: objective.discriminator_loss(scores, scores))
    _check_loss("generator_loss(fake, real)", lambda: objective.generator_loss(scores, real))


def _check_independence(D: nn.Module, x: Tensor, y: Tensor) -> None:
    """∂D(x)_0/∂x_1 must be 0 unless D declares that it mixes samples. D is in evaluation mode, so nothing changes."""
    scores = _call("discriminator: D(x, y)", lambda: D(x, y))
    (slope,) = torch.autograd.grad(scores[0], x, allow_unused=True)
    if slope is not None and bool(slope[1].any()):
        raise _Fault(
            "discriminator: the score of one sample depends on another sample; set mixes_samples = True on a layer or "
            "network that is meant to mix samples, and real and fake samples are scored in separate calls"
        )


def _check_loss(name: str, loss_of: Callable[[], Any]) -> None:
    loss = _call(f"objective: {name}", loss_of)
    if not isinstance(loss, Tensor) or loss.shape != () or not loss.requires_grad:
        shape = f" of shape {tuple(loss.shape)}" if isinstance(loss, Tensor) else ""
        hint = "is .mean() or return missing? ganframe.testing.check_objective tells more"
        raise _Fault(f"objective: {name} returns a {type(loss).__name__}{shape}, not a scalar with a gradient; {hint}")


def _call(what: str, call: Callable[[], Any]) -> Any:
    """What a component's code returns. What it raises becomes one line, unless GANFRAME_STRICT=1."""
    try:
        return call()
    except Exception as error:
        raise _Fault(f"{what} {unexpected(error)}") from error
