"""Building the discriminator with its constraints."""

from __future__ import annotations

from pathlib import Path

import attrs
from torch import nn

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
        "built: constraints[0]: gradients of single samples need a discriminator that treats samples independently"
    )


def test_refusal_of_a_gradient_penalty_names_the_module_that_mixes_samples(make_recipe, refused):
    penalised = make_recipe(constraints=[{"use": "gradient_penalty"}])
    (problem,) = refused(attrs.evolve(penalised, discriminator=Mixing()))
    assert problem.startswith("built: constraints[0]: ")
    assert "mixes samples" in problem
    assert "MixesSamples" in problem
