"""Differentiable augmentation of all that the discriminator sees (Zhao et al. 2020, "DiffAugment")."""

from __future__ import annotations

from typing import Literal

import attrs
import torch
from attrs.validators import min_len
from torch import Tensor, nn

from ganframe import Constraint, option
from ganframe_augment import transforms
from ganframe_augment.augmented import Augmented

Policy = Literal["color", "translation", "cutout"]


@attrs.frozen
class DiffAugment(Constraint):
    """Augments all images that D sees, in the steps of both players (Zhao et al. 2020, "DiffAugment", eq. 5 and 6).

    color: brightness + U(-½, ½), saturation · U(0, 2), contrast · U(½, 3/2). translation: up to 1/8 of each side, with
    zeros moved in. cutout: a square of zeros of half the side, anywhere. G's gradient passes through the augmentation.
    """

    policy: tuple[Policy, ...] = option(
        ("color", "translation", "cutout"), help="augmentations, in this order", validator=min_len(1)
    )

    def wrap(self, D: nn.Module) -> nn.Module:
        return _DiffAugmented(D, self.policy)


class _DiffAugmented(Augmented):
    name = "diffaugment"

    def __init__(self, inner: nn.Module, policy: tuple[Policy, ...]) -> None:
        super().__init__(inner)
        self.policy = policy

    def augment(self, x: Tensor) -> Tensor:
        for augmentation in self.policy:
            x = AUGMENTATIONS[augmentation](x)
        return x


def color(x: Tensor) -> Tensor:
    """Another brightness, saturation and contrast for each image."""
    x = x + transforms.each(x, -0.5, 0.5)
    x = transforms.saturated(x, transforms.each(x, 0, 2), x.mean(1, keepdim=True))
    return transforms.contrasted(x, transforms.each(x, 0.5, 1.5))


def cutout(x: Tensor) -> Tensor:
    """Hides a rectangle of half the sides, centred on any pixel."""
    (height, width), (half_height, half_width) = x.shape[2:], (side // 2 for side in x.shape[2:])
    top = torch.randint(0, height, (len(x), 1, 1), device=x.device) - half_height // 2
    left = torch.randint(0, width, (len(x), 1, 1), device=x.device) - half_width // 2
    return transforms.without(x, top, left, half_height, half_width)


AUGMENTATIONS = {"color": color, "translation": transforms.translated_in_zeros, "cutout": cutout}
