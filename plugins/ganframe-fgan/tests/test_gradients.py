"""What G descends at the optimal critic: the gradient of its loss is that of a divergence.

q = N(m, s²) has its location and its scale differentiated while the critic stays the best one of m = .5 and s = .9;
the divergence is differenced, and its critic, where it has one, is made anew for each m and s.
"""

import math
from typing import get_args

import pytest
import torch
from ganframe_fgan import FGAN, MaximumLikelihood
from ganframe_fgan.divergences import Name

import ganframe
from ganframe.testing import check_objective

PI = 0.3
AT = (0.5, 0.9)
X = torch.linspace(-14, 14, 56_001, dtype=torch.float64)
STEP = 28 / 56_000


def log_normal(mean, std):
    mean, std = (torch.as_tensor(value, dtype=torch.float64) for value in (mean, std))
    return -((X - mean) ** 2) / (2 * std**2) - std.log() - math.log(2 * math.pi) / 2


LOG_P = log_normal(0.0, 1.0)
P = LOG_P.exp()


def integral(values):
    return values.sum() * STEP


def kl(log_a, log_b):
    return integral(log_a.exp() * (log_a - log_b))


def skewed(log_q, share):
    """share · KL(p‖m) + (1 - share) · KL(q‖m), m = share · p + (1 - share) · q."""
    log_m = (share * P + (1 - share) * log_q.exp()).log()
    return share * kl(LOG_P, log_m) + (1 - share) * kl(log_q, log_m)


def neyman(log_q):
    return integral((2 * log_q - LOG_P).exp()) - 1


def total_variation(log_q):
    return integral((P - log_q.exp()).abs()) / 2


MINIMAX = {
    "total_variation": total_variation,
    "kl": lambda log_q: kl(LOG_P, log_q),
    "reverse_kl": lambda log_q: kl(log_q, LOG_P),
    "pearson": lambda log_q: integral((2 * LOG_P - log_q).exp()),
    "neyman": neyman,
    "squared_hellinger": lambda log_q: -2 * integral(((LOG_P + log_q) / 2).exp()),
    "jeffrey": lambda log_q: kl(LOG_P, log_q) + kl(log_q, LOG_P),
    "jensen_shannon": lambda log_q: 2 * skewed(log_q, 0.5),
    "jensen_shannon_weighted": lambda log_q: skewed(log_q, PI),
    "gan": lambda log_q: 2 * skewed(log_q, 0.5),
}
# D_h with h'' = f''/u.
NON_SATURATING = {
    "total_variation": total_variation,
    "kl": lambda log_q: kl(log_q, LOG_P),
    "reverse_kl": lambda log_q: neyman(log_q) / 2,
    "pearson": lambda log_q: 2 * kl(LOG_P, log_q),
    "neyman": lambda log_q: integral((3 * log_q - 2 * LOG_P).exp()) / 3,
    "squared_hellinger": lambda log_q: 2 / 3 * integral((1.5 * log_q - 0.5 * LOG_P).exp()),
    "jeffrey": lambda log_q: kl(log_q, LOG_P) + neyman(log_q) / 2,
    "jensen_shannon": lambda log_q: kl(log_q, LOG_P) - 2 * skewed(log_q, 0.5),
    "jensen_shannon_weighted": lambda log_q: PI * kl(log_q, LOG_P) - PI / (1 - PI) * skewed(log_q, PI),
    "gan": lambda log_q: kl(log_q, LOG_P) - 2 * skewed(log_q, 0.5),
}
assert MINIMAX.keys() == NON_SATURATING.keys() == {*get_args(Name)}


def descended(objective, optimal_score):
    """d/dm and d/ds of L_G = ∫ q · loss(score), the scores those of the best critic at AT."""
    scores = optimal_score(LOG_P - log_normal(*AT))
    losses = torch.vmap(lambda score: objective.generator_loss(score[None]))(scores)
    place = torch.tensor(AT, dtype=torch.float64, requires_grad=True)
    (gradient,) = torch.autograd.grad(integral(log_normal(*place).exp() * losses), place)
    return gradient


def differenced(divergence, step=1e-5):
    (m, s), h = AT, step
    ends = [((m + h, s), (m - h, s)), ((m, s + h), (m, s - h))]
    return torch.stack([divergence(log_normal(*up)) - divergence(log_normal(*down)) for up, down in ends]) / (2 * h)


def close(name):
    # The sum over X is exact to all digits for smooth integrands; total variation's steps where p and q cross.
    return {"rtol": 0, "atol": 1e-3 if name == "total_variation" else 1e-6}


@pytest.mark.parametrize("name", MINIMAX)
def test_minimax_descends_the_divergence_itself(name):
    game = FGAN(divergence=name, generator="minimax", pi=PI)
    gradient = descended(game, game.optimal_score)
    assert gradient.abs().min() > 0.02
    torch.testing.assert_close(gradient, differenced(MINIMAX[name]), **close(name))


@pytest.mark.parametrize("name", NON_SATURATING)
def test_non_saturating_descends_another(name):
    game = FGAN(divergence=name, generator="non_saturating", pi=PI)
    gradient = descended(game, game.optimal_score)
    assert gradient.abs().min() > 0.02
    torch.testing.assert_close(gradient, differenced(NON_SATURATING[name]), **close(name))


# ----------------------------------------------------------------------------------------------- maximum likelihood


def test_maximum_likelihood_descends_kl_of_the_data_from_the_model():
    gradient = descended(MaximumLikelihood(), lambda log_u: log_u)
    torch.testing.assert_close(gradient, differenced(MINIMAX["kl"]), rtol=0, atol=1e-6)


def test_maximum_likelihoods_critic_is_that_of_the_minimax_game():
    likelihood, gan = MaximumLikelihood(), FGAN(divergence="gan")
    a, b = torch.randn(2, 64, dtype=torch.float64, generator=torch.Generator().manual_seed(0))
    torch.testing.assert_close(likelihood.discriminator_loss(a, b), gan.discriminator_loss(a, b))
    even = torch.zeros(8)
    assert likelihood.discriminator_loss(even, even).item() == pytest.approx(math.log(4))


def test_maximum_likelihoods_values_by_hand():
    b = torch.tensor([0.0, math.log(3)], requires_grad=True)
    loss = MaximumLikelihood().generator_loss(b)
    assert loss.item() == pytest.approx(-2)
    torch.testing.assert_close(torch.autograd.grad(loss, b)[0], torch.tensor([-0.5, -1.5]))


@pytest.mark.parametrize(("score", "infinite"), [(-100.0, False), (88.0, False), (89.0, True), (100.0, True)])
def test_maximum_likelihood_is_infinite_only_beyond_float32(score, infinite):
    b = torch.tensor([score], requires_grad=True)
    loss = MaximumLikelihood().generator_loss(b)
    (slope,) = torch.autograd.grad(loss, b)
    assert loss.isinf().item() == slope.isinf().item() == infinite
    assert loss.item() <= 0
    assert slope.item() <= 0


def test_maximum_likelihood_keeps_the_promises_of_its_kind():
    check_objective(MaximumLikelihood)


def test_maximum_likelihood_is_found_by_its_name():
    assert ganframe.component("objective", "maximum_likelihood") is MaximumLikelihood
