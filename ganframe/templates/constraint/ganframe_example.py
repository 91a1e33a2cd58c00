"""The example constraint as a plugin of ganframe."""

import attrs
from attrs.validators import ge

from ganframe import Constraint, hookimpl, option, score_gradients


@attrs.frozen
class Example(Constraint):
    """R1: gamma/2 · E‖∇D(x)‖² on real samples (Mescheder et al. 2018, eq. 9)."""

    gamma: float = option(1.0, help="weight of the penalty", validator=ge(0), scheduled=True)

    input_gradients = True  # penalty differentiates real.scores with respect to real.x

    # TO CHANGE: the formula. Change with it the docstring, the options, input_gradients, and the test marked TO CHANGE
    # in tests/test_example.py: it has a number computed by hand.
    def penalty(self, D, real, fake):
        return self.gamma / 2 * score_gradients(D, real.scores, real.x).square().sum(1).mean()


@hookimpl
def ganframe_constraints():
    return {"example": Example}
