"""The optimal Wasserstein critic of two sides where one is known, and how near a trained critic comes to it."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

import attrs
import torch
from torch import Tensor, nn

from ganframe.analysis.exact import Line, optimal_critic, w1_on_the_line
from ganframe.components import Distribution
from ganframe.declarations import score_gradients

SAMPLES = 200_000  # of each side, for W1 as the difference of an optimal critic's means
PART = 1_000  # drawn at a time
SEED = 0


@attrs.frozen(eq=False)
class Optimum:
    """W1 of two sides with its standard error, and the scores x (n, *shape) -> (n,) of a critic that attains it.

    `samples` of each side gave W1; None where it comes from quadrature, without a sampling error.
    """

    w1: float
    error: float
    samples: int | None
    critic: Callable[[Tensor], Tensor]


def known_optimum(p: Any, q: Any, line: Line | None, device: torch.device) -> Optimum | None:
    """The optimum of two sides, p scored high: what `p.optimal_critic` says, or else by quadrature on the line."""
    if isinstance(p, Distribution) and isinstance(q, Distribution):
        try:
            critic = p.optimal_critic(q)
        except NotImplementedError:
            pass
        else:
            w1, error = _difference_of_means(p, q, critic, device)
            return Optimum(w1, error, SAMPLES, critic)
    return None if line is None else Optimum(w1_on_the_line(line), 0.0, None, _critic_on(line))


@torch.no_grad()
def _difference_of_means(
    p: Distribution, q: Distribution, critic: Callable[[Tensor], Tensor], device: torch.device
) -> tuple[float, float]:
    """E_p of a critic less its E_q, by SAMPLES of each side, and the standard error from the scatter between parts.

    Both sides are drawn from the same seed: where one is made by moving the points of the other, much of the error is
    the same on both and cancels.
    """
    one, other = (torch.Generator(device).manual_seed(SEED) for _ in range(2))
    parts = torch.stack(
        [
            critic(p.draw(PART, one)[0]).double().mean() - critic(q.draw(PART, other)[0]).double().mean()
            for _ in range(SAMPLES // PART)
        ]
    )
    return parts.mean().item(), parts.std().item() / math.sqrt(len(parts))


def _critic_on(line: Line) -> Callable[[Tensor], Tensor]:
    """The optimal critic on the line, linear between the points of its grid, so that it can be differentiated."""
    values, start, step = optimal_critic(line), line.x[0], line.x[1] - line.x[0]

    def scores(x: Tensor) -> Tensor:
        place = (x.flatten(1)[:, 0].cpu().double() - start) / step
        cell = place.detach().long().clamp(0, len(values) - 2)
        return values[cell] + (values[cell + 1] - values[cell]) * (place - cell)

    return scores


@attrs.frozen
class Agreement:
    """How a critic D agrees with an optimal one D* at samples of p (Korotin et al. 2022), with standard errors.

    `cosine` is the mean of cos(∇D(x), ∇D*(x)), `l2` that of ‖∇D(x) - ∇D*(x)‖². A generator that is trained with D
    follows ∇D alone.
    """

    cosine: float
    cosine_error: float
    l2: float
    l2_error: float


def agreement(D: nn.Module, critic: Callable[[Tensor], Tensor], x: Tensor, part: int = 1_000) -> Agreement:
    """The agreement of D with an optimal critic at x (n, *shape), without labels. D is in evaluation mode."""
    pairs = [_gradients(D, critic, some) for some in x.split(part)]
    own, best = (torch.cat(side) for side in zip(*pairs, strict=True))
    cosines, squares = torch.cosine_similarity(own, best, dim=1), (own - best).square().sum(1)
    n = math.sqrt(len(x))
    return Agreement(cosines.mean().item(), cosines.std().item() / n, squares.mean().item(), squares.std().item() / n)


def _gradients(D: nn.Module, critic: Callable[[Tensor], Tensor], x: Tensor) -> tuple[Tensor, Tensor]:
    """∇D and ∇D* at x, each (n, numbers of a sample) in float64."""
    x = x.detach().requires_grad_()
    own = score_gradients(D, D(x, torch.zeros(len(x), dtype=torch.long, device=x.device)), x)
    (best,) = torch.autograd.grad(critic(x).sum(), x)
    return own.detach().cpu().double(), best.flatten(1).cpu().double()
