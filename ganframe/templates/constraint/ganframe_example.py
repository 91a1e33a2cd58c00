"""The example constraint as a plugin of ganframe."""

import attrs
import torch
from attrs.validators import ge

from ganframe import Constraint, hookimpl, option


@attrs.frozen
class Example(Constraint):
    """R1: gamma/2 · E‖∇D(x)‖² on real samples (Mescheder et al. 2018, eq. 9)."""

    gamma: float = option(1.0, help="weight of the penalty", validator=ge(0))

    input_gradients = True  # penalty differentiates real.scores with respect to real.x

    def penalty(self, D, real, fake):
        (gradient,) = torch.autograd.grad(real.scores.sum(), real.x, create_graph=True)
        return self.gamma / 2 * gradient.flatten(1).square().sum(1).mean()


@hookimpl
def ganframe_constraints():
    return {"example": Example}
