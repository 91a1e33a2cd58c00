"""Penalties are tried before training: one that cannot train is refused with the hint that the kit has."""

import attrs
import pytest
import torch

import ganframe
from ganframe import Constraint
from ganframe.engine.state import Batch, Game
from ganframe.testing import check_constraint
from ganframe.training.penalties import penalty_faults


def gradient(scores, x, **how):
    return torch.autograd.grad(scores.sum(), x, **how)[0].flatten(1).square().sum(1).mean()


@attrs.frozen
class Undeclared(Constraint):
    def penalty(self, D, real, fake):
        return gradient(real.scores, real.x, create_graph=True)


@attrs.frozen
class PointsWithoutGradient(Constraint):
    def penalty(self, D, real, fake):
        x = (real.x + fake.x) / 2
        return gradient(D(x, real.y), x, create_graph=True)


@attrs.frozen
class NoGraph(Constraint):
    input_gradients = True

    def penalty(self, D, real, fake):
        return gradient(real.scores, real.x, retain_graph=True)


@attrs.frozen
class FreesGraph(Constraint):
    input_gradients = True

    def penalty(self, D, real, fake):
        return gradient(real.scores, real.x) + real.scores.square().mean()


@attrs.frozen
class PointsNoGraph(Constraint):
    def penalty(self, D, real, fake):
        x = ((real.x + fake.x) / 2).requires_grad_()
        return gradient(D(x, real.y), x)


@attrs.frozen
class NoMean(Constraint):
    def penalty(self, D, real, fake):
        return real.scores.square()


WRONG = {
    Undeclared: "needs input_gradients = True",
    PointsWithoutGradient: r"need x̂.requires_grad_()",
    NoGraph: "is create_graph=True missing",
    FreesGraph: "use create_graph=True",
    PointsNoGraph: "is create_graph=True missing",
    NoMean: "is .mean() missing?",
}


def tried(make_recipe, constraint):
    D = make_recipe().discriminator.build(ganframe.DataSpec((2,)))
    before = {name: value.clone() for name, value in D.state_dict().items()}
    game = Game(torch.nn.Identity(), D, make_recipe().objective, {"it": constraint})
    found = penalty_faults(game, Batch(torch.randn(4, 2), torch.zeros(4, dtype=torch.long), torch.randn(4, 2)))
    assert all(torch.equal(value, before[name]) for name, value in D.state_dict().items())
    assert all(p.grad is None for p in D.parameters())
    return found


@pytest.mark.parametrize("cls", WRONG)
def test_a_penalty_that_cannot_train_is_refused_with_the_remedy(make_recipe, cls):
    (found,) = tried(make_recipe, cls())
    assert found.startswith("constraints[0]: ")
    assert WRONG[cls] in found
    assert "\n" not in found


@pytest.mark.parametrize("cls", [Undeclared, PointsWithoutGradient])
def test_the_kit_gives_the_same_remedy(cls):
    with pytest.raises(AssertionError) as refused:
        check_constraint(cls())
    assert WRONG[cls] in str(refused.value)


@pytest.mark.parametrize("name", ["gradient_penalty", "weight_clipping", "spectral_norm"])
def test_penalties_that_train_are_accepted(make_recipe, name):
    assert tried(make_recipe, ganframe.component("constraint", name)()) == []


def test_a_penalty_that_is_not_due_is_accepted(make_recipe):
    @attrs.frozen
    class Lazy(Constraint):
        def penalty(self, D, real, fake):
            return None

    assert tried(make_recipe, Lazy()) == []
