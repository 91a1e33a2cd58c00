"""Algorithm 1: which player is updated when, by which gradient, and what a step leaves unchanged."""

from __future__ import annotations

import copy

import attrs
import pytest
import torch
from torch import nn

from ganframe import Constraint
from ganframe.engine import algorithm
from ganframe.engine.algorithm import (
    discriminator_loss,
    discriminator_step,
    frozen,
    generator_loss,
    generator_step,
    train,
)
from ganframe.engine.state import Batch

PENALTIES = ["gradient_penalty", "r1"]


def weights(player):
    return [p.detach().clone() for p in player.network.parameters()]


def gradients(player):
    return [p.grad.clone() for p in player.parameters]


def same(first, second):
    return all(torch.equal(a, b) for a, b in zip(first, second, strict=True))


def with_learning_rate(state, lr):
    for player in (state.G, state.D):
        player.optimizer.param_groups[0]["lr"] = lr
    return state


# ------------------------------------------------------------------------------------------------------- the algorithm


def test_train_takes_k_discriminator_steps_then_a_generator_step_then_callbacks(make_state, monkeypatch):
    calls = []
    monkeypatch.setattr(algorithm, "discriminator_step", lambda state: calls.append("D"))
    monkeypatch.setattr(algorithm, "generator_step", lambda state: calls.append("G"))
    state = make_state()
    train(state, 2, 3, [lambda s: calls.append(s.step)])
    assert calls == ["D", "D", "D", "G", 1, "D", "D", "D", "G", 2]
    train(state, 2, 3, [lambda s: calls.append(s.step)])
    assert len(calls) == 10  # step 2 is reached already


def test_first_discriminator_step_leaves_no_gradient_in_g(make_state):
    state = make_state()
    G, D = weights(state.G), weights(state.D)
    discriminator_step(state)
    assert same(G, weights(state.G))
    assert not same(D, weights(state.D))
    assert all(p.grad is None for p in state.G.parameters)


@pytest.mark.parametrize("objective", ["non_saturating", "relativistic"])
def test_each_step_leaves_the_other_players_weights_and_gradients(make_state, objective):
    state = make_state(objective)
    train(state, 1, 1)  # from here on both have gradients, which the other's step could change or descend
    turns = ((discriminator_step, state.D, state.G), (generator_step, state.G, state.D))
    for step, mover, other in turns * 2:
        before, kept = weights(mover), weights(other) + gradients(other)
        step(state)
        assert not same(before, weights(mover))
        assert same(kept, weights(other) + gradients(other))
        assert all(p.requires_grad for p in state.D.parameters)


def test_each_step_descends_the_gradient_of_its_own_loss(make_state):
    state = make_state()
    G, D = copy.deepcopy(state.game.G), copy.deepcopy(state.game.D)
    (x, y), z, z_generator = state.batches(), state.latents(8), state.latents(8)
    latents = iter([z, z_generator])
    state.batches, state.latents = lambda: (x, y), lambda n: next(latents)
    objective = state.game.objective

    def assert_descended(network, player, loss):
        steps = torch.autograd.grad(loss, list(network.parameters()))
        for before, step, after in zip(network.parameters(), steps, weights(player), strict=True):
            torch.testing.assert_close(after, before - 0.1 * step)

    discriminator_step(state)
    loss = objective.discriminator_loss(D(x, y), D(G(z, y).detach(), y))  # fakes have the labels of the real batch
    assert_descended(D, state.D, loss)
    torch.testing.assert_close(state.latest["loss_discriminator"], loss)
    generator_step(state)
    loss = objective.generator_loss(state.game.D(G(z_generator, y), y))
    assert_descended(G, state.G, loss)
    torch.testing.assert_close(state.latest["loss_generator"], loss)


def test_gradients_of_the_previous_step_are_cleared(make_state):
    state = with_learning_rate(make_state(), 0.0)
    x, y, z = torch.randn(8, 2), torch.zeros(8).long(), torch.randn(8, 4)
    state.batches, state.latents = lambda: (x, y), lambda n: z
    train(state, 1, 1)
    first = gradients(state.G) + gradients(state.D)
    train(state, 2, 2)  # the same samples and weights again, so the same gradients
    for one, other in zip(first, gradients(state.G) + gradients(state.D), strict=True):
        assert one.any()
        torch.testing.assert_close(other, one)


