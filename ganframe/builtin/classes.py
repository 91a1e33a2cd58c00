"""Which classes samples have, as a classifier that is trained on the dataset's labels sees them."""

from __future__ import annotations

from collections.abc import Callable
from typing import ClassVar

import attrs
import torch
from torch import Tensor

from ganframe import Judging, Metric
from ganframe.builtin.small_classifier import channels

LOGITS = "builtin:classifier_logits"


@attrs.frozen
class Classes(Metric):
    """The classes of generated samples, by a classifier trained on the dataset's labels (features "classifier").

    `classes` are those found, and `kl` is the divergence KL(q ‖ p) in nats of their shares q from those of real
    samples, p (a class that no real sample has counts as half a sample). `certainty` is the mean probability of the
    class found. `accuracy` is the share of samples of the class that was asked for, where the generator heeds labels.
    None of them can be better than the classifier, whose own accuracy stands in the score.

    Of data from `stacked` each channel is classified: `modes`, the same as `classes`, are the combinations found, and
    `kl` is to the uniform distribution (VEEGAN, PacGAN: 26,000 samples of stacked digits, 1,000 modes). `kl_floor` is
    what a perfect sampler has on average with so few samples: (K - 1)/(2n) for K classes, and as much again for those
    of n real samples.
    """

    needs = ("labels",)
    better: ClassVar = {"kl": "lower", "classes": "higher"}
    samples = 26_000

    def build(self, judging: Judging) -> Callable[[Tensor, Tensor | None], dict[str, float]]:
        extract = judging.features(LOGITS)
        parts, classes = channels(judging), judging.spec.classes or 1
        p, unsure = torch.full((classes,), 1 / classes, dtype=torch.double), 0.0
        if parts == 1:
            labels = judging.real(self.samples)[1]
            p, unsure = torch.bincount(labels, minlength=classes).double().clamp(min=0.5), 1 / len(labels)
            p /= p.sum()

        def measure(x: Tensor, y: Tensor | None) -> dict[str, float]:
            found, certainty = classified(extract(x), parts)
            q = torch.bincount(found, minlength=classes).double() / len(found)
            held = int((q > 0).sum())
            numbers = {
                "kl": (torch.special.entr(q).neg() - torch.special.xlogy(q, p)).sum().item(),
                "kl_floor": (classes - 1) / 2 * (1 / len(found) + unsure),
                "classes": held,
                "certainty": certainty,
            }
            if parts > 1:
                numbers["modes"] = held
            if y is not None:
                numbers["accuracy"] = (found == y).float().mean().item()
            return numbers

        return measure


def classified(logits: Tensor, parts: int) -> tuple[Tensor, float]:
    """The class (n,) of each sample, and the mean probability of the classes found.

    `logits` (n, parts · C) are those of each of the images stacked in a sample; their classes are the digits of the
    sample's, the first the most significant.
    """
    shares = logits.unflatten(1, (parts, -1)).double().softmax(2)
    sure, digits = shares.max(2)
    place = torch.tensor([shares.shape[2] ** power for power in reversed(range(parts))])
    return (digits * place).sum(1), sure.prod(1).mean().item()
