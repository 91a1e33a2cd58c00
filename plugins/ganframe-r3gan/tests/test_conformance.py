"""Each component passes ganframe's conformance kit for plugin authors."""

import pytest
from ganframe_r3gan import R1, R2, R3GANDiscriminator, R3GANGenerator, RelativisticPairing

from ganframe import DataSpec
from ganframe.testing import check_constraint, check_discriminator, check_generator, check_objective

DATA = [
    DataSpec((1, 8, 8)),
    DataSpec((3, 16, 16), classes=10),
    DataSpec((3, 64, 64)),
    DataSpec((4, 28, 28)),
    DataSpec((2, 30, 17)),
    DataSpec((1, 12, 48)),
]


def test_objective_conformance():
    check_objective(RelativisticPairing)


@pytest.mark.parametrize("constraint", [R1, R2, R1(gamma=0.05), R2(gamma=0.05)], ids=str)
def test_constraint_conformance(constraint):
    check_constraint(constraint)


@pytest.mark.parametrize("data", DATA, ids=lambda data: str(data.shape))
def test_generator_conformance(data):
    check_generator(R3GANGenerator(width=16), data)


@pytest.mark.parametrize("data", DATA, ids=lambda data: str(data.shape))
def test_discriminator_conformance(data):
    check_discriminator(R3GANDiscriminator(width=16), data)


def test_conditional_networks_conformance():
    for data in (DataSpec((3, 16, 16), classes=10), DataSpec((1, 13, 20), classes=4)):
        check_generator(R3GANGenerator(width=16, blocks=1, condition="concat"), data)
        check_discriminator(R3GANDiscriminator(width=16, blocks=1, condition="projection"), data)
