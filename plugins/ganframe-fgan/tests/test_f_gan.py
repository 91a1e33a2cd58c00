"""f-GAN: the table of divergences, the bound at the optimal discriminator, floating-point accuracy, and conformance.

The reference is independent of the package: f and f* as functions of u and t, and each D_f as an integral of densities.
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

# The integrands that define the divergences.
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


# D_f of p = N(0, 1) against N(1, 1) and N(1, 1.2²). KL(p‖q) and KL(q‖p) are equal for the first pair only.
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


def f_gan(name, generator="minimax"):
    return FGAN(divergence=name, generator=generator, pi=PI)


def g(name, v):
    """g(v), minus the loss of a non-saturating G."""
    return -torch.vmap(lambda score: f_gan(name, "non_saturating").generator_loss(score[None]))(v)


def conjugate_of_g(name, v):
    return -torch.vmap(lambda score: f_gan(name).generator_loss(score[None]))(v)


def bound(name, scores, log_p, log_q):
    """The bound F of `scores` on X, computed from L_D, which is the sum of a term of a and a term of b."""
    loss, zero = f_gan(name).discriminator_loss, torch.zeros(1, dtype=torch.float64)
    of_real = torch.vmap(lambda score: loss(score[None], zero))(scores)
    of_fake = torch.vmap(lambda score: loss(zero, score[None]))(scores)
    total = (log_p.exp() * of_real + log_q.exp() * of_fake).sum() * STEP
    return (loss(zero, zero) - total).item()


# ---------------------------------------------------------------------------------------------- rows of the table


@pytest.mark.parametrize("name", NAMES)
def test_g_of_optimal_score_is_derivative_of_f(name):
    log_u = torch.linspace(
        -6, 6, 402, dtype=torch.float64
    )  # without u = 1, where f of total variation has no derivative
    u = log_u.exp().requires_grad_()
    (derivative,) = torch.autograd.grad(F[name](u).sum(), u)
    torch.testing.assert_close(g(name, f_gan(name).optimal_score(log_u)), derivative)


@pytest.mark.parametrize("name", NAMES)
def test_conjugate_is_maximum_of_ut_minus_f(name):
    log_u = torch.linspace(-3, 3, 24, dtype=torch.float64)
    t = g(name, f_gan(name).optimal_score(log_u))
    u = torch.linspace(-12, 12, 200_001, dtype=torch.float64).exp()
    maximum = torch.stack([(u * each - F[name](u)).max() for each in t])
    torch.testing.assert_close(CONJUGATE[name](t), maximum, rtol=1e-6, atol=1e-6)


@pytest.mark.parametrize("name", NAMES)
def test_conjugate_of_g_equals_composition_of_conjugate_and_g(name):
    v = torch.linspace(-8, 8, 161, dtype=torch.float64)
    torch.testing.assert_close(conjugate_of_g(name, v), CONJUGATE[name](g(name, v)), rtol=1e-7, atol=1e-7)


@pytest.mark.parametrize("name", NAMES)
def test_reads_real_where_t_exceeds_f_prime_of_1(name):
    v = torch.linspace(-3, 3, 100, dtype=torch.float64)
    assert torch.equal(f_gan(name).reads_real(v), g(name, v) > F_PRIME_1[name])
    log_u = torch.linspace(-3, 3, 100, dtype=torch.float64)
    assert torch.equal(f_gan(name).reads_real(f_gan(name).optimal_score(log_u)), log_u > 0)


def test_weighted_jensen_shannon_threshold_is_logit_of_pi():
    at_equal_densities = f_gan("jensen_shannon_weighted").optimal_score(torch.zeros(1))
    torch.testing.assert_close(at_equal_densities, logit(tensor([PI])))


# ----------------------------------------------------------------------------------------------- variational bound


@pytest.mark.parametrize("pair", [0, 1], ids=["equal variances", "unequal variances"])
@pytest.mark.parametrize("name", NAMES)
def test_bound_at_optimal_discriminator_is_the_divergence(name, pair):
    mean, std = 1, PAIRS[pair][1]
    log_p, log_q = log_normal(X, 0, 1), log_normal(X, mean, std)
    at_the_optimum = bound(name, f_gan(name).optimal_score(log_p - log_q), log_p, log_q)
    assert at_the_optimum == pytest.approx(REFERENCE[name][pair], abs=1e-6)

    def integrand(x):
        return DEFINITIONS[name](math.exp(log_normal(x, 0, 1)), math.exp(log_normal(x, mean, std)))

    by_definition = quad(integrand, -16, 18, limit=500, epsabs=1e-10)[0]
    assert at_the_optimum == pytest.approx(by_definition, abs=1e-6)
    of_f = (log_q.exp() * F[name]((log_p - log_q).exp())).sum().item() * STEP
    assert at_the_optimum == pytest.approx(of_f, abs=1e-6)


@pytest.mark.parametrize("name", NAMES)
def test_bound_of_other_discriminators_is_lower(name):
    log_p, log_q = log_normal(X, 0, 1), log_normal(X, 1, 1.2)
    best = f_gan(name).optimal_score(log_p - log_q).clamp(-4, 4)
    others = [best + 0.3, best - 0.3, 0.8 * best, best + 0.2 * torch.sin(3 * X), torch.zeros_like(X), -best]
    for scores in others:
        assert bound(name, scores, log_p, log_q) < REFERENCE[name][1] - 1e-4


@pytest.mark.parametrize("name", NAMES)
def test_divergence_of_equal_distributions_is_0(name):
    log_p = log_normal(X, 0, 1)
    expected = -math.log(4) if name == "gan" else 0
    value = bound(name, f_gan(name).optimal_score(torch.zeros_like(X)), log_p, log_p)
    assert value == pytest.approx(expected, abs=1e-8)


def test_readme_lists_reference_values():
    text = (Path(__file__).parent.parent / "README.md").read_text(encoding="utf-8")
    rows = re.findall(r"^\| `(\w+)`.*? \| (-?\d\.\d{7}) \| (-?\d\.\d{7}) \|", text, re.MULTILINE)
    assert {name: (float(equal), float(unequal)) for name, equal, unequal in rows} == REFERENCE


# ------------------------------------------------------------------------------------------------- floating point


@pytest.mark.parametrize("generator", GENERATORS)
@pytest.mark.parametrize("name", NAMES)
def test_float32_matches_float64_up_to_overflow(name, generator):
    """Losses and gradients at scores up to ±100 match float64, and are infinite where float32 overflows."""
    v = torch.linspace(-100, 100, 801, dtype=torch.float64)
    objective, zero = f_gan(name, generator), torch.zeros(1)
    for loss in (
        objective.generator_loss,
        lambda a: objective.discriminator_loss(a, zero.to(a)),
        lambda b: objective.discriminator_loss(zero.to(b), b),
    ):

        def both(scores, loss=loss):
            return torch.vmap(grad_and_value(lambda score: loss(score[None])))(scores)

        for exact, single in zip(both(v), both(v.float()), strict=True):
            assert not single.isnan().any()
            torch.testing.assert_close(single, exact.float(), rtol=2e-5, atol=1e-6)


@pytest.mark.parametrize("generator", GENERATORS)
@pytest.mark.parametrize("name", NAMES)
def test_small_gradients_are_exact(name, generator):
    """Adam rescales small gradients, so they must not round to 0, as torch's gradient of expm1 does at v = -20."""
    v = torch.linspace(-40, 0 if name == "total_variation" else 80, 121, dtype=torch.float64)

    def gradients(scores):
        return torch.vmap(torch.func.grad(lambda b: f_gan(name, generator).generator_loss(b[None])))(scores)

    torch.testing.assert_close(gradients(v.float()), gradients(v).float(), rtol=2e-5, atol=0)


