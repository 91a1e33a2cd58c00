"""Precision, recall, density and coverage: whether samples lie where real ones do, and the reverse."""

from __future__ import annotations

from collections.abc import Callable
from typing import ClassVar

import attrs
import torch
from attrs.validators import ge, optional
from torch import Tensor

from ganframe import Judging, Metric, option
from ganframe.builtin import fidelity
from ganframe.builtin.frechet import features_for, samples_for

ROWS = 500  # distances to all others are computed for so many samples at a time
NARROW = 32  # features up to which differences cost no more than products
ROUNDING = 1e-12  # of the squared norms, in float64


@attrs.frozen
class PrecisionRecall(Metric):
    """Precision and recall (Kynkäänniemi et al. 2019), density and coverage (Naeem et al. 2020), on features.

    The ball of a sample reaches to its k-th nearest neighbour in its own set. `precision` is the share of generated
    samples in the ball of any real one, `recall` the share of real samples in the ball of any generated one (k = 3).
    `density` is how many of the real balls hold a generated sample, on average and divided by k, and `coverage` the
    share of real balls that hold one (`density_k` = 5). A sample on the edge of a ball is in it: a set against itself
    has precision, recall and coverage 1, also with duplicates, and density 1 + 1/k. Precision and recall trust
    outliers, whose balls are large; density and coverage do so less. All depend on the numbers of samples.

    By default the features are "classifier" for images with labels, else "pixels". On "inception" and "dinov2"
    torch-fidelity computes precision and recall.
    """

    features: str | None = option(None, help='features by name; "classifier" or "pixels" by default, as data allows')
    real: int | None = option(
        None, help="real samples to compare with; by default 10,000, of slow features fewer", validator=optional(ge(2))
    )
    k: int = option(3, help="neighbours within a ball, for precision and recall", validator=ge(1))
    density_k: int = option(5, help="neighbours within a ball, for density and coverage", validator=ge(1))

    better: ClassVar = {"precision": "higher", "recall": "higher", "density": "higher", "coverage": "higher"}

    @property
    def samples(self) -> int:  # type: ignore[override]
        return samples_for(self.features)

    def build(self, judging: Judging) -> Callable[[Tensor, Tensor | None], dict[str, float]]:
        name = features_for(self.features, judging.spec)
        extract = judging.features(name)
        real = extract(judging.real(self.real or self.samples)[0])
        self._enough(len(real), "real")
        self._enough(judging.samples, "generated")
        balls = radii(real, (self.k, self.density_k))

        def measure(x: Tensor, y: Tensor | None) -> dict[str, float]:
            self._enough(len(x), "generated")
            generated = extract(x)
            precise, density, coverage = inside(generated, real, balls, self.density_k)
            if name in fidelity.NAMES:
                precision, recall = fidelity.precision_recall(generated, real, self.k)
            else:
                precision, recall = precise, covered(real, generated, radii(generated, (self.k,))[0])
            return {"precision": precision, "recall": recall, "density": density, "coverage": coverage}

        return measure

    def _enough(self, count: int, kind: str) -> None:
        most = max(self.k, self.density_k)
        if count <= most:
            raise ValueError(f"{count} {kind} samples have no {most} neighbours each; it needs more than {most}")


def distances(x: Tensor, y: Tensor) -> Tensor:
    """Euclidean distances (n, m) of x (n, F) and y (m, F), float32, and 0 for equal rows.

    Of many features they come from products in float64, which is faster; what these leave of rounding is taken for 0.
    """
    if x.shape[1] <= NARROW:
        return torch.cdist(x, y, compute_mode="donot_use_mm_for_euclid_dist")
    centre = y.mean(0)
    x, y = (x - centre).double(), (y - centre).double()
    norms = x.square().sum(1)[:, None] + y.square().sum(1)
    squares = torch.addmm(norms, x, y.T, alpha=-2)
    return squares.masked_fill_(squares < ROUNDING * norms, 0).sqrt_().float()


def radii(x: Tensor, neighbours: tuple[int, ...]) -> list[Tensor]:
    """The distances (n,) of each sample of x (n, F) to its k-th nearest neighbour, for each k."""
    found = []
    for part in x.split(ROWS):
        nearest = distances(part, x).topk(max(neighbours) + 1, largest=False).values  # the first is the sample itself
        found.append(nearest[:, list(neighbours)])
    return list(torch.cat(found).unbind(1))


def covered(x: Tensor, centres: Tensor, radius: Tensor) -> float:
    """The share of samples x in any of the balls."""
    return sum((distances(part, centres) <= radius).any(1).sum().item() for part in x.split(ROWS)) / len(x)


def inside(x: Tensor, centres: Tensor, balls: list[Tensor], k: int) -> tuple[float, float, float]:
    """The share of samples x in any ball of the first radius; density and coverage with the second, that of k."""
    precise, held, found = 0.0, 0.0, torch.zeros(len(centres), dtype=torch.bool)
    for part in x.split(ROWS):
        apart = distances(part, centres)
        precise += (apart <= balls[0]).any(1).sum().item()
        within = apart <= balls[1]
        held += within.sum().item()
        found |= within.any(0)
    return precise / len(x), held / (len(x) * k), found.float().mean().item()
