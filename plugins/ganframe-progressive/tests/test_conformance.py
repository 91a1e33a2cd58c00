"""Each component passes ganframe's conformance kit for plugin authors, while a network grows and in its last stage."""

import pytest
from ganframe_progressive import Drift, ProgressiveDiscriminator, ProgressiveGenerator

from ganframe import DataSpec
from ganframe.testing import check_discriminator, check_generator, check_term

DATA = [
    DataSpec((1, 28, 28)),
    DataSpec((3, 32, 32), classes=10),
    DataSpec((2, 48, 48), classes=3),
    DataSpec((4, 9, 96)),
    DataSpec((3, 64, 40), classes=2),
]
GROWTH = {"growing": {"stage_steps": 10, "fade_steps": 10}, "last": {"stage_steps": 0}}


@pytest.mark.parametrize("growth", GROWTH)
@pytest.mark.parametrize("data", DATA, ids=lambda data: str(data.shape))
def test_generator_conformance(data, growth):
    check_generator(ProgressiveGenerator(width=4, **GROWTH[growth]), data)
    if data.classes:
        check_generator(ProgressiveGenerator(width=4, condition="concat", **GROWTH[growth]), data)


@pytest.mark.parametrize("growth", GROWTH)
@pytest.mark.parametrize("data", DATA, ids=lambda data: str(data.shape))
def test_discriminator_conformance(data, growth):
    check_discriminator(ProgressiveDiscriminator(width=4, **GROWTH[growth]), data)
    check_discriminator(ProgressiveDiscriminator(width=4, minibatch_stddev=0, **GROWTH[growth]), data)
    if data.classes:
        check_discriminator(ProgressiveDiscriminator(width=4, condition="projection", **GROWTH[growth]), data)


def test_term_conformance():
    check_term(Drift)
    check_term(Drift(weight=0.5))
