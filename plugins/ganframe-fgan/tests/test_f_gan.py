"""Each divergence of f-GAN against the mathematics: its row of the table, its value at the optimal critic, its numbers.

The table is written down once more here, f and f* as functions of u and t, and each D_f as an integral of densities.
"""

import math
import re
from pathlib import Path
from typing import get_args

import pytest
import torch
from ganframe_fgan import FGAN
from ganframe_fgan.divergences import JeffreyLogRatio, Name
from scipy.integrate import quad
from scipy.special import wrightomega
from torch import log, logit, sqrt, tensor
from torch.func import grad_and_value

import ganframe
from ganframe.testing import check_objective

NAMES = get_args(Name)
GENERATORS = ("minimax", "non_saturating")
PI = 0.3

F = {
    "total_variation": lambda u: (u - 1).abs() / 2,
    "kl": lambda u: u * log(u),
    "reverse_kl": lambda u: -log(u),
    "pearson": lambda u: (u - 1) ** 2,
    "neyman": lambda u: (1 - u) ** 2 / u,
    "squared_hellinger": lambda u: (sqrt(u) - 1) ** 2,
    "jeffrey": lambda u: (u - 1) * log(u),
    "jensen_shannon": lambda u: -(u + 1) * log((1 + u) / 2) + u * log(u),
    "jensen_shannon_weighted": lambda u: PI * u * log(u) - (1 - PI + PI * u) * log(1 - PI + PI * u),
    "gan": lambda u: u * log(u) - (u + 1) * log(u + 1),
}
CONJUGATE = {
    "total_variation": lambda t: t,
    "kl": lambda t: torch.exp(t - 1),
    "reverse_kl": lambda t: -1 - log(-t),
    "pearson": lambda t: t**2 / 4 + t,
    "neyman": lambda t: 2 - 2 * sqrt(1 - t),
    "squared_hellinger": lambda t: t / (1 - t),
    "jeffrey": lambda t: (w := tensor(wrightomega(1 - t.numpy()))) + 1 / w + t - 2,
    "jensen_shannon": lambda t: -log(2 - torch.exp(t)),
    "jensen_shannon_weighted": lambda t: (1 - PI) * log((1 - PI) / (1 - PI * torch.exp(t / PI))),
    "gan": lambda t: -log(1 - torch.exp(t)),
}
F_PRIME_1 = dict.fromkeys(NAMES, 0.0) | {"kl": 1.0, "reverse_kl": -1.0, "gan": -math.log(2)}

# The divergences by their own definitions, in the densities and their logarithms.
DEFINITIONS = {
    "total_variation": lambda p, q: abs(p - q) / 2,
    "kl": lambda p, q: p * math.log(p / q),
    "reverse_kl": lambda p, q: q * math.log(q / p),
    "pearson": lambda p, q: (p - q) ** 2 / q,
    "neyman": lambda p, q: (p - q) ** 2 / p,
    "squared_hellinger": lambda p, q: (math.sqrt(p) - math.sqrt(q)) ** 2,
    "jeffrey": lambda p, q: (p - q) * math.log(p / q),
    "jensen_shannon": lambda p, q: skewed(p, q, 0.5) * 2,
    "jensen_shannon_weighted": lambda p, q: skewed(p, q, PI),
    "gan": lambda p, q: skewed(p, q, 0.5) * 2 - math.log(4) * q,
}


def skewed(p, q, share):
    """share · KL(p‖m) + (1 - share) · KL(q‖m), m = share · p + (1 - share) · q."""
    m = share * p + (1 - share) * q
    return share * p * math.log(p / m) + (1 - share) * q * math.log(q / m)


# D_f of p = N(0, 1) against N(1, 1) and N(1, 1.2²). The first pair cannot tell KL(p‖q) from KL(q‖p), the second can.
REFERENCE = {
    "total_variation": (0.3829249, 0.3569163),
    "kl": (0.5, 0.3767660),
    "reverse_kl": (0.5, 0.5376784),
    "pearson": (1.7182818, 0.7876861),
    "neyman": (1.7182818, 5.6412618),
    "squared_hellinger": (0.2350062, 0.2096278),
    "jeffrey": (1.0, 0.9144444),
    "jensen_shannon": (0.2228430, 0.1967344),
    "jensen_shannon_weighted": (0.0949105, 0.0799418),
    "gan": (-1.1634514, -1.1895600),
}
PAIRS = [(0, 1.0), (1, 1.2)]
X = torch.linspace(-20, 20, 20_001, dtype=torch.float64)
STEP = 40 / 20_000


def log_normal(x, mean, std):
    return -((x - mean) ** 2) / (2 * std**2) - math.log(std * math.sqrt(2 * math.pi))


def game(name, generator="minimax"):
    return FGAN(divergence=name, generator=generator, pi=PI)


def g(name, v):
    """g(v), which is the loss of a non-saturating G with its sign changed."""
    return -torch.vmap(lambda score: game(name, "non_saturating").generator_loss(score[None]))(v)


