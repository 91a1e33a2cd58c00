"""The three terms: values by hand, whom their gradients reach, options, and the conformance kit."""

import math

import pytest
import torch
from ganframe_encoders import VAEGAN, AdversarialAutoencoder, BiGAN, Idle
from ganframe_encoders.networks import LIMIT
from ganframe_encoders.terms import distance, features_of, kl_divergence, logistic
from torch import nn

import ganframe
from ganframe import DataSpec, Scored, Turn
from ganframe.testing import check_objective, check_term

POINTS = DataSpec((2,))
CASES = {
    "vae_gan": VAEGAN(latent_dim=8, hidden=(16,)),
    "bigan": BiGAN(latent_dim=8, hidden=(16,), joint=(16,)),
    "ali": BiGAN(latent_dim=8, hidden=(16,), joint=(16,), stochastic=True),
    "aae": AdversarialAutoencoder(latent_dim=8, hidden=(16,), judge=(16,)),
}


class Plain(nn.Module):
    """G: the first two numbers of z."""

    def forward(self, z, y):
        return z[:, :2]


class Norm(nn.Module):
    """D(x) = w Σ x, with features x."""

    gives_extras = True

    def __init__(self):
        super().__init__()
        self.w = nn.Parameter(torch.tensor(0.5))

    def forward(self, x, y, extras=None):
        if extras is not None:
            extras["features"] = self.w * x
        return self.w * x.sum(1)


class Wasserstein(ganframe.Objective):
    def discriminator_loss(self, real, fake):
        return fake.mean() - real.mean()

    def generator_loss(self, fake, real=None):
        return -fake.mean()


def turn_of(term, n=6, objective=None, G=None, D=None):
    """A turn on points, with new parts."""
    G, D = G or Plain(), D or Norm()
    parts = term.prepare(G, D, POINTS)
    x, y, z = torch.randn(n, 2), POINTS.blank(n), torch.randn(n, term.latent_dim)
    sides = []
    for samples, latents in ((x, None), (G(z, y), z)):
        extras = {}
        scores = D(samples, y, extras)
        sides.append(Scored(samples, y, scores, latents, extras))
    return Turn(G, D, *sides, objective or Wasserstein(), 0, parts)


# ------------------------------------------------------------------------------------------------------------- VAE-GAN


def test_kl_divergence_from_standard_normal():
    mean, log_variance = torch.randn(5, 3), torch.randn(5, 3)
    codes = torch.distributions.Normal(mean, (log_variance / 2).exp())
    expected = torch.distributions.kl_divergence(codes, torch.distributions.Normal(0.0, 1.0)).sum(1).mean()
    torch.testing.assert_close(kl_divergence(mean, log_variance), expected)
    assert kl_divergence(torch.zeros(4, 2), torch.zeros(4, 2)).item() == 0
    assert kl_divergence(torch.full((4, 2), 3.0), torch.zeros(4, 2)).item() == pytest.approx(9)  # 2 · 3²/2


def test_distance_sums_over_features_and_averages_over_samples():
    one, other = {"features": torch.zeros(2, 1, 2)}, {"features": torch.tensor([[[3.0, 4.0]], [[0.0, 1.0]]])}
    assert distance(one, other).item() == pytest.approx((25 / 2 + 1 / 2) / 2)


@pytest.mark.parametrize("reconstructions", [0.0, 2.0])
def test_vae_gan_terms_by_hand(reconstructions):
    term = VAEGAN(latent_dim=3, weight=0.1, kl=0.5, reconstructions=reconstructions)
    turn = turn_of(term)
    with torch.no_grad():
        mean, log_variance = turn.parts.generator.moments(turn.real.x)
        rebuilt = (mean + (log_variance / 2).exp() * turn.fake.z)[:, :2]
        rec = 0.25 * (rebuilt - turn.real.x).square().sum(1).mean() / 2  # features are w x, w = ½
        score = 0.5 * rebuilt.sum(1).mean()
        vae = 0.1 * (0.5 * kl_divergence(mean, log_variance) + rec)
    torch.testing.assert_close(term.generator_term(turn).detach(), vae - reconstructions * score)
    of_discriminator = term.discriminator_term(turn)
    if reconstructions:
        expected = reconstructions * (score - turn.real.scores.mean())
        torch.testing.assert_close(of_discriminator.detach(), expected.detach())
    else:
        assert of_discriminator is None


def test_game_on_reconstructions_does_not_reach_the_encoder():
    class Scaled(nn.Module):
        def __init__(self):
            super().__init__()
            self.scale = nn.Parameter(torch.tensor(1.0))

        def forward(self, z, y):
            return self.scale * z[:, :2]

    turn = turn_of(VAEGAN(latent_dim=3, weight=0.0), G=Scaled())
    VAEGAN(latent_dim=3, weight=0.0).generator_term(turn).backward()
    assert turn.G.scale.grad != 0
    assert all(p.grad is None or not p.grad.any() for p in turn.parts.generator.parameters())


def test_codes_of_extreme_samples_are_finite():
    term = VAEGAN(latent_dim=3)
    mean, log_variance = term.encoder(POINTS).moments(1e4 * torch.randn(5, 2))
    assert log_variance.abs().max() <= LIMIT
    assert kl_divergence(torch.zeros_like(mean), torch.full_like(mean, LIMIT)).isfinite()


# --------------------------------------------------------------------------------------------------------- BiGAN, ALI


