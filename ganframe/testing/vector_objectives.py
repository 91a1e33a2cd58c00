"""Checks of objectives that compare vectors (N, F), one of each sample, as MMD and the energy distance do."""

from __future__ import annotations

import math
from typing import Any

import torch
from torch import Tensor

from ganframe.testing.common import DEVICE, calling, require, require_same_device

FEATURES, APART = 3, 0.5


def check_vector_objective(name: str, game: Any) -> None:
    """Checks both losses of an objective as functions of vectors of real and fake samples.

    - Each loss is a scalar with the vectors' dtype and device, of the same size in batches of any size, and does not
      depend on the order of real or of fake samples. Scores (N,) raise ValueError.
    - Descending L_D moves the means of both sides apart; descending L_G moves the fakes towards the real samples.
    - Losses and gradients are finite where all vectors are equal, for a single sample, and at ±100.

    Raises AssertionError for the first property that is violated.
    """
    for player in ("D", "G"):
        _check_form(name, game, player)
        _check_order(name, game, player)
        _check_size(name, game, player)
        _check_finite(name, game, player)
    _check_direction(name, game)


def _evaluate(name: str, game: Any, player: str, a: Tensor, b: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """A player's loss, and its gradients by the vectors of real and of fake samples."""
    a, b = (vectors.detach().clone().requires_grad_() for vectors in (a, b))
    real, fake = a.clone(), b.clone()
    method = "discriminator_loss(real, fake)" if player == "D" else "generator_loss(fake, real)"
    with calling(f"{name}: {method}, vectors of shape {tuple(a.shape)} in {a.dtype},"):
        if player == "D":
            loss = game.discriminator_loss(real, fake)
        else:
            loss = game.generator_loss(fake, real if game.compares_real else None)
    require(isinstance(loss, Tensor), f"{name}: L_{player} must be a tensor, not {type(loss).__name__}")
    require(loss.shape == (), f"{name}: L_{player} must be a scalar; its shape is {tuple(loss.shape)}")
    require(loss.dtype == a.dtype, f"{name}: L_{player} of vectors in {a.dtype} must be in {a.dtype}, not {loss.dtype}")
    require(loss.requires_grad, f"{name}: L_{player} has no gradient: compute it from the vectors by torch")
    if a.device.type != "meta":
        same = torch.equal(real, a) and torch.equal(fake, b)
        require(same, f"{name}: L_{player} changes the scores in place; the engine needs them unchanged")
    slopes = torch.autograd.grad(loss, (a, b), allow_unused=True)
    by_a, by_b = (torch.zeros_like(a) if slope is None else slope for slope in slopes)
    return loss.detach(), by_a, by_b


def _vectors(n: int, shift: float, dtype: torch.dtype = torch.float64) -> Tensor:
    """n normal vectors around (shift, …, shift)."""
    return torch.randn(n, FEATURES, dtype=dtype) + shift


def _check_form(name: str, game: Any, player: str) -> None:
    _evaluate(name, game, player, _vectors(8, APART, torch.float32), _vectors(8, -APART, torch.float32))
    with require_same_device(f"{name}: L_{player}"):
        zeros = torch.zeros(4, FEATURES, device=DEVICE)
        loss, *_ = _evaluate(name, game, player, zeros, zeros)
        require(loss.device.type == DEVICE, f"{name}: L_{player} must be on the device of the scores")
    scores = torch.zeros(4, requires_grad=True)
    try:
        game.discriminator_loss(scores, scores) if player == "D" else game.generator_loss(scores, scores)
    except ValueError:
        return
    except Exception as error:
        what = f"raises {type(error).__name__}"
    else:
        what = "accepts them"
    raise AssertionError(
        f"{name}: scores_are_vectors, so L_{player} must raise ValueError for scores of shape (4,), which says that "
        f"the discriminator must return vectors; it {what}"
    )


def _check_order(name: str, game: Any, player: str) -> None:
    a, b = _vectors(8, APART), _vectors(8, -APART)
    first = _evaluate(name, game, player, a, b)[0].item()
    moved = _evaluate(name, game, player, a[torch.randperm(8)], b[torch.randperm(8)])[0].item()
    require(
        math.isclose(first, moved, rel_tol=1e-6, abs_tol=1e-9),
        f"{name}: L_{player} must not depend on the order of the batch; reordered it is {moved:.6g}, not {first:.6g}",
    )


def _check_size(name: str, game: Any, player: str) -> None:
    """Larger batches of the same distributions must have about the same loss: a sum would be larger."""
    small, large = (
        _evaluate(name, game, player, _vectors(n, 2 * APART), _vectors(n, -2 * APART))[0].item() for n in (128, 512)
    )
    require(
        abs(large - small) <= 0.5 * max(abs(small), abs(large)),
        f"{name}: L_{player} must be a mean over samples, or over pairs of them, but it is {small:.4g} for 128 samples "
        f"and {large:.4g} for 512; is a sum taken?",
    )


def _check_direction(name: str, game: Any) -> None:
    a, b = _vectors(256, APART), _vectors(256, -APART)
    apart = (a.mean(0) - b.mean(0)) / (a.mean(0) - b.mean(0)).norm()
    _, by_a, by_b = _evaluate(name, game, "D", a, b)
    found = ((by_a.sum(0) - by_b.sum(0)) @ apart).item()
    hint = "is a sign swapped, or are real and fake?"
    require(
        found < 0,
        f"{name}: descending L_D must move the vectors of real and fake samples apart; the derivative of L_D by their "
        f"distance is {found:.3g}; {hint}",
    )
    _, _, by_b = _evaluate(name, game, "G", a, b)
    found = (by_b.sum(0) @ apart).item()
    require(
        found < 0,
        f"{name}: descending L_G must move the vectors of fake samples towards the real ones; the derivative of L_G in "
        f"that direction is {found:.3g}; {hint} L_G is minimised, like L_D",
    )


def _check_finite(name: str, game: Any, player: str) -> None:
    for n in (1, 4):
        for real, fake in ((0.0, 0.0), (1.0, 1.0), (100.0, -100.0)):
            a, b = (torch.full((n, FEATURES), value) for value in (real, fake))
            found = _evaluate(name, game, player, a, b)
            require(
                all(bool(value.isfinite().all()) for value in found),
                f"{name}: L_{player} or its gradient is not finite for {n} real and fake vectors that are all {real:g} "
                f"and all {fake:g}; is a root differentiated at 0, or a mean of no pairs taken?",
            )
