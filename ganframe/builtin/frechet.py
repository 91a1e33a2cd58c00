"""Distances between generated and real samples on features: Fréchet's, and the kernel distance."""

from __future__ import annotations

from collections.abc import Callable
from typing import ClassVar

import attrs
import numpy as np
import torch
from attrs.validators import ge, optional
from torch import Tensor

from ganframe import DataSpec, Judging, Metric, option
from ganframe.builtin import fidelity

SUBSET = 1_000  # samples of each side in a subset, by default
SLOW = ("effnet_lite0", "builtin:effnet_lite0")  # a network of 224×224 pixels
Measure = Callable[[Tensor, Tensor | None], dict[str, float]]


def features_for(name: str | None, spec: DataSpec) -> str:
    """The name of the features that a metric uses where its option is `name`."""
    if name is not None:
        return name
    return "builtin:classifier" if spec.is_image and spec.classes is not None else "pixels"


def samples_for(name: str | None) -> int:
    """The number of samples of each side that are judged by default on these features."""
    return 2_000 if name in SLOW else 10_000


@attrs.frozen
class Frechet(Metric):
    """Fréchet distance of Gaussians fitted to generated and real features (Heusel et al. 2017, FID).

    `frechet` = ‖m₁ - m₂‖² + tr(S₁ + S₂ - 2 (S₁S₂)^½), in float64. It is called FID only with the features "inception",
    and is FD[name] with others. It falls with the number of samples on either side, so compare equal numbers alone. It
    sees means and covariances and nothing else. On the features "inception" and "dinov2" torch-fidelity computes it.

    By default the features are "classifier" for images with labels, else "pixels". There must be more samples than
    features, or the covariance is singular and the number has no meaning; features that are constant, as the border
    of scans, do not count. With "effnet_lite0" 2,000 samples are judged by default, and 10,000 with others.
    """

    features: str | None = option(None, help='features by name; "classifier" or "pixels" by default, as data allows')
    real: int | None = option(
        None, help="real samples to compare with; by default 10,000, of slow features fewer", validator=optional(ge(2))
    )

    better: ClassVar = {"frechet": "lower"}

    @property
    def samples(self) -> int:  # type: ignore[override]
        return samples_for(self.features)

    def build(self, judging: Judging) -> Measure:
        name = features_for(self.features, judging.spec)
        extract = judging.features(name)
        real = extract(judging.real(self.real or self.samples)[0]).double()
        enough(judging.samples, real, "generated")
        enough(len(real), real, "real")
        if name in fidelity.NAMES:
            return lambda x, y: {"frechet": fidelity.frechet(extract(x), real)}
        fitted = moments(real)

        def measure(x: Tensor, y: Tensor | None) -> dict[str, float]:
            generated = extract(x).double()
            enough(len(x), real, "generated")
            return {"frechet": frechet(moments(generated), fitted)}

        return measure


@attrs.frozen
class Kernel(Metric):
    """Kernel distance: unbiased MMD² with k(x, y) = (xᵀy/d + 1)³ of d features (Bińkowski et al. 2018, KID).

    `kernel` is the mean over random subsets of `subset_size` generated and as many real samples, and `kernel_std` the
    standard deviation over them, as torch-fidelity computes both. It has no bias, so it may be negative where the two
    are alike. It is called KID only with the features "inception". On those and "dinov2" torch-fidelity computes it.
    """

    features: str | None = option(None, help='features by name; "classifier" or "pixels" by default, as data allows')
    real: int | None = option(
        None, help="real samples to compare with; by default 10,000, of slow features fewer", validator=optional(ge(2))
    )
    subsets: int = option(100, help="number of random subsets", validator=ge(1))
    subset_size: int | None = option(
        None,
        help="samples of each side in a subset; by default 1,000, or all where there are fewer",
        validator=optional(ge(2)),
    )

    better: ClassVar = {"kernel": "lower"}

    @property
    def samples(self) -> int:  # type: ignore[override]
        return samples_for(self.features)

    def build(self, judging: Judging) -> Measure:
        name = features_for(self.features, judging.spec)
        extract = judging.features(name)
        real = extract(judging.real(self.real or self.samples)[0])
        self._size(len(real), "real")
        self._size(judging.samples, "generated")

        def measure(x: Tensor, y: Tensor | None) -> dict[str, float]:
            size = min(self._size(len(real), "real"), self._size(len(x), "generated"))
            generated = extract(x)
            if name in fidelity.NAMES:
                return fidelity.kernel(generated, real, self.subsets, size, judging.seed)
            found = kernel_distances(generated, real, self.subsets, size, judging.seed)
            return {"kernel": found.mean().item(), "kernel_std": found.std(correction=0).item()}

        return measure

    def _size(self, count: int, kind: str) -> int:
        """The size of a subset of so many samples. Raises ValueError where they are too few."""
        if count < 2:
            raise ValueError(f"it needs two {kind} samples at least, and there are {count}")
        if self.subset_size is not None and count < self.subset_size:
            raise ValueError(
                f"there are {count:,} {kind} samples, fewer than its subsets have; set subset_size to {count} or less"
            )
        return self.subset_size or min(SUBSET, count)


def enough(count: int, features: Tensor, kind: str) -> None:
    """Raises ValueError where so many samples give a singular covariance of these features, as real samples have."""
    needed = int((features != features[0]).any(0).sum())
    if count <= needed:
        raise ValueError(
            f"{count:,} {kind} samples give a singular covariance of {needed:,} features, so the distance would have "
            f"no meaning; it needs more than {needed:,}, and 10 times as many to be steady, or fewer features"
        )


def moments(features: Tensor) -> tuple[Tensor, Tensor]:
    """The mean (F,) of features (n, F), and a root R (F, F) of their covariance S = RᵀR."""
    mean = features.mean(0)
    return mean, torch.linalg.qr((features - mean) / (len(features) - 1) ** 0.5, mode="r").R


def frechet(first: tuple[Tensor, Tensor], second: tuple[Tensor, Tensor]) -> float:
    """The Fréchet distance of two Gaussians, from what `moments` returns.

    With S₁ = RᵀR and S₂ = QᵀQ the eigenvalues of S₁S₂ are the squared singular values of RQᵀ. No root of a number near
    zero is taken, so singular covariances cost no precision.
    """
    (mean, root), (other_mean, other_root) = first, second
    traces = root.square().sum() + other_root.square().sum()
    distance = (mean - other_mean).square().sum() + traces - 2 * torch.linalg.svdvals(root @ other_root.T).sum()
    return max(0.0, distance.item())  # rounding may take a distance of 0 below it


def kernel_distances(generated: Tensor, real: Tensor, subsets: int, size: int, seed: int) -> Tensor:
    """Unbiased MMD² (subsets,) of random subsets of features (n, F), float64.

    Subsets are drawn as torch-fidelity draws them, so that both find the same numbers from the same seed.
    """
    draw = np.random.RandomState(seed)
    found = []
    for _ in range(subsets):
        rows = [torch.from_numpy(draw.choice(len(side), size, replace=False)) for side in (generated, real)]
        x, y = generated[rows[0]].double(), real[rows[1]].double()
        within = [(k.sum() - k.trace()) / (size * (size - 1)) for k in (_cubic(x, x), _cubic(y, y))]
        found.append(within[0] + within[1] - 2 * _cubic(x, y).mean())
    return torch.stack(found)


def _cubic(x: Tensor, y: Tensor) -> Tensor:
    """k(x, y) (n, m) of features x (n, F) and y (m, F)."""
    return torch.addmm(torch.ones((), dtype=x.dtype), x, y.T, alpha=1 / x.shape[1]).pow_(3)
