"""The conformance kit for plugin authors: checks that a component keeps the contract of its kind.

    from ganframe.testing import check_objective

    def test_my_objective():
        check_objective(MyObjective())

Each function takes a component, or its class if every option has a default, and returns None. It raises
AssertionError that states the expected mathematical property and what was found. It needs no test runner, GPU or
network, and restores torch's random state.
"""

from ganframe.testing.constraints import check_constraint
from ganframe.testing.datasets import check_dataset
from ganframe.testing.metrics import check_metric
from ganframe.testing.networks import check_discriminator, check_generator
from ganframe.testing.objectives import check_objective
from ganframe.testing.terms import check_term

__all__ = [
    "check_constraint",
    "check_dataset",
    "check_discriminator",
    "check_generator",
    "check_metric",
    "check_objective",
    "check_term",
]
