"""Feature matching, and the objective that leaves G to its terms."""

from __future__ import annotations

import attrs
from attrs.validators import ge
from torch import Tensor, nn

from ganframe import DataSpec, Objective, Term, Turn, option, whole_batch
from ganframe_terms.networks import feature_width


@attrs.frozen
class FeatureMatching(Term):
    """weight · ‖E f(x) - E f(G(z))‖², f the last features of D (Salimans et al. 2016, section 3.1).

    The means are over the batch. In the paper it takes the place of G's adversarial loss: use it with the objective
    `terms_only`. With another objective it is added to G's loss.
    """

    weight: float = option(1.0, help="weight of the term", validator=ge(0), scheduled=True)

    needs_real = "scores"
    needs_extras = ("features",)

    def prepare(self, G: nn.Module, D: nn.Module, data: DataSpec) -> None:
        feature_width(D, data)

    def generator_term(self, turn: Turn) -> Tensor:
        assert turn.real is not None
        real, fake = (whole_batch(side.extras["features"].flatten(1)).mean(0) for side in (turn.real, turn.fake))
        return self.weight * (real.detach() - fake).square().sum()


@attrs.frozen
class TermsOnly(Objective):
    """D's loss is that of another objective, and G's loss is 0: G learns from the terms of the recipe alone.

    Feature matching (Salimans et al. 2016) trains G so.
    """

    of: Objective = option(help="the objective whose loss D minimises")

    def discriminator_loss(self, real: Tensor, fake: Tensor) -> Tensor:
        return self.of.discriminator_loss(real, fake)

    def generator_loss(self, fake: Tensor, real: Tensor | None = None) -> Tensor:
        return 0 * fake.mean()

    def optimal_score(self, log_ratio: Tensor) -> Tensor:
        return self.of.optimal_score(log_ratio)
