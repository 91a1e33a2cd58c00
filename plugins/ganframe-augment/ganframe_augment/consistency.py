"""Consistency regularisation: small changes of an image, or of a latent, should not change D's score."""

from __future__ import annotations

from typing import Literal

import attrs
import torch
from attrs.validators import and_, ge, gt, lt, min_len
from torch import Tensor, nn

from ganframe import Constraint, Scored, Term, Turn, option
from ganframe_augment import transforms

Policy = Literal["flip", "translation", "noise"]


@attrs.frozen
class BalancedConsistency(Constraint):
    """weight_real · E(D(x) - D(T(x)))² + weight_fake · E(D(G(z)) - D(T(G(z))))² (bCR; Zhao et al. 2020, algorithm 1).

    T augments: flip: left and right change places, or not. translation: up to `shift` of each side, with reflections
    moved in. noise: + N(0, std²), for samples of any shape. Unlike under `diffaugment` and `ada`, D is trained on
    images as they are, and G sees no augmentation. Where D has dropout, the two passes draw their own.
    """

    weight_real: float = option(10.0, help="weight for real samples", validator=ge(0), scheduled=True)
    weight_fake: float = option(10.0, help="weight for fakes", validator=ge(0), scheduled=True)
    policy: tuple[Policy, ...] = option(
        ("flip", "translation"), help="augmentations, in this order", validator=min_len(1)
    )
    shift: float = option(0.125, help="largest translation, as a share of the side", validator=and_(gt(0), lt(1)))
    std: float = option(0.05, help="standard deviation of the noise", validator=gt(0))

    def penalty(self, D: nn.Module, real: Scored, fake: Scored) -> Tensor:
        sides = ((self.weight_real, real), (self.weight_fake, fake))
        return sum(weight * self._distance(D, side) for weight, side in sides)  # type: ignore[return-value]

    def _distance(self, D: nn.Module, side: Scored) -> Tensor:
        return (side.scores - D(self._augmented(side.x.detach()), side.y)).square().mean()

    def _augmented(self, x: Tensor) -> Tensor:
        for augmentation in self.policy:
            if augmentation == "noise":
                x = x + self.std * torch.randn_like(x)
                continue
            transforms.require_images(f"bcr: {augmentation}", x)
            x = transforms.flipped(x) if augmentation == "flip" else transforms.translated(x, self.shift)
        return x


@attrs.frozen
class LatentConsistency(Term):
    """weight · E(D(G(z)) - D(G(z + δ)))² for D, - generator_weight · E(G(z) - G(z + δ))² for G, δ ~ N(0, std²) (zCR).

    D should score both fakes alike, and G should make them different (Zhao et al. 2020, algorithm 2). G's term is the
    mean over all numbers of a sample, and has no lower bound: keep `generator_weight` small where G's output is not
    bounded.
    """

    weight: float = option(5.0, help="weight of D's term", validator=ge(0), scheduled=True)
    generator_weight: float = option(0.5, help="weight of G's term", validator=ge(0), scheduled=True)
    std: float = option(0.05, help="standard deviation of δ, in units of z", validator=gt(0), scheduled=True)

    def discriminator_term(self, turn: Turn) -> Tensor:
        with torch.no_grad():
            moved = self._moved(turn)
        return self.weight * (turn.fake.scores - turn.D(moved, turn.fake.y)).square().mean()

    def generator_term(self, turn: Turn) -> Tensor:
        return -self.generator_weight * (turn.fake.x - self._moved(turn)).square().mean()

    def _moved(self, turn: Turn) -> Tensor:
        z = turn.fake.z
        assert z is not None
        return turn.G(z + self.std * torch.randn_like(z), turn.fake.y)
