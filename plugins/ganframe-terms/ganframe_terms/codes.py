"""InfoGAN: a part of z is a code that a network reads back from the samples."""

from __future__ import annotations

import attrs
import torch
from attrs.validators import ge
from torch import Tensor, nn
from torch.nn.functional import cross_entropy

from ganframe import DataSpec, Parts, Term, Turn, option
from ganframe_terms.networks import feature_width


@attrs.frozen
class Info(Term):
    """InfoGAN (Chen et al. 2016, eq. 5 and 6): G maximises a lower bound of the information in x about its code.

    The code is the end of z: first `categories` numbers, the largest of which is the category, then `continuous`
    numbers. A network Q on D's features reads it back. With z ~ N(0, I) the categories are equally likely. The bound
    is, up to constants, L = E log Q(category | x) - continuous_weight · E ½‖c - Q(x)‖², Gaussian of unit variance.

    Q and G are trained on -weight_generator · L. In the paper Q shares all layers but the last with D, so D's features
    are trained to tell the code too: -weight_discriminator · L is added to D's loss.
    """

    categories: int = option(10, help="numbers of z whose largest is the category; 0 for none", validator=ge(0))
    continuous: int = option(2, help="continuous codes, the last numbers of z; 0 for none", validator=ge(0))
    weight_generator: float = option(1.0, help="λ in the loss of G and Q", validator=ge(0), scheduled=True)
    weight_discriminator: float = option(1.0, help="λ in D's loss", validator=ge(0), scheduled=True)
    continuous_weight: float = option(
        0.5, help="weight of continuous codes beside categories", validator=ge(0), scheduled=True
    )
    hidden: int = option(128, help="hidden units of Q", validator=ge(1))

    needs_extras = ("features",)

    def __attrs_post_init__(self) -> None:
        if self.categories == 1 or self.categories + self.continuous == 0:
            raise ValueError("needs at least two categories, or continuous codes")

    def prepare(self, G: nn.Module, D: nn.Module, data: DataSpec) -> Parts:
        layers = nn.Linear(feature_width(D, data), self.hidden), nn.LeakyReLU(0.2)
        return Parts(generator=nn.Sequential(*layers, nn.Linear(self.hidden, self.categories + self.continuous)))

    def discriminator_term(self, turn: Turn) -> Tensor:
        return self.weight_discriminator * self._loss(turn)

    def generator_term(self, turn: Turn) -> Tensor:
        return self.weight_generator * self._loss(turn)

    def _loss(self, turn: Turn) -> Tensor:
        """-L, for the fakes of this turn."""
        z, Q = turn.fake.z, turn.parts.generator
        assert z is not None
        assert Q is not None
        length = self.categories + self.continuous
        if z.shape[1] < length:
            raise ValueError(f"the code has {length} numbers and z has {z.shape[1]}; raise latent.dim above {length}")
        blocks = [self.categories, self.continuous]
        code, c = z[:, -length:].split(blocks, dim=1)
        logits, read = Q(turn.fake.extras["features"].flatten(1)).split(blocks, dim=1)
        losses = []
        if self.categories:
            losses.append(cross_entropy(logits, code.argmax(1)))
        if self.continuous:
            losses.append(self.continuous_weight * (c - read).square().sum(1).mean() / 2)
        return torch.stack(losses).sum()
