"""A lower bound, with a confidence, on the difference of two means: the empirical Bernstein bound.

Audibert, Munos, Szepesvári 2007, "Tuning bandit algorithms in stochastic environments", theorem 1: of n independent
samples of one distribution on an interval of width R, with mean m and variance V = Σ (s - m)² / n, the true mean is
within √(2 V ln(3/δ) / n) + 3 R ln(3/δ) / n of m, with a probability of at least 1 - δ.
"""

from __future__ import annotations

import itertools
import math

import attrs
import torch
from torch import Tensor

TAILS = (0.0, 0.001, 0.01, 0.02, 0.05, 0.1, 0.2)  # shares of scores that may be clamped at either end


@attrs.frozen
class Mean:
    """The mean of n samples and their variance, Σ (s - mean)² / n as in the paper."""

    samples: int
    mean: float
    variance: float

    @classmethod
    def of(cls, scores: Tensor) -> Mean:
        """That of scores (n,), in float64."""
        scores = scores.double()
        mean = scores.mean()
        return cls(len(scores), mean.item(), (scores - mean).square().mean().item())


def radius(found: Mean, width: float, risk: float) -> float:
    """How far the true mean can be from the one found, but for a probability of `risk`."""
    share = math.log(3 / risk) / found.samples
    return math.sqrt(2 * found.variance * share) + 3 * width * share


def difference(one: Mean, other: Mean, width: float, risk: float) -> float:
    """What E[one] - E[other] is at least, but for a probability of `risk`, of which each mean has half. May be < 0."""
    return one.mean - other.mean - sum(radius(found, width, risk / 2) for found in (one, other))


def can_differ(one: int, other: int, risk: float) -> bool:
    """Whether so many samples of each side can show a difference at all: means at both ends, and no variance."""
    extremes = Mean(one, 1.0, 0.0), Mean(other, 0.0, 0.0)
    return difference(*extremes, 1.0, risk) > 0


def samples_needed(risk: float) -> int:
    """The fewest samples of each side that `can_differ`."""
    return math.floor(6 * math.log(6 / risk)) + 1


def clamp(one: Tensor, other: Tensor, samples: tuple[int, int], risk: float) -> tuple[float, float]:
    """The interval to clamp scores to for the largest bound that so many samples like these would give.

    `one` (n,) and `other` (m,) are scores of samples that are not judged. A narrow interval makes the bound tighter,
    and the difference of the means smaller; of few samples some outliers are worth less than the width they need.
    """
    every = torch.cat([one, other]).double().sort().values
    lows, highs = ([every[round(tail * (len(every) - 1))].item() for tail in tails] for tails in (TAILS, _FROM_ABOVE))

    def promised(ends: tuple[float, float]) -> float:
        sides = (Mean.of(scores.double().clamp(*ends)) for scores in (one, other))
        like = [attrs.evolve(side, samples=n) for side, n in zip(sides, samples, strict=True)]
        return difference(like[0], like[1], ends[1] - ends[0], risk)

    return max(((low, high) for low, high in itertools.product(lows, highs) if low <= high), key=promised)


_FROM_ABOVE = tuple(1 - tail for tail in TAILS)
