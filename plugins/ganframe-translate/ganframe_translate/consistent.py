"""The metric `consistent`: whether samples are answers to their y at all, where y is computed from x."""

from __future__ import annotations

from collections.abc import Callable
from typing import ClassVar

import attrs
from torch import Tensor

from ganframe import Judging, Metric
from ganframe_translate.derived import RANDOM, Derived


@attrs.frozen
class Consistent(Metric):
    """distance: the mean of |c(G(z, y)) - y|, where c is what computes y from x in the data `derived`.

    Where one y has many right answers, an answer may be right and far from the one that the data happens to have: then
    this says more than `paired`, together with a measure of how much answers differ. c is the grey, the edges or the
    smaller image of a sample; with masks the distance is that of the pixels that y shows. Values are in [-1, 1].
    `floor` is the same of real samples, which is not 0 where y is rounded to 256 levels.
    """

    needs = ("images", "conditions")
    better: ClassVar = {"distance": "lower"}
    samples = 2_000

    def build(self, judging: Judging) -> Callable[[Tensor, Tensor | None], dict[str, float]]:
        data = judging.dataset
        if not isinstance(data, Derived):
            raise ValueError("compares y with what is computed from a sample, so it needs the dataset `derived`")
        if data.condition in RANDOM and data.condition != "mask":
            raise ValueError(f'the {data.condition} of y is random; choose another metric, as "paired"')
        real, y_real = judging.real(self.samples)
        floor = _distance(data, real, y_real)

        def measure(x: Tensor, y: Tensor | None) -> dict[str, float]:
            if y is None:
                raise ValueError("compares each sample with its y, and these were made for none; judge a run")
            return {"distance": _distance(data, x, y), "floor": floor}

        return measure


def _distance(data: Derived, x: Tensor, y: Tensor) -> float:
    if data.condition == "mask":
        seen, shown = y[:, -1:] < 0, y[:, :-1]
        distances = (x - shown).abs().mean(1, keepdim=True)[seen]
    else:
        distances = (data.condition_of(x) - y).abs()
    return distances.double().mean().item()
