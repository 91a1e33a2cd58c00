"""What `prepare` refuses before anything is trained or written."""

from __future__ import annotations

from pathlib import Path

import attrs
import pytest
import torch
from torch import nn

import ganframe
from ganframe import plugins, trial
from ganframe.build import prepare
from ganframe.recipe import Recipe, structure


def recipe(**tables) -> Recipe:
    document = {
        "dataset": {"use": "digits"},
        "generator": {"use": "mlp", "hidden": [8]},
        "discriminator": {"use": "mlp", "hidden": [8]},
        "objective": {"use": "wgan"},
        "train": {"steps": 1},
        "name": "built",
        **tables,
    }
    return structure(document, "built.toml", plugins.load())


def refused(made: Recipe) -> list[str]:
    with pytest.raises(ganframe.RecipeError) as caught:
        prepare(made)
    return list(caught.value.problems)


class Flat(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.linear = nn.Linear(64, 64)

    def forward(self, z, y):
        return self.linear(z.flatten(1))


@attrs.frozen
class Given:
    network: nn.Module

    def build(self, data, latent_dim=None):
        return self.network


def test_a_generator_whose_samples_have_another_shape_is_refused():
    (problem,) = refused(attrs.evolve(recipe(), generator=Given(Flat())))
    assert problem == "built: generator: gives samples of shape (64,); the data has (1, 8, 8)"


def test_a_discriminator_whose_scores_stand_in_a_column_is_refused():
    (problem,) = refused(attrs.evolve(recipe(), discriminator=Given(Flat())))
    assert problem == "built: discriminator: gives scores of shape (2, 64) for 2 samples, not (2,)"


def test_the_trial_leaves_networks_and_random_numbers_alone():
    first, second = (prepare(recipe(generator={"use": "mlp", "batch_norm": True})) for _ in range(2))
    assert first.state.G.network.training
    assert first.state.D.network.training
    assert first.state.G.network.norms[0].norm.num_batches_tracked == 0
    for a, b in zip(first.state.G.parameters, second.state.G.parameters, strict=True):
        assert (a == b).all()


@pytest.mark.parametrize(
    "held", [{"discriminator": {"use": "mlp", "norm": "batch"}}, {"constraints": [{"use": "spectral_norm"}]}]
)
def test_the_trial_moves_no_statistics_and_no_power_iteration(held, monkeypatch):
    moved = []

    def watched(recipe, G, D, spec, faults=trial.faults):
        before = [b.clone() for b in D.buffers()]
        found = faults(recipe, G, D, spec)
        moved.extend(not torch.equal(b, a) for b, a in zip(before, D.buffers(), strict=True))
        return found

    monkeypatch.setattr(trial, "faults", watched)
    prepare(recipe(**held))
    assert moved
    assert not any(moved)


def test_everything_that_does_not_fit_is_said_at_once():
    problems = refused(
        recipe(
            generator={"use": "resnet"},
            discriminator={"use": "mlp", "norm": "batch"},
            constraints=[{"use": "gradient_penalty"}],
            train={"steps": 1, "batch_size": 5000},
        )
    )
    assert [problem.split(": ")[1] for problem in problems] == ["generator", "constraints[0]", "dataset"]


@pytest.mark.skipif(torch.cuda.is_available(), reason="a GPU has fp16")
def test_precision_that_the_device_lacks_is_refused():
    (problem,) = refused(recipe(train={"steps": 1, "precision": "fp16"}))
    assert "train.precision: fp16 needs a GPU" in problem


def test_constraints_of_one_name_get_numbers_in_the_metrics():
    session = prepare(recipe(constraints=[{"use": "weight_clipping"}, {"use": "weight_clipping", "limit": 1.0}]))
    assert list(session.state.constraints) == ["weight_clipping", "weight_clipping_2"]


def test_real_and_fake_samples_share_a_call_where_that_costs_nothing(install_package):
    """Not where the critic mixes samples, nor where one side's scores are differentiated."""
    install_package(Path(__file__).parent.parent / "plugins" / "ganframe-r3gan")
    assert prepare(recipe(constraints=[{"use": "gradient_penalty"}])).state.joint
    assert not prepare(recipe(constraints=[{"use": "r1"}])).state.joint
    assert not prepare(recipe(discriminator={"use": "mlp", "norm": "batch"})).state.joint


def test_a_constraint_that_differentiates_scores_refuses_a_critic_that_mixes_samples(install_package):
    """Without a `check` of its own."""
    install_package(Path(__file__).parent.parent / "plugins" / "ganframe-r3gan")
    (problem,) = refused(recipe(constraints=[{"use": "r2"}], discriminator={"use": "mlp", "norm": "batch"}))
    assert problem.startswith(
        "built: constraints[0]: gradients of single samples need a discriminator that treats samples independently"
    )


# ---------------------------------------------------------------------------------------------- what a part of it does


@attrs.frozen
class Game(ganframe.Objective):
    """An objective made of two functions."""

    d: object = staticmethod(lambda real, fake: (fake - real).mean())
    g: object = staticmethod(lambda fake, real: -fake.mean())

    def discriminator_loss(self, real, fake):
        return self.d(real, fake)

    def generator_loss(self, fake, real=None):
        return self.g(fake, real)


class Unfinished(ganframe.Objective):
    pass


class Without(ganframe.Objective):
    def discriminator_loss(self, real, fake):
        return (fake - real).mean()

    def generator_loss(self, fake):
        return -fake.mean()


@pytest.mark.parametrize(
    ("objective", "problem"),
    [
        (Game(d=lambda a, b: None), "discriminator_loss(real, fake) gives a NoneType, not a scalar with a gradient"),
        (Game(d=lambda a, b: b - a), "discriminator_loss(real, fake) gives a Tensor of shape (2,), not a scalar"),
        (Game(g=lambda b, a: -b.mean().item()), "generator_loss(fake, real) gives a float, not a scalar"),
        (
            Game(g=lambda b, a: -b.mean().detach()),
            "generator_loss(fake, real) gives a Tensor of shape (), not a scalar",
        ),
        (Game(g=lambda b, a: (a - b).mean()), "generator_loss(fake, real) raised TypeError: unsupported operand"),
        (Unfinished(), "discriminator_loss(real, fake) raised NotImplementedError; GANFRAME_STRICT=1 shows where"),
        (Without(), "generator_loss(fake, real) raised TypeError: Without.generator_loss() takes 2 positional"),
    ],
)
def test_an_objective_that_is_none_is_refused_in_words(monkeypatch, objective, problem):
    made = attrs.evolve(recipe(), objective=objective)
    (found,) = refused(made)
    assert found.startswith(f"built: objective: {problem}")
    if "raised" in problem:
        monkeypatch.setenv("GANFRAME_STRICT", "1")
        with pytest.raises((TypeError, NotImplementedError)):
            prepare(made)


class Forgets(nn.Module):
    """No y."""

    def __init__(self) -> None:
        super().__init__()
        self.linear = nn.Linear(64, 64)

    def forward(self, x):
        return self.linear(x.flatten(1))


@pytest.mark.parametrize(("player", "call"), [("generator", "G(z, y)"), ("discriminator", "D(x, y)")])
def test_a_network_that_raises_is_refused_in_words(player, call):
    (problem,) = refused(attrs.evolve(recipe(), **{player: Given(Forgets())}))
    assert problem.startswith(f"built: {player}: {call} raised TypeError: Forgets.forward() takes 2 positional")


class MinibatchDeviation(nn.Module):
    def forward(self, h):
        return h + h.std(0, keepdim=True)


class Mixing(nn.Module):
    def __init__(self, **attributes) -> None:
        super().__init__()
        self.layers = nn.Sequential(nn.Flatten(), nn.Linear(64, 8), MinibatchDeviation(), nn.Linear(8, 1))
        vars(self).update(attributes)

    def forward(self, x, y):
        return self.layers(x).squeeze(1)


def test_a_critic_that_mixes_samples_must_say_so():
    (problem,) = refused(attrs.evolve(recipe(), discriminator=Given(Mixing())))
    assert problem.startswith("built: discriminator: one sample's score depends on another sample; ")
    assert not prepare(attrs.evolve(recipe(), discriminator=Given(Mixing(mixes_samples=True)))).state.joint


def test_the_refusal_of_a_penalty_names_the_module_that_mixes_samples():
    penalised = recipe(constraints=[{"use": "gradient_penalty"}])
    (problem,) = refused(attrs.evolve(penalised, discriminator=Given(Mixing(mixes_samples=True))))
    assert "but its Mixing mixes samples" in problem
