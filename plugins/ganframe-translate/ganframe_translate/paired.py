"""Metrics that compare each sample with the real one that has the same y: numbers of pixels, and of classes."""

from __future__ import annotations

import hashlib
import math
from collections.abc import Callable
from typing import ClassVar

import attrs
from torch import Tensor
from torch.nn.functional import interpolate

from ganframe import Dataset, Distribution, Judging, Metric, option
from ganframe_translate.classifier import MOST, samples, trained_classifier

NUMBERS = 2**28  # of real samples and their y together: 1 GiB of float32
DRAWN = 10_000  # the same of a distribution
BEST = 1e-8  # smallest mean squared error: a psnr of 86, for equal images, is finite
SEED = 1  # of the classifier: it is not the one that the term `perceptual` trains G by
RIGHT = 100  # right answers to one y that are looked at


class Partners:
    """Real samples by their y: which of them have the y that a sample was made for, exactly."""

    def __init__(self, judging: Judging) -> None:
        size = math.prod(judging.spec.shape) + math.prod(judging.spec.condition or ())
        most = max(1, NUMBERS // size)
        # A distribution has no end; what it holds out may be a fixed set.
        self.x, y = judging.real(min(most, DRAWN) if isinstance(judging.data, Distribution) else most)
        self.rows: dict[bytes, list[int]] = {}
        for row, key in enumerate(_keys(y)):
            self.rows.setdefault(key, []).append(row)

    def of(self, y: Tensor | None) -> list[list[int]]:
        """The rows of `x` that are right for each y, at least one. Raises ValueError where there is none."""
        if y is None:
            raise ValueError(
                "compares each sample with the real one of its y, and these were made for none: the generator heeds no "
                "conditions, or they come from a file; judge a run whose generator does"
            )
        found = [self.rows.get(key, [])[:RIGHT] for key in _keys(y)]
        if missing := sum(not rows for rows in found):
            raise ValueError(
                f"no real sample has the y of {missing} of {len(y)} samples: this data draws y anew each time, or is "
                f"too large (the first {len(self.x)} are looked at); judge by data whose held_out has fixed pairs"
            )
        return found


def _keys(y: Tensor) -> list[bytes]:
    """A hash of each y (N, …)."""
    rows = (y.float() + 0).flatten(1).contiguous().numpy()  # -0 + 0 is 0
    return [hashlib.blake2b(row.data, digest_size=16).digest() for row in rows]


@attrs.frozen
class Paired(Metric):
    """Errors of samples against the real sample of the same y: psnr in dB with peak 2, and l1, means over samples.

    For images with values in [-1, 1] and data of pairs, held-out ones where there are some. psnr is
    10 log10(4 / mean squared error) of each image, at most 86, and l1 the mean absolute difference of values. Where
    several real samples have the same y, each is right: the nearest (by squared error) counts.

    `identity_psnr` and `identity_l1` are those of y itself as the answer, where y has as many channels as x. A smaller
    y is enlarged (bicubic) if x's size is a multiple of it. One sample is judged for each y: a blurred mean of all
    right answers has better numbers here than a good sample of them.
    """

    needs = ("images", "conditions")
    better: ClassVar = {"psnr": "higher", "l1": "lower"}
    samples = 2_000

    def build(self, judging: Judging) -> Callable[[Tensor, Tensor | None], dict[str, float]]:
        partners = Partners(judging)

        def measure(x: Tensor, y: Tensor | None) -> dict[str, float]:
            rows = partners.of(y)
            assert y is not None
            found = _errors(x, partners.x, rows)
            itself = _as_answer(y, x)
            if itself is not None:
                found |= {f"identity_{name}": value for name, value in _errors(itself, partners.x, rows).items()}
            return found

        return measure


def _errors(x: Tensor, real: Tensor, rows: list[list[int]]) -> dict[str, float]:
    """psnr and l1 of each sample against the nearest of its right answers, averaged."""
    chosen = [right[0] if len(right) == 1 else _nearest(one, real, right) for one, right in zip(x, rows, strict=True)]
    apart = (x - real[chosen]).flatten(1).double()
    psnr = 10 * (4 / apart.square().mean(1).clamp(min=BEST)).log10()
    return {"psnr": psnr.mean().item(), "l1": apart.abs().mean().item()}


def _nearest(one: Tensor, real: Tensor, rows: list[int]) -> int:
    """The row of those that is nearest to one sample."""
    return rows[int((real[rows] - one).flatten(1).square().mean(1).argmin())]


def _as_answer(y: Tensor, x: Tensor) -> Tensor | None:
    """y as an answer of the form of x, or None."""
    if y.ndim != 4 or y.shape[1] != x.shape[1]:
        return None
    if y.shape == x.shape:
        return y
    if all(large % small == 0 for large, small in zip(x.shape[2:], y.shape[2:], strict=True)):
        return interpolate(y, x.shape[2:], mode="bicubic").clamp(-1, 1)
    return None


@attrs.frozen
class KeptClass(Metric):
    """The share of samples of the class that the real sample of the same y has, as a classifier sees both.

    The classifier is trained on the labelled data `of`, of the form of x. Where several real samples have the same y,
    the class of one of them is right. `classifier` is its accuracy on what `of` holds out, and `identity_kept_class`
    the share for y itself as the answer (see the metric `paired`).
    """

    of: Dataset = option(help="labelled images of the form of x, on which the classifier is trained")

    needs = ("images", "conditions")
    better: ClassVar = {"kept_class": "higher"}
    samples = 2_000

    def build(self, judging: Judging) -> Callable[[Tensor, Tensor | None], dict[str, float]]:
        if self.of.spec.shape != judging.spec.shape:
            raise ValueError(
                f"of: its images have the shape {self.of.spec.shape}, and samples {judging.spec.shape}; let them agree"
            )
        network = trained_classifier(self.of, SEED).to(judging.device)
        partners = Partners(judging)
        real = network.classes(partners.x).tolist()
        apart = self.of.held_out()
        about = {}
        if apart is not None:
            x, labels = samples(apart, MOST)
            about["classifier"] = (network.classes(x) == labels).double().mean().item()

        def measure(x: Tensor, y: Tensor | None) -> dict[str, float]:
            rows = partners.of(y)
            assert y is not None

            def kept(answers: Tensor) -> float:
                found = network.classes(answers).tolist()
                same = [one in {real[row] for row in right} for one, right in zip(found, rows, strict=True)]
                return sum(same) / len(same)

            numbers = {"kept_class": kept(x), **about}
            itself = _as_answer(y, x)
            return numbers if itself is None else {**numbers, "identity_kept_class": kept(itself)}

        return measure
