"""The time of steps by phase, with a clock that the parts themselves move."""

from __future__ import annotations

import attrs
import pytest
import torch
from torch import nn

from ganframe import Constraint, Objective, Parts, Term, option
from ganframe.analysis import phases
from ganframe.analysis.phases import Clock, timed, timed_callbacks
from ganframe.declarations import score_gradients
from ganframe.engine import algorithm
from ganframe.engine.algorithm import train
from ganframe.engine.state import Game, Player, State, Timetable
from ganframe.engine.timing import Ramp, Timing

N = 4


class Now:
    """The time, in milliseconds. It passes only where a part says so."""

    def __init__(self):
        self.seconds = 0.0

    def passes(self, milliseconds):
        self.seconds += milliseconds / 1e3


NOW = Now()


class Takes(torch.autograd.Function):
    """The identity, whose backward takes some milliseconds."""

    @staticmethod
    def forward(ctx, x, milliseconds):
        ctx.milliseconds = milliseconds
        return x.clone()

    @staticmethod
    def backward(ctx, gradient):
        NOW.passes(ctx.milliseconds)
        return gradient, None


class Network(nn.Module):
    """A linear layer that takes some milliseconds forwards and others backwards."""

    def __init__(self, features, out, forwards, backwards):
        super().__init__()
        self.layer, self.forwards, self.backwards = nn.Linear(features, out), forwards, backwards

    def forward(self, x, y):
        NOW.passes(self.forwards)
        return Takes.apply(self.layer(x), self.backwards)


class Critic(Network):
    def forward(self, x, y):
        return super().forward(x, y).squeeze(1)


@attrs.frozen
class Means(Objective):
    def discriminator_loss(self, real, fake):
        return fake.mean() - real.mean()

    def generator_loss(self, fake, real=None):
        return -fake.mean()


@attrs.frozen
class Penalty(Constraint):
    weight: float = option(1.0, help="weight", scheduled=True)

    def penalty(self, D, real, fake):
        NOW.passes(100)
        return self.weight * Takes.apply(D(real.x, real.y).square().mean(), 200)

    def project(self, D):
        NOW.passes(3)


@attrs.frozen
class InputGradients(Penalty):
    input_gradients = True

    def penalty(self, D, real, fake):
        NOW.passes(100)
        return Takes.apply(score_gradients(D, real.scores, real.x).square().sum(1).mean(), 200)


@attrs.frozen
class Added(Term):
    """Samples of G once more, in both losses."""

    def discriminator_term(self, turn):
        NOW.passes(1_000)
        return Takes.apply(turn.D(turn.fake.x, turn.fake.y).mean(), 2_000)

    def generator_term(self, turn):
        NOW.passes(1_000)
        return Takes.apply(turn.G(turn.fake.z, turn.fake.y).square().mean(), 2_000)


class Descends(torch.optim.SGD):
    def step(self, closure=None):
        NOW.passes(7)
        return super().step(closure)


def draw_real():
    NOW.passes(0.25)
    return torch.randn(N, 2), torch.zeros(N, dtype=torch.long)


def draw_latents(n):
    NOW.passes(0.125)
    return torch.randn(n, 2)


@pytest.fixture
def make_state(monkeypatch):
    """make_state(constraint, term, timings): a game whose G takes 10 ms forwards and 20 backwards, D 30 and 40."""
    NOW.seconds = 0.0
    monkeypatch.setattr(phases, "moment", lambda device: NOW.seconds)

    def make(constraint=None, term=None, timings=None):
        torch.manual_seed(0)
        G, D = Network(2, 2, 10, 20), Critic(2, 1, 30, 40)
        constraints = {} if constraint is None else {"it": constraint}
        terms = {} if term is None else {"it": term}
        return State(
            game=Game(G, D, Means(), constraints, terms=terms, parts={name: Parts() for name in terms}),
            G=Player(G, Descends(G.parameters(), lr=0.1)),
            D=Player(D, Descends(D.parameters(), lr=0.1)),
            batches=draw_real,
            latents=draw_latents,
            generator_batch_size=N,
            device=torch.device("cpu"),
            timetable=Timetable(timings),
        )

    return make


def measured(state, steps=1, critic_steps=1, callbacks=()):
    """Milliseconds by phase of some steps, without phases that took none."""
    clock = Clock(state.device)
    with timed(state, clock):
        clock.enter(clock.phase)
        train(state, state.step + steps, critic_steps, timed_callbacks(callbacks, clock))
    return {phase: pytest.approx(total) for phase, total in clock.totals().items() if total > 1e-6}


def test_each_part_of_a_step_is_in_its_phase(make_state):
    found = measured(make_state(), critic_steps=3, callbacks=[lambda state: NOW.passes(5_000)])
    assert found == {
        "data": 3 * 0.25 + 4 * 0.125,
        "fakes": 3 * 10,
        "D": 3 * (30 + 40),
        "G": 10 + 20 + 30 + 40,
        "optimiser": 4 * 7,
        "callbacks": 5_000,
    }


