"""Terms in Algorithm 1: whom their gradients reach, what a turn holds, loss scaling, memory."""

from __future__ import annotations

from typing import ClassVar

import attrs
import pytest
import torch
from torch import nn

from ganframe import Constraint, Parts, Term
from ganframe.engine.algorithm import discriminator_step, generator_step, train
from ganframe.engine.state import Player, Timetable
from ganframe.engine.timing import Ramp, Timing


@attrs.frozen
class Drift(Term):
    """weight · (E G(z) - 1)² and weight · E D(x)²: both players, without parts."""

    weight: float = 1.0

    def discriminator_term(self, turn):
        assert turn.real.scores.dtype == turn.fake.scores.dtype == torch.float32
        assert not turn.fake.x.requires_grad
        return self.weight * turn.real.scores.square().mean()

    def generator_term(self, turn):
        assert turn.fake.x.dtype == torch.float32
        return self.weight * (turn.fake.x.mean() - 1).square()


@attrs.frozen
class Paired(Term):
    """E|x - G(z)|: needs real samples, without their scores."""

    needs_real: ClassVar[str] = "x"

    def generator_term(self, turn):
        assert turn.real.scores is None
        assert torch.equal(turn.real.y, turn.fake.y)
        return (turn.real.x - turn.fake.x).abs().mean()


@attrs.frozen
class Compared(Term):
    needs_real: ClassVar[str] = "scores"

    def generator_term(self, turn):
        return (turn.real.scores.mean() - turn.fake.scores.mean()).square()


@attrs.frozen
class CallsEverything(Term):
    """Calls both networks in both steps."""

    def _all(self, turn):
        x = turn.G(turn.fake.z, turn.fake.y)
        return turn.D(x, turn.fake.y).mean() + turn.parts.generator(x).mean() + turn.parts.discriminator(x).mean()

    discriminator_term = generator_term = _all


@attrs.frozen
class Reads(Term):
    """Keeps what the last turns held."""

    turns: list = attrs.field(factory=list)
    needs_extras: ClassVar[tuple[str, ...]] = ("features",)

    def discriminator_term(self, turn):
        self.turns.append(turn)

    generator_term = discriminator_term


class WithFeatures(nn.Module):
    gives_extras = True

    def __init__(self) -> None:
        super().__init__()
        self.first, self.last = nn.Linear(2, 5), nn.Linear(5, 1)

    def forward(self, x, y, extras=None):
        h = self.first(x).tanh()
        if extras is not None:
            extras["features"] = h
        return self.last(h).squeeze(1)


def gradients(player):
    return [p.grad for module in player.modules for p in module.parameters() if p.grad is not None]


def weights(*players):
    return [p.detach().clone() for player in players for p in player.network.parameters()]


@pytest.mark.parametrize("term", [Drift(), Paired(), Compared()], ids=lambda t: type(t).__name__)
def test_term_is_added_to_the_loss_once(make_state, term):
    """The gradient with the term is that of the loss plus that of the term alone."""

    def gradient(objective, terms):
        state = make_state(objective, terms=terms)
        generator_step_after(state)
        return gradients(state.G)

    def generator_step_after(state):
        state.labels = torch.zeros(8, dtype=torch.long)
        state.batches()  # the batch that a discriminator step would draw
        generator_step(state)

    both, term_alone = gradient("non_saturating", {"t": term}), gradient(Idle(), {"t": term})
    loss_alone = gradient("non_saturating", {})
    # Where the term draws a real batch, the latents that follow differ: then only that something was added is known.
    if term.needs_real is None:
        for a, b, c in zip(both, term_alone, loss_alone, strict=True):
            torch.testing.assert_close(a, b + c)
    assert any(not torch.equal(a, b) for a, b in zip(both, loss_alone, strict=True))


class Idle:
    """An objective that stands idle."""

    compares_real = False

    def discriminator_loss(self, real, fake):
        return 0 * (real.mean() + fake.mean())

    def generator_loss(self, fake, real=None):
        return 0 * fake.mean()


@pytest.mark.parametrize("step", [discriminator_step, generator_step])
def test_term_reaches_only_its_own_player(make_state, step):
    parts = Parts(nn.Linear(2, 1), nn.Linear(2, 1))
    state = make_state(Idle(), terms={"all": CallsEverything()}, parts={"all": parts})
    discriminator_step(state)
    for player in (state.G, state.D):
        player.optimizer.zero_grad(set_to_none=True)
    step(state)
    own, other = (state.D, state.G) if step is discriminator_step else (state.G, state.D)
    assert all(gradient.any() for gradient in gradients(own))
    assert len(gradients(own)) == len(own.parameters)
    assert gradients(other) == []


