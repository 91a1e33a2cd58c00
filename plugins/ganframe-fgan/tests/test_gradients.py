"""The divergence that G minimises: the gradient of its loss at the optimal discriminator is that of a divergence.

The gradient of L_G is with respect to m and s of q = N(m, s²), while the discriminator stays that which is optimal at
m = .5 and s = .9. The gradient of the divergence is by finite differences in m and s.
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


def loss_gradient(objective, optimal_score):
    """d/dm and d/ds of L_G = ∫ q · loss(score) at AT, with the scores of the optimal discriminator at AT."""
    scores = optimal_score(LOG_P - log_normal(*AT))
    losses = torch.vmap(lambda score: objective.generator_loss(score[None]))(scores)
    parameters = torch.tensor(AT, dtype=torch.float64, requires_grad=True)
    (gradient,) = torch.autograd.grad(integral(log_normal(*parameters).exp() * losses), parameters)
    return gradient


def divergence_gradient(divergence, step=1e-5):
    """d/dm and d/ds of the divergence at AT, by central differences."""
    (m, s), h = AT, step
    ends = [((m + h, s), (m - h, s)), ((m, s + h), (m, s - h))]
    return torch.stack([divergence(log_normal(*up)) - divergence(log_normal(*down)) for up, down in ends]) / (2 * h)


def tolerance(name):
    # The sum over X is exact for smooth integrands; that of total variation has a kink where p and q cross.
    return {"rtol": 0, "atol": 1e-3 if name == "total_variation" else 1e-6}


@pytest.mark.parametrize("name", MINIMAX)
def test_minimax_generator_minimises_its_divergence(name):
    objective = FGAN(divergence=name, generator="minimax", pi=PI)
    gradient = loss_gradient(objective, objective.optimal_score)
    assert gradient.abs().min() > 0.02
    torch.testing.assert_close(gradient, divergence_gradient(MINIMAX[name]), **tolerance(name))


@pytest.mark.parametrize("name", NON_SATURATING)
def test_non_saturating_generator_minimises_another_divergence(name):
    objective = FGAN(divergence=name, generator="non_saturating", pi=PI)
    gradient = loss_gradient(objective, objective.optimal_score)
    assert gradient.abs().min() > 0.02
    torch.testing.assert_close(gradient, divergence_gradient(NON_SATURATING[name]), **tolerance(name))


# ----------------------------------------------------------------------------------------------- maximum likelihood


def test_maximum_likelihood_generator_minimises_kl_p_q():
    gradient = loss_gradient(MaximumLikelihood(), lambda log_u: log_u)
    torch.testing.assert_close(gradient, divergence_gradient(MINIMAX["kl"]), rtol=0, atol=1e-6)


def test_maximum_likelihood_discriminator_loss_is_that_of_minimax():
    likelihood, gan = MaximumLikelihood(), FGAN(divergence="gan")
    a, b = torch.randn(2, 64, dtype=torch.float64, generator=torch.Generator().manual_seed(0))
    torch.testing.assert_close(likelihood.discriminator_loss(a, b), gan.discriminator_loss(a, b))
    zeros = torch.zeros(8)
    assert likelihood.discriminator_loss(zeros, zeros).item() == pytest.approx(math.log(4))


def test_maximum_likelihood_loss_by_hand():
    b = torch.tensor([0.0, math.log(3)], requires_grad=True)
    loss = MaximumLikelihood().generator_loss(b)
    assert loss.item() == pytest.approx(-2)
    torch.testing.assert_close(torch.autograd.grad(loss, b)[0], torch.tensor([-0.5, -1.5]))


@pytest.mark.parametrize(("score", "infinite"), [(-100.0, False), (88.0, False), (89.0, True), (100.0, True)])
def test_maximum_likelihood_loss_is_infinite_only_where_float32_overflows(score, infinite):
    b = torch.tensor([score], requires_grad=True)
    loss = MaximumLikelihood().generator_loss(b)
    (gradient,) = torch.autograd.grad(loss, b)
    assert loss.isinf().item() == gradient.isinf().item() == infinite
    assert loss.item() <= 0
    assert gradient.item() <= 0


def test_maximum_likelihood_conformance():
    check_objective(MaximumLikelihood)


def test_maximum_likelihood_is_registered():
    assert ganframe.component("objective", "maximum_likelihood") is MaximumLikelihood
