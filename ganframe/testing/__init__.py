"""The conformance kit for plugin authors: does a component mean what its kind promises?

    from ganframe.testing import check_objective

    def test_my_objective():
        check_objective(MyObjective())

Each function takes a component, or its class where every option has a default, and returns nothing. It raises
AssertionError with what was expected, in the words of the mathematics, and what was found. No test runner, GPU or
network is needed, and torch's random state is left as it was.
"""

from ganframe.testing.constraints import check_constraint
from ganframe.testing.datasets import check_dataset
from ganframe.testing.networks import check_discriminator, check_generator
from ganframe.testing.objectives import check_objective

__all__ = ["check_constraint", "check_dataset", "check_discriminator", "check_generator", "check_objective"]
