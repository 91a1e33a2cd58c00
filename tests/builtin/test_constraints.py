"""Tests of the built-in constraints against the papers' formulas, and of common implementation errors."""

from __future__ import annotations

import attrs
import pytest
import torch
from torch import nn
from torch.nn.utils import parametrize

import ganframe
from ganframe import DataSpec, Scored

GradientPenalty = ganframe.component("constraint", "gradient_penalty")
SpectralNorm = ganframe.component("constraint", "spectral_norm")
WeightClipping = ganframe.component("constraint", "weight_clipping")


class Linear(nn.Module):
    """D(x) = w · x over all coordinates of a sample, with ‖w‖ = slope."""

    def __init__(self, shape: tuple[int, ...], slope: float) -> None:
        super().__init__()
        w = torch.randn(shape, dtype=torch.float64)
        self.w = nn.Parameter(w / w.norm() * slope)

    def forward(self, x, y):
        return (x * self.w).flatten(1).sum(1)


def sides(n: int, shape: tuple[int, ...]) -> tuple[Scored, Scored]:
    def side():
        return Scored(torch.randn(n, *shape, dtype=torch.float64), torch.zeros(n, dtype=torch.long), torch.zeros(n))

    return side(), side()


@pytest.mark.parametrize("n", [1, 4, 64])
@pytest.mark.parametrize("shape", [(2,), (3, 4, 4)])
@pytest.mark.parametrize("slope", [1.0, 0.25, 3.0])
def test_gradient_penalty_of_linear_discriminator_at_any_batch_size(n, shape, slope):
    """One norm per sample and the sum of the scores differentiated: λ(|w| - 1)² at any batch size, 0 at slope 1."""
    penalty = GradientPenalty(weight=10.0).penalty(Linear(shape, slope), *sides(n, shape))
    assert penalty.shape == ()
    assert penalty.item() == pytest.approx(10 * (slope - 1) ** 2, abs=1e-12)


def test_gradient_penalty_uses_the_norm_of_each_sample():
    class Square(nn.Module):  # D(x) = |x|²/2, so ∇D(x) = x
        def forward(self, x, y):
            return x.square().sum(1) / 2

    same = Scored(torch.randn(5, 3, dtype=torch.float64), torch.zeros(5).long(), torch.zeros(5))
    expected = 10 * (same.x.norm(dim=1) - 1).square().mean()
    torch.testing.assert_close(GradientPenalty().penalty(Square(), same, same), expected)


@pytest.mark.parametrize("shape", [(4,), (3, 4, 4), (1, 4, 4)])
def test_gradient_penalty_interpolates_with_one_epsilon_per_sample(shape):
    seen = []

    class Recorder(Linear):
        def forward(self, x, y):
            seen.append(x.detach())
            return super().forward(x, y)

    real, fake = sides(4, shape)  # N = H = 4: an ε of shape (N, 1) would broadcast along the wrong axis
    GradientPenalty().penalty(Recorder(shape, 1.0), real, fake)
    epsilon = (seen[0] - fake.x) / (real.x - fake.x)
    assert seen[0].shape == real.x.shape
    per_sample = epsilon.flatten(1)
    torch.testing.assert_close(per_sample, per_sample[:, :1].expand_as(per_sample))
    assert ((per_sample >= 0) & (per_sample <= 1)).all()
    assert per_sample[:, 0].unique().numel() == 4


def test_gradient_penalty_is_differentiable_at_zero_gradient():
    D = Linear((3,), 0.0)
    penalty = GradientPenalty().penalty(D, *sides(8, (3,)))
    penalty.backward()
    assert penalty.item() == pytest.approx(10.0)
    assert torch.isfinite(D.w.grad).all()


def test_gradient_penalty_reaches_weights_but_not_samples():
    D = Linear((2,), 2.0)
    real, fake = sides(8, (2,))
    fake = attrs.evolve(fake, x=fake.x.requires_grad_())
    GradientPenalty().penalty(D, real, fake).backward()
    direction = D.w.detach() / D.w.detach().norm()
    torch.testing.assert_close(D.w.grad, 20 * (2.0 - 1) * direction)  # d/dw 10 (|w| - 1)²
    assert fake.x.grad is None


