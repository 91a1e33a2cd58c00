"""The example metric as a plugin of ganframe."""

import attrs

from ganframe import Metric, hookimpl, option


@attrs.frozen
class Example(Metric):
    """Distance between the means of generated and real features."""

    features: str = option("pixels", help="name of the features")

    better = {"example": "lower"}  # the direction of each number; tables show the first

    # TO CHANGE: the measure. Change with it the docstring, the options, `better`, `needs` (what the data must have),
    # and the test marked TO CHANGE in tests/test_example.py: it has a number computed by hand.
    def build(self, judging):
        extract = judging.features(self.features)
        real = extract(judging.real(judging.samples)[0]).mean(0)
        return lambda x, y: {"example": (extract(x).mean(0) - real).norm().item()}


@hookimpl
def ganframe_metrics():
    return {"example": Example}
