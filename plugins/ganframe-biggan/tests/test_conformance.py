"""Each component passes ganframe's conformance kit: five sizes, square and not, without and with labels or vectors."""

import pytest
from ganframe_biggan import BigGANDiscriminator, BigGANGenerator, Orthogonal

from ganframe import DataSpec
from ganframe.testing import check_discriminator, check_generator, check_term

SHAPES = [(1, 8, 8), (3, 28, 28), (1, 32, 32), (4, 48, 48), (2, 64, 40), (1, 9, 37)]
GIVEN = {"none": {}, "labels": {"classes": 4}, "vectors": {"condition": (5,)}}


@pytest.mark.parametrize("given", GIVEN)
@pytest.mark.parametrize("shape", SHAPES, ids=str)
def test_generator_conformance(shape, given):
    condition = "none" if given == "none" else "shared"
    check_generator(BigGANGenerator(width=2, embedding=6, condition=condition), DataSpec(shape, **GIVEN[given]))


@pytest.mark.parametrize("given", GIVEN)
@pytest.mark.parametrize("shape", SHAPES, ids=str)
def test_discriminator_conformance(shape, given):
    condition = "none" if given == "none" else "projection"
    check_discriminator(BigGANDiscriminator(width=2, condition=condition), DataSpec(shape, **GIVEN[given]))


def test_networks_for_large_images_conform():
    data = DataSpec((1, 64, 100), classes=3)
    check_generator(BigGANGenerator(width=1, embedding=4, condition="shared", attention=16), data)
    check_discriminator(BigGANDiscriminator(width=1, condition="projection", attention=16), data)


def test_networks_with_attention_and_without_spectral_norm_conform():
    data = DataSpec((3, 28, 28), classes=3)
    check_generator(BigGANGenerator(width=4, attention=14, spectral_norm=False), data)
    check_discriminator(BigGANDiscriminator(width=4, attention=14), data)


def test_term_conformance():
    check_term(Orthogonal)
    check_term(Orthogonal, DataSpec((1, 16, 16)), generator=BigGANGenerator(width=2))
