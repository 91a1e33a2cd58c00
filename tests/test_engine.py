"""Algorithm 1: who is updated when, by what gradient, and what stays as it is."""

from __future__ import annotations

import copy
import functools
from typing import ClassVar

import attrs
import pytest
import torch
from torch import nn

import ganframe
from ganframe import Constraint, DataSpec, Objective, mixes_samples
from ganframe.engine import Player, State, discriminator_step, generator_step, train

SGD = functools.partial(torch.optim.SGD, lr=0.1)


def component(kind: str, name: str, **options):
    return ganframe.component(kind, name)(**options)


def make_state(
    objective="non_saturating",
    constraints=(),
    G=None,
    D=None,
    shape=(2,),
    batch=8,
    generator_batch=None,
    **options,
) -> State:
    torch.manual_seed(0)
    data = DataSpec(shape, 3)
    G = (G or component("generator", "mlp", hidden=(8,))).build(data, 4)
    D = (D or component("discriminator", "mlp", hidden=(8,))).build(data)
    for constraint in constraints:
        D = constraint.wrap(D)
    source = torch.Generator().manual_seed(1)
    return State(
        G=Player(G, SGD(G.parameters())),
        D=Player(D, SGD(D.parameters())),
        objective=component("objective", objective) if isinstance(objective, str) else objective,
        constraints={str(i): c for i, c in enumerate(constraints)},
        batches=lambda: (
            torch.randn(batch, *shape, generator=source),
            torch.randint(3, (batch,), generator=source),
        ),
        latents=lambda n: torch.randn(n, 4, generator=source),
        joint=not mixes_samples(D),
        generator_batch_size=generator_batch or batch,
        device=torch.device("cpu"),
        **options,
    )


def weights(player: Player) -> list[torch.Tensor]:
    return [p.detach().clone() for p in player.network.parameters()]


def same(first: list[torch.Tensor], second: list[torch.Tensor]) -> bool:
    return all(torch.equal(a, b) for a, b in zip(first, second, strict=True))


def test_a_critic_step_changes_d_alone_and_leaves_no_gradient_in_g():
    state = make_state()
    G, D = weights(state.G), weights(state.D)
    discriminator_step(state)
    assert same(G, weights(state.G))
    assert not same(D, weights(state.D))
    assert all(p.grad is None for p in state.G.parameters)


def test_a_generator_step_changes_g_alone_and_leaves_d_and_its_gradients():
    state = make_state()
    discriminator_step(state)
    G, D = weights(state.G), weights(state.D)
    gradients = [p.grad.clone() for p in state.D.parameters]
    generator_step(state)
    assert not same(G, weights(state.G))
    assert same(D, weights(state.D))
    assert same(gradients, [p.grad for p in state.D.parameters])
    assert all(p.requires_grad for p in state.D.parameters)


def test_k_critic_steps_then_one_generator_step_then_callbacks(monkeypatch):
    from ganframe import engine

    calls = []
    monkeypatch.setattr(engine, "discriminator_step", lambda state: calls.append("D"))
    monkeypatch.setattr(engine, "generator_step", lambda state: calls.append("G"))
    state = make_state()
    train(state, 2, 3, [lambda s: calls.append(s.step)])
    assert calls == ["D", "D", "D", "G", 1, "D", "D", "D", "G", 2]
    train(state, 2, 3, [lambda s: calls.append(s.step)])
    assert len(calls) == 10  # already there


def test_both_players_descend_their_own_loss():
    state = make_state()
    before = copy.deepcopy(state.D.network)
    seen = {}

    @attrs.frozen
    class Spy(Constraint):
        def penalty(self, D, real, fake):
            seen.update(real=real, fake=fake)
            return torch.zeros(())

    state.constraints = {"spy": Spy()}
    discriminator_step(state)
    real, fake = before(seen["real"].x, seen["real"].y), before(seen["fake"].x, seen["fake"].y)
    loss = state.objective.discriminator_loss(real, fake)
    expected = [
        p - 0.1 * g for p, g in zip(before.parameters(), torch.autograd.grad(loss, before.parameters()), strict=True)
    ]
    for e, p in zip(expected, weights(state.D), strict=True):
        torch.testing.assert_close(p, e)
    assert torch.equal(seen["fake"].y, seen["real"].y)  # fakes wear the labels of the real batch
    torch.testing.assert_close(state.latest["loss_discriminator"], loss)


