"""The autoencoder, BEGAN's balance, EBGAN's losses and the pulling-away term: values by hand and gradients."""

import pytest
import torch
from ganframe_balance import EBGAN, Autoencoder, BEGANBalance, PullingAway
from torch import nn

import ganframe
from ganframe import DataSpec

SPEC = DataSpec((2,))
REAL, FAKE = torch.tensor([[-0.2], [-0.6]]), torch.tensor([[-1.0], [-0.5]])  # scores; L is 0.4 and 0.75


class Identity(nn.Module):
    """D(x) = x: the samples are scores."""

    def __init__(self):
        super().__init__()
        self.factor = nn.Parameter(torch.ones(()))

    def forward(self, x, y):
        return self.factor * x[:, 0]


def test_score_is_minus_the_mean_reconstruction_error():
    D = Autoencoder(hidden=(), code=2).build(DataSpec((1, 1, 2)))
    with torch.no_grad():
        D.encoder[0].weight.copy_(torch.eye(2))
        D.encoder[0].bias.zero_()
        D.decoder[0].weight.copy_(torch.eye(2) / 2)
        D.decoder[0].bias.zero_()
    x, y, extras = torch.tensor([[[[2.0, -4.0]]]]), torch.zeros(1, dtype=torch.long), {}
    assert D(x, y, extras).tolist() == [-1.5]  # half of |x| is lost
    assert extras["features"].tolist() == [[2, -4]]
    D.absolute = False
    assert D(x, y).tolist() == [-2.5]


def test_scores_are_never_positive():
    x = 5 * torch.randn(100, 2)
    for error in ("absolute", "squared"):
        assert (Autoencoder(error=error).build(SPEC)(x, torch.zeros(100, dtype=torch.long)) <= 0).all()


# --------------------------------------------------------------------------------------------------------------- BEGAN


def parts_with(k):
    parts = BEGANBalance().prepare(None, Autoencoder().build(SPEC), SPEC)
    parts.discriminator.k.fill_(k)
    return parts


@pytest.mark.parametrize("k", [0.0, 0.25, 1.0])
def test_discriminator_loss_is_that_of_the_paper(turn, k):
    game = ganframe.component("objective", "wgan")()
    parts = parts_with(k)
    seen = turn(Identity(), REAL, FAKE, parts)
    loss = game.discriminator_loss(seen.real.scores, seen.fake.scores) + BEGANBalance().discriminator_term(seen)
    assert loss.item() == pytest.approx(0.4 - k * 0.75)  # L(x) - k L(G(z))
    assert game.generator_loss(seen.fake.scores).item() == pytest.approx(0.75)


def test_k_moves_by_the_balance(turn):
    term, parts = BEGANBalance(gamma=0.5, rate=0.1), parts_with(0.3)
    term.discriminator_term(turn(Identity(), REAL, FAKE, parts))
    assert parts.discriminator.k.item() == pytest.approx(0.3 + 0.1 * (0.5 * 0.4 - 0.75))


def test_k_is_clamped_where_it_is_used_and_does_not_wind_up(turn):
    """As in the paper, k is clamped in each step: after 100 steps below 0 one step up is enough to leave 0."""
    term, parts = BEGANBalance(gamma=0.5, rate=0.1), parts_with(0.0)
    for _ in range(100):
        assert term.discriminator_term(turn(Identity(), REAL, FAKE, parts)).item() == pytest.approx(0.75)
    easy = torch.zeros(2, 1)  # fakes that D reconstructs perfectly
    term.discriminator_term(turn(Identity(), REAL, easy, parts))
    assert parts.discriminator.k.item() == pytest.approx(0.1 * 0.5 * 0.4)


def test_gradient_reaches_d_by_the_fakes_only(turn):
    D = Identity()
    BEGANBalance().discriminator_term(turn(D, REAL, FAKE, parts_with(0.25))).backward()
    assert D.factor.grad.item() == pytest.approx(0.75 * 0.75)


def test_discriminator_with_positive_scores_is_refused():
    with pytest.raises(ValueError, match="autoencoder of ganframe-balance"):
        BEGANBalance().prepare(None, Identity(), DataSpec((1,)))


# --------------------------------------------------------------------------------------------------------------- EBGAN


def test_ebgan_losses_by_hand():
    real, fake = -torch.tensor([0.2, 0.6]), -torch.tensor([0.5, 3.0])  # energies
    assert EBGAN(margin=2.0).discriminator_loss(real, fake).item() == pytest.approx(0.4 + 1.5 / 2)
    assert EBGAN(margin=2.0).generator_loss(fake).item() == pytest.approx(1.75)


def test_fakes_above_the_margin_have_no_gradient():
    fake = -torch.tensor([0.5, 3.0])
    fake.requires_grad_()
    EBGAN(margin=2.0).discriminator_loss(-torch.ones(2), fake).backward()
    assert fake.grad.tolist() == [0.5, 0]


def test_pulling_away_is_the_mean_squared_cosine_of_pairs(turn):
    class Features(nn.Module):
        gives_extras = True

        def forward(self, x, y, extras=None):
            if extras is not None:
                extras["features"] = x
            return x[:, 0]

    x = torch.tensor([[2.0, 0.0], [1.0, 1.0], [0.0, 3.0]], requires_grad=True)
    # cos² of the pairs: ½, 0, ½, each twice, over 6.
    value = PullingAway(weight=0.3).generator_term(turn(Features(), x, x))
    assert value.item() == pytest.approx(0.3 * 2 / 6)
    value.backward()
    torch.testing.assert_close((x.grad * x).sum(1), torch.zeros(3), atol=1e-6, rtol=0)  # lengths do not count


def test_pulling_away_of_one_fake_is_zero(turn):
    D = Autoencoder().build(SPEC)
    value = PullingAway().generator_term(turn(D, torch.ones(1, 2), torch.ones(1, 2)))
    assert value.item() == pytest.approx(0, abs=1e-6)


@pytest.mark.parametrize(
    ("component", "options"),
    [
        (BEGANBalance, {"gamma": 0.0}),
        (BEGANBalance, {"gamma": 1.5}),
        (BEGANBalance, {"rate": 0.0}),
        (EBGAN, {"margin": 0.0}),
        (PullingAway, {"weight": 0.0}),
        (Autoencoder, {"code": 0}),
    ],
)
def test_options_out_of_range_raise_value_error(component, options):
    with pytest.raises(ValueError, match=next(iter(options))):
        component(**options)