def conjugate_of_g(name, v):
    return -torch.vmap(lambda score: game(name).generator_loss(score[None]))(v)


def bound(name, scores, log_p, log_q):
    """F of the critic with these scores on X, from L_D alone, which is the sum of a part of a and a part of b."""
    loss, zero = game(name).discriminator_loss, torch.zeros(1, dtype=torch.float64)
    of_real = torch.vmap(lambda score: loss(score[None], zero))(scores)
    of_fake = torch.vmap(lambda score: loss(zero, score[None]))(scores)
    total = (log_p.exp() * of_real + log_q.exp() * of_fake).sum() * STEP
    return (loss(zero, zero) - total).item()


# ---------------------------------------------------------------------------------------------- the rows of the table


@pytest.mark.parametrize("name", NAMES)
def test_g_of_the_optimal_score_is_the_slope_of_f(name):
    log_u = torch.linspace(-6, 6, 402, dtype=torch.float64)  # not u = 1, where total variation has no slope
    u = log_u.exp().requires_grad_()
    (slope,) = torch.autograd.grad(F[name](u).sum(), u)
    torch.testing.assert_close(g(name, game(name).optimal_score(log_u)), slope)


@pytest.mark.parametrize("name", NAMES)
def test_the_conjugate_is_the_greatest_ut_minus_f(name):
    log_u = torch.linspace(-3, 3, 24, dtype=torch.float64)
    t = g(name, game(name).optimal_score(log_u))
    u = torch.linspace(-12, 12, 200_001, dtype=torch.float64).exp()
    greatest = torch.stack([(u * slope - F[name](u)).max() for slope in t])
    torch.testing.assert_close(CONJUGATE[name](t), greatest, rtol=1e-6, atol=1e-6)


@pytest.mark.parametrize("name", NAMES)
def test_the_conjugate_of_g_is_the_conjugate_after_g(name):
    v = torch.linspace(-8, 8, 161, dtype=torch.float64)
    torch.testing.assert_close(conjugate_of_g(name, v), CONJUGATE[name](g(name, v)), rtol=1e-7, atol=1e-7)


@pytest.mark.parametrize("name", NAMES)
def test_a_sample_is_read_as_real_where_t_exceeds_f_prime_of_1(name):
    v = torch.linspace(-3, 3, 100, dtype=torch.float64)
    assert torch.equal(game(name).reads_real(v), g(name, v) > F_PRIME_1[name])
    log_u = torch.linspace(-3, 3, 100, dtype=torch.float64)
    assert torch.equal(game(name).reads_real(game(name).optimal_score(log_u)), log_u > 0)


def test_the_threshold_of_the_weighted_divergence_is_the_share_of_the_data():
    at_equal_densities = game("jensen_shannon_weighted").optimal_score(torch.zeros(1))
    torch.testing.assert_close(at_equal_densities, logit(tensor([PI])))


# ------------------------------------------------------------------------------------------- the variational bound


@pytest.mark.parametrize("pair", [0, 1], ids=["equal variances", "unequal variances"])
@pytest.mark.parametrize("name", NAMES)
def test_the_bound_at_the_optimal_critic_is_the_divergence(name, pair):
    mean, std = 1, PAIRS[pair][1]
    log_p, log_q = log_normal(X, 0, 1), log_normal(X, mean, std)
    at_the_optimum = bound(name, game(name).optimal_score(log_p - log_q), log_p, log_q)
    assert at_the_optimum == pytest.approx(REFERENCE[name][pair], abs=1e-6)

    def integrand(x):
        return DEFINITIONS[name](math.exp(log_normal(x, 0, 1)), math.exp(log_normal(x, mean, std)))

    by_definition = quad(integrand, -16, 18, limit=500, epsabs=1e-10)[0]
    assert at_the_optimum == pytest.approx(by_definition, abs=1e-6)
    of_f = (log_q.exp() * F[name]((log_p - log_q).exp())).sum().item() * STEP
    assert at_the_optimum == pytest.approx(of_f, abs=1e-6)


@pytest.mark.parametrize("name", NAMES)
def test_no_other_critic_exceeds_it(name):
    log_p, log_q = log_normal(X, 0, 1), log_normal(X, 1, 1.2)
    best = game(name).optimal_score(log_p - log_q).clamp(-4, 4)
    others = [best + 0.3, best - 0.3, 0.8 * best, best + 0.2 * torch.sin(3 * X), torch.zeros_like(X), -best]
    for scores in others:
        assert bound(name, scores, log_p, log_q) < REFERENCE[name][1] - 1e-4


@pytest.mark.parametrize("name", NAMES)
def test_equal_distributions_are_0_apart(name):
    log_p = log_normal(X, 0, 1)
    expected = -math.log(4) if name == "gan" else 0
    value = bound(name, game(name).optimal_score(torch.zeros_like(X)), log_p, log_p)
    assert value == pytest.approx(expected, abs=1e-8)