def test_term_logs_its_name_with_the_player_where_both_have_one(make_state):
    state = make_state(terms={"drift": Drift(), "paired": Paired()})
    discriminator_step(state)
    generator_step(state)
    assert {"term_drift_discriminator", "term_drift_generator", "term_paired"} <= state.latest.keys()


def test_extras_of_a_shared_call_belong_to_their_sides(make_state):
    term = Reads()
    state = make_state(D=WithFeatures(), terms={"reads": term})
    discriminator_step(state)
    turn = term.turns[-1]
    assert state.game.scoring.shared_call
    for side in (turn.real, turn.fake):
        torch.testing.assert_close(side.extras["features"], state.D.network.first(side.x).tanh(), atol=0.1, rtol=0.1)
        assert side.extras["features"].shape == (8, 5)
    assert turn.fake.z.shape == (8, 4)
    assert turn.real.z is None
    generator_step(state)
    assert term.turns[-1].fake.extras["features"].requires_grad


@pytest.mark.parametrize("objective", ["non_saturating", Idle()])
def test_loss_scaler_leaves_the_gradient_of_a_term_as_it_is(make_state, objective):
    """The scale of fp16 is on the whole loss, and taken out of the whole gradient."""
    plain, scaled = (
        make_state(
            objective,
            terms={"drift": Drift(3.0)},
            scaler=torch.amp.GradScaler("cpu", init_scale=2.0**16) if s else None,
        )
        for s in (False, True)
    )
    for state in (plain, scaled):
        for _ in range(3):
            discriminator_step(state)
            generator_step(state)
    for a, b in zip(weights(plain.G, plain.D), weights(scaled.G, scaled.D), strict=True):
        torch.testing.assert_close(a, b, rtol=1e-5, atol=1e-7)


def test_terms_are_in_float32_under_autocast(make_state):
    bf16 = make_state(
        terms={"drift": Drift(), "compared": Compared()}, autocast=lambda: torch.autocast("cpu", torch.bfloat16)
    )
    discriminator_step(bf16)  # Drift asserts the types
    generator_step(bf16)


# ---------------------------------------------------------------------------------------------------- lazy, late, ramps


def test_mean_gradient_of_a_lazy_term_is_that_of_an_eager_one(make_state):
    """Of constant networks: every n-th step its value times n."""
    lazy = make_state(Idle(), terms={"drift": Drift()}, timetable=Timetable({"term_drift": Timing(every=4)}))
    eager = make_state(Idle(), terms={"drift": Drift()})
    found, z = [], torch.randn(8, 4)
    for state in (lazy, eager):
        for player in (state.G, state.D):
            player.optimizer.param_groups[0]["lr"] = 0.0
        total, state.labels, state.latents = None, torch.zeros(8, dtype=torch.long), lambda n: z
        for _ in range(4):
            generator_step(state)
            now = torch.cat([g.flatten() for g in gradients(state.G)]) if gradients(state.G) else 0
            total = now if total is None else total + now
        found.append(total)
    torch.testing.assert_close(*found)


def test_lazy_penalty_counts_updates_of_its_player(make_state):
    state = make_state(constraints=["r1"], timetable=Timetable({"penalty_0": Timing(every=3)}))
    due = []
    for _ in range(7):
        state.latest = {}
        discriminator_step(state)
        due.append("penalty_0" in state.latest)
    assert due == [True, False, False, True, False, False, True]


def test_lazy_penalty_is_logged_wherever_it_is_due_among_the_updates_of_a_step(make_state):
    state = make_state(constraints=["r1"], timetable=Timetable({"penalty_0": Timing(every=2)}))
    train(state, 1, 2)  # due in the first update of D, not in the second
    assert "penalty_0" in state.latest


def test_logs_are_those_of_the_step_alone(make_state):
    timings = {"objective": Timing(start=5), "term_paired": Timing(every=2)}
    state, seen = make_state(terms={"paired": Paired()}, timetable=Timetable(timings)), []
    train(state, 4, 1, [lambda state: seen.append("term_paired" in state.latest)])
    assert seen == [True, False, True, False]


def test_before_the_objective_starts_conditions_are_new_in_each_step(make_state):
    state, drawn = make_state(timetable=Timetable({"objective": Timing(start=5)})), []
    batches = state.batches
    state.batches = lambda: drawn.append(1) or batches()
    train(state, 6, 1)
    state.step = 0  # as after a rollback: D has drawn labels before
    train(state, 3, 1)
    assert len(drawn) == 5 + 1 + 3


def test_discriminator_is_called_without_input_gradients_where_no_penalty_is_due(make_state):
    state = make_state(constraints=["r1"], timetable=Timetable({"penalty_0": Timing(every=2)}))
    sizes = []
    state.game.D.register_forward_hook(lambda module, args, out: sizes.append(len(out)))
    for _ in range(3):
        discriminator_step(state)
    assert sizes == [8, 8, 16, 8, 8]


