"""The relativistic pairing objective and the two penalties, against values by hand."""

import math

import pytest
import torch
from ganframe_r3gan import R1, R2, RelativisticPairing
from torch import nn
from torch.nn.functional import softplus

import ganframe
from ganframe import Scored

GAME = RelativisticPairing()


class Linear(nn.Module):
    """D(x) = w·x with given weights w."""

    def __init__(self, weight):
        super().__init__()
        self.weight = nn.Parameter(torch.tensor(weight, dtype=torch.float64))

    def forward(self, x, y):
        return x @ self.weight


def scored(D, real, fake):
    """The scored real and fake batches of a discriminator step, from one call of D, as in the engine."""
    real, fake = real.requires_grad_(), fake.requires_grad_()
    y = torch.zeros(len(real), dtype=torch.long)
    a, b = D(torch.cat([real, fake]), torch.cat([y, y])).split(len(real))
    return Scored(real, y, a), Scored(fake, y, b)


def points(n, dimensions=2, seed=0):
    return torch.randn(n, dimensions, dtype=torch.float64, generator=torch.Generator().manual_seed(seed))


# ---------------------------------------------------------------------------------------------------------- objective


def test_losses_by_hand():
    real, fake = torch.tensor([math.log(3), 0.0]), torch.tensor([0.0, math.log(7)])
    # b - a = -log 3 and log 7: softplus is log(4/3) and log 8; for a - b, log 4 and log(8/7).
    assert GAME.discriminator_loss(real, fake).item() == pytest.approx((math.log(4 / 3) + math.log(8)) / 2)
    assert GAME.generator_loss(fake, real).item() == pytest.approx((math.log(4) + math.log(8 / 7)) / 2)


def test_loss_is_log_2_for_equal_scores_and_invariant_to_a_shift():
    real, fake = points(8)[:, 0], points(8)[:, 1]
    assert GAME.discriminator_loss(real, real).item() == pytest.approx(math.log(2))
    for loss in (GAME.discriminator_loss, lambda a, b: GAME.generator_loss(b, a)):
        assert loss(real + 7, fake + 7).item() == pytest.approx(loss(real, fake).item())


def test_each_real_score_is_paired_with_one_fake_score():
    real, fake = torch.tensor([0.0, 9.0]), torch.tensor([0.0, 9.0])
    assert GAME.discriminator_loss(real, fake).item() == pytest.approx(math.log(2))
    assert GAME.discriminator_loss(real, fake.flip(0)).item() > 4


def test_optimal_discriminator_is_log_density_ratio():
    # p = N(0, 1), q = N(1, 1): log p/q = 1/2 - x. Over all pairs, the loss of D(x) = s·(1/2 - x) has its
    # minimum at s = 1, where the derivative is 0.
    n = 400
    x = torch.special.ndtri((torch.arange(n, dtype=torch.float64) + 0.5) / n)
    real, fake = (t.flatten() for t in torch.meshgrid(0.5 - x, 0.5 - (x + 1), indexing="ij"))
    s = torch.tensor(1.0, dtype=torch.float64, requires_grad=True)
    (derivative,) = torch.autograd.grad(GAME.discriminator_loss(s * real, s * fake), s)
    assert abs(derivative.item()) < 1e-2
    at = {s: GAME.discriminator_loss(s * real, s * fake).item() for s in (0.5, 1.0, 2.0)}
    assert at[1.0] < min(at[0.5], at[2.0])


def test_gradients_do_not_saturate_for_the_losing_player():
    real, fake = torch.tensor([100.0], requires_grad=True), torch.tensor([-100.0], requires_grad=True)
    assert torch.autograd.grad(GAME.generator_loss(fake, real), fake)[0].item() == -1
    assert torch.autograd.grad(GAME.discriminator_loss(fake, real), fake)[0].item() == -1


@pytest.mark.parametrize("fake", [None, torch.zeros(4, 1), torch.zeros(3)], ids=["none", "column", "fewer"])
def test_unpaired_scores_raise_value_error(fake):
    with pytest.raises(ValueError, match="one fake score"):
        GAME.discriminator_loss(torch.zeros(4), fake)
    with pytest.raises(ValueError, match="one fake score"):
        GAME.generator_loss(torch.zeros(4), fake)


# ---------------------------------------------------------------------------------------------------------- penalties


@pytest.mark.parametrize("penalty", [R1, R2])
@pytest.mark.parametrize("n", [1, 64])
def test_penalty_of_linear_discriminator_is_half_gamma_times_squared_norm(penalty, n):
    D = Linear([3.0, 4.0])
    value = penalty(gamma=0.1).penalty(D, *scored(D, points(n), points(n, seed=1)))
    assert value.item() == pytest.approx(0.1 / 2 * 25)
    (gradient,) = torch.autograd.grad(value, D.weight)
    torch.testing.assert_close(gradient, 0.1 * D.weight.detach())


def test_r1_uses_real_samples_and_r2_fake_samples():
    class Square(nn.Module):
        """D(x) = |x|²/2, with gradient x."""

        def forward(self, x, y):
            return x.square().sum(1) / 2

    real, fake = points(16), points(16, seed=1)
    both = scored(Square(), real, fake)
    assert R1(gamma=2).penalty(Square(), *both).item() == pytest.approx(real.square().sum(1).mean().item())
    assert R2(gamma=2).penalty(Square(), *both).item() == pytest.approx(fake.square().sum(1).mean().item())


@pytest.mark.parametrize("penalty", [R1, R2])
def test_penalty_of_zero_discriminator_has_zero_gradient(penalty):
    D = Linear([0.0, 0.0])
    value = penalty().penalty(D, *scored(D, points(4), points(4)))
    (gradient,) = torch.autograd.grad(value, D.weight)
    assert value.item() == 0
    assert torch.equal(gradient, torch.zeros_like(gradient))


def test_penalties_and_loss_share_one_backward_pass():
    D = Linear([1.0, 2.0])
    real, fake = scored(D, points(4), points(4, seed=1))
    loss = softplus(fake.scores - real.scores).mean()
    (loss + R1().penalty(D, real, fake) + R2().penalty(D, real, fake)).backward()
    assert D.weight.grad.isfinite().all()
    assert real.x.grad is not None


@pytest.mark.parametrize("penalty", [R1, R2])
def test_discriminator_that_mixes_samples_raises_value_error(penalty):
    with pytest.raises(ValueError, match="mixes samples"):
        penalty().check(nn.BatchNorm1d(2))


@pytest.mark.parametrize("penalty", [R1, R2])
def test_negative_gamma_raises_value_error(penalty):
    with pytest.raises(ValueError, match="gamma"):
        penalty(gamma=-1.0)


# ------------------------------------------------------------------------------------------------------- registration


@pytest.mark.parametrize(
    ("kind", "name", "cls"),
    [("objective", "relativistic_pairing", RelativisticPairing), ("constraint", "r1", R1), ("constraint", "r2", R2)],
)
def test_component_is_registered(kind, name, cls):
    assert ganframe.component(kind, f"r3gan:{name}") is cls
    assert ganframe.component(kind, name) is cls
