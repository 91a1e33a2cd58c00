"""Building the discriminator with its constraints."""

from __future__ import annotations

from pathlib import Path

import attrs
import pytest
import torch
from torch import nn

from ganframe import DataSpec
from ganframe.training.moving_average import moving_average
from ganframe.training.networks import copied, in_parts, samples_at_a_time

R3GAN = Path(__file__).parents[2] / "plugins" / "ganframe-r3gan"


class MixesSamples(nn.Module):
    mixes_samples = True

    def __init__(self) -> None:
        super().__init__()
        self.linear = nn.Linear(64, 1)

    def forward(self, x, y):
        scores = self.linear(x.flatten(1)).squeeze(1)
        return scores + scores.mean()


@attrs.frozen
class Mixing:
    def build(self, data):
        return MixesSamples()


def test_input_gradient_constraint_refuses_batch_norm_without_its_own_check(make_recipe, refused, install_package):
    install_package(R3GAN)
    (problem,) = refused(make_recipe(constraints=[{"use": "r2"}], discriminator={"use": "mlp", "norm": "batch"}))
    assert problem.startswith(
        "built.toml: constraints[0]: gradients of single samples need a discriminator that treats samples independently"
    )


def test_refusal_of_a_gradient_penalty_names_the_module_that_mixes_samples(make_recipe, refused):
    penalised = make_recipe(constraints=[{"use": "gradient_penalty"}])
    (problem,) = refused(attrs.evolve(penalised, discriminator=Mixing()))
    assert problem.startswith("built.toml: constraints[0]: ")
    assert "mixes samples" in problem
    assert "MixesSamples" in problem


@pytest.mark.filterwarnings("ignore:.*weight_norm.*:FutureWarning")
@pytest.mark.parametrize("normalise", [torch.nn.utils.weight_norm, torch.nn.utils.spectral_norm])
def test_networks_with_the_older_normalisations_of_torch_are_copied(normalise):
    network = nn.Sequential(normalise(nn.Linear(2, 3)), nn.Tanh())
    x = torch.randn(4, 2)
    network(x).sum().backward()
    copy, averaged = copied(network, network), moving_average(network)
    torch.testing.assert_close(copy.eval()(x), network.eval()(x))
    torch.testing.assert_close(averaged(x), network(x))
    copy(x).sum().backward()
    assert all(p.grad is not None for p in copy.parameters())


CPU = torch.device("cpu")


@pytest.mark.parametrize(
    ("shape", "on_cpu", "elsewhere"),
    [
        ((2,), 256, 256),
        ((1, 16, 16), 64, 256),
        ((3, 32, 32), 30, 256),
        ((3, 128, 128), 30, 85),
        ((1, 64, 4, 4), 30, 256),
    ],
)
def test_samples_at_a_time_are_fewer_where_they_are_large(shape, on_cpu, elsewhere):
    spec = DataSpec(shape)
    assert samples_at_a_time(spec, CPU) == on_cpu
    assert samples_at_a_time(spec, torch.device("cuda")) == elsewhere


@pytest.mark.parametrize("n", [0, 1, 4, 5, 9])
def test_parts_are_those_of_one_call_in_order_and_contiguous(n):
    x, y, sizes = torch.randn(n, 2, 3, 3), torch.randn(n, 1, 1, 1), []

    def network(x, y):
        sizes.append(len(x))
        return (x * y).contiguous(memory_format=torch.channels_last)

    found = in_parts(network, 4, CPU, x, y)
    assert torch.equal(found, x * y)
    assert found.is_contiguous()
    assert max(sizes) <= 4
    assert sum(sizes) == n
