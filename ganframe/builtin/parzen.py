"""The likelihood of real samples under a kernel density estimate of generated ones: the protocol of 2014."""

from __future__ import annotations

import math
from collections.abc import Sequence

import attrs
import torch
from attrs.validators import and_, ge, gt, lt
from torch import Tensor

from ganframe import Judging, Metric, option
from ganframe.builtin.distances import distances

FEW = 10  # real samples in each part below which σ or the mean says nothing


@attrs.frozen
class Parzen(Metric):
    """Parzen window log-likelihood of real samples (Goodfellow et al. 2014, table 1; Breuleux et al. 2011).

    The density is that of isotropic Gaussian kernels of width σ on the generated samples: log p(x) = log mean_i
    N(x; x_i, σ² I). σ is the best for a part of the real samples, out of `widths` values evenly spaced on a logarithmic
    scale from `smallest` to `largest`. The numbers, of the other real samples:

    - `log_likelihood`: mean of log p in nats, for images with pixels in [0, 1], as in the paper.
    - `standard_error` of that mean.
    - `sigma`: the chosen σ. If it is `smallest` or `largest`, a better one may be beyond.

    Limits. In many dimensions the estimate is far from the true likelihood, and ranks generators otherwise than that:
    centroids of k-means beat the true distribution (Theis et al. 2016). It is for comparisons with known
    values, which used 10,000 samples of MNIST; other data and other counts have other values. The defaults of σ are for
    images; data of another scale needs others.
    """

    real: int = option(11_000, help="real samples, for σ and for the mean together, at most", validator=ge(2))
    validation: float = option(0.1, help="share of the real samples that σ is chosen on", validator=and_(gt(0), lt(1)))
    smallest: float = option(0.1, help="smallest σ", validator=gt(0))
    largest: float = option(1.0, help="largest σ", validator=gt(0))
    widths: int = option(10, help="number of values of σ that are tried", validator=ge(1))

    better = {"log_likelihood": "higher"}

    def __attrs_post_init__(self) -> None:
        if self.smallest > self.largest:
            raise ValueError(f"smallest must be <= largest, not {self.smallest:g} > {self.largest:g}")

    def build(self, judging: Judging) -> _Likelihood:
        real = scaled(judging.real(self.real)[0], judging.spec.is_image)
        split = round(len(real) * self.validation)
        if min(split, len(real) - split) < FEW:
            raise ValueError(
                f"of {len(real)} real samples {split} are to choose σ and {len(real) - split} to judge, and each needs "
                f"at least {FEW}; use more data, or set `validation`"
            )
        exponents = torch.linspace(
            math.log10(self.smallest), math.log10(self.largest), self.widths, dtype=torch.float64
        )
        sigmas = (10**exponents).tolist()
        return _Likelihood(real[:split], real[split:], sigmas, judging.spec.is_image)


@attrs.frozen(eq=False)
class _Likelihood:
    """The measure, for real samples to choose σ on, and others to judge, each (n, D)."""

    validation: Tensor
    test: Tensor
    sigmas: list[float]
    is_image: bool

    def __call__(self, x: Tensor, y: Tensor | None) -> dict[str, float]:
        x = scaled(x, self.is_image)
        means = log_densities(self.validation, x, self.sigmas).mean(1)
        sigma = self.sigmas[int(means.argmax())]
        (found,) = log_densities(self.test, x, [sigma])
        error = found.std().item() / math.sqrt(len(found))
        return {"log_likelihood": found.mean().item(), "standard_error": error, "sigma": sigma}


def scaled(x: Tensor, is_image: bool) -> Tensor:
    """Samples (n, D), those of images from 0 to 1."""
    return ((x + 1) / 2 if is_image else x).flatten(1)


def log_densities(points: Tensor, x: Tensor, sigmas: Sequence[float]) -> Tensor:
    """log p (σs, m) of points (m, D) under Gaussian kernels on x (n, D), for each σ, in float64.

    As scikit-learn's KernelDensity with a leaf of all samples; its trees are off by several nats in 64 dimensions.
    """
    dimensions, parts = x.shape[1], []
    for part in distances(points, x):
        squares = part.square_()
        least = squares.amin(1)  # as torch.logsumexp takes it out, but once for all σ
        squares -= least[:, None]
        sums = torch.stack([squares.mul(-1 / (2 * sigma**2)).exp_().sum(1) for sigma in sigmas])
        parts.append(sums.log() - least / (2 * torch.tensor(sigmas, dtype=torch.float64)[:, None] ** 2))
    constants = [math.log(len(x)) + dimensions * math.log(sigma * math.sqrt(2 * math.pi)) for sigma in sigmas]
    return torch.cat(parts, 1) - torch.tensor(constants, dtype=torch.float64)[:, None]
