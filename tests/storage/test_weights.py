"""The generator's weights with the spec of its data."""

import pytest
import torch
from safetensors.torch import save_file

from ganframe import DataSpec, RequestError
from ganframe.storage import weights


@pytest.mark.parametrize("spec", [DataSpec((2,)), DataSpec((3, 32, 32), classes=10), DataSpec((1,), classes=1)])
def test_generator_is_saved_with_the_spec_of_its_data(folder, network, assert_same_weights, spec):
    weights.save_generator(folder.generator, network(), spec)
    assert weights.generator_spec(folder.generator) == spec
    for load in (weights.load_weights, weights.load_generator_weights):
        other = network(1)
        load(folder.generator, other)
        assert_same_weights(other, network())
    assert [path.name for path in folder.path.iterdir() if path.is_file()] == ["generator.safetensors"]


def test_run_without_a_saved_generator_is_refused(folder):
    with pytest.raises(RequestError, match="the run has not saved a generator yet"):
        weights.generator_spec(folder.generator)


@pytest.mark.parametrize(
    "metadata", [None, {"shape": "[2]"}, {"shape": "2", "classes": "3"}, {"shape": "no", "classes": "3"}]
)
def test_weights_of_another_program_are_refused_as_a_generator(folder, metadata):
    save_file({"weight": torch.zeros(2)}, str(folder.generator), metadata)
    with pytest.raises(RequestError, match="not a generator's weights"):
        weights.generator_spec(folder.generator)
