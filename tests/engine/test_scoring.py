"""How D is called: in one call or two, in which precision, with weights computed how often."""

from __future__ import annotations

import attrs
import pytest
import torch
from torch import nn

from ganframe import Constraint, Objective
from ganframe.engine.algorithm import discriminator_step, generator_step, train


def bf16():
    return torch.autocast("cpu", dtype=torch.bfloat16)


def forced(state, **decisions):
    """The state, with decisions of its scoring replaced."""
    state.game.scoring = attrs.evolve(state.game.scoring, **decisions)
    return state


# ----------------------------------------------------------------------------------------------------------- decisions


@pytest.mark.parametrize(
    ("D", "constraints", "shared_call", "input_gradients", "weights_once"),
    [
        ({}, [], True, False, False),
        ({"norm": "layer"}, [], True, False, False),
        ({"norm": "batch"}, [], False, False, False),
        ({}, ["spectral_norm"], True, False, True),
        ({}, ["gradient_penalty"], True, False, True),
        ({}, ["r1"], False, True, True),
        ({}, ["weight_clipping", "r1"], False, True, True),
    ],
)
def test_decisions_follow_from_d_and_its_constraints(
    make_state, D, constraints, shared_call, input_gradients, weights_once
):
    scoring = make_state(constraints=constraints, D=D).game.scoring
    assert (scoring.shared_call, scoring.input_gradients) == (shared_call, input_gradients)
    assert scoring.weights_once == weights_once


def test_evolved_game_decides_anew(make_state, make):
    game = make_state(autocast=bf16).game
    constrained = attrs.evolve(game, constraints={"r1": make("constraint", "r1")})
    assert constrained.scoring.input_gradients
    assert not constrained.scoring.shared_call
    assert constrained.scoring.autocast is bf16
    assert attrs.evolve(constrained, constraints={}).scoring == game.scoring
    assert (game.scoring.input_gradients, game.scoring.shared_call) == (False, True)


@pytest.mark.parametrize(
    ("D", "constraints", "sizes"), [({}, [], [16]), ({"norm": "batch"}, [], [8, 8]), ({}, ["r1"], [8, 8])]
)
def test_real_and_fake_samples_share_a_call_only_where_samples_are_independent(make_state, D, constraints, sizes):
    calls = []
    state = make_state(constraints=constraints, D=D)
    state.game.D.register_forward_hook(lambda module, args, out: calls.append(len(out)))
    discriminator_step(state)
    assert calls == sizes


def test_scores_of_a_shared_call_equal_those_of_two_calls(make_state):
    shared, separate = make_state(), forced(make_state(), shared_call=False)
    for state in (shared, separate):
        discriminator_step(state)
    for a, b in zip(shared.game.D.parameters(), separate.game.D.parameters(), strict=True):
        torch.testing.assert_close(a, b)
    x, fakes, y = torch.randn(8, 2), torch.randn(8, 2), torch.arange(8) % 3
    for a, b in zip(
        *(state.game.scoring.scored(shared.game.D, x, fakes, y) for state in (shared, separate)), strict=True
    ):
        torch.testing.assert_close(a.scores, b.scores)


@pytest.mark.parametrize("shared_call", [True, False])
def test_scores_in_a_column_are_refused(make_state, linear, shared_call):
    class Column(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.scores = linear

        def forward(self, x, y):
            return self.scores(x, y)[:, None]

    state = forced(make_state(D=Column()), shared_call=shared_call)
    with pytest.raises(ValueError, match=r"returns scores of shape \(8, 1\), not \(8,\)"):
        discriminator_step(state)


@pytest.mark.parametrize(
    ("step", "objective", "constraints", "D"),
    [
        (discriminator_step, "wgan", [], {}),
        (discriminator_step, "wgan", [], {"norm": "batch"}),  # two calls
        (discriminator_step, "wgan", ["gradient_penalty"], {}),  # a call at the penalty's own points
        (discriminator_step, "wgan", ["r1"], {}),
        (generator_step, "wgan", ["r1"], {}),
        (generator_step, "relativistic", ["r1"], {}),
        (generator_step, "relativistic", [], {"norm": "batch"}),
    ],
)
def test_spectral_norm_runs_one_power_iteration_per_step(make_state, step, objective, constraints, D):
    state = make_state(objective, ["spectral_norm", *constraints], D=D)
    discriminator_step(state)
    layer = next(m for m in state.game.D.modules() if isinstance(m, nn.Linear))
    W = layer.parametrizations.weight.original.detach().clone()
    v = nn.functional.normalize(torch.randn(2), dim=0)  # far from the singular vector: a second iteration would show
    layer.parametrizations.weight[0]._v.copy_(v)
    step(state)
    u = nn.functional.normalize(W @ v, dim=0)
    once = nn.functional.normalize(W.T @ u, dim=0)
    torch.testing.assert_close(layer.parametrizations.weight[0]._v, once)


# ----------------------------------------------------------------------------------------------------- mixed precision


def test_penalties_are_computed_in_float32_outside_autocast(make_state):
    dtypes, samples = [], []

    @attrs.frozen
    class Spy(Constraint):
        def penalty(self, D, real, fake):
            samples.extend([real.x.dtype, fake.x.dtype])
            dtypes.append((torch.is_autocast_enabled("cpu"), D.layers[0](real.x).dtype, real.scores.dtype))

    state = make_state(constraints=[Spy()], autocast=bf16)
    state.game.D.layers[0].register_forward_hook(lambda module, args, out: dtypes.append(out.dtype))
    discriminator_step(state)
    assert dtypes[0] == torch.bfloat16  # the call for the scores
    assert dtypes[-1] == (False, torch.float32, torch.float32)
    assert samples == [torch.float32, torch.float32]


def test_losses_get_scores_in_float32_under_autocast(make_state):
    dtypes = []

    @attrs.frozen
    class Spy(Objective):
        def discriminator_loss(self, real, fake):
            dtypes.extend([real.dtype, fake.dtype])
            return (fake - real).mean()

        def generator_loss(self, fake, real=None):
            dtypes.append(fake.dtype)
            return -fake.mean()

    train(make_state(Spy(), autocast=bf16), 1, 1)
    assert dtypes == [torch.float32] * 3


def test_gradient_penalty_under_autocast_equals_that_in_float32(make_state):
    penalties = []
    for autocast in (bf16, None):
        state = make_state("wgan", ["gradient_penalty"], autocast=autocast)
        state.game.G.register_forward_hook(lambda module, args, out: torch.zeros(8, 2))  # the same points in both
        torch.manual_seed(5)
        discriminator_step(state)
        penalties.append(state.latest["penalty_0"].item())
    assert penalties[0] == pytest.approx(penalties[1], rel=1e-6)


def test_input_gradients_take_d_out_of_autocast(make_state):
    dtypes = []
    state = make_state(constraints=["r1"], autocast=bf16)
    state.game.D.layers[0].register_forward_hook(lambda module, args, out: dtypes.append(out.dtype))
    discriminator_step(state)
    assert set(dtypes) == {torch.float32}
