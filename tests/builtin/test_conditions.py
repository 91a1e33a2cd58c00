"""Conditions and extras in the built-in networks: what each takes, what it refuses, and what it returns."""

import attrs
import pytest
import torch

from ganframe import DataSpec
from ganframe.builtin.dcgan import DCGANDiscriminator, DCGANGenerator
from ganframe.builtin.mlp import MLPDiscriminator, MLPGenerator
from ganframe.builtin.resnet import ResNetDiscriminator, ResNetGenerator
from ganframe.declarations import has_extras

SMALL, LARGE = (1, 8, 8), (3, 32, 32)
GENERATORS = {
    "mlp": (MLPGenerator(hidden=(6,), batch_norm=True), SMALL),
    "dcgan": (DCGANGenerator(width=4), SMALL),
    "resnet": (ResNetGenerator(width=2), LARGE),
}
DISCRIMINATORS = {
    "mlp": (MLPDiscriminator(hidden=(6,)), SMALL),
    "dcgan": (DCGANDiscriminator(width=4, norm="layer"), SMALL),
    "resnet": (ResNetDiscriminator(width=2), LARGE),
}
VECTOR = (5,)


def moved_by_y(network, first, y):
    """Whether another y gives another output, once nothing is zero any more, and whether shapes and blanks fit."""
    for parameter in network.parameters():
        torch.nn.init.normal_(parameter, std=0.1)
    with torch.no_grad():
        return not torch.equal(network.eval()(first, y), network(first, y + 1))


@pytest.mark.parametrize("option", ["concat", "batch_norm"])
@pytest.mark.parametrize("name", GENERATORS)
def test_generators_take_vectors(name, option):
    config, shape = GENERATORS[name]
    data = DataSpec(shape, condition=VECTOR)
    G = attrs.evolve(config, condition=option).build(data, 3)
    assert G(torch.randn(4, 3), data.blank(4)).shape == (4, *shape)
    assert moved_by_y(G, torch.randn(4, 3), torch.randn(4, *VECTOR))


@pytest.mark.parametrize("condition", [VECTOR, "image"])
@pytest.mark.parametrize("option", ["concat", "projection"])
@pytest.mark.parametrize("name", DISCRIMINATORS)
def test_discriminators_take_vectors_and_images_of_the_same_size(name, option, condition):
    config, shape = DISCRIMINATORS[name]
    data = DataSpec(shape, condition=(2, *shape[1:]) if condition == "image" else condition)
    build = attrs.evolve(config, condition=option).build
    if option == "projection" and condition == "image" and name != "mlp":
        with pytest.raises(ValueError, match=r"conditions are images .* use condition = 'concat'"):
            build(data)
        return
    D = build(data)
    assert D(torch.randn(4, *shape), data.blank(4)).shape == (4,)
    assert moved_by_y(D, torch.randn(4, *shape), torch.randn(4, *data.condition))


@pytest.mark.parametrize("option", ["concat", "batch_norm"])
def test_an_image_as_condition_is_flattened_by_mlp_and_refused_by_convolutional_generators(option):
    for name, (config, shape) in GENERATORS.items():
        data = DataSpec(shape, condition=(2, *shape[1:]))
        build = attrs.evolve(config, condition=option).build
        if name == "mlp":
            assert moved_by_y(build(data, 3), torch.randn(4, 3), torch.randn(4, *data.condition))
        else:
            with pytest.raises(ValueError, match=f"{name} takes labels or vectors .* images of shape .* use the gen"):
                build(data, 3)


@pytest.mark.parametrize("name", ["dcgan", "resnet"])
def test_an_image_of_another_size_is_refused_by_convolutional_discriminators(name):
    config, shape = DISCRIMINATORS[name]
    with pytest.raises(ValueError, match=r"joins conditions of .* to images of that size"):
        attrs.evolve(config, condition="concat").build(DataSpec(shape, condition=(1, 5, 5)))


@pytest.mark.parametrize("condition", [VECTOR, (1, 4, 4)])
def test_conditions_are_ignored_by_default(condition):
    for config, shape in GENERATORS.values():
        y = torch.randn(4, *condition)
        assert not moved_by_y(config.build(DataSpec(shape, condition=condition), 3), torch.randn(4, 3), y)
    for config, shape in DISCRIMINATORS.values():
        y = torch.randn(4, *condition)
        assert not moved_by_y(config.build(DataSpec(shape, condition=condition)), torch.randn(4, *shape), y)


@pytest.mark.parametrize("option", ["none", "projection"])
@pytest.mark.parametrize("name", DISCRIMINATORS)
def test_discriminators_give_their_last_features(name, option):
    """The score is linear in them: they are what the head receives, before projection."""
    config, shape = DISCRIMINATORS[name]
    D = attrs.evolve(config, condition=option).build(DataSpec(shape, classes=3))
    assert has_extras(D)
    x, y, extras = torch.randn(4, *shape), torch.tensor([0, 1, 2, 0]), {}
    scores = D(x, y, extras)
    assert torch.equal(scores, D(x, y))
    assert list(extras) == ["features"]
    assert torch.equal(D.head(extras["features"], y), scores)
    assert extras["features"].shape == (4, D.head.linear.in_features)


def test_mlp_gives_categories_of_a_table_and_numbers_as_they_are():
    """How categories are drawn is tested in test_mlp.py."""
    data = DataSpec((7,), columns=(1, 3, 1, 2))
    auto, linear = (MLPGenerator(hidden=(6,), output=output) for output in ("auto", "linear"))
    G, plain = auto.build(data, 3), linear.build(data, 3)
    plain.load_state_dict({name: value for name, value in G.state_dict().items() if name != "rows.directions"})
    z, y = torch.randn(5, 3), data.blank(5)
    got, raw = G(z, y), plain(z, y)
    assert torch.equal(got[:, [0, 4]], raw[:, [0, 4]])
    for block in (got[:, 1:4], got[:, 5:]):
        torch.testing.assert_close(block.sum(1), torch.ones(5))
        assert 0 < block.detach().min() < block.detach().max() < 1
    numbers = DataSpec((2,), columns=(1, 1))
    assert isinstance(auto.build(numbers, 3).output, torch.nn.Identity)
    assert auto.build(numbers, 3).rows is None
