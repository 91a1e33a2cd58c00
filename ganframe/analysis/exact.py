"""Exact divergences: by quadrature between densities on the line, by optimal transport between samples."""

from __future__ import annotations

from typing import Any

import attrs
import torch
from torch import Tensor

from ganframe.components import DataSpec, Distribution, Objective


@attrs.frozen
class Line:
    """Two densities on the line: log p and log q (n,) in float64, at evenly spaced x (n,) that cover both."""

    x: Tensor
    log_p: Tensor
    log_q: Tensor


def on_the_line(p: Any, q: Any, spec: DataSpec, n: int = 400_001) -> Line | None:
    """The densities of two distributions on a grid far wider than their samples; None if unknown or not 1-D."""
    both = isinstance(p, Distribution) and isinstance(q, Distribution)
    if not both or spec.shape != (1,):
        return None
    generator = torch.Generator().manual_seed(0)
    seen = torch.cat([side.draw(100_000, generator)[0] for side in (p, q)]).double()
    low, high = seen.min().item(), seen.max().item()
    x = torch.linspace(low - 3 * (high - low), high + 3 * (high - low), n, dtype=torch.float64)
    try:
        return Line(x, p.log_density(x[:, None]), q.log_density(x[:, None]))
    except NotImplementedError:
        return None


def optimal_scores(objective: Objective, line: Line) -> Tensor | None:
    """The scores (n,) of the optimal discriminator, or None where they are not known."""
    try:
        return objective.optimal_score(line.log_p - line.log_q)
    except NotImplementedError:
        return None


def exact_value(objective: Objective, line: Line) -> float | None:
    """The maximum of -L_D between two known densities, by quadrature, or None where it is not known.

    For L_D = E b - E a over 1-Lipschitz critics, it is W1. Otherwise it is -L_D at the optimal discriminator,
    `objective.optimal_score`. The loss must then be a sum of a term of the real scores and one of the fake scores, as
    all except the relativistic ones are.
    """
    if is_difference_of_means(objective):
        return w1_on_the_line(line)
    p, q = line.log_p.exp(), line.log_q.exp()
    score = optimal_scores(objective, line)
    if score is None:
        return None

    def loss(a: Tensor, b: Tensor) -> Tensor:
        """L_D of each pair of scores."""
        return torch.func.vmap(lambda a, b: objective.discriminator_loss(a[None], b[None]))(a, b)

    one, other = torch.tensor([0.3, 0.1], dtype=torch.float64), torch.tensor([-0.2, 0.5], dtype=torch.float64)
    if not torch.allclose(loss(one, other).sum(), loss(one, other.flip(0)).sum()):
        return None
    middle = objective.optimal_score(torch.zeros(1, dtype=torch.float64))
    of_real, of_fake = loss(score, middle.expand_as(score)), loss(middle.expand_as(score), score)
    real = torch.where(p > 1e-300, p * of_real, 0.0)
    fake = torch.where(q > 1e-300, q * of_fake, 0.0)
    return -(torch.trapezoid(real, line.x) + torch.trapezoid(fake, line.x) - loss(middle, middle)[0]).item()


def w1_on_the_line(line: Line) -> float:
    """W1 = ∫|P - Q| dx of the distribution functions of two densities."""
    apart = torch.cumulative_trapezoid(line.log_p.exp() - line.log_q.exp(), line.x).abs()
    return torch.trapezoid(apart, line.x[1:]).item()


def optimal_critic(line: Line) -> Tensor:
    """The scores (n,) of a 1-Lipschitz critic whose E a - E b is W1, up to a constant: its slope is -sign(P - Q)."""
    apart = torch.cumulative_trapezoid(line.log_p.exp() - line.log_q.exp(), line.x)
    slope = torch.where(apart.abs() > 1e-9, -apart.sign(), 0.0)  # beyond both supports there is rounding alone
    return torch.cat([torch.zeros(1, dtype=torch.float64), (slope * line.x.diff()).cumsum(0)])


def is_difference_of_means(objective: Objective) -> bool:
    """Whether L_D is E b - E a, whose minimum over 1-Lipschitz critics is -W1."""
    if objective.scores_are_vectors:
        return False
    a, b = torch.randn(2, 8, dtype=torch.float64, generator=torch.Generator().manual_seed(0))
    return torch.isclose(objective.discriminator_loss(a, b), b.mean() - a.mean()).item()  # type: ignore[return-value]


def transport_distance(x: Tensor, y: Tensor) -> float:
    """W1 between two sets of n samples (n, *shape), by the optimal assignment of one to the other."""
    return optimal_cost(distances(x, y))


def distances(x: Tensor, y: Tensor) -> Tensor:
    """The distance of each x (n, *shape) from each y (m, *shape), (n, m) in float64."""
    return torch.cdist(x.flatten(1).double().cpu(), y.flatten(1).double().cpu())


def optimal_cost(costs: Tensor) -> float:
    """The mean cost of the cheapest assignment of rows to columns, of costs (n, n)."""
    from scipy.optimize import linear_sum_assignment  # slow to import

    rows, columns = linear_sum_assignment(costs.numpy())
    return costs[rows, columns].mean().item()


def steepest_pair(costs: Tensor, a: Tensor, b: Tensor) -> float:
    """The largest |a - b| / distance over pairs of a sample of each side, with scores a (n,) and b (m,).

    Where D has this slope L between the two sets of samples, E a - E b of these sets is at most L · W1 between them:
    each assignment of one to the other shows it. Pairs that rounding may make equal do not count.
    """
    apart = costs > 1e-4 * costs.mean()
    slopes = ((a[:, None] - b) / costs).abs()[apart]
    return slopes.max().item() if len(slopes) else 0.0