def test_gradient_penalty_refuses_discriminator_that_mixes_samples():
    networks = ganframe.component("discriminator", "dcgan")
    data = DataSpec((1, 16, 16))
    with pytest.raises(ValueError, match="BatchNorm"):
        GradientPenalty().check(networks(width=4, norm="batch").build(data))
    for norm in ("layer", "none"):
        D = networks(width=4, norm=norm).build(data)
        GradientPenalty().check(D)
        x = torch.randn(3, 1, 16, 16, requires_grad=True)
        (gradient,) = torch.autograd.grad(D(x, torch.zeros(3).long())[0], x)
        assert gradient[0].abs().sum() > 0
        assert (gradient[1:] == 0).all()


# --------------------------------------------------------------------------------------------------- weight clipping


def test_weight_clipping_clamps_every_parameter_and_is_idempotent():
    D = ganframe.component("discriminator", "mlp")(hidden=(8, 8)).build(DataSpec((2,)))
    before = [p.detach().clone() for p in D.parameters()]
    clip = WeightClipping(limit=0.05)
    clip.project(D)
    once = [p.detach().clone() for p in D.parameters()]
    clip.project(D)
    assert any((b.abs() > 0.05).any() for b in before)
    for b, o, p in zip(before, once, D.parameters(), strict=True):
        torch.testing.assert_close(o, b.clamp(-0.05, 0.05))
        torch.testing.assert_close(p.detach(), o)


# ----------------------------------------------------------------------------------------------- spectral normalisation


def normalised_layers(D: nn.Module) -> list[nn.Module]:
    return [m for m in D.modules() if parametrize.is_parametrized(m, "weight")]


def copy_buffers(D: nn.Module) -> list[torch.Tensor]:
    return [b.clone() for b in D.buffers()]


@pytest.mark.parametrize(
    ("name", "options", "shape"),
    [
        ("mlp", {"hidden": (32, 16)}, (2,)),
        ("dcgan", {"width": 8, "norm": "none"}, (3, 16, 16)),
        ("resnet", {"width": 4, "condition": "projection"}, (3, 32, 32)),
    ],
)
def test_spectral_norm_is_1_after_warm_up(name, options, shape):
    torch.manual_seed(0)
    D = SpectralNorm().wrap(ganframe.component("discriminator", name)(**options).build(DataSpec(shape, 10)))
    plain = [m for m in D.modules() if isinstance(m, (nn.Linear, nn.Conv2d, nn.Embedding))]
    assert normalised_layers(D) == plain  # every layer, including the projection's embedding
    for _ in range(300):
        D(torch.randn(2, *shape), torch.zeros(2).long())
    D.eval()
    for layer in plain:
        sigma = torch.linalg.matrix_norm(layer.weight.flatten(1), 2)
        assert sigma.item() == pytest.approx(1.0, abs=1e-3)


def test_spectral_norm_updates_buffers_in_training_mode_only():
    D = SpectralNorm().wrap(ganframe.component("discriminator", "mlp")(hidden=(16,)).build(DataSpec((2,))))
    x, y = torch.randn(4, 2), torch.zeros(4).long()
    before = copy_buffers(D.eval())
    D(x, y)
    for b, a in zip(before, D.buffers(), strict=True):
        assert torch.equal(b, a)
    D.train()(x, y)
    assert any(not torch.equal(b, a) for b, a in zip(before, D.buffers(), strict=True))


@pytest.mark.parametrize("rounds", [1, 3])
def test_spectral_norm_power_iterations_per_forward(rounds):
    D = SpectralNorm(power_iterations=rounds).wrap(nn.Linear(6, 4, bias=False))
    W, vectors = D.parametrizations.weight.original.detach(), D.parametrizations.weight[0]
    v = nn.functional.normalize(torch.randn(6), dim=0)
    vectors._v.copy_(v)
    D(torch.randn(2, 6))
    for _ in range(rounds):
        u = nn.functional.normalize(W @ v, dim=0)
        v = nn.functional.normalize(W.T @ u, dim=0)
    torch.testing.assert_close(vectors._v, v)


def test_spectral_norm_gradient_includes_sigma():
    """The gradient of W/σ(W) (Miyato et al. 2018, eq. 12) is orthogonal to W; with constant σ it would not be."""
    D = SpectralNorm().wrap(nn.Linear(6, 4, bias=False)).eval()
    for _ in range(200):
        D.train()(torch.randn(2, 6))
    D.eval()
    D(torch.randn(3, 6)).sum().backward()
    W = D.parametrizations.weight.original
    assert (W.grad * W).sum().item() == pytest.approx(0.0, abs=1e-5)
