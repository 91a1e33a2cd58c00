"""The consistency term of CT-GAN: how far two dropout passes over the same real samples may disagree.

What D looks like inside is known only so far: its last layer is an `nn.Linear`.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

import attrs
import torch
from attrs.validators import ge
from torch import Tensor, nn

from ganframe import Constraint, Scored, option

DROPOUTS = (nn.Dropout, nn.Dropout1d, nn.Dropout2d, nn.Dropout3d, nn.AlphaDropout, nn.FeatureAlphaDropout)
FEATURES = 0.1  # the weight of D₋, the second-to-last layer, beside D (Wei et al. 2018)


@contextmanager
def _features(D: nn.Module) -> Iterator[list[Tensor]]:
    """Fills with the inputs of D's linear layers, as they run: the last is D₋, the second-to-last layer's output."""
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

    x' and x'' are the same real samples under two draws of D's dropout, and D₋ is what D's last linear layer is given.
    d is the squared distance of the authors' code, where that of D₋ is the mean over its units: smooth where both
    passes agree, and on one scale whatever the width. In evaluation there is no dropout, and the term is exactly 0.

    This is one term of CT-GAN; its recipe has `gradient_penalty` beside it.
    """

    weight: float = option(2.0, help="λ₂, the weight of the term", validator=ge(0))
    margin: float = option(0.0, help="M', the disagreement that costs nothing", validator=ge(0))

    def check(self, D: nn.Module) -> None:
        if not any(isinstance(module, DROPOUTS) and module.p > 0 for module in D.modules()):
            raise ValueError(
                "the consistency term compares two draws of dropout, and is 0 in a critic without it; "
                "choose a discriminator with dropout (use = 'mlp', dropout = 0.5)"
            )
        if not any(isinstance(module, nn.Linear) for module in D.modules()):
            raise ValueError(
                "the consistency term compares what the critic's last linear layer is given, and this critic has no "
                "linear layer; choose one that ends in an nn.Linear"
            )

    def penalty(self, D: nn.Module, real: Scored, fake: Scored) -> Tensor:
        x, y = real.x.detach(), real.y
        with _features(D) as features:
            scores = D(torch.cat([x, x]), torch.cat([y, y]))  # in one call, each copy with dropout of its own
        once, again = scores.chunk(2)
        once_before, again_before = features[-1].flatten(1).chunk(2)
        distance = (once - again).square() + FEATURES * (once_before - again_before).square().mean(1)
        return self.weight * (distance - self.margin).relu().mean()
