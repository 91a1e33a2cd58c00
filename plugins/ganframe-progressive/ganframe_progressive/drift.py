"""What keeps the discriminator's scores near zero."""

from __future__ import annotations

import attrs
from attrs.validators import ge
from torch import Tensor

from ganframe import Term, Turn, mean_scores, option


@attrs.frozen
class Drift(Term):
    """weight · E D(x)² on real samples, added to D's loss (Karras et al. 2018, appendix A.1).

    The Wasserstein loss does not change if a constant is added to all scores. This chooses the constant. Of scores
    (N, …) the mean of each sample counts.
    """

    weight: float = option(1e-3, help="weight of the mean squared score", validator=ge(0), scheduled=True)

    def discriminator_term(self, turn: Turn) -> Tensor:
        assert turn.real is not None  # in a discriminator step it never is
        return self.weight * mean_scores(turn.real.scores).square().mean()
