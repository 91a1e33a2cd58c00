"""The signs of an objective's losses: the check is that of the kit, and all objectives of this repository pass it."""

import attrs
import pytest
import torch
from torch.nn.functional import softplus

from ganframe import Objective
from ganframe.builtin.objectives import WGAN, NonSaturating, Vanilla
from ganframe.training.directions import active_players, is_linear, slopes_of, wrong_direction


def objective(discriminator_loss, generator_loss):
    class Given(Objective):
        def discriminator_loss(self, real, fake):
            return discriminator_loss(real, fake)

        def generator_loss(self, fake, real=None):
            return generator_loss(fake)

    return Given()


def logistic(real, fake):
    return softplus(-real).mean() + softplus(fake).mean()


def up(fake):
    return softplus(-fake).mean()


SWAPPED = {
    "D's loss of real and fake": (objective(lambda a, b: logistic(b, a), up), "L_D must raise real scores"),
    "D's sign of fakes": (objective(lambda a, b: logistic(a, -b), up), "L_D must lower fake scores"),
    "G's sign": (objective(logistic, lambda b: softplus(b).mean()), "L_G must raise the scores of fakes"),
    "a linear loss": (objective(lambda a, b: a.mean() - b.mean(), lambda b: -b.mean()), "L_D must raise real scores"),
}


@pytest.mark.parametrize("name", SWAPPED)
def test_swapped_real_and_fake_is_refused_before_training(make_recipe, refused, name):
    game, message = SWAPPED[name]
    assert message in wrong_direction(slopes_of(game))
    (problem,) = refused(attrs.evolve(make_recipe(), objective=game))
    assert problem.startswith("built.toml: objective: descending")
    assert message in problem


@pytest.mark.parametrize("game", [Vanilla(), NonSaturating(), WGAN(), objective(logistic, up)])
def test_right_signs_are_accepted(game):
    slopes = slopes_of(game)
    assert active_players(slopes) == ("D", "G")
    assert not wrong_direction(slopes)
    assert is_linear(slopes) is isinstance(game, WGAN)


def test_a_player_whose_loss_is_0_is_not_asked(make_recipe):
    slopes = slopes_of(objective(logistic, lambda b: 0 * b.sum()))
    assert active_players(slopes) == ("D",)
    assert not wrong_direction(slopes, active_players(slopes))
    assert torch.equal(slopes("G", torch.zeros(2), torch.zeros(2))[1], torch.zeros(2))
