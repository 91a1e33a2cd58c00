"""Which way the losses of an objective move scores. `ganframe.testing.check_objective` asks the same."""

from __future__ import annotations

import itertools
from collections.abc import Callable
from typing import Literal

import torch
from torch import Tensor

from ganframe.components import Objective

Player = Literal["D", "G"]

Slopes = Callable[[Player, Tensor, Tensor], tuple[Tensor, Tensor]]
"""(player, a, b) -> dL/da and dL/db (N,) of that player's loss, for scores a of real samples and b of fakes."""

# In most games D is undecided at scores from 0 to ½. With other target codes the band may be elsewhere or narrower.
BANDS = list(itertools.product((1.0, 0.2), sorted((0.25 * i for i in range(-12, 13)), key=abs)))


def wrong_direction(slopes: Slopes, players: tuple[Player, ...] = ("D", "G")) -> str:
    """What is wrong with the signs of the losses' derivatives, or an empty string.

    Descending L_D must raise a and lower b where D cannot tell real from fake, in one of BANDS. Descending L_G must
    raise b where D classifies b as fake.
    """
    for player in players:
        problem = _of_discriminator if player == "D" else _of_generator
        wrong = problem(slopes, *BANDS[0])
        if wrong and all(problem(slopes, *band) for band in BANDS[1:]):
            return wrong
    return ""


def slopes_of(objective: Objective) -> Slopes:
    """The derivatives of an objective's losses; 0 where a loss does not depend on a score."""

    def slopes(player: Player, a: Tensor, b: Tensor) -> tuple[Tensor, Tensor]:
        a, b = (scores.detach().clone().requires_grad_() for scores in (a, b))
        if player == "D":
            loss = objective.discriminator_loss(a, b)
        else:
            loss = objective.generator_loss(b, a if objective.compares_real else None)
        if not loss.requires_grad:
            return torch.zeros_like(a), torch.zeros_like(b)
        s, t = torch.autograd.grad(loss, (a, b), allow_unused=True)
        return torch.zeros_like(a) if s is None else s, torch.zeros_like(b) if t is None else t

    return slopes


def active_players(slopes: Slopes) -> tuple[Player, ...]:
    """The players whose loss has a slope at any of some scores; the others are trained by terms, or not at all."""
    at = torch.tensor([-100.0, -3.0, -1.0, -0.3, 0.0, 0.3, 1.0, 3.0, 100.0], dtype=torch.float64)
    a, b = torch.cartesian_prod(at, at).unbind(1)
    players: tuple[Player, ...] = ("D", "G")
    return tuple(p for p in players if any(bool(slope.any()) for slope in slopes(p, a, b)))


def is_linear(slopes: Slopes) -> bool:
    """Whether L_D has the same slopes at all scores, as E b - E a: then it has no minimum, unless D is limited."""
    near = torch.linspace(-3, 3, 7, dtype=torch.float64)
    at = torch.cat([near, 1000 * near])
    s, t = slopes("D", at, at.flip(0))
    return bool(s.any() or t.any()) and torch.allclose(s, s[0]) and torch.allclose(t, t[0])


def random_scores(n: int, low: float, high: float) -> Tensor:
    """n scores in float64, uniform from `low` to `high`."""
    return low + (high - low) * torch.rand(n, dtype=torch.float64)


def _of_discriminator(slopes: Slopes, scale: float, shift: float) -> str:
    """What is wrong with L_D's derivatives where both sides have scores in one band, or an empty string."""
    low, high = (shift + scale * random_scores(64, *part) for part in ((0.05, 0.25), (0.3, 0.5)))
    wrong = ""
    for a, b in ((low, high), (high, low)):  # whichever side D rates as more real
        near = slopes("D", a, b)
        # Where D is wrong, a loss with a margin near 0 has a gradient too.
        far = slopes("D", a - 2, b + 2)
        a, b = torch.cat([a, a - 2]), torch.cat([b, b + 2])
        s, t = (torch.cat(both) for both in zip(near, far, strict=True))
        hint = "is a sign swapped, or are real and fake?"
        wrong = wrong or _sign("descending L_D must raise real scores: dL_D/da ≤ 0", a, -s, "a", hint)
        wrong = wrong or _sign("descending L_D must lower fake scores: dL_D/db ≥ 0", b, t, "b", hint)
    return wrong


def _of_generator(slopes: Slopes, scale: float, shift: float) -> str:
    """What is wrong with L_G's derivative where D classifies its samples as fake, or an empty string."""
    a, b = shift + scale * random_scores(64, 0.05, 0.5), shift - scale * random_scores(64, 0.05, 0.5)
    slope = slopes("G", a, b)[1]
    hint = "is a sign swapped? L_G is minimised, like L_D"
    return _sign("descending L_G must raise the scores of fakes: dL_G/db ≤ 0", b, -slope, "b", hint)


def _sign(expected: str, at: Tensor, slope: Tensor, symbol: str, hint: str) -> str:
    """What is wrong, or an empty string: `slope` must be ≥ 0 at each score, and > 0 at one."""
    worst = int(slope.argmin())
    if slope[worst].item() < -1e-12:
        return f"{expected}; at {symbol} = {at[worst]:.3g} the derivative has the wrong sign; {hint}"
    if slope.max().item() <= 0:
        low, high = at.min().item(), at.max().item()
        return f"{expected}, but it is 0 for all {symbol} from {low:.3g} to {high:.3g}; {hint}"
    return ""