@pytest.mark.parametrize("norm", ["none", "batch"])
def test_real_and_fake_share_a_call_only_where_samples_are_independent(norm):
    calls = []
    state = make_state(D=component("discriminator", "mlp", hidden=(8,), norm=norm))
    state.D.network.register_forward_hook(lambda module, args, out: calls.append(len(out)))
    discriminator_step(state)
    assert calls == ([16] if norm == "none" else [8, 8])


def test_scores_of_one_joint_call_are_those_of_two():
    joint, apart = make_state(), make_state()
    apart.joint = False
    for state in (joint, apart):
        discriminator_step(state)
    for a, b in zip(weights(joint.D), weights(apart.D), strict=True):
        torch.testing.assert_close(a, b)


def test_g_in_a_critic_step_is_in_training_mode_its_statistics_follow_and_its_weights_do_not():
    """The engine's decision: running statistics of G's BatchNorm follow critic steps too."""
    state = make_state(G=component("generator", "mlp", hidden=(8,), batch_norm=True))
    norm = state.G.network.norms[0].norm
    G, mean, count = weights(state.G), norm.running_mean.clone(), norm.num_batches_tracked.item()
    discriminator_step(state)
    assert same(G, weights(state.G))
    assert not torch.equal(mean, norm.running_mean)
    assert norm.num_batches_tracked.item() == count + 1
    assert state.G.network.training


def test_d_in_a_generator_step_is_in_training_mode_and_its_statistics_follow_the_fakes():
    """Dropout, BatchNorm and the power iteration do in G's step what they do in D's."""
    state = make_state(D=component("discriminator", "mlp", hidden=(8,), norm="batch"))
    (norm,) = (m for m in state.D.network.modules() if isinstance(m, nn.BatchNorm1d))
    discriminator_step(state)
    mean, count = norm.running_mean.clone(), norm.num_batches_tracked.item()
    generator_step(state)
    assert not torch.equal(mean, norm.running_mean)
    assert norm.num_batches_tracked.item() == count + 1


def test_the_generators_batch_may_have_another_size():
    state = make_state(generator_batch=20)
    sizes = []
    state.G.network.register_forward_hook(lambda module, args, out: sizes.append(len(out)))
    discriminator_step(state)
    generator_step(state)
    assert sizes == [8, 20]


def test_penalties_are_added_and_projections_follow_the_step():
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

    state = make_state(constraints=(Weight(),))
    before = weights(state.D)
    discriminator_step(state)
    assert order == ["penalty", "project"]
    assert state.latest["penalty_0"].item() == pytest.approx(0.5 * sum(w.square().sum().item() for w in before))
    assert max(w.abs().max().item() for w in weights(state.D)) <= 0.01
    seen = []
    state.D.network.register_forward_hook(
        lambda module, args, out: seen.append(max(p.abs().max().item() for p in module.parameters()))
    )
    generator_step(state)
    assert seen[0] <= 0.01  # G's gradient sees clipped weights


@attrs.frozen
class R1(Constraint):
    gamma: float = 1.0
    input_gradients: ClassVar[bool] = True

    def penalty(self, D, real, fake):
        (gradient,) = torch.autograd.grad(real.scores.sum(), real.x, create_graph=True)
        return self.gamma / 2 * gradient.flatten(1).square().sum(1).mean()