@pytest.mark.parametrize("objective", ["non_saturating", "relativistic"])
def test_each_step_draws_real_samples_then_latents(make_state, objective):
    """The order decides which samples a seed produces."""
    state, drawn = make_state(objective), []
    batches, latents = state.batches, state.latents
    state.batches = lambda: (drawn.append("real"), batches())[1]
    state.latents = lambda n: (drawn.append(n), latents(n))[1]
    discriminator_step(state)
    generator_step(state)
    assert drawn == ["real", 8, *(["real"] if objective == "relativistic" else []), 8]


@pytest.mark.parametrize("n", [5, 20])
def test_generator_batch_of_another_size_repeats_or_cuts_the_labels(make_state, n):
    state, seen = make_state(generator_batch=n), []
    state.game.G.register_forward_hook(lambda module, args, out: seen.append(args))
    discriminator_step(state)
    generator_step(state)
    assert [len(z) for z, y in seen] == [8, n]
    assert seen[1][1].tolist() == (seen[0][1].tolist() * 3)[:n]


def test_batch_norm_of_g_follows_discriminator_steps(make_state):
    """The engine's decision: G is in training mode there, and its running statistics follow these fakes too."""
    state = make_state(G={"batch_norm": True})
    norm = state.game.G.norms[0].norm
    G, mean, count = weights(state.G), norm.running_mean.clone(), norm.num_batches_tracked.item()
    discriminator_step(state)
    assert same(G, weights(state.G))
    assert not torch.equal(mean, norm.running_mean)
    assert norm.num_batches_tracked.item() == count + 1
    assert state.game.G.training


def test_batch_norm_of_d_follows_the_fakes_of_generator_steps(make_state):
    """Dropout, BatchNorm and the power iteration do in G's step what they do in D's."""
    state = make_state(D={"norm": "batch"})
    (norm,) = (m for m in state.game.D.modules() if isinstance(m, nn.BatchNorm1d))
    discriminator_step(state)
    mean, count = norm.running_mean.clone(), norm.num_batches_tracked.item()
    generator_step(state)
    assert not torch.equal(mean, norm.running_mean)
    assert norm.num_batches_tracked.item() == count + 1


# -------------------------------------------------------------------------------------------------------------- losses


def loss_of_discriminator(game, batch):
    return discriminator_loss(game, batch)


def loss_of_generator(game, batch):
    return generator_loss(game, batch if game.objective.compares_real else batch._replace(x=None))


@pytest.mark.parametrize("loss_of", [loss_of_discriminator, loss_of_generator])
@pytest.mark.parametrize("constraint", [None, *PENALTIES])
@pytest.mark.parametrize("objective", ["wgan", "relativistic"])
def test_losses_are_pure(make_state, loss_of, constraint, objective):
    """Same game, batch and random state: same loss. Nothing else changes, and no graph remains in the logs."""
    state = make_state(objective, [constraint] if constraint else [], D={"dropout": 0.5})
    game, batch = state.game, Batch(*state.batches(), state.latents(8))
    players, kept = (state.G, state.D), Batch(*(tensor.clone() for tensor in batch[:3]))
    for player in players:
        for p in player.parameters:
            p.grad = torch.ones_like(p)
    before, others = [weights(player) for player in players], (state.step, state.labels, dict(state.latest))

    results = []
    for again in (copy.deepcopy(game), copy.deepcopy(game), game):
        torch.manual_seed(5)
        results.append(loss_of(again, batch))
    (loss, logs), *repeated = results
    for other, other_logs in repeated:
        assert torch.equal(other, loss)
        assert other_logs.keys() == logs.keys()
        assert same(other_logs.values(), logs.values())
    assert loss.requires_grad
    assert not any(value.requires_grad for value in logs.values())

    assert all(map(same, before, map(weights, players)))
    assert all((g == 1).all() for player in players for g in gradients(player))
    assert (state.step, state.labels, state.latest) == others
    for tensor, copied in zip(batch[:3], kept[:3], strict=True):
        assert torch.equal(tensor, copied)
        assert not tensor.requires_grad
        assert tensor.grad is None


