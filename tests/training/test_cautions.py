"""What a recipe is warned of: a loss that is linear in the scores, without anything that limits the discriminator; and
networks that would grow after the last step.
"""

import attrs
import pytest

from ganframe.builtin.mlp import MLPDiscriminator, MLPGenerator
from ganframe.training.prepare import prepare

BOUNDED = {
    "another loss": {"objective": {"use": "vanilla"}},
    "a penalty": {"constraints": [{"use": "gradient_penalty"}]},
    "clipping": {"constraints": [{"use": "weight_clipping"}]},
    "spectral normalisation": {"constraints": [{"use": "spectral_norm"}]},
}


def warnings(capsys):
    """The lines of warnings, without those that a slow machine gives of what it is doing."""
    return [line for line in capsys.readouterr().err.splitlines() if line.startswith("warning: ")]


def test_wgan_without_a_constraint_is_warned_of(make_recipe, capsys):
    prepare(make_recipe())
    (line,) = warnings(capsys)
    assert line.startswith("warning: built.toml: objective: L_D is linear in the scores")
    assert "gradient_penalty" in line
    prepare(make_recipe(), start=False)
    assert not warnings(capsys)


@pytest.mark.parametrize("name", BOUNDED)
def test_limited_discriminators_and_bounded_losses_are_not(make_recipe, capsys, name):
    prepare(make_recipe(**BOUNDED[name]))
    assert not warnings(capsys)


@attrs.frozen
class DeclaringDiscriminator(MLPDiscriminator):
    """Has a module that declares its Lipschitz constant, as a critic that is 1-Lipschitz by construction."""

    def build(self, data):
        D = super().build(data)
        next(D.children()).lipschitz_constant = lambda: 1.0
        return D


def test_discriminator_that_declares_its_constant_limits_itself(make_recipe, capsys):
    prepare(attrs.evolve(make_recipe(), discriminator=DeclaringDiscriminator()))
    assert not warnings(capsys)


def test_constraint_that_starts_after_the_last_step_limits_nothing(make_recipe, capsys):
    prepare(make_recipe(constraints=[{"use": "gradient_penalty", "start": 100}]))
    assert "linear in the scores" in capsys.readouterr().err


@attrs.frozen
class GrowingGenerator(MLPGenerator):
    """Declares that it grows at steps 4 and 6."""

    def build(self, data, latent_dim):
        G = super().build(data, latent_dim)
        G.grows_at = (4, 6)
        return G


@attrs.frozen
class GrowingDiscriminator(MLPDiscriminator):
    def build(self, data):
        D = super().build(data)
        D.grows_at = (4, 6)
        return D


@pytest.mark.parametrize(("steps", "warned"), [(4, True), (6, True), (7, False)])
def test_networks_that_would_grow_after_the_last_step_are_warned_of(make_recipe, capsys, steps, warned):
    networks = {"generator": GrowingGenerator(hidden=(8,)), "discriminator": GrowingDiscriminator(hidden=(8,))}
    train = {"steps": steps}
    recipe = attrs.evolve(make_recipe(train=train, constraints=[{"use": "gradient_penalty"}]), **networks)
    prepare(recipe)
    lines = warnings(capsys)
    assert len(lines) == warned
    for line in lines:
        place = "built.toml: generator, discriminator"
        assert line.startswith(f"warning: {place}: growing ends at step 6, and train.steps is {steps}")
    prepare(attrs.evolve(recipe, discriminator=MLPDiscriminator(hidden=(8,))))
    alone = [line.startswith("warning: built.toml: generator: growing ends") for line in warnings(capsys)]
    assert alone == [True] * warned
