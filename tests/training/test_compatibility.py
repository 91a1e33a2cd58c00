"""The short trial of a recipe's parts on two samples, which refuses those that cannot train together."""

from __future__ import annotations

import attrs
import pytest
import torch
from torch import nn

import ganframe
from ganframe import Objective
from ganframe.training import compatibility
from ganframe.training.prepare import prepare


class Flat(nn.Module):
    """Returns (N, 64) for samples of any shape."""

    def __init__(self) -> None:
        super().__init__()
        self.linear = nn.Linear(64, 64)

    def forward(self, z, y):
        return self.linear(z.flatten(1))


class WithoutLabels(Flat):
    def forward(self, x):
        return super().forward(x, None)


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


@attrs.frozen
class Given:
    """A component that returns a network as it is."""

    network: nn.Module

    def build(self, data, latent_dim=None):
        return self.network


@pytest.mark.parametrize(
    ("player", "network", "problem"),
    [
        ("generator", Flat(), "returns samples of shape (64,); the data has (1, 8, 8)"),
        ("discriminator", Flat(), "returns scores of shape (2, 64) for 2 samples, not (2,); set many_scores = True on"),
        ("discriminator", Mixing(many_scores=True), "the score of one sample depends on another sample; "),
        ("discriminator", Mixing(mixes_groups_of=2), "the score of one sample depends on another sample; "),
        ("generator", WithoutLabels(), "G(z, y) raised TypeError: WithoutLabels.forward() takes 2 positional"),
        ("discriminator", WithoutLabels(), "D(x, y) raised TypeError: WithoutLabels.forward() takes 2 positional"),
        ("discriminator", Mixing(), "the score of one sample depends on another sample; "),
    ],
)
def test_networks_that_cannot_train_are_refused(make_recipe, refused, player, network, problem):
    (found,) = refused(attrs.evolve(make_recipe(), **{player: Given(network)}))
    assert found.startswith(f"built.toml: {player}: {problem}")


class Pairs(Mixing):
    """Mixes the two samples of a pair alone."""

    def forward(self, x, y):
        pairs = zip(x.split(2), y.split(2), strict=True)
        return torch.cat([Mixing.forward(self, *pair) for pair in pairs])


class Many(Flat):
    many_scores = True


@pytest.mark.parametrize("network", [Many(), Pairs(mixes_groups_of=2)])
def test_declared_scores_and_groups_are_accepted(make_recipe, network):
    prepare(attrs.evolve(make_recipe(), discriminator=Given(network)))


@attrs.frozen
class NeedsOneScore(Objective):
    def discriminator_loss(self, real, fake):
        if real.ndim != 1:
            raise ValueError("one score for each sample is needed")
        return (fake - real).mean()

    def generator_loss(self, fake, real=None):
        return -fake.mean()


def test_objective_is_tried_on_scores_as_the_discriminator_gives_them(make_recipe, refused):
    recipe = attrs.evolve(make_recipe(), objective=NeedsOneScore())
    prepare(recipe)
    (found,) = refused(attrs.evolve(recipe, discriminator=Given(Many())))
    assert "one score for each sample is needed" in found


class SeesConditions(Flat):
    """Fails unless y are conditions."""

    def forward(self, z, y):
        assert y.shape[1:] == (1, 8, 8), y.shape
        return super().forward(z, y)[:, 0]


def test_networks_are_tried_with_blank_conditions(conditional):
    recipe = ganframe.load_recipe(conditional(), ["train.one_sided_labels=true"])

    class First(nn.Module):
        def __init__(self):
            super().__init__()
            self.inner = SeesConditions()

        def forward(self, x, y):
            return self.inner(x[:, 0], y)

    prepare(attrs.evolve(recipe, discriminator=Given(First())))


def test_discriminator_that_declares_mixing_is_accepted_with_separate_calls(make_recipe):
    trainer = prepare(attrs.evolve(make_recipe(), discriminator=Given(Mixing(mixes_samples=True))))
    assert not trainer.state.game.scoring.shared_call


def test_trial_changes_neither_networks_nor_random_state(make_recipe):
    first, second = (prepare(make_recipe(generator={"use": "mlp", "batch_norm": True})) for _ in range(2))
    assert first.state.G.network.training
    assert first.state.D.network.training
    assert first.state.G.network.norms[0].norm.num_batches_tracked == 0
    for a, b in zip(first.state.G.parameters, second.state.G.parameters, strict=True):
        assert (a == b).all()


