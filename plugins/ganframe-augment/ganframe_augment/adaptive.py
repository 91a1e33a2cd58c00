"""Adaptive discriminator augmentation (Karras et al. 2020, "Training GANs with limited data")."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Literal

import attrs
import torch
from attrs.validators import and_, ge, gt, le, lt, min_len
from torch import Tensor, nn

from ganframe import Constraint, Scored, mean_scores, option
from ganframe_augment import transforms
from ganframe_augment.augmented import Augmented

Policy = Literal["flip", "rotate", "translate", "brightness", "contrast", "saturation", "hue"]
COLOURED = ("saturation", "hue")  # augmentations of three channels only


@attrs.frozen
class AdaptiveAugmentation(Constraint):
    """Augments all images that D sees, with a probability that follows D's overfitting (Karras et al. 2020, ADA).

    Each augmentation of `policy` is applied to an image with probability p, in the steps of both players. r_t = E sign
    D(x) over real images since the last move is near 1 where D overfits: every `interval` generator steps p moves up if
    r_t is above `target`, down if below, within [0, 1]. p and the sums are buffers of the wrapped discriminator.

    flip: left and right change places, or not. rotate: 0 to 3 quarter turns. translate: up to 1/8 of each side, with
    reflections moved in. brightness: + N(0, 0.2²). contrast: · 2^N(0, 0.5²). saturation: · 2^N(0, 1), hue: turned by
    up to half a circle, both for three channels; other images are left as they are. Use it with losses for which a
    score of 0 means undecided.
    """

    policy: tuple[Policy, ...] = option(
        ("flip", "rotate", "translate", "brightness", "contrast", "saturation", "hue"),
        help="augmentations, each with probability p, in this order",
        validator=min_len(1),
    )
    target: float = option(0.6, help="r_t at which p stays", validator=and_(gt(-1), lt(1)))
    steps: int = option(
        8000, help="generator steps in which p can go from 0 to 1; 500,000 images in the paper", validator=ge(1)
    )
    interval: int = option(4, help="generator steps from one move of p to the next", validator=ge(1))
    p: float = option(0.0, help="p at the first step", validator=and_(ge(0), le(1)))

    def wrap(self, D: nn.Module) -> nn.Module:
        return _AdaptivelyAugmented(D, self.policy, self.p)

    def penalty(self, D: nn.Module, real: Scored, fake: Scored) -> None:
        """Adds nothing to the loss: it only looks at the scores of real images."""
        (augmented,) = (module for module in D.modules() if isinstance(module, _AdaptivelyAugmented))
        augmented.look(mean_scores(real.scores.detach()), self)


class _AdaptivelyAugmented(Augmented):
    """`signs` and `count` are sums since the last move, at the generator step `moved`. `training_step` is the engine's.

    Between two steps the engine averages floating buffers over processes. Sums are linear, so their quotient is that of
    one process; p moves at the first look of a step, from sums that are the same in all processes.
    """

    name = "ada"
    p: Tensor
    signs: Tensor
    count: Tensor
    moved: Tensor
    training_step: Tensor

    def __init__(self, inner: nn.Module, policy: tuple[Policy, ...], p: float) -> None:
        super().__init__(inner)
        self.policy = policy
        self.register_buffer("p", torch.tensor(p))
        self.register_buffer("signs", torch.zeros(()))
        self.register_buffer("count", torch.zeros(()))
        self.register_buffer("moved", torch.zeros((), dtype=torch.long))
        self.register_buffer("training_step", torch.zeros((), dtype=torch.long))

    @torch.no_grad()
    def look(self, scores: Tensor, config: AdaptiveAugmentation) -> None:
        """Moves p if it is time, then adds scores (N,) of real images. Reads no value, so that a GPU need not wait."""
        passed = self.training_step - self.moved
        due = (passed >= config.interval) | (passed < 0)  # below 0 where the weights are those of an earlier run
        side = torch.where(self.count > 0, (self.signs - config.target * self.count).sign(), 0)
        self.p.add_(due * side * (config.interval / config.steps)).clamp_(0, 1)
        self.signs.mul_(~due).add_(scores.sign().sum())
        self.count.mul_(~due).add_(len(scores))
        self.moved.copy_(torch.where(due, self.training_step, self.moved))

    def augment(self, x: Tensor) -> Tensor:
        for augmentation in self.policy:
            if augmentation in COLOURED and x.shape[1] != 3:
                continue
            chosen = torch.rand(len(x), 1, 1, 1, device=x.device) < self.p
            x = torch.where(chosen, AUGMENTATIONS[augmentation](x), x)
        return x


def rotate(x: Tensor) -> Tensor:
    """0 to 3 quarter turns, all equally likely."""
    if x.shape[2] != x.shape[3]:
        raise ValueError(f"ada: rotate needs square images, not {tuple(x.shape[2:])}; leave it out of policy")
    turns = torch.randint(0, 4, (len(x), 1, 1), device=x.device)
    (rows, columns), last = transforms.positions(x), x.shape[2] - 1
    for turn in (1, 2, 3):
        turned = turns >= turn
        rows, columns = torch.where(turned, columns, rows), torch.where(turned, last - rows, columns)
    return transforms.taken(x, rows, columns)


def brightness(x: Tensor) -> Tensor:
    """Lighter or darker images."""
    return x + transforms.normal_each(x, 0.2)


def contrast(x: Tensor) -> Tensor:
    """Distances from mid-grey, which is 0, scaled."""
    return x * transforms.normal_each(x, 0.5 * math.log(2)).exp()


def saturation(x: Tensor) -> Tensor:
    """Colours stronger or weaker; the luma of each pixel stays."""
    return transforms.saturated(x, transforms.normal_each(x, math.log(2)).exp(), transforms.luma(x))


def hue(x: Tensor) -> Tensor:
    """Other colours."""
    return transforms.hue_turned(x, transforms.each(x, -math.pi, math.pi))


AUGMENTATIONS: dict[str, Callable[[Tensor], Tensor]] = {
    "flip": transforms.flipped,
    "rotate": rotate,
    "translate": transforms.translated,
    "brightness": brightness,
    "contrast": contrast,
    "saturation": saturation,
    "hue": hue,
}
