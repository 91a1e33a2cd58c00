"""Optimal transport between generated and real samples."""

from __future__ import annotations

import attrs
import torch
from attrs.validators import ge
from torch import Tensor

from ganframe import Judging, Metric, option
from ganframe.builtin.distances import NUMBERS, distances


@attrs.frozen
class Wasserstein(Metric):
    """Wasserstein distance of the values, exact and sliced, each with its floor: the same between real samples.

    W_p = (min over plans of E ‖x - x'‖^p)^(1/p). The numbers, in units of the data:

    - `exact`: W_p of the first `exact_samples` samples and as many real ones, by POT's network simplex (Flamary et al.
      2021).
    - `sliced`: (mean over directions of W_p^p of the projections)^(1/p) of all samples (Bonneel et al. 2015), as POT's
      `sliced_wasserstein_distance`. It is smaller than `exact` in more than one dimension: compare it with its own
      floor only.
    - `exact_floor`, `sliced_floor`: the same numbers between two halves of the real samples, disjoint and of the same
      size. A perfect generator reaches them, and not 0: between samples W_p falls as n^(-1/D) only.

    The real samples are twice as many as the generated ones; where there are fewer, fewer generated ones are used too.
    Between images the distance is that of pixels: two sharp images a pixel apart are as far as two others.
    """

    order: float = option(1.0, help="p of W_p", validator=ge(1))
    exact_samples: int = option(2_000, help="samples of each side for the exact distance, at most", validator=ge(2))
    projections: int = option(200, help="random directions for the sliced distance", validator=ge(1))

    better = {"exact": "lower", "sliced": "lower"}
    samples = 5_000

    def build(self, judging: Judging) -> _Transport:
        real = judging.real(2 * judging.samples)[0].flatten(1)
        half = len(real) // 2
        if half < 2:
            raise ValueError(f"it needs two halves of real samples, and there are {len(real)} of them; use more data")
        from ot.sliced import get_random_projections

        dimensions = real.shape[1]
        count = self.projections if dimensions > 1 else 1  # on the line all directions have the same distance
        directions = torch.from_numpy(get_random_projections(dimensions, count, seed=judging.seed))
        return _Transport(real[:half], real[half : 2 * half], directions.double(), self.exact_samples, self.order)


@attrs.frozen(eq=False)
class _Transport:
    """The measure, against real samples (half, D), with directions (D, projections)."""

    real: Tensor
    others: Tensor
    directions: Tensor
    most: int
    order: float
    floors: dict[int, tuple[float, float]] = attrs.field(factory=dict)

    def __call__(self, x: Tensor, y: Tensor | None) -> dict[str, float]:
        n = min(len(x), len(self.real))
        if n < 2:
            raise ValueError("it needs at least two samples")
        if n not in self.floors:
            self.floors[n] = self._between(self.others[:n], self.real[:n])
        exact, sliced = self._between(x[:n].flatten(1), self.real[:n])
        floors = self.floors[n]
        return {"exact": exact, "exact_floor": floors[0], "sliced": sliced, "sliced_floor": floors[1]}

    def _between(self, x: Tensor, real: Tensor) -> tuple[float, float]:
        return exact(x[: self.most], real[: self.most], self.order), sliced(x, real, self.directions, self.order)


def exact(x: Tensor, others: Tensor, order: float) -> float:
    """W_p of samples x (n, D) and others (n, D), each with weight 1/n."""
    import ot

    cost = torch.cat(list(distances(x, others))).pow_(order)
    return ot.emd2([], [], cost.numpy(), numItermax=100_000_000) ** (1 / order)


def sliced(x: Tensor, others: Tensor, directions: Tensor, order: float) -> float:
    """(Mean over directions (D, K) of W_p^p of the projections of x (n, D) and others (n, D))^(1/p).

    On the line the optimal plan joins sorted samples. POT's function for sides of different sizes takes three times
    as long.
    """
    total = 0.0
    for some in directions.split(max(1, NUMBERS // len(x)), dim=1):
        one, other = (projected(side, some).sort(0).values for side in (x, others))
        total += (one - other).abs().pow(order).mean(0).sum().item()
    return (total / directions.shape[1]) ** (1 / order)


def projected(x: Tensor, directions: Tensor) -> Tensor:
    """x (n, D) on directions (D, K), in float64, of which only a part is in memory at a time."""
    return torch.cat([part.double() @ directions for part in x.split(max(1, NUMBERS // x.shape[1]))])
