"""What a recipe is warned of: a loss that is linear in the scores, without anything that limits the discriminator."""

import pytest

from ganframe.training.prepare import prepare

BOUNDED = {
    "another loss": {"objective": {"use": "vanilla"}},
    "a penalty": {"constraints": [{"use": "gradient_penalty"}]},
    "clipping": {"constraints": [{"use": "weight_clipping"}]},
    "spectral normalisation": {"constraints": [{"use": "spectral_norm"}]},
}


def test_wgan_without_a_constraint_is_warned_of(make_recipe, capsys):
    prepare(make_recipe())
    (line,) = capsys.readouterr().err.splitlines()
    assert line.startswith("warning: built.toml: objective: L_D is linear in the scores")
    assert "gradient_penalty" in line
    prepare(make_recipe(), start=False)
    assert not capsys.readouterr().err


@pytest.mark.parametrize("name", BOUNDED)
def test_limited_discriminators_and_bounded_losses_are_not(make_recipe, capsys, name):
    prepare(make_recipe(**BOUNDED[name]))
    assert not capsys.readouterr().err


def test_constraint_that_starts_after_the_last_step_limits_nothing(make_recipe, capsys):
    prepare(make_recipe(constraints=[{"use": "gradient_penalty", "start": 100}]))
    assert "linear in the scores" in capsys.readouterr().err
