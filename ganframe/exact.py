"""What a critic would measure at its best: by quadrature between densities on the line, by transport between samples.

Knows objectives and densities; nothing of networks or training.
"""

from __future__ import annotations

from typing import Any

import attrs
import torch
from scipy.optimize import linear_sum_assignment
from torch import Tensor

from ganframe.components import DataSpec, Distribution, Objective


@attrs.frozen
class Line:
    """Two known densities on the line: log p and log q (n,) in float64, at evenly spaced x (n,) that hold both."""

    x: Tensor
    log_p: Tensor
    log_q: Tensor


def on_the_line(p: Any, q: Any, spec: DataSpec, n: int = 400_001) -> Line | None:
    """Two distributions' densities on a grid far wider than their samples; None where they are unknown or not 1-D."""
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


def best_score(objective: Objective, line: Line) -> Tensor | None:
    """The score (n,) of the best critic; None where it is not known."""
    try:
        return objective.optimal_score(line.log_p - line.log_q)
    except NotImplementedError:
        return None


def exact_value(objective: Objective, line: Line) -> float | None:
    """The greatest value of -L_D between two known densities, by quadrature; None where it is not known.

    For L_D = E b - E a, over critics of slope 1, it is W1 = ∫|P - Q| dx of the distribution functions. Else -L_D is
    taken at the best critic, `objective.optimal_score`; its loss must be a sum of a term of the real scores and one of
    the fake ones, as all but the relativistic ones are.
    """
    p, q = line.log_p.exp(), line.log_q.exp()
    if is_difference_of_means(objective):
        apart = torch.cumulative_trapezoid(p - q, line.x).abs()
        return torch.trapezoid(apart, line.x[1:]).item()
    score = best_score(objective, line)
    if score is None:
        return None

    def loss(a: Tensor, b: Tensor) -> Tensor:
        """L_D of pairs of scores, one by one."""
        return torch.func.vmap(lambda a, b: objective.discriminator_loss(a[None], b[None]))(a, b)

    one, other = torch.tensor([0.3, 0.1], dtype=torch.float64), torch.tensor([-0.2, 0.5], dtype=torch.float64)
    if not torch.allclose(loss(one, other).sum(), loss(one, other.flip(0)).sum()):
        return None
    middle = objective.optimal_score(torch.zeros(1, dtype=torch.float64))
    of_real, of_fake = loss(score, middle.expand_as(score)), loss(middle.expand_as(score), score)
    real = torch.where(p > 1e-300, p * of_real, 0.0)
    fake = torch.where(q > 1e-300, q * of_fake, 0.0)
    return -(torch.trapezoid(real, line.x) + torch.trapezoid(fake, line.x) - loss(middle, middle)[0]).item()


def is_difference_of_means(objective: Objective) -> bool:
    """Whether L_D is E b - E a, whose least value over critics of slope 1 is -W1."""
    a, b = torch.randn(2, 8, dtype=torch.float64, generator=torch.Generator().manual_seed(0))
    return torch.isclose(objective.discriminator_loss(a, b), b.mean() - a.mean()).item()  # type: ignore[return-value]


def transport(x: Tensor, y: Tensor) -> float:
    """W1 between as many samples x and y (n, *shape) of each side, by the cheapest assignment of one to the other."""
    costs = torch.cdist(x.flatten(1).double().cpu(), y.flatten(1).double().cpu())
    rows, columns = linear_sum_assignment(costs.numpy())
    return costs[rows, columns].mean().item()