def test_jeffrey_conjugate_matches_wright_omega():
    t = torch.linspace(-100, 100, 4001, dtype=torch.float64, requires_grad=True)
    w = tensor(wrightomega(1 - t.detach().numpy()))
    torch.testing.assert_close(JeffreyLogRatio.apply(t), -log(w), rtol=1e-14, atol=1e-14)
    value = conjugate_of_g("jeffrey", t)
    (gradient,) = torch.autograd.grad(value.sum(), t)
    torch.testing.assert_close(gradient, 1 / w, rtol=1e-13, atol=0)
    torch.testing.assert_close(value.detach(), w + 1 / w + t.detach() - 2, rtol=1e-11, atol=1e-11)


def test_jeffrey_conjugate_is_accurate_near_0_and_at_extremes():
    tiny = torch.logspace(-30, -6, 25, dtype=torch.float64)
    torch.testing.assert_close(conjugate_of_g("jeffrey", tiny), tiny, rtol=1e-6, atol=0)  # f* = t + t²/4 + …
    far = tensor([1e4, 1e30], dtype=torch.float32)
    assert conjugate_of_g("jeffrey", far).tolist() == [math.inf, math.inf]
    torch.testing.assert_close(JeffreyLogRatio.apply(-far), -log(far), rtol=1e-3, atol=0)


def test_jeffrey_conjugate_is_twice_differentiable():
    t = tensor([-50, -3, -1e-3, 0, 1e-3, 2, 30], dtype=torch.float64, requires_grad=True)
    assert torch.autograd.gradcheck(JeffreyLogRatio.apply, t)
    assert torch.autograd.gradgradcheck(JeffreyLogRatio.apply, t)


# --------------------------------------------------------------------------------------- conformance and registration


@pytest.mark.parametrize("generator", GENERATORS)
@pytest.mark.parametrize("name", NAMES)
def test_conformance(name, generator):
    check_objective(FGAN(divergence=name, generator=generator))


@pytest.mark.parametrize("pi", [0.01, 0.3, 0.99])
@pytest.mark.parametrize("generator", GENERATORS)
def test_conformance_for_any_pi(pi, generator):
    check_objective(FGAN(divergence="jensen_shannon_weighted", generator=generator, pi=pi))


@pytest.mark.parametrize("pi", [0.0, 1.0, -0.5])
def test_pi_outside_0_to_1_raises_value_error(pi):
    with pytest.raises(ValueError, match="pi"):
        FGAN(pi=pi)


def test_losses_by_hand():
    a, b = tensor([0.0, 2.0]), tensor([1.0, 1 + math.log(3)])
    # KL: g(a) has the mean 1, exp(b - 1) the mean 2.
    assert FGAN().discriminator_loss(a, b).item() == pytest.approx(1)
    assert FGAN().generator_loss(b).item() == pytest.approx(-2)
    assert FGAN(generator="non_saturating").generator_loss(b).item() == pytest.approx(-(1 + math.log(3) / 2))


def test_component_is_registered():
    assert ganframe.component("objective", "f_gan") is FGAN
