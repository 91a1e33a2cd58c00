"""Convergence of Dirac-GAN (Mescheder et al. 2018): D(x) = ψ·x, the data is one point, the generator is one point θ.

The equilibrium is θ at the data and ψ = 0. The first tests run the engine's steps, alternating gradient descent; ORBITS
is the README's table. The others compute the eigenvalues, at the equilibrium, of the vector field
v(θ, ψ) = (-∂L_G/∂θ, -∂(L_D + penalty)/∂ψ) by autograd.
"""

import cmath

import attrs
import pytest
import torch
from ganframe_lipschitz import (
    DRAGAN,
    Consistency,
    DiracDiscriminator,
    DiracGenerator,
    InstanceNoise,
    LipschitzPenalty,
    Orthogonal,
)

import ganframe
from ganframe import Constraint, DataSpec, Scored, option
from ganframe.engine.algorithm import discriminator_step, generator_step
from ganframe.engine.state import Game, Player, State

WGAN = ganframe.component("objective", "wgan")
Vanilla = ganframe.component("objective", "vanilla")
NonSaturating = ganframe.component("objective", "non_saturating")
Clipping = ganframe.component("constraint", "weight_clipping")
GradientPenalty = ganframe.component("constraint", "gradient_penalty")


@attrs.frozen
class R1(Constraint):
    """γ/2 · E‖∇D(x)‖² on real samples (Mescheder et al. 2018, eq. 9)."""

    gamma: float = option(1.0, help="γ")
    input_gradients = True

    def penalty(self, D, real, fake):
        (gradient,) = torch.autograd.grad(real.scores.sum(), real.x, create_graph=True)
        return self.gamma / 2 * gradient.flatten(1).square().sum(1).mean()


# ------------------------------------------------------------------------------------------------------ engine steps


def orbit(objective, *constraints, batch=1, data=0.0, start=(1.5, 0.0), dropout=0.0, steps=300, lr=0.2):
    """The distance of (θ, ψ) from the equilibrium after each step of the engine, (steps,)."""
    torch.manual_seed(0)
    G = DiracGenerator(data + start[0]).build(DataSpec((1,)), 1)
    D = DiracDiscriminator(start[1], dropout).build(DataSpec((1,)))
    for constraint in constraints:
        D = constraint.wrap(D)
    x, y = torch.full((batch, 1), data), torch.zeros(batch, dtype=torch.long)
    state = State(
        game=Game(G, D, objective, {str(i): constraint for i, constraint in enumerate(constraints)}),
        G=Player(G, torch.optim.SGD(G.parameters(), lr=lr)),
        D=Player(D, torch.optim.SGD(D.parameters(), lr=lr)),
        batches=lambda: (x.clone(), y),
        latents=lambda n: torch.zeros(n, 1),
        generator_batch_size=batch,
        device=x.device,
    )
    path = torch.empty(steps, 2)
    for step in range(steps):
        discriminator_step(state)
        generator_step(state)
        path[step] = torch.stack([G.theta.detach()[0] - data, D.psi.weight.detach()[0, 0]])
    return path.norm(dim=1)


# The least and the greatest distance over the last 100 of 300 steps, about two orbits, from a start at 1.5.
NOISY = {"batch": 1024}  # a large batch averages the noise of random constraints
ORBITS = [
    (Vanilla(), None, {}, 1.49, 1.58),
    (WGAN(), None, {}, 1.43, 1.58),
    (WGAN(), Clipping(limit=1.0), {}, 0.95, 1.05),
    (WGAN(), GradientPenalty(weight=0.25), {}, 1.25, 1.29),
    (WGAN(), GradientPenalty(weight=1.0), {}, 2.0, 2.0),
    (WGAN(), GradientPenalty(weight=2.0), {}, 4.0, 4.0),
    (WGAN(), LipschitzPenalty(weight=1.0), {}, 0.95, 1.05),
    (Vanilla(), LipschitzPenalty(weight=1.0), {}, 0.97, 1.03),
    (WGAN(), DRAGAN(weight=0.25), {}, 1.25, 1.29),
    (WGAN(), DRAGAN(weight=1.0), {}, 2.0, 2.0),
    (WGAN(), Orthogonal(weight=0.5), {}, 1.03, 1.54),
    (WGAN(), Orthogonal(weight=0.5, off_diagonal=True), {}, 1.43, 1.58),
    (WGAN(), Consistency(weight=0.5), {"dropout": 0.5, **NOISY}, 1.4, 1.6),
    (WGAN(), Consistency(weight=0.5), {"dropout": 0.5, "data": 1.0, **NOISY}, 0.0, 0.0),
    (WGAN(), InstanceNoise(std=1.0), NOISY, 1.4, 1.7),
    (Vanilla(), InstanceNoise(std=1.0), NOISY, 0.0, 0.0),
    (NonSaturating(), InstanceNoise(std=1.0), NOISY, 0.0, 0.0),
    (Vanilla(), R1(), {}, 0.0, 0.0),
    (WGAN(), R1(), {}, 0.0, 0.0),
]


@pytest.mark.parametrize(("objective", "constraint", "more", "least", "greatest"), ORBITS, ids=str)
def test_distance_after_training(objective, constraint, more, least, greatest):
    distances = orbit(objective, *[constraint] * (constraint is not None), **more)
    tolerance = 0.1 if more else 0.02  # a batch of 1024 leaves noise of about 0.03
    assert distances[-100:].min().item() == pytest.approx(least, abs=tolerance)
    assert distances[-100:].max().item() == pytest.approx(greatest, abs=tolerance)


