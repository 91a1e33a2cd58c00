"""The consistency term of CT-GAN: a penalty on the difference of two dropout passes over the same real samples.

D may have any architecture whose last layer is an `nn.Linear`.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

import attrs
import torch
from attrs.validators import ge
from torch import Tensor, nn

from ganframe import Constraint, Scored, mean_scores, option

DROPOUTS = (nn.Dropout, nn.Dropout1d, nn.Dropout2d, nn.Dropout3d, nn.AlphaDropout, nn.FeatureAlphaDropout)
FEATURES = 0.1  # weight of the distance of D₋, the second-to-last layer (Wei et al. 2018)


@contextmanager
def _features(D: nn.Module) -> Iterator[list[Tensor]]:
    """A list that collects the inputs of D's linear layers during a forward pass. The last is D₋."""
    inputs: list[Tensor] = []
    linears = [module for module in D.modules() if isinstance(module, nn.Linear)]
    handles = [module.register_forward_pre_hook(lambda _, given: inputs.append(given[0])) for module in linears]
    try:
        yield inputs
    finally:
        for handle in handles:
            handle.remove()


@attrs.frozen
class Consistency(Constraint):
    """weight · E max(0, d(D(x'), D(x'')) + 0.1 · d(D₋(x'), D₋(x'')) - margin) (CT; Wei et al. 2018).

    x' and x'' are the same real samples with two dropout masks, and D₋ is the input of D's last linear layer. d is the
    squared distance of the authors' code, averaged over the units for D₋: smooth where both passes agree, and
    independent of the layer's width. In evaluation mode there is no dropout, and the term is exactly 0.

    CT-GAN uses this term with `gradient_penalty`.
    """

    weight: float = option(2.0, help="λ₂, the weight of the term", validator=ge(0))
    margin: float = option(0.0, help="M', the distance up to which there is no penalty", validator=ge(0))

    def check(self, D: nn.Module) -> None:
        if not any(isinstance(module, DROPOUTS) and module.p > 0 for module in D.modules()):
            raise ValueError(
                "the consistency term compares two dropout passes, and is 0 in a discriminator without dropout; "
                "choose a discriminator with dropout (use = 'mlp', dropout = 0.5)"
            )
        if not any(isinstance(module, nn.Linear) for module in D.modules()):
            raise ValueError(
                "the consistency term compares the inputs of the last linear layer, and this discriminator has no "
                "linear layer; choose one that ends in an nn.Linear"
            )

    def penalty(self, D: nn.Module, real: Scored, fake: Scored) -> Tensor:
        x, y = real.x.detach(), real.y
        with _features(D) as features:
            scores = D(torch.cat([x, x]), torch.cat([y, y]))  # one call; each copy has its own dropout mask
        first, second = scores.chunk(2)
        first_features, second_features = features[-1].flatten(1).chunk(2)
        distance = mean_scores((first - second).square()) + FEATURES * (first_features - second_features).square().mean(
            1
        )
        return self.weight * (distance - self.margin).relu().mean()
