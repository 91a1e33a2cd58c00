"""The networks pass ganframe's conformance kit for plugin authors, at sizes square and not, in every flavour."""

import pytest
from ganframe_stylegan2 import StyleGAN2Discriminator, StyleGAN2Generator

from ganframe import DataSpec
from ganframe.testing import check_discriminator, check_generator

SMALL = {"width": 4, "full_width_up_to": 16}
SMALL_G = {**SMALL, "w_dim": 6, "mapping_layers": 2}
DATA = [
    DataSpec((1, 8, 8)),
    DataSpec((1, 28, 28), classes=10),
    DataSpec((3, 32, 32), classes=10),
    DataSpec((4, 48, 48)),
    DataSpec((3, 64, 40), classes=3),
    DataSpec((1, 100, 100)),
    DataSpec((2, 13, 9), condition=(5,)),
]
CONDITIONAL = [data for data in DATA if data.classes or data.condition]
STYLES = [{"style": "instance"}, {"output": "last"}, {"style": "instance", "output": "last"}, {"style_mixing": 0.0}]
PLAIN = [{"residual": False}, {"minibatch_stddev": 0}, {"minibatch_stddev": 2}]


def named(part):
    return str(part.shape) if isinstance(part, DataSpec) else str(part)


@pytest.mark.parametrize("data", DATA, ids=named)
def test_generator_conforms(data):
    check_generator(StyleGAN2Generator(**SMALL_G), data)


@pytest.mark.parametrize("data", DATA, ids=named)
def test_discriminator_conforms(data):
    check_discriminator(StyleGAN2Discriminator(**SMALL), data)


@pytest.mark.parametrize("data", CONDITIONAL, ids=named)
def test_conditional_networks_conform(data):
    check_generator(StyleGAN2Generator(**SMALL_G, condition="mapping"), data)
    check_discriminator(StyleGAN2Discriminator(**SMALL, condition="projection"), data)


@pytest.mark.parametrize("data", DATA[:2], ids=named)
@pytest.mark.parametrize("options", STYLES, ids=named)
def test_flavours_of_the_generator_conform(options, data):
    condition = "mapping" if data.classes else "none"
    check_generator(StyleGAN2Generator(**SMALL_G, **options, condition=condition), data)


@pytest.mark.parametrize("data", DATA[:2], ids=named)
@pytest.mark.parametrize("options", PLAIN, ids=named)
def test_flavours_of_the_discriminator_conform(options, data):
    condition = "projection" if data.classes else "none"
    check_discriminator(StyleGAN2Discriminator(**SMALL, **options, condition=condition), data)