@pytest.mark.parametrize("term", [None, Added()])
@pytest.mark.parametrize(("constraint", "scoring"), [(Penalty(), 30 + 40), (InputGradients(), 40)])
def test_backward_pass_of_penalties_and_terms_is_theirs(make_state, constraint, scoring, term):
    """A penalty on D's own scores differentiates D once more; one that calls D passes through it again."""
    found = measured(make_state(constraint, term))
    shared = isinstance(constraint, Penalty) and not constraint.input_gradients
    assert found["penalty"] == 100 + 200 + scoring
    assert found["D"] == (30 + 40 if shared else 2 * (30 + 40))
    assert found["fakes"] == 10
    assert found["optimiser"] == 2 * 7 + 3
    assert found["G"] == 10 + 20 + 30 + 40
    assert found.get("terms") == (None if term is None else 2 * (1_000 + 2_000) + (30 + 40) + (10 + 20))


def test_moving_average_is_a_phase(make_state):
    state = make_state()
    state.moving_average = lambda state: NOW.passes(13)
    assert measured(state, steps=2)["ema"] == 2 * 13


def test_fakes_that_both_players_share_are_fakes(make_state):
    state = make_state()
    state.share_fakes = True
    found = measured(state, critic_steps=2)
    assert found["fakes"] == 2 * 10
    assert found["G"] == 20 + 30 + 40
    assert found["D"] == 2 * (30 + 40)


def test_phases_add_up_to_the_steps(make_state):
    state = make_state(Penalty(), Added())
    state.batches = lambda: NOW.passes(9) or draw_real()
    found = measured(state, steps=5, critic_steps=2, callbacks=[lambda state: NOW.passes(1)])
    assert sum(total.expected for total in found.values()) == pytest.approx(NOW.seconds * 1e3)


def test_what_belongs_to_no_phase_is_other(make_state):
    state = make_state()
    state.timetable.starts = lambda step: NOW.passes(11) or True
    assert measured(state)["other"] == 11


@pytest.mark.parametrize(("constraint", "term"), [(None, None), (Penalty(), Added()), (InputGradients(), None)])
def test_timed_steps_train_the_same_weights_and_log_the_same_names(make_state, constraint, term):
    plain, other = make_state(constraint, term), make_state(constraint, term)
    torch.manual_seed(1)
    train(plain, 4, 2)
    torch.manual_seed(1)
    measured(other, steps=4, critic_steps=2)
    assert plain.latest.keys() == other.latest.keys()
    for network, its in ((plain.game.G, other.game.G), (plain.game.D, other.game.D)):
        for a, b in zip(network.parameters(), its.parameters(), strict=True):
            assert torch.equal(a, b)


def test_options_that_move_are_moved_in_timed_steps(make_state):
    state = make_state(Penalty(), timings={"penalty_it": Timing(ramps={"weight": Ramp(1.0, 5.0, 4)})})
    found = measured(state, steps=3)
    assert found["penalty"] == 3 * (100 + 200 + 30 + 40)
    assert state.timetable.games  # of the timed game
    weights = [game.constraints["it"].weight for game in state.timetable.games.values()]
    assert weights == [3.0]  # at step 2 of the ramp


def test_engine_and_state_are_as_before_after_an_error(make_state):
    state = make_state()
    before = (algorithm.differentiate, algorithm.descend, state.game, state.batches, state.latents)
    state.timetable.starts = None
    with pytest.raises(TypeError), timed(state, Clock(state.device)):
        train(state, 1, 1)
    assert (algorithm.differentiate, algorithm.descend, state.game, state.batches, state.latents) == before
    assert not state.game.G._forward_hooks
    assert not state.game.G._forward_pre_hooks


def test_attributes_of_a_source_of_batches_are_found_through_the_timer(make_state):
    state = make_state()
    state.batches = type("Feed", (), {"data": "the data", "__call__": lambda self: draw_real()})()
    with timed(state, Clock(state.device)):
        assert state.batches.data == "the data"


def test_moments_on_a_gpu_are_events_in_its_stream(monkeypatch):
    happened = []

    class Event:
        def __init__(self, device, *, enable_timing):
            assert enable_timing
            self.number = len(happened)
            happened.append("made")

        def record(self):
            happened.append("recorded")

        def synchronize(self):
            happened.append("waited")

        def elapsed_time(self, end):
            return float(end.number - self.number)

    monkeypatch.setattr(torch, "Event", Event)
    clock = Clock(torch.device("cuda"))
    for phase in ("D", "G", "other"):
        clock.enter(phase)
    assert happened == ["made", "recorded"] * 3  # nothing waits while steps are timed
    assert {name: total for name, total in clock.totals().items() if total} == {"D": 2.0, "G": 2.0}
    assert happened.count("waited") == 2