def test_logistic_loss_by_hand():
    real, fake = torch.tensor([0.0, math.log(3)]), torch.tensor([0.0, -math.log(3)])
    each = (math.log(2) + math.log(4 / 3)) / 2  # softplus of 0 and of -log 3
    assert logistic(real, fake).item() == pytest.approx(2 * each)


def test_bigan_judges_features_of_samples_with_their_codes():
    term = BiGAN(latent_dim=3)
    turn = turn_of(term)

    class Sum(nn.Module):  # J = the sum of the features less that of the code
        def forward(self, pairs):
            assert pairs.shape == (6, 5)
            return pairs[:, :2].sum(1) - pairs[:, 2:].sum(1)

    turn.parts.discriminator.forward = Sum().forward
    real = 0.5 * turn.real.x.sum(1) - turn.parts.generator(turn.real.x).sum(1)
    fake = 0.5 * turn.fake.x.sum(1) - turn.fake.z.sum(1)
    torch.testing.assert_close(term.discriminator_term(turn), logistic(real, fake))
    torch.testing.assert_close(term.generator_term(turn), logistic(fake, real))


def test_gaussian_codes_of_ali_use_z_as_noise():
    term = BiGAN(latent_dim=3, stochastic=True)
    turn = turn_of(term)
    mean, log_variance = turn.parts.generator.moments(turn.real.x)
    code = mean + (log_variance / 2).exp() * turn.fake.z
    torch.testing.assert_close(turn.parts.generator.draw(turn.real.x, turn.fake.z), code)
    torch.testing.assert_close(turn.parts.generator(turn.real.x), mean)
    real, fake = term.scores(turn, code, turn.fake.z)
    torch.testing.assert_close(term.generator_term(turn), logistic(fake, real))


def test_measuring_features_leaves_the_discriminator_as_it_is():
    class Counting(Norm):
        def __init__(self):
            super().__init__()
            self.norm = nn.BatchNorm1d(2)
            self.norm.mixes_samples = True

        def forward(self, x, y, extras=None):
            return super().forward(self.norm(x), y, extras)

    D = Counting().train()
    before = {name: value.clone() for name, value in D.state_dict().items()}
    assert features_of(D, POINTS) == 2
    assert D.training
    assert all(torch.equal(before[name], value) for name, value in D.state_dict().items())


# ----------------------------------------------------------------------------------------------------------------- AAE


def test_adversarial_autoencoder_terms_by_hand():
    term = AdversarialAutoencoder(latent_dim=2, reconstruction=3.0, adversarial=0.5)
    turn = turn_of(term)
    code = turn.parts.generator(turn.real.x)
    real, fake = turn.parts.discriminator(turn.fake.z), turn.parts.discriminator(code)
    torch.testing.assert_close(term.discriminator_term(turn), logistic(real, fake))
    error = (code - turn.real.x).square().mean()  # G returns the code
    expected = 3 * error + 0.5 * torch.nn.functional.softplus(-fake).mean()
    torch.testing.assert_close(term.generator_term(turn), expected)


def test_adversarial_autoencoder_with_perfect_codes_has_no_reconstruction_error():
    term = AdversarialAutoencoder(latent_dim=2, adversarial=0.0)
    turn = turn_of(term)
    turn.parts.generator.forward = lambda x: x
    assert term.generator_term(turn).item() == 0


# ---------------------------------------------------------------------------------------------------- all of them


@pytest.mark.parametrize("name", CASES)
def test_conformance(name):
    check_term(CASES[name])


@pytest.mark.parametrize("name", CASES)
def test_codes_of_another_size_than_latents_raise_value_error(name):
    term = CASES[name]
    turn = turn_of(term)
    turn.fake.z = torch.randn(6, 3)
    for method in (term.discriminator_term, term.generator_term):
        with pytest.raises(ValueError, match="latent_dim is 8, and z has 3 numbers"):
            method(turn)


@pytest.mark.parametrize("shape", [(1, 8, 8), (3, 20, 12)])
@pytest.mark.parametrize("gaussian", [False, True])
def test_convolutional_encoder(shape, gaussian):
    term = BiGAN(latent_dim=5, network="conv", hidden=(4, 6), stochastic=gaussian)
    encoder = term.encoder(DataSpec(shape))
    assert encoder(torch.randn(3, *shape)).shape == (3, 5)
    assert encoder.features[2].weight.shape == (6, 4, 4, 4)


def test_convolutional_encoder_refuses_what_it_cannot_halve():
    term = BiGAN(latent_dim=5, network="conv", hidden=(4, 4, 4, 4))
    with pytest.raises(ValueError, match="at least 16×16 pixels, not 8×8"):
        term.encoder(DataSpec((1, 8, 8)))
    with pytest.raises(ValueError, match="use network = 'mlp'"):
        term.encoder(POINTS)


def test_idle_objective_has_zero_losses_with_zero_gradients():
    scores = torch.randn(4, requires_grad=True)
    for loss in (Idle().discriminator_loss(scores, scores), Idle().generator_loss(scores)):
        assert loss.item() == 0
        assert not torch.autograd.grad(loss, scores)[0].any()


def test_idle_objective_conformance():
    check_objective(Idle)


@pytest.mark.parametrize(
    ("kind", "name", "cls"),
    [
        ("term", "vae_gan", VAEGAN),
        ("term", "bigan", BiGAN),
        ("term", "aae", AdversarialAutoencoder),
        ("objective", "idle", Idle),
    ],
)
def test_component_is_registered(kind, name, cls):
    assert ganframe.component(kind, name) is cls
