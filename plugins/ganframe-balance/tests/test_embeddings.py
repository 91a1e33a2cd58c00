"""MMD and Cramér GAN: values by hand, known distances, and the penalty on Cramér GAN's critic."""

import math

import pytest
import torch
from ganframe_balance import MMD, Cramer, CramerPenalty, Embedding
from torch import nn

from ganframe import DataSpec

REAL, FAKE = torch.tensor([[0.0], [1.0]]), torch.tensor([[3.0], [5.0]])


def test_mmd_by_hand():
    def k(distance):
        return math.exp(-(distance**2) / 2) + math.exp(-(distance**2) / 8)

    expected = k(1) + k(2) - 2 * (k(3) + k(5) + k(2) + k(4)) / 4
    game = MMD(bandwidths=(1.0, 2.0))
    assert game.generator_loss(FAKE, REAL).item() == pytest.approx(expected)
    assert game.discriminator_loss(REAL, FAKE).item() == pytest.approx(-expected)


def test_mmd_is_unbiased():
    """For equal distributions it is 0 on average; with the pairs i = j it would be 2/n · (1 - E k(x, x')) larger."""
    game = MMD(bandwidths=(1.0,))
    values = torch.stack([game.generator_loss(torch.randn(8, 2), torch.randn(8, 2)) for _ in range(800)])
    assert abs(values.mean().item()) < 4 * values.std().item() / math.sqrt(800)
    assert values.std().item() / math.sqrt(800) < 0.01  # the bias would be 0.17


def test_mmd_of_gaussians_is_known():
    """For N(0, 1), N(1, 1) and σ = 1: 2 (1 - exp(-1/6)) / √3."""
    real, fake = torch.randn(2, 4000, 1)
    value = MMD(bandwidths=(1.0,)).generator_loss(fake + 1, real)
    assert value.item() == pytest.approx(2 * (1 - math.exp(-1 / 6)) / math.sqrt(3), abs=0.02)


def test_cramer_by_hand():
    # ‖r - g‖: 3, 5, 2, 4; ‖g - g'‖ = 2; ‖r‖: 0, 1; ‖g‖: 3, 5.
    assert Cramer().generator_loss(FAKE, REAL).item() == pytest.approx(2 * 3.5 - 2)
    of_real, of_fake = 3.5 - 0.5, 2 - 4
    assert Cramer().discriminator_loss(REAL, FAKE).item() == pytest.approx(of_fake - of_real, abs=1e-5)


def test_cramer_generator_loss_has_the_gradient_of_the_energy_distance():
    fake = FAKE.clone().requires_grad_()
    Cramer().generator_loss(fake, REAL).backward()
    assert fake.grad.flatten().tolist() == pytest.approx([1 + 1, 1 - 1])  # 2 · ½ each, then ∓ (½ + ½)


def test_energy_distance_is_the_same_for_equal_distributions_wherever_g_moves():
    x = torch.randn(2000, 2)
    here, there = (Cramer().generator_loss(torch.randn(2000, 2) + shift, x).item() for shift in (0.0, 0.5))
    assert there > here + 0.05


@pytest.mark.parametrize("game", [MMD(), Cramer()])
def test_scores_that_are_no_vectors_raise_value_error(game):
    for loss in (game.discriminator_loss, game.generator_loss):
        with pytest.raises(ValueError, match="embedding of ganframe-balance"):
            loss(torch.zeros(4), torch.zeros(4))
    with pytest.raises(ValueError, match="no scores of real samples"):
        game.generator_loss(torch.zeros(4, 2))


class Scale(nn.Module):
    """h(x) = w · x."""

    many_scores = True

    def __init__(self, weight):
        super().__init__()
        self.weight = nn.Parameter(torch.tensor(weight))

    def forward(self, x, y):
        return self.weight * x


def test_cramer_penalty_by_hand(turn):
    """All x̂ are on one side of 0 and of the other fakes: ∇f is ±w ∓ w, 0 or 2w in one dimension."""
    # h(x̂) - h(x'_g) < 0 < h(x̂), so f(x̂) = w (x'_g - x̂) - w x̂, with slope -2w.
    x, fake = torch.full((8, 1), 1.0), torch.full((8, 1), 2.0)
    D = Scale(0.75)
    value = CramerPenalty(weight=10.0).discriminator_term(turn(D, x, fake))
    assert value.item() == pytest.approx(10 * 0.5**2, rel=1e-3)
    value.backward()
    assert D.weight.grad.item() == pytest.approx(10 * 2 * 0.5 * 2, rel=1e-3)


def test_cramer_penalty_compares_with_another_fake_sample(turn):
    """With real = fake, x̂ is the fake sample itself; f has the slopes -2w at 1 and 0 at 3. With itself: -w at both."""
    x = torch.tensor([[1.0], [3.0]])
    value = CramerPenalty(weight=1.0).discriminator_term(turn(Scale(0.75), x, x))
    assert value.item() == pytest.approx((0.5**2 + 1) / 2, rel=1e-3)


def test_cramer_penalty_draws_one_epsilon_per_sample(turn):
    class Recorder(Scale):
        def forward(self, x, y):
            self.seen = x
            return super().forward(x, y)

    D = Recorder(1.0)
    CramerPenalty().discriminator_term(turn(D, torch.zeros(6, 2, 3), torch.ones(6, 2, 3)))
    shares = D.seen.flatten(1)
    assert ((shares >= 0) & (shares <= 1)).all()
    assert (shares == shares[:, :1]).all()
    assert shares[:, 0].unique().numel() == 6


def test_cramer_penalty_of_an_embedding_of_zeros_has_a_finite_gradient(turn):
    D = Scale(0.0)
    CramerPenalty().discriminator_term(turn(D, REAL, FAKE)).backward()
    assert D.weight.grad.isfinite().all()


def test_cramer_penalty_refuses_scores_that_are_no_vectors(linear):
    with pytest.raises(ValueError, match="embedding of ganframe-balance"):
        CramerPenalty().prepare(None, linear([1.0, 1.0]), DataSpec((2,)))


def test_embedding_shape_for_points_and_images():
    for spec in (DataSpec((2,)), DataSpec((1, 8, 8))):
        D = Embedding(features=5).build(spec)
        assert D(torch.randn(3, *spec.shape), spec.blank(3)).shape == (3, 5)


@pytest.mark.parametrize("bandwidths", [(), (1.0, 0.0)])
def test_mmd_without_positive_bandwidths_raises_value_error(bandwidths):
    with pytest.raises(ValueError, match="bandwidths"):
        MMD(bandwidths=bandwidths)