@pytest.mark.parametrize(
    "tables", [{"discriminator": {"use": "mlp", "norm": "batch"}}, {"constraints": [{"use": "spectral_norm"}]}]
)
def test_trial_updates_no_running_statistics_and_no_power_iteration(make_recipe, tables, monkeypatch):
    changed = []

    def watched(recipe, game, spec, faults=compatibility.faults):
        before = [b.clone() for b in game.D.buffers()]
        found = faults(recipe, game, spec)
        changed.extend(not torch.equal(b, a) for b, a in zip(before, game.D.buffers(), strict=True))
        return found

    monkeypatch.setattr(compatibility, "faults", watched)
    prepare(make_recipe(**tables))
    assert changed
    assert not any(changed)


# ---------------------------------------------------------------------------------------------------------- objectives


@attrs.frozen
class Losses(ganframe.Objective):
    """An objective made of two functions."""

    d: object = staticmethod(lambda real, fake: (fake - real).mean())
    g: object = staticmethod(lambda fake, real: -fake.mean())

    def discriminator_loss(self, real, fake):
        return self.d(real, fake)

    def generator_loss(self, fake, real=None):
        return self.g(fake, real)


class Unfinished(ganframe.Objective):
    pass


class WithoutReal(ganframe.Objective):
    def discriminator_loss(self, real, fake):
        return (fake - real).mean()

    def generator_loss(self, fake):
        return -fake.mean()


@pytest.mark.parametrize(
    ("objective", "problem"),
    [
        (
            Losses(d=lambda a, b: None),
            "discriminator_loss(real, fake) returns a NoneType, not a scalar with a gradient",
        ),
        (Losses(d=lambda a, b: b - a), "discriminator_loss(real, fake) returns a Tensor of shape (2,), not a scalar"),
        (Losses(g=lambda b, a: -b.mean().item()), "generator_loss(fake, real) returns a float, not a scalar"),
        (
            Losses(g=lambda b, a: -b.mean().detach()),
            "generator_loss(fake, real) returns a Tensor of shape (), not a scalar",
        ),
        (Losses(g=lambda b, a: (a - b).mean()), "generator_loss(fake, real) raised TypeError: unsupported operand"),
        (Unfinished(), "discriminator_loss(real, fake) raised NotImplementedError; GANFRAME_STRICT=1 shows where"),
        (WithoutReal(), "generator_loss(fake, real) raised TypeError: WithoutReal.generator_loss() takes 2 positional"),
    ],
)
def test_invalid_objective_is_refused_in_one_line(make_recipe, refused, monkeypatch, objective, problem):
    recipe = attrs.evolve(make_recipe(), objective=objective)
    (found,) = refused(recipe)
    assert found.startswith(f"built.toml: objective: {problem}")
    if "raised" in problem:
        monkeypatch.setenv("GANFRAME_STRICT", "1")
        with pytest.raises((TypeError, NotImplementedError)):
            prepare(recipe)


@pytest.mark.parametrize(
    ("of_G", "of_D", "refusal"),
    [
        ((4, 6), (4, 6), False),
        ((6, 4), (4, 6), False),
        ((4, 6), (), False),
        ((), (4, 6), False),
        ((4, 6), (4, 5), True),
        ((4, 6), (4,), True),
    ],
)
def test_networks_that_grow_at_different_steps_are_refused(make_recipe, refused, of_G, of_D, refusal):
    G, D = Mixing(mixes_samples=True), Mixing(mixes_samples=True)
    G.layers = nn.Sequential(nn.Linear(64, 64), nn.Unflatten(1, (1, 8, 8)))
    G.forward = lambda z, y: G.layers(z)
    G.layers.grows_at, D.layers.grows_at = of_G, of_D  # in any module of the network
    recipe = attrs.evolve(make_recipe(latent={"dim": 64}), generator=Given(G), discriminator=Given(D))
    if not refusal:
        prepare(recipe)
        return
    (problem,) = refused(recipe)
    assert problem.startswith("built.toml: generator, discriminator: they grow at different steps, at 4, 6 and at 4")