def test_unconstrained_non_saturating_game_converges_as_one_over_root_t():
    # d(θ² + ψ²)/dt = -2ψθ tanh(ψθ/2), on average over an orbit -r⁴/8: 1/r² grows by t/8. The minimax game has r' = 0.
    distances = orbit(NonSaturating(), start=(0.5, 0.0), steps=1000)
    for step in (200, 999):
        assert distances[step].item() == pytest.approx((4 + 0.2 * step / 8) ** -0.5, rel=0.1)


# --------------------------------------------------------------------------------------------------------- eigenvalues


def eigenvalues(objective, *constraints, data=0.0, dropout=0.0, n=1, psi=0.0):
    """Eigenvalues of the Jacobian of the vector field at the equilibrium: two complex numbers, the larger first."""
    torch.manual_seed(0)
    D = DiracDiscriminator(psi, dropout).build(DataSpec((1,))).double()
    for constraint in constraints:
        D = constraint.wrap(D)
    psi, theta = D.psi.weight, torch.tensor(data, dtype=torch.float64, requires_grad=True)
    y = torch.zeros(n, dtype=torch.long)
    x, fakes = torch.full((n, 1), data, dtype=torch.float64).requires_grad_(), theta.expand(n, 1)
    real, fake = Scored(x, y, D(x, y)), Scored(fakes, y, D(fakes, y))
    loss = objective.discriminator_loss(real.scores, fake.scores)
    penalties = [constraint.penalty(D, real, fake) for constraint in constraints]
    loss = loss + sum(penalty for penalty in penalties if penalty is not None)
    (d_psi,) = torch.autograd.grad(loss, psi, create_graph=True)
    (d_theta,) = torch.autograd.grad(objective.generator_loss(fake.scores), theta, create_graph=True)
    rows = [
        torch.autograd.grad(-gradient.sum(), [theta, psi], retain_graph=True, allow_unused=True, materialize_grads=True)
        for gradient in (d_theta, d_psi)
    ]
    values = torch.linalg.eigvals(torch.stack([torch.stack([d.sum() for d in row]) for row in rows])).tolist()
    return sorted(values, key=lambda value: (value.real, value.imag), reverse=True)


def roots(damping, frequency):
    """-damping/2 ± √(damping²/4 - frequency²), the larger first."""
    root = cmath.sqrt(damping**2 / 4 - frequency**2)
    return [-damping / 2 + root, -damping / 2 - root]


@pytest.mark.parametrize("gamma", [0.0, 0.3, 1.0, 2.5])
def test_eigenvalues_with_r1_match_the_paper(gamma):
    for objective, frequency in ((Vanilla(), 0.5), (NonSaturating(), 0.5), (WGAN(), 1.0)):
        assert eigenvalues(objective, R1(gamma=gamma)) == pytest.approx(roots(gamma, frequency), abs=1e-6)


@pytest.mark.parametrize("objective", [Vanilla(), NonSaturating()])
@pytest.mark.parametrize("std", [0.5, 1.0, 2.0])
def test_eigenvalues_with_instance_noise_match_r1_with_half_the_variance(objective, std):
    measured = eigenvalues(objective, InstanceNoise(std=std), n=100_000)
    assert measured == pytest.approx(roots(std**2 / 2, 0.5), abs=0.02)


@pytest.mark.parametrize(
    ("constraint", "damping"),
    [
        (LipschitzPenalty(), 0),
        (Orthogonal(weight=0.1, off_diagonal=True), 0),
        (InstanceNoise(std=1.0), 0),
        (Orthogonal(weight=0.1), -0.4),
    ],
    ids=str,
)
def test_eigenvalues_of_wgan_with_constraints_that_do_not_damp(constraint, damping):
    # D = ψ·x: noise has mean 0 in a linear game, lp is 0 up to a gradient norm of 1, (ψ² - 1)² pushes ψ away from 0.
    # psi = 1e-6, because |ψ| has no second derivative at 0.
    n = 100_000 if isinstance(constraint, InstanceNoise) else 1
    assert eigenvalues(WGAN(), constraint, n=n, psi=1e-6) == pytest.approx(roots(damping, 1.0), abs=0.02)


@pytest.mark.parametrize("data", [0.0, 0.5, 1.0])
def test_eigenvalues_with_consistency_depend_on_the_data(data):
    # Two masks with values 0 or 1/(1-p) differ by E(m' - m'')² = 2p/(1-p): the term is weight · 2p/(1-p) · (ψ·data)².
    damping = 0.25 * 4 * 0.5 / 0.5 * data**2
    measured = eigenvalues(WGAN(), Consistency(weight=0.25), data=data, dropout=0.5, n=100_000)
    assert measured == pytest.approx(roots(damping, 1.0), abs=0.02)


def test_networks_are_exported_with_a_free_batch_size():
    data = DataSpec((3,))
    batch = torch.export.Dim("batch", min=1)
    for network, width in ((DiracGenerator().build(data, 5), 5), (DiracDiscriminator().build(data), 3)):
        two, seven = ((torch.randn(n, width), torch.zeros(n, dtype=torch.long)) for n in (2, 7))
        graph = torch.export.export(network.eval(), two, dynamic_shapes=({0: batch}, {0: batch})).module()
        traced = torch.jit.trace(network, two)
        for run in (graph, traced):
            torch.testing.assert_close(run(*seven), network(*seven))