def test_logs_of_a_step_are_detached(make_state):
    state = make_state(constraints=["gradient_penalty"])
    train(state, 1, 1)
    assert state.latest.keys() == {"loss_discriminator", "score_real", "score_fake", "penalty_0", "loss_generator"}
    assert not any(value.requires_grad for value in state.latest.values())


def test_frozen_restores_requires_grad_after_an_exception(make_state):
    network = make_state().game.D
    fixed = next(network.parameters()).requires_grad_(False)
    state = make_state(D=network)

    def fail():
        assert not any(p.requires_grad for p in network.parameters())
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt), frozen(state.D):
        fail()
    assert [p.requires_grad for p in network.parameters()] == [p is not fixed for p in network.parameters()]


# --------------------------------------------------------------------------------------------------------- constraints


def test_penalties_are_added_and_projections_follow_the_step(make_state):
    order = []

    @attrs.frozen
    class Weight(Constraint):
        def penalty(self, D, real, fake):
            order.append("penalty")
            return 0.5 * sum(p.square().sum() for p in D.parameters())

        def project(self, D):
            order.append("project")
            with torch.no_grad():
                for p in D.parameters():
                    p.clamp_(-0.01, 0.01)

    def largest():
        return max(w.abs().max().item() for w in weights(state.D))

    state = make_state(constraints=[Weight()])
    before = weights(state.D)
    discriminator_step(state)
    assert order == ["penalty", "project"]
    assert state.latest["penalty_0"].item() == pytest.approx(0.5 * sum(w.square().sum().item() for w in before))
    assert largest() <= 0.01
    seen = []
    state.game.D.register_forward_hook(lambda *_: seen.append(largest()))
    generator_step(state)
    assert seen[0] <= 0.01  # G's gradient comes from clipped weights


def test_penalty_may_differentiate_scores_by_the_samples(make_state, make, linear):
    state = make_state(constraints=[make("constraint", "r1", gamma=2.0)], D=linear)
    discriminator_step(state)
    assert state.latest["penalty_0"].item() == pytest.approx(2.0 / 2 * 25.0)  # γ/2 |w|²
    assert linear.w.grad.norm().item() > 5  # the penalty's gradient γw is part of it


@pytest.mark.parametrize("constraint", PENALTIES)
def test_fakes_of_a_discriminator_step_have_no_graph_of_g(make_state, constraint):
    leaves = []

    @attrs.frozen
    class Spy(Constraint):
        def penalty(self, D, real, fake):
            leaves.append(fake.x.is_leaf)

    state = make_state(constraints=[constraint, Spy()])
    discriminator_step(state)
    assert leaves == [True]
    assert all(p.grad is None for p in state.G.parameters)


@attrs.frozen
class Lazy(Constraint):
    """Another constraint in every k-th step, k times as heavy (Karras et al. 2020)."""

    other: Constraint
    every: int = 1
    calls: list = attrs.field(factory=list)
    input_gradients = True

    def penalty(self, D, real, fake):
        self.calls.append(0)
        return None if len(self.calls) % self.every else self.every * self.other.penalty(D, real, fake)


def test_lazy_penalty_has_the_mean_gradient_of_one_in_every_step(make_state, make, linear):
    """On D = w·x, R1 = γ/2 |w|² has gradient γw. Steps without a penalty have none in the logs."""
    r1 = make("constraint", "r1", gamma=0.5)
    means = []
    for constraints in ([], [Lazy(r1)], [Lazy(r1, every=4)]):
        state = with_learning_rate(make_state("wgan", constraints, D=linear), 0.0)
        mean, taken = torch.zeros(2), []
        for _ in range(8):
            state.latest = {}
            discriminator_step(state)
            mean += linear.w.grad / 8
            taken.append("penalty_0" in state.latest)
        means.append(mean)
    assert taken == [False, False, False, True] * 2
    for mean in means[1:]:
        torch.testing.assert_close(mean - means[0], 0.5 * linear.w.detach())