def test_late_term_acts_from_its_start(make_state):
    state = make_state(terms={"drift": Drift()}, timetable=Timetable({"term_drift": Timing(start=2)}))
    seen = []
    for state.step in range(4):
        discriminator_step(state)
        generator_step(state)
        seen.append("term_drift_generator" in state.latest)
    assert seen == [False, False, True, True]


def test_before_the_objective_starts_only_terms_train_the_generator(make_state):
    calls = []
    state = make_state(terms={"paired": Paired()}, timetable=Timetable({"objective": Timing(start=3)}))
    state.game.D.register_forward_hook(lambda module, args, out: calls.append(state.step))
    before = weights(state.D)
    train(state, 3, 2)
    assert calls == []
    assert "loss_generator" not in state.latest
    assert all(torch.equal(a, b) for a, b in zip(before, weights(state.D), strict=True))
    assert state.G.updates == 3
    train(state, 5, 2)
    assert state.D.updates == 4
    assert {"loss_generator", "loss_discriminator", "term_paired"} <= state.latest.keys()


def test_ramp_moves_an_option_with_the_step(make_state):
    ramps = {"weight": Ramp(4.0, 0.0, 4)}
    state = make_state(terms={"drift": Drift()}, timetable=Timetable({"term_drift": Timing(ramps=ramps)}))
    fixed = make_state(terms={"drift": Drift(2.0)})
    state.step = 2
    for s in (state, fixed):
        discriminator_step(s)
        generator_step(s)
    assert torch.equal(state.latest["term_drift_generator"], fixed.latest["term_drift_generator"])
    state.step = 4
    generator_step(state)
    assert state.latest["term_drift_generator"].item() == 0


@pytest.mark.parametrize(
    ("shape", "values"),
    [
        ("linear", [10.0, 7.75, 5.5, 3.25, 1.0, 1.0]),
        ("cosine", [10.0, 8.681980515339464, 5.5, 2.318019484660536, 1.0, 1.0]),
        ("constant", [10.0, 10.0, 10.0, 10.0, 1.0, 1.0]),
    ],
)
def test_ramp_values(shape, values):
    ramp = Ramp(10.0, 1.0, 4, shape)
    assert [ramp.at(step) for step in (0, 1, 2, 3, 4, 100)] == pytest.approx(values)


# -------------------------------------------------------------------------------------------- accumulation and clipping


@pytest.mark.parametrize("constraints", [[], ["r1"], ["spectral_norm"]])
def test_accumulated_gradients_are_those_of_the_large_batch(make_state, constraints):
    whole, parts = (make_state(constraints=constraints, accumulate=m) for m in (1, 4))
    for state in (whole, parts):
        for _ in range(2):
            discriminator_step(state)
            generator_step(state)
    for a, b in zip(weights(whole.G, whole.D), weights(parts.G, parts.D), strict=True):
        torch.testing.assert_close(a, b, rtol=1e-4, atol=1e-6)
    assert whole.latest.keys() == parts.latest.keys()
    for name, value in whole.latest.items():
        torch.testing.assert_close(value, parts.latest[name], rtol=1e-4, atol=1e-6)


@pytest.mark.parametrize("scaler", [None, "cpu"])
def test_gradients_are_clipped_to_the_norm_of_each_player(make_state, scaler):
    state = make_state(scaler=scaler and torch.amp.GradScaler(scaler))
    state.D = Player(state.D.network, state.D.optimizer, max_norm=1e-3)
    before = weights(state.D)
    discriminator_step(state)
    moved = torch.cat([(a - b).flatten() for a, b in zip(before, weights(state.D), strict=True)])
    assert moved.norm().item() == pytest.approx(1e-3 * 0.1, rel=1e-3)  # the rate of SGD is 0.1


@attrs.frozen
class Clip(Constraint):
    limit: float = 1.0

    def penalty(self, D, real, fake):
        return 0 * real.scores.mean()

    def project(self, D):
        for parameter in D.parameters():
            parameter.data.clamp_(-self.limit, self.limit)


def test_projection_sees_its_options_move_and_is_never_left_out(make_state):
    timing = Timing(every=100, ramps={"limit": Ramp(1.0, 0.01, 2)})
    state = make_state(constraints=[Clip()], timetable=Timetable({"penalty_0": timing}))
    for state.step in range(3):
        discriminator_step(state)
    assert max(p.abs().max().item() for p in state.D.parameters) == pytest.approx(0.01)


def test_game_that_is_replaced_is_played_from_the_next_step(make_state):
    state = make_state(constraints=["r1"], timetable=Timetable({"penalty_0": Timing(every=2)}))
    discriminator_step(state)
    state.game = attrs.evolve(state.game, constraints={})
    state.latest = {}
    discriminator_step(state)
    discriminator_step(state)
    assert "penalty_0" not in state.latest
