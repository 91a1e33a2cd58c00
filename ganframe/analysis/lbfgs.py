"""Limited-memory BFGS (Nocedal & Wright 2006, algorithm 7.4) for many independent problems at once.

`torch.optim.LBFGS` has one history and one step length for all that it moves. Here each row has its own, so the result
of a row does not depend on the others.
"""

from __future__ import annotations

from collections.abc import Callable

import attrs
import torch
from torch import Tensor

DECREASE = 1e-4  # of what the slope promises: a step that decreases f less is shortened (Armijo)
SHORTER = 0.4  # a step that was too long becomes so much of it
SHORTEST = 1e-4  # steps shorter than this start again from the gradient, without a history


@attrs.define
class _History:
    """The last moves of each row and the changes of its gradient, (m, N, d), the newest last; zeros where none is."""

    moves: Tensor
    changes: Tensor

    def add(self, move: Tensor, change: Tensor, rows: Tensor) -> None:
        chosen = rows[:, None]
        self.moves = torch.where(chosen, torch.cat([self.moves[1:], move[None]]), self.moves)
        self.changes = torch.where(chosen, torch.cat([self.changes[1:], change[None]]), self.changes)

    def forget(self, rows: Tensor) -> None:
        self.moves[:, rows], self.changes[:, rows] = 0, 0

    def direction(self, gradient: Tensor, first: float) -> Tensor:
        """-H · gradient by the two loops; without a history, a step of length `first` along the gradient."""
        products = (self.moves * self.changes).sum(-1)
        rho = torch.where(products > 0, 1 / products, 0)  # 0 where there is no move yet
        q, weights = gradient, []
        for rho_i, move, change in zip(rho.flip(0), self.moves.flip(0), self.changes.flip(0), strict=True):
            weights.append(rho_i * (move * q).sum(1))
            q = q - weights[-1][:, None] * change
        squares = self.changes[-1].square().sum(1)
        plain = first / gradient.norm(dim=1).clamp(min=1e-30)
        q = q * torch.where(squares > 0, products[-1] / squares, plain)[:, None]
        for rho_i, move, change, weight in zip(rho, self.moves, self.changes, reversed(weights), strict=True):
            q = q + move * (weight - rho_i * (change * q).sum(1))[:, None]
        return -q


def minimise(
    f: Callable[[Tensor], tuple[Tensor, Tensor]], start: Tensor, steps: int, first: float = 0.1, memory: int = 10
) -> tuple[Tensor, Tensor]:
    """The lowest points (N, d) that were found from `start`, and f there (N,), after `steps` + 1 calls of f.

    `f` gives the values (N,) and the gradients (N, d) at points (N, d). A step where f, or its gradient, is not finite
    counts as too long. `first` is the length of the first step.
    """
    z = start
    value, gradient = f(z)
    history = _History(z.new_zeros(memory, *z.shape), z.new_zeros(memory, *z.shape))
    direction, length = history.direction(gradient, first), torch.ones_like(value)
    for _ in range(steps):
        tried = z + length[:, None] * direction
        new, slope = f(tried)
        finite = new.isfinite() & slope.isfinite().all(1)
        promised = length * (gradient * direction).sum(1)
        better = finite & (new <= value + DECREASE * promised)
        move, change = tried - z, slope - gradient
        curved = better & ((move * change).sum(1) > 1e-10 * change.square().sum(1)) & (move * change).sum(1).gt(1e-30)
        history.add(move, change, curved)
        chosen = better[:, None]
        z, gradient = torch.where(chosen, tried, z), torch.where(chosen, slope, gradient)
        value, length = torch.where(better, new, value), torch.where(better, 1.0, length * SHORTER)
        stuck = length < SHORTEST
        history.forget(stuck)
        length = torch.where(stuck, 1.0, length)
        fresh = history.direction(gradient, first)
        uphill = (fresh * gradient).sum(1) >= 0  # by rounding; the gradient itself is always a way down
        fresh = torch.where(uphill[:, None], -gradient, fresh)
        direction = torch.where((better | stuck)[:, None], fresh, direction)
    return z, value
