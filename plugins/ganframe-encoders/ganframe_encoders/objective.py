"""An objective without losses, for games that a term plays alone."""

from __future__ import annotations

import attrs
from torch import Tensor

from ganframe import Objective


@attrs.frozen
class Idle(Objective):
    """Both losses are 0: only terms train the networks, as the joint game of BiGAN does."""

    def discriminator_loss(self, real: Tensor, fake: Tensor) -> Tensor:
        return 0 * (real.mean() + fake.mean())

    def generator_loss(self, fake: Tensor, real: Tensor | None = None) -> Tensor:
        return 0 * fake.mean()
