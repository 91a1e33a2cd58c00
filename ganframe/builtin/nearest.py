"""Whether a generator returns training samples: distances to the nearest of them, against those of held-out samples."""

from __future__ import annotations

from collections.abc import Callable

import attrs
from attrs.validators import and_, ge, gt, lt, optional
from torch import Tensor
from torch.utils.data import IterableDataset

from ganframe import Distribution, Judging, Metric, option
from ganframe.builtin.distances import nearest

FEW = 20  # held-out samples below which their quantiles say nothing


@attrs.frozen
class Nearest(Metric):
    """Memorising: how near to training samples generated ones are, compared with samples held out of training.

    Each sample has a distance to its nearest training sample, in `features`. The numbers:

    - `copied`: share of generated samples that are as near as the nearest `quantile` of held-out samples, or nearer.
    - `copied_floor`: that share of the held-out samples themselves: `quantile`, or more where some are in the training
      data too. A generator that copies nothing is near it; one that returns training samples, or those with a little
      noise, has 1.
    - `ratio`: median distance of generated samples over that of held-out ones: 0 for copies, about 1 for samples like
      new data, above 1 for samples that are far from all data.

    Limits. `copied` is no measure of quality: noise has 0. Smooth images are near to everything, so that a generator of
    blurred ones may seem to copy. In pixels a shifted, cropped or mirrored copy is not found: use other features.
    """

    features: str = option("pixels", help="name of the features")
    quantile: float = option(
        0.01, help="share of held-out samples that are called near to training data", validator=and_(gt(0), lt(1))
    )
    training: int | None = option(
        None, help="training samples to compare with, at most; all by default", validator=optional(ge(1))
    )

    needs = ("held_out",)
    better = {"copied": "lower"}
    samples = 2_000

    def build(self, judging: Judging) -> _Copies:
        if isinstance(judging.data, Distribution):
            raise ValueError("training samples are drawn anew for each batch, so that none can be memorised")
        if isinstance(judging.data, IterableDataset):
            raise ValueError("the data is a stream without a length, so that not all of it can be compared")
        extract = judging.features(self.features)
        count = len(judging.data)  # type: ignore[arg-type]
        training = extract(judging.training(count if self.training is None else min(count, self.training))[0])
        held_out = nearest(extract(judging.held_out(judging.samples)[0]), training)
        if len(held_out) < FEW:
            raise ValueError(f"it needs at least {FEW} held-out samples, and there are {len(held_out)}")
        near = held_out.quantile(self.quantile, interpolation="lower")
        return _Copies(extract, training, near, (held_out <= near).double().mean().item(), held_out.median().item())


@attrs.frozen(eq=False)
class _Copies:
    """The measure: distances to training features (n, F), against what held-out samples have."""

    extract: Callable[[Tensor], Tensor]
    training: Tensor
    near: Tensor
    floor: float
    median: float

    def __call__(self, x: Tensor, y: Tensor | None) -> dict[str, float]:
        away = nearest(self.extract(x), self.training)
        found = {"copied": (away <= self.near).double().mean().item(), "copied_floor": self.floor}
        return found | ({"ratio": away.median().item() / self.median} if self.median > 0 else {})
