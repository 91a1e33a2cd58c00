"""Maximum mean discrepancy between generated and real samples."""

from __future__ import annotations

from collections.abc import Callable, Iterator

import attrs
import torch
from attrs.validators import and_, deep_iterable, gt, min_len
from torch import Tensor

from ganframe import Judging, Metric, option
from ganframe.builtin.distances import distances

MEDIAN_OF = 1_000  # real samples whose distances have the median: half a million pairs


@attrs.frozen
class MMD(Metric):
    """Unbiased squared maximum mean discrepancy of features, with Gaussian kernels (Gretton et al. 2012, eq. 3).

    `mmd2` is the mean of k(x_i, x_j) over pairs i ≠ j of generated samples, plus that of real ones, minus twice that
    of pairs of both. k(a, b) is the mean of exp(-‖a - b‖² / 2σ²) over σ = b · m for each b of `bandwidths`, where m is
    the median distance between real samples. The expectation is 0 for a perfect generator, so that small values may be
    negative; it is at most 2.

    Differences on scales far below the smallest σ, as the width of narrow modes, hardly count: see `modes` for those.
    """

    features: str = option("pixels", help="name of the features")
    bandwidths: tuple[float, ...] = option(
        (0.5, 1.0, 2.0),
        help="σ of each Gaussian, in median distances between real samples",
        validator=and_(min_len(1), deep_iterable(gt(0))),
    )

    better = {"mmd2": "lower"}
    samples = 5_000

    def build(self, judging: Judging) -> _Discrepancy:
        extract = judging.features(self.features)
        real = extract(judging.real(judging.samples)[0])
        if len(real) < 2:
            raise ValueError(f"it needs at least two real samples, and there is {len(real)}; use more data")
        first = real[:MEDIAN_OF]
        apart = torch.cat(list(distances(first, first)))[~torch.eye(len(first), dtype=torch.bool)]
        middle = apart.median() if apart.median() > 0 else apart[apart > 0].mean()  # more than half may be the same
        if not middle.isfinite():
            raise ValueError(f"the features '{self.features}' of all real samples are the same, so they have no scale")
        sigmas = tuple(multiple * middle.item() for multiple in self.bandwidths)
        return _Discrepancy(extract, real, sigmas, mean_of_others(real, sigmas))


@attrs.frozen(eq=False)
class _Discrepancy:
    """The measure, against real features (m, F); `among_real` is the mean kernel of their pairs."""

    extract: Callable[[Tensor], Tensor]
    real: Tensor
    sigmas: tuple[float, ...]
    among_real: float

    def __call__(self, x: Tensor, y: Tensor | None) -> dict[str, float]:
        if len(x) < 2:
            raise ValueError("it needs at least two samples")
        found = self.extract(x)
        between = sum(part.sum().item() for part in kernels(found, self.real, self.sigmas))
        mean = between / (len(found) * len(self.real))
        return {"mmd2": mean_of_others(found, self.sigmas) + self.among_real - 2 * mean}


def kernels(x: Tensor, others: Tensor, sigmas: tuple[float, ...]) -> Iterator[Tensor]:
    """The kernel (rows, m) of x (n, F) and others (m, F), a part of the rows at a time."""
    for part in distances(x, others):
        squares = part.square_()
        yield sum((squares / (-2 * sigma**2)).exp_() for sigma in sigmas) / len(sigmas)  # type: ignore[misc]


def mean_of_others(x: Tensor, sigmas: tuple[float, ...]) -> float:
    """The mean kernel of pairs i ≠ j of x (n, F). Each of the n pairs i = j has the kernel 1."""
    n = len(x)
    return (sum(part.sum().item() for part in kernels(x, x, sigmas)) - n) / (n * (n - 1))
