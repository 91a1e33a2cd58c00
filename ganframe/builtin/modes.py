"""The metric of mixtures: how many of their modes a generator captures, and how well."""

from __future__ import annotations

import math

import attrs
import torch
from attrs.validators import gt
from torch import Tensor

from ganframe import Judging, Metric, option
from ganframe.builtin.distances import distances

USUAL = 0.98889  # the share of a Gaussian in the plane within 3 σ, which the papers' numbers refer to


@attrs.frozen
class Modes(Metric):
    """Modes captured, share of samples of high quality, and balance of the modes (Srivastava et al. 2017, section 4).

    The mixture gives means, standard deviations and weights. The nearest mode of a sample is that with the smallest
    distance in its standard deviations. A sample is of high quality within `sigmas` of them. The numbers:

    - `modes`: modes that are nearest to some sample of high quality.
    - `high_quality`: share of samples of high quality, from 0 to 1. Of exact samples it is P(χ² with D degrees of
      freedom ≤ sigmas²): .98889 in the plane, .9973 on the line. A larger share means modes that have shrunk.
    - `kl`: KL(h ‖ w) in nats of the histogram h of nearest modes, over all samples, to the mixture's weights w. All
      samples count, as in stacked digits, so that the number exists for every generator; PacGAN's code counts those of
      high quality. Of n exact samples of K modes it is (K - 1) / 2n on average, not 0.

    Where modes overlap, samples are counted for the nearest mode, which need not be the one that they are from.
    """

    sigmas: float = option(3.0, help="standard deviations within which samples are of high quality", validator=gt(0))

    needs = ("modes",)
    better = {"modes": "higher", "high_quality": "higher", "kl": "lower"}
    samples = 2_500

    def build(self, judging: Judging) -> _Count:
        modes = judging.data.modes()  # type: ignore[attr-defined]  # `needs` has made sure
        means, stds, weights = (side.detach().cpu().double() for side in modes)
        if means.shape != (len(means), *judging.spec.shape) or not stds.shape == weights.shape == means.shape[:1]:
            shapes = ", ".join(str(tuple(side.shape)) for side in (means, stds, weights))
            expected = ", ".join(map(str, judging.spec.shape))
            raise ValueError(
                f"the dataset's modes() must return means (K, {expected}), standard deviations (K,) and weights (K,), "
                f"not shapes {shapes}"
            )
        there = weights > 0
        finite = all(side.isfinite().all() for side in (means, stds, weights))
        if not (finite and (stds > 0).all() and (weights >= 0).all() and there.any()):
            raise ValueError("the dataset's modes() must be finite, with positive standard deviations and weights")
        _refuse_many_dimensions(means[0].numel(), self.sigmas)
        return _Count(means[there], stds[there], weights[there] / weights.sum(), self.sigmas)


def _refuse_many_dimensions(dimensions: int, sigmas: float) -> None:
    """Raises ValueError where most of a Gaussian is outside `sigmas`: exact samples would look bad."""
    from scipy.special import gammainc, gammaincinv

    within = gammainc(dimensions / 2, sigmas**2 / 2)
    if within < 0.1:
        wider = math.sqrt(2 * gammaincinv(dimensions / 2, USUAL))
        raise ValueError(
            f"in {dimensions} dimensions only {within:.1%} of a Gaussian is within {sigmas:g} standard deviations; set "
            f"sigmas = {wider:.1f}, which has {USUAL:.1%} inside, as 3 has in the plane"
        )


@attrs.frozen(eq=False)
class _Count:
    """The measure: it counts modes with means (K, *shape), stds (K,) and weights (K,), whose sum is 1."""

    means: Tensor
    stds: Tensor
    weights: Tensor
    sigmas: float

    def __call__(self, x: Tensor, y: Tensor | None) -> dict[str, float]:
        parts = [(part / self.stds).min(1) for part in distances(x, self.means)]
        away, mode = torch.cat([part.values for part in parts]), torch.cat([part.indices for part in parts])
        good = away <= self.sigmas
        found = torch.bincount(mode, minlength=len(self.weights)).double() / len(mode)
        return {
            "modes": len(mode[good].unique()),
            "high_quality": good.double().mean().item(),
            "kl": torch.special.xlogy(found, found / self.weights).sum().item(),
        }
