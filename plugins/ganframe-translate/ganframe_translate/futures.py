"""The metric `futures`: whether samples for one past hit each of its two known futures."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import ClassVar, Literal

import attrs
import torch
from attrs.validators import and_, gt, lt
from torch import Tensor

from ganframe import Judging, Metric, option

FEWEST = 16  # samples of a past: of fewer, a share between 25 and 75 % says little
EVEN = (0.25, 0.75)


@attrs.frozen
class Futures(Metric):
    """Whether samples hit both futures, for held-out pasts that have two, as those of `moving_digits`.

    Distances are Euclidean, and in units of the distance between the two futures of a past: their mean, which is what
    a prediction without chance is drawn to, is at 0.5 from both. A sample hits the future that is nearer, if it is
    within `distance`. Samples for other pasts do not count. The numbers:

    - `both`: share of pasts for which each future is hit by 25 to 75 % of the samples. With 64 samples of each past it
      is 1 for a generator that is right.
    - `hit`: share of samples that hit a future.
    - `nearest`: mean distance of a sample to the nearer future.

    By default each of the 200 held-out pasts of `moving_digits` has 64 samples.
    """

    distance: float = option(
        1 / 3,
        help="largest distance of a hit, in units of the distance of the two futures",
        validator=and_(gt(0), lt(0.5)),
    )

    better: ClassVar[Mapping[str, Literal["lower", "higher"]]] = {"both": "higher", "hit": "higher", "nearest": "lower"}
    samples: ClassVar[int] = 12_800

    def build(self, judging: Judging) -> Callable[[Tensor, Tensor | None], dict[str, float]]:
        known: Callable[[], tuple[Tensor, Tensor]] | None = getattr(judging.dataset, "held_out_futures", None)
        if known is None:
            raise ValueError("it needs data whose futures are known; use it with the dataset moving_digits")
        if judging.against != "test":
            raise ValueError("it judges samples for held-out pasts; leave --against train out")
        pasts, futures = known()
        if not len(pasts):
            raise ValueError("no held-out past has two futures; raise ambiguous of the dataset")
        rows = {_key(past): row for row, past in enumerate(pasts)}
        apart = _norm(futures[:, 0] - futures[:, 1])

        def measure(x: Tensor, y: Tensor | None) -> dict[str, float]:
            if y is None:
                raise ValueError("it judges samples that were made for pasts: give a run whose generator heeds y")
            row = torch.tensor([rows.get(_key(past), -1) for past in y])
            x, row = x[row >= 0], row[row >= 0]
            counts = torch.bincount(row, minlength=len(pasts))
            if (least := int(counts.min())) < FEWEST:
                raise ValueError(
                    f"a past has {least} samples, fewer than {FEWEST}; raise samples (by default {self.samples})"
                )
            apart_here = apart[row]
            distances = torch.stack([_norm(x - futures[row, side]) / apart_here for side in (0, 1)], dim=1)
            nearest, side = distances.min(1)
            hits = torch.zeros(len(pasts), 2, dtype=torch.double)
            hits.index_put_((row, side), (nearest <= self.distance).double(), accumulate=True)
            shares = hits / counts[:, None]
            both = ((shares >= EVEN[0]) & (shares <= EVEN[1])).all(1)
            return {
                "both": both.double().mean().item(),
                "hit": (hits.sum() / len(x)).item(),
                "nearest": nearest.mean().item(),
            }

        return measure


def _key(past: Tensor) -> bytes:
    return past.contiguous().numpy().tobytes()


def _norm(x: Tensor) -> Tensor:
    return x.double().flatten(1).norm(dim=1)
