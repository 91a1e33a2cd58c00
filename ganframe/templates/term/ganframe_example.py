"""The example term as a plugin of ganframe."""

import attrs
from attrs.validators import ge

from ganframe import Term, hookimpl, option


@attrs.frozen
class Example(Term):
    """Mean matching: weight · ‖E x - E G(z)‖², the feature matching of Salimans et al. 2016, eq. 1, with f(x) = x."""

    weight: float = option(1.0, help="weight of the term", validator=ge(0), scheduled=True)

    needs_real = "x"  # generator_term reads turn.real.x

    # TO CHANGE: the formula. Change with it the docstring, the options, needs_real, and the test marked TO CHANGE in
    # tests/test_example.py: it has a number computed by hand.
    def generator_term(self, turn):
        real, fake = (side.x.flatten(1).mean(0) for side in (turn.real, turn.fake))
        return self.weight * (real - fake).square().sum()


@hookimpl
def ganframe_terms():
    return {"example": Example}
