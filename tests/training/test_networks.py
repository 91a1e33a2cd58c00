"""Building the discriminator with its constraints."""

from __future__ import annotations

from pathlib import Path

import attrs
import pytest
import torch
from torch import nn

from ganframe.training.moving_average import moving_average
from ganframe.training.networks import copied

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