def test_the_readme_has_these_values():
    text = (Path(__file__).parent.parent / "README.md").read_text(encoding="utf-8")
    rows = re.findall(r"^\| `(\w+)`.*? \| (-?\d\.\d{7}) \| (-?\d\.\d{7}) \|", text, re.MULTILINE)
    assert {name: (float(equal), float(unequal)) for name, equal, unequal in rows} == REFERENCE


# ------------------------------------------------------------------------------------------------- floating point


@pytest.mark.parametrize("generator", GENERATORS)
@pytest.mark.parametrize("name", NAMES)
def test_float32_holds_every_value_it_can(name, generator):
    """Losses and slopes at scores up to ±100: those of float64, infinite where float32 has no such number."""
    v = torch.linspace(-100, 100, 801, dtype=torch.float64)
    f_gan, zero = game(name, generator), torch.zeros(1)
    for loss in (
        f_gan.generator_loss,
        lambda a: f_gan.discriminator_loss(a, zero.to(a)),
        lambda b: f_gan.discriminator_loss(zero.to(b), b),
    ):

        def both(scores, loss=loss):
            return torch.vmap(grad_and_value(lambda score: loss(score[None])))(scores)

        for exact, single in zip(both(v), both(v.float()), strict=True):
            assert not single.isnan().any()
            torch.testing.assert_close(single, exact.float(), rtol=2e-5, atol=1e-6)


@pytest.mark.parametrize("generator", GENERATORS)
@pytest.mark.parametrize("name", NAMES)
def test_a_slope_is_exact_where_it_is_small(name, generator):
    """Not rounded to 0 at v = -20, as torch's slope of expm1 is: Adam divides small slopes by their own size."""
    v = torch.linspace(-40, 0 if name == "total_variation" else 80, 121, dtype=torch.float64)

    def slopes(scores):
        return torch.vmap(torch.func.grad(lambda b: game(name, generator).generator_loss(b[None])))(scores)

    torch.testing.assert_close(slopes(v.float()), slopes(v).float(), rtol=2e-5, atol=0)


def test_jeffreys_conjugate_is_that_of_the_wright_omega_function():
    t = torch.linspace(-100, 100, 4001, dtype=torch.float64, requires_grad=True)
    w = tensor(wrightomega(1 - t.detach().numpy()))
    torch.testing.assert_close(JeffreyLogRatio.apply(t), -log(w), rtol=1e-14, atol=1e-14)
    value = conjugate_of_g("jeffrey", t)
    (slope,) = torch.autograd.grad(value.sum(), t)
    torch.testing.assert_close(slope, 1 / w, rtol=1e-13, atol=0)
    torch.testing.assert_close(value.detach(), w + 1 / w + t.detach() - 2, rtol=1e-11, atol=1e-11)


def test_jeffreys_conjugate_keeps_its_digits_at_0_and_far_out():
    tiny = torch.logspace(-30, -6, 25, dtype=torch.float64)
    torch.testing.assert_close(conjugate_of_g("jeffrey", tiny), tiny, rtol=1e-6, atol=0)  # f* = t + t²/4 + …
    far = tensor([1e4, 1e30], dtype=torch.float32)
    assert conjugate_of_g("jeffrey", far).tolist() == [math.inf, math.inf]
    torch.testing.assert_close(JeffreyLogRatio.apply(-far), -log(far), rtol=1e-3, atol=0)


def test_jeffreys_conjugate_can_be_differentiated_twice():
    t = tensor([-50, -3, -1e-3, 0, 1e-3, 2, 30], dtype=torch.float64, requires_grad=True)
    assert torch.autograd.gradcheck(JeffreyLogRatio.apply, t)
    assert torch.autograd.gradgradcheck(JeffreyLogRatio.apply, t)


# --------------------------------------------------------------------------------------------- as ganframe has it


@pytest.mark.parametrize("generator", GENERATORS)
@pytest.mark.parametrize("name", NAMES)
def test_it_keeps_the_promises_of_its_kind(name, generator):
    check_objective(FGAN(divergence=name, generator=generator))


@pytest.mark.parametrize("pi", [0.01, 0.3, 0.99])
@pytest.mark.parametrize("generator", GENERATORS)
def test_any_weight_keeps_the_promises_of_its_kind(pi, generator):
    check_objective(FGAN(divergence="jensen_shannon_weighted", generator=generator, pi=pi))


@pytest.mark.parametrize("pi", [0.0, 1.0, -0.5])
def test_a_weight_that_leaves_one_side_out_is_refused(pi):
    with pytest.raises(ValueError, match="pi"):
        FGAN(pi=pi)


def test_values_by_hand():
    a, b = tensor([0.0, 2.0]), tensor([1.0, 1 + math.log(3)])
    # KL: g(a) has the mean 1, exp(b - 1) the mean 2.
    assert FGAN().discriminator_loss(a, b).item() == pytest.approx(1)
    assert FGAN().generator_loss(b).item() == pytest.approx(-2)
    assert FGAN(generator="non_saturating").generator_loss(b).item() == pytest.approx(-(1 + math.log(3) / 2))


def test_it_is_found_by_its_name():
    assert ganframe.component("objective", "f_gan") is FGAN