@pytest.mark.parametrize("constraint", PENALTIES)
def test_compiled_discriminator_gets_the_eager_gradients_of_a_penalty_or_is_refused(make_state, constraint):
    """torch.compile cannot differentiate twice, and raises. A penalty without effect would be wrong."""
    eager, compiled = (make_state("wgan", [constraint]) for _ in range(2))
    compiled.game.D.compile(backend="aot_eager")
    torch.manual_seed(5)
    discriminator_step(eager)
    torch.manual_seed(5)
    try:
        discriminator_step(compiled)
    except RuntimeError as refusal:
        if "backward" not in str(refusal):
            raise
    else:
        for a, b in zip(weights(compiled.D), weights(eager.D), strict=True):
            torch.testing.assert_close(a, b)


# --------------------------------------------------------------------------------------------------------- loss scaling


@pytest.mark.parametrize("constraint", PENALTIES)
def test_loss_scaling_changes_no_update(make_state, constraint):
    """The scale is removed before a penalty's norm: a penalty of scaled gradients would be 65536 times too large."""
    results = []
    for scaler in (None, torch.amp.GradScaler("cpu", init_scale=2.0**16)):
        state = make_state(constraints=[constraint], scaler=scaler)
        torch.manual_seed(5)
        train(state, 1, 1)
        results.append(weights(state.D) + weights(state.G))
    for a, b in zip(*results, strict=True):
        torch.testing.assert_close(a, b, rtol=1e-5, atol=1e-7)


def test_scaler_skips_a_step_with_infinite_gradients(make_state):
    state = make_state(scaler=torch.amp.GradScaler("cpu", init_scale=2.0**16))
    before, batches = weights(state.D), state.batches
    state.batches = lambda: (batches()[0] * float("inf"), batches()[1])
    discriminator_step(state)
    assert same(before, weights(state.D))
    assert state.scaler.get_scale() == 2.0**15


# --------------------------------------------------------------------------------------------------------- shared fakes


@pytest.mark.parametrize("objective", ["non_saturating", "relativistic"])
def test_shared_fakes_are_those_of_the_last_discriminator_step(make_state, objective):
    """G's step descends its loss on the z, y and x of D's last step, by the D that this step has left."""
    state = make_state(objective, share_fakes=True)
    drawn, seen = [], []
    latents, batches = state.latents, state.batches
    state.latents = lambda n: drawn.append(latents(n)) or drawn[-1]
    state.batches = lambda: seen.append(batches()) or seen[-1]
    expected = []

    def look(network, args):  # called before each of the generator's forward passes
        expected.append((args[0], args[1]))

    state.game.G.register_forward_pre_hook(look)
    for p in state.G.parameters:
        p.grad = None
    before = weights(state.G)
    train(state, 1, 3)
    assert len(drawn) == len(seen) == 3  # not one more for G
    assert len(expected) == 3  # G has made no other samples
    assert expected[-1][0] is drawn[-1]
    moved = gradients(state.G)
    for p, value in zip(state.G.parameters, before, strict=True):
        p.data.copy_(value)
        p.grad = None
    x = seen[-1][0] if objective == "relativistic" else None
    loss, _ = generator_loss(state.game, Batch(x, seen[-1][1], drawn[-1]))
    loss.backward()
    for p, gradient in zip(state.G.parameters, moved, strict=True):
        torch.testing.assert_close(p.grad, gradient)
    assert state.shared is None


def test_without_shared_fakes_the_generator_draws_its_own(make_state):
    state = make_state()
    drawn = []
    latents = state.latents
    state.latents = lambda n: drawn.append(n) or latents(n)
    train(state, 2, 3)
    assert len(drawn) == 8


def test_shared_fakes_leave_no_gradient_of_the_discriminators_loss_in_g(make_state):
    state = make_state(share_fakes=True)
    state.last = True
    discriminator_step(state)
    assert all(p.grad is None for p in state.G.parameters)
    assert state.shared.fakes.requires_grad
