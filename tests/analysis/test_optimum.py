"""Optimal critics, and how near others come to them: against critics whose gradients are known."""

from __future__ import annotations

import math

import pytest
import torch
from torch import nn

import ganframe
from ganframe import DataSpec, Distribution
from ganframe.analysis import optimum
from ganframe.analysis.exact import on_the_line
from ganframe.analysis.optimum import agreement, known_optimum

CPU = torch.device("cpu")


def built(name, **options):
    return ganframe.component("dataset", name)(**options).build()


def known(p, q, shape):
    return known_optimum(p, q, on_the_line(p, q, DataSpec(shape)), CPU)


class Scaled(nn.Module):
    """A critic that is `scale` times another one's scores, in float32."""

    def __init__(self, critic, scale):
        super().__init__()
        self.critic, self.scale = critic, scale

    def forward(self, x, y):
        return (self.scale * self.critic(x)).float()


@pytest.mark.parametrize(
    ("scale", "cosine", "l2"), [(1.0, 1.0, 0.0), (0.5, 1.0, 0.25), (0.0, 0.0, 1.0), (-1.0, -1.0, 4)]
)
def test_agreement_of_scaled_optimal_critics(scale, cosine, l2):
    """‖∇f‖ = 1, so the squared distance of s ∇f from it is (1 - s)²."""
    p, q = built("funnels_moved", dimension=3, funnels=5), built("funnels", dimension=3, funnels=5)
    found = known(p, q, (3,))
    x = p.draw(3_000, torch.Generator().manual_seed(1))[0]
    measured = agreement(Scaled(found.critic, scale), found.critic, x)
    assert measured.cosine == pytest.approx(cosine, abs=1e-5)
    assert measured.l2 == pytest.approx(l2, abs=1e-5)
    assert measured.cosine_error < 1e-5
    assert measured.l2_error < 1e-5


def test_agreement_of_a_linear_critic_is_the_mean_over_the_samples():
    """∇D = e₁ has the cosine -v₁ and the squared distance 2 + 2 v₁ from -v, v the unit vector from the centre."""
    p, q = built("funnels_moved", dimension=2, funnels=1), built("funnels", dimension=2, funnels=1)
    found = known(p, q, (2,))
    x = p.draw(5_000, torch.Generator().manual_seed(1))[0].double()
    v = nn.functional.normalize(x - p.funnels.centres, dim=1)[:, 0]
    measured = agreement(Scaled(lambda x: x[:, 0], 1.0), found.critic, x.float())
    assert measured.cosine == pytest.approx(-v.mean().item(), abs=1e-4)
    assert measured.l2 == pytest.approx((2 + 2 * v).mean().item(), abs=1e-4)
    assert measured.cosine_error == pytest.approx(v.std().item() / math.sqrt(5_000), rel=1e-3)
    assert measured.l2_error == pytest.approx(2 * measured.cosine_error, rel=1e-3)


def test_agreement_of_images_is_that_of_flattened_gradients():
    x = torch.randn(10, 3, 4, 4)
    measured = agreement(Scaled(lambda x: x.sum((1, 2, 3)), 1.0), lambda x: x[:, 0].sum((1, 2)), x)
    assert measured.cosine == pytest.approx(1 / math.sqrt(3), abs=1e-6)
    assert measured.l2 == pytest.approx(32, abs=1e-5)


def test_w1_of_funnels_has_the_error_that_it_says(monkeypatch):
    """Means over 20,000 samples, of 8 seeds, about that of 1,600,000."""
    p, q = built("funnels_moved", dimension=2, funnels=4), built("funnels", dimension=2, funnels=4)
    true = known(p, q, (2,))
    assert (true.samples, true.error < 0.002 * true.w1) == (200_000, True)
    monkeypatch.setattr(optimum, "SAMPLES", 20_000)
    scores = []
    for seed in range(1, 9):
        monkeypatch.setattr(optimum, "SEED", seed)
        found = known(p, q, (2,))
        scores.append((found.w1 - true.w1) / math.hypot(found.error, true.error))
    assert 0.3 < torch.tensor(scores).square().mean().sqrt() < 2.0
    back = known(q, p, (2,))
    assert back.w1 == pytest.approx(found.w1, abs=1e-12)


def test_optimum_on_the_line_is_by_quadrature():
    found = known(built("gaussian_1d"), built("gaussian_1d", means=(2.0,)), (1,))
    assert (found.error, found.samples) == (0.0, None)
    assert found.w1 == pytest.approx(2.0, abs=1e-4)
    x = torch.linspace(-3, 5, 50)[:, None].requires_grad_()
    scores = found.critic(x)
    (slope,) = torch.autograd.grad(scores.sum(), x)
    torch.testing.assert_close(slope, torch.full((50, 1), -1.0))
    torch.testing.assert_close(scores[0] - scores[-1], torch.tensor(8.0, dtype=torch.float64), atol=1e-4, rtol=0)


def test_distribution_of_a_plugin_may_know_its_critic():
    class Shifted(Distribution):
        def __init__(self, by):
            self.by = by

        def draw(self, n, generator):
            x = torch.rand(n, 1, 2, generator=generator)
            x[:, 0, 0] += self.by
            return x, torch.zeros(n, dtype=torch.long)

        def optimal_critic(self, other):
            return lambda x: x[:, 0, 0] * math.copysign(1, self.by - other.by)

    found = known(Shifted(3.0), Shifted(1.0), (1, 2))
    assert found.w1 == pytest.approx(2.0, abs=1e-5)
    assert found.error < 1e-5  # the same seed draws both sides, so their scatter cancels


def test_sides_without_a_known_critic_have_no_optimum():
    ring = built("ring")
    assert known(ring, built("grid"), (2,)) is None
    assert known(built("funnels_moved"), ring, (2,)) is None
    assert known(torch.utils.data.TensorDataset(torch.zeros(3, 1)), built("gaussian_1d"), (1,)) is None