class LinearCritic(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.w = nn.Parameter(torch.tensor([3.0, 4.0]))

    def forward(self, x, y):
        return x @ self.w


@attrs.frozen
class Given:
    """A discriminator configuration that hands over a network made elsewhere."""

    network: nn.Module

    def build(self, data):
        return self.network


def test_a_constraint_may_differentiate_the_scores_by_the_samples():
    state = make_state(constraints=(R1(gamma=2.0),), D=Given(LinearCritic()))
    discriminator_step(state)
    assert state.latest["penalty_0"].item() == pytest.approx(2.0 / 2 * 25.0)  # γ/2 |w|²
    # The pull of the penalty on w: γ w, beside the objective's.
    assert state.D.network.w.grad.norm().item() > 5


@attrs.frozen
class Pairing(Objective):
    compares_real: ClassVar[bool] = True

    def discriminator_loss(self, real, fake):
        return torch.nn.functional.softplus(fake - real).mean()

    def generator_loss(self, fake, real=None):
        assert real.shape == fake.shape == (8,)
        return torch.nn.functional.softplus(real - fake).mean()


def test_relativistic_objectives_get_real_scores_in_the_generators_step():
    state = make_state(objective=Pairing())
    G = weights(state.G)
    discriminator_step(state)
    generator_step(state)
    assert not same(G, weights(state.G))


def gradients(player: Player) -> list[torch.Tensor]:
    return [p.grad.clone() for p in player.parameters]


@pytest.mark.parametrize("objective", ["non_saturating", Pairing()], ids=str)
def test_in_turns_each_step_leaves_the_other_player_its_weights_and_gradients(objective):
    state = make_state(objective=objective)
    train(state, 1, 1)  # from here on both have gradients, which the other's step could add to or descend
    turns = ((discriminator_step, state.D, state.G), (generator_step, state.G, state.D))
    for step, mover, other in turns * 2:
        before, kept = weights(mover), weights(other) + gradients(other)
        step(state)
        assert not same(before, weights(mover))
        assert same(kept, weights(other) + gradients(other))


def test_nothing_is_left_of_the_gradients_of_the_step_before():
    state = make_state()
    x, y, z = torch.randn(8, 2), torch.zeros(8).long(), torch.randn(8, 4)
    state.batches, state.latents = lambda: (x, y), lambda n: z
    state.G.optimizer, state.D.optimizer = (SGD(player.parameters, lr=0.0) for player in (state.G, state.D))
    train(state, 1, 1)
    first = gradients(state.G) + gradients(state.D)
    train(state, 2, 2)  # the same samples and weights again, hence the same gradients
    for one, other in zip(first, gradients(state.G) + gradients(state.D), strict=True):
        assert one.any()
        torch.testing.assert_close(other, one)


@pytest.mark.parametrize("constraint", ["gradient_penalty", R1])
def test_fakes_of_a_critic_step_carry_no_graph_of_g_though_scores_are_differentiated_by_them(constraint):
    leaves = []

    @attrs.frozen
    class Spy(Constraint):
        def penalty(self, D, real, fake):
            leaves.append(fake.x.is_leaf)

    made = constraint() if constraint is R1 else component("constraint", constraint)
    state = make_state(constraints=(made, Spy()))
    discriminator_step(state)
    assert leaves == [True]
    assert all(p.grad is None for p in state.G.parameters)


@attrs.frozen
class LazyR1(R1):
    """R1 in every k-th step, k times as heavy (Karras et al. 2020)."""

    every: int = 1
    calls: list = attrs.field(factory=list)

    def penalty(self, D, real, fake):
        self.calls.append(0)
        return None if len(self.calls) % self.every else self.every * super().penalty(D, real, fake)


def test_a_lazy_penalty_pulls_on_the_average_as_one_of_every_step_does():
    """On D = w·x, R1 = γ/2 |w|² pulls by γw. The steps without a penalty have none in the metrics."""
    pulls = []
    for constraints in ((), (LazyR1(gamma=0.5),), (LazyR1(gamma=0.5, every=4),)):
        state = make_state("wgan", constraints, D=Given(LinearCritic()))
        state.D.optimizer = SGD(state.D.parameters, lr=0.0)
        pull, taken = torch.zeros(2), []
        for _ in range(8):
            discriminator_step(state)
            pull += state.D.network.w.grad / 8
            taken.append("penalty_0" in state.latest)
        pulls.append(pull)
    assert taken == [False, False, False, True] * 2
    for pull in pulls[1:]:
        torch.testing.assert_close(pull - pulls[0], 0.5 * state.D.network.w.detach())


@pytest.mark.parametrize(
    ("step", "objective", "constraint"),
    [
        (discriminator_step, "wgan", "gradient_penalty"),
        (discriminator_step, "wgan", R1),
        (generator_step, "wgan", R1),
        (generator_step, Pairing(), R1),
    ],
)
def test_one_power_iteration_per_step_though_d_is_called_more_than_once(step, objective, constraint):
    """By a penalty at its own points, or for real and fake samples apart."""
    made = constraint() if constraint is R1 else component("constraint", constraint)
    constraints = (component("constraint", "spectral_norm"), made)
    state = make_state(objective, constraints, D=component("discriminator", "mlp", hidden=(6,)))
    state.joint = not made.input_gradients
    discriminator_step(state)
    layer = state.D.network.layers[0]
    W = layer.parametrizations.weight.original.detach().clone()
    v = nn.functional.normalize(torch.randn(2), dim=0)  # far from the singular vector, where a round more would show
    layer.parametrizations.weight[0]._v.copy_(v)
    step(state)
    u = nn.functional.normalize(W @ v, dim=0)
    once = nn.functional.normalize(W.T @ u, dim=0)
    torch.testing.assert_close(layer.parametrizations.weight[0]._v, once)


@pytest.mark.parametrize("constraint", ["gradient_penalty", R1])
def test_a_compiled_critic_follows_the_eager_gradients_of_a_penalty_or_is_refused(constraint):
    """torch.compile cannot differentiate twice, and says so; what must not be is a penalty that pulls on nothing."""
    made = constraint() if constraint is R1 else component("constraint", constraint)
    eager, compiled = (make_state("wgan", (made,)) for _ in range(2))
    compiled.D.network.compile(backend="aot_eager")
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


@pytest.mark.parametrize("joint", [True, False])
def test_scores_in_a_column_are_refused(joint):
    class Column(LinearCritic):
        def forward(self, x, y):
            return super().forward(x, y)[:, None]

    state = make_state(D=Given(Column()))
    state.joint = joint
    with pytest.raises(ValueError, match=r"scores of shape \(8, 1\), not \(8,\)"):
        discriminator_step(state)


# ---------------------------------------------------------------------------------------------------- mixed precision


def bf16() -> torch.autocast:
    return torch.autocast("cpu", dtype=torch.bfloat16)


def test_penalties_run_in_float32_under_autocast():
    dtypes, samples = [], []

    @attrs.frozen
    class Spy(Constraint):
        def penalty(self, D, real, fake):
            samples.extend([real.x.dtype, fake.x.dtype])
            dtypes.append((torch.is_autocast_enabled("cpu"), D.layers[0](real.x).dtype, real.scores.dtype))

    state = make_state(constraints=(Spy(),), autocast=bf16)
    state.D.network.layers[0].register_forward_hook(lambda module, args, out: dtypes.append(out.dtype))
    discriminator_step(state)
    assert dtypes[0] == torch.bfloat16  # the scores' own call
    assert dtypes[-1] == (False, torch.float32, torch.float32)
    assert samples == [torch.float32, torch.float32]


def test_losses_are_given_scores_in_float32_under_autocast():
    dtypes = []

    @attrs.frozen
    class Spy(Objective):
        def discriminator_loss(self, real, fake):
            dtypes.extend([real.dtype, fake.dtype])
            return (fake - real).mean()

        def generator_loss(self, fake, real=None):
            dtypes.append(fake.dtype)
            return -fake.mean()

    train(make_state(objective=Spy(), autocast=bf16), 1, 1)
    assert dtypes == [torch.float32] * 3


def test_the_gradient_penalty_of_a_mixed_run_is_that_of_a_float32_one():
    penalties = []
    for autocast in (bf16, None):
        state = make_state(
            objective="wgan",
            constraints=(component("constraint", "gradient_penalty"),),
            **({"autocast": autocast} if autocast else {}),
        )
        state.G.network.register_forward_hook(lambda module, args, out: torch.zeros(8, 2))  # the same points in both
        torch.manual_seed(5)
        discriminator_step(state)
        penalties.append(state.latest["penalty_0"].item())
    assert penalties[0] == pytest.approx(penalties[1], rel=1e-6)


def test_constraints_on_the_scores_graph_take_d_out_of_autocast():
    state = make_state(constraints=(R1(),), autocast=bf16)
    dtypes = []
    state.D.network.layers[0].register_forward_hook(lambda module, args, out: dtypes.append(out.dtype))
    discriminator_step(state)
    assert dtypes == [torch.float32]


@pytest.mark.parametrize("constraint", ["gradient_penalty", R1])
def test_loss_scaling_changes_no_update(constraint):
    """The scale is out before a penalty's norm: a penalty of scaled gradients would be 65536 times too steep."""
    made = constraint() if constraint is R1 else component("constraint", constraint)
    results = []
    for scaler in (None, torch.amp.GradScaler("cpu", init_scale=2.0**16)):
        state = make_state(constraints=(made,), scaler=scaler)
        torch.manual_seed(5)
        discriminator_step(state)
        generator_step(state)
        results.append(weights(state.D) + weights(state.G))
    for a, b in zip(*results, strict=True):
        torch.testing.assert_close(a, b, rtol=1e-5, atol=1e-7)


def test_a_step_with_infinite_gradients_is_skipped_by_the_scaler():
    state = make_state(scaler=torch.amp.GradScaler("cpu", init_scale=2.0**16))
    before = weights(state.D)
    batches = state.batches
    state.batches = lambda: (batches()[0] * float("inf"), batches()[1])
    discriminator_step(state)
    assert same(before, weights(state.D))
    assert state.scaler.get_scale() == 2.0**15
