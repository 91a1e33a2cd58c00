"""What a value of -L_D says: where it lies between sides that are equal and sides that D separates completely.

Everything is found from the losses themselves, so it holds for the objectives of any plugin.
"""

from __future__ import annotations

import math

import attrs
import torch
from torch import Tensor
from torch.nn.functional import softplus

from ganframe.components import Objective

FAR = 1e3, 1e4  # log ratios of densities that hardly overlap: a value that still grows between them has no maximum
CLOSE_TO_THE_END = 0.01  # of the range


@attrs.frozen
class Scale:
    """The values of -L_D at both ends, each None where it is unknown, and the second also where it is infinite.

    `indistinguishable` is the maximum over D between two equal sides, `separable` that between sides without overlap.
    `is_jsd`: -L_D is 2 JSD and a constant, so that (value - indistinguishable) / 2 is the Jensen-Shannon divergence.
    """

    indistinguishable: float | None
    separable: float | None
    is_jsd: bool

    def jsd(self, value: float) -> float | None:
        """The Jensen-Shannon divergence in nats, at most log 2; None for other objectives. Never negative.

        None too for a value far below that of equal sides, which says nothing of the sides.
        """
        if not self.is_jsd or self.indistinguishable is None or self._is_worse(value, 0.0):
            return None
        return max(0.0, (value - self.indistinguishable) / 2)

    def verdict(self, value: float, error: float) -> str | None:
        """What to say of a value at one end: "fully separable" or "indistinguishable by this discriminator".

        A constant discriminator reaches the value of equal sides: one below it has learned nothing that holds.
        """
        low, high = self.indistinguishable, self.separable
        if low is None or math.isnan(error):
            return None
        if high is not None and value >= high - CLOSE_TO_THE_END * (high - low):
            return "fully separable"
        if self._is_worse(value, error):
            return "worse than a constant discriminator: not trained enough, overfitted, or diverged"
        return "indistinguishable by this discriminator" if value <= low + 2 * error else None

    def _is_worse(self, value: float, error: float) -> bool:
        """Whether a value is below that of equal sides by more than its error and 1 % of the range."""
        low, high = self.indistinguishable, self.separable
        assert low is not None
        return value < low - 2 * error - CLOSE_TO_THE_END * (1.0 if high is None else high - low)


def scale_of(objective: Objective) -> Scale:
    """Both ends of -L_D for this objective."""
    try:
        low, high = _of_equal_sides(objective), _of_disjoint_sides(objective)
        is_jsd = _is_jsd(objective)
    except ValueError:  # an objective of vectors, or of scores in another form
        return Scale(None, None, False)
    if low is not None and high is not None and high - low < 1e-9:
        return Scale(None, None, False)
    return Scale(low, high, is_jsd)


def _of_equal_sides(objective: Objective) -> float | None:
    """-L_D where the log ratio of the densities is 0 everywhere."""
    nowhere = torch.zeros(1, dtype=torch.float64)
    for score in (_optimal(objective, nowhere), nowhere if _compares_scores_only(objective) else None):
        if score is not None and not score.isnan().any():
            return _finite(_value(objective, score, score))
    return None


def _of_disjoint_sides(objective: Objective) -> float | None:
    """-L_D where the log ratio is far above 0 at real samples and far below at fakes; None where it has no limit."""
    values = []
    for far in FAR:
        ratio = torch.tensor([far, -far], dtype=torch.float64)
        scores = _optimal(objective, ratio)
        if scores is None and _compares_scores_only(objective):
            scores = ratio
        values.append(None if scores is None else _finite(_value(objective, scores[:1], scores[1:])))
    first, last = values
    return last if first is not None and last is not None and math.isclose(first, last, abs_tol=1e-9) else None


def _is_jsd(objective: Objective) -> bool:
    """Whether L_D is that of the minimax game, up to a constant."""
    a, b = torch.randn(2, 4, 8, dtype=torch.float64, generator=torch.Generator().manual_seed(0))
    values = (_value(objective, *pair) for pair in zip(a, b, strict=True))
    apart = [v + (softplus(-x).mean() + softplus(y).mean()).item() for v, x, y in zip(values, a, b, strict=True)]
    return all(math.isclose(one, apart[0], abs_tol=1e-9) for one in apart)


def _compares_scores_only(objective: Objective) -> bool:
    """Whether L_D depends on differences of scores alone, as Wasserstein and relativistic losses do."""
    a, b = torch.randn(2, 8, dtype=torch.float64, generator=torch.Generator().manual_seed(0))
    return math.isclose(_value(objective, a, b), _value(objective, a + 1, b + 1), abs_tol=1e-9)


def _optimal(objective: Objective, log_ratio: Tensor) -> Tensor | None:
    try:
        return objective.optimal_score(log_ratio)
    except NotImplementedError:
        return None


def _value(objective: Objective, real: Tensor, fake: Tensor) -> float:
    return 0.0 - objective.discriminator_loss(real, fake).item()  # not -0.0


def _finite(value: float) -> float | None:
    return value if math.isfinite(value) else None
