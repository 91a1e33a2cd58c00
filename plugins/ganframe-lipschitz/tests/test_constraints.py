"""The constraints: conformance, values by hand, edge cases, and common mistakes that the conformance kit rejects."""

import math

import attrs
import pytest
import torch
from ganframe_lipschitz import DRAGAN, Consistency, InstanceNoise, LipschitzPenalty, Orthogonal
from torch import nn
from torch.nn import functional as F

import ganframe
from ganframe import Constraint, DataSpec, Scored, refuse_mixed_samples, score_gradients
from ganframe.testing import check_constraint


class Linear(nn.Module):
    """D(x) = w·x on flattened samples x."""

    def __init__(self, weight):
        super().__init__()
        self.weight = nn.Parameter(torch.tensor(weight, dtype=torch.float64))

    def forward(self, x, y):
        return x.flatten(1) @ self.weight


class Hidden(nn.Module):
    """A perceptron with one hidden layer and dropout."""

    def __init__(self, dropout=0.5, norm=None, shape=(2,)):
        super().__init__()
        self.first = nn.Linear(math.prod(shape), 16)
        self.norm, self.drop = norm or nn.Identity(), nn.Dropout(dropout)
        self.last = nn.Linear(16, 1)
        self.double()

    def forward(self, x, y):
        return self.last(self.drop(self.norm(self.first(x.flatten(1))).tanh())).squeeze(1)


def points(*shape, seed=0):
    return torch.randn(shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


def penalty(constraint, D, x, fake=None):
    """The penalty on a batch, computed as the engine does."""
    y = torch.zeros(len(x), dtype=torch.long)
    fake = points(*x.shape, seed=1) if fake is None else fake
    return constraint.penalty(D, Scored(x, y, D(x, y)), Scored(fake, y, D(fake, y)))


ALL = [
    LipschitzPenalty(),
    Consistency(),
    Consistency(margin=0.1),
    DRAGAN(),
    DRAGAN(scale=0.0),
    Orthogonal(),
    Orthogonal(weight=1.0, off_diagonal=True),
    InstanceNoise(),
]


@pytest.mark.parametrize("constraint", ALL, ids=str)
def test_conformance(constraint):
    check_constraint(constraint)


@pytest.mark.parametrize("constraint", [LipschitzPenalty, Consistency, DRAGAN, Orthogonal])
def test_negative_weight_raises_value_error(constraint):
    with pytest.raises(ValueError, match="weight"):
        constraint(weight=-1.0)


# ----------------------------------------------------------------------------------------------------------- gradients


@pytest.mark.parametrize("n", [1, 4, 64])
def test_lp_penalises_gradient_norms_above_1_only(n):
    for weight, norm in (([0.0, 0.0], 0), ([0.3, 0.4], 0.5), ([0.6, 0.8], 1), ([3.0, 4.0], 5)):
        D = Linear(weight)
        value = penalty(LipschitzPenalty(weight=10.0), D, points(n, 2))
        assert value.item() == pytest.approx(10 * max(0, norm - 1) ** 2, abs=1e-9)
        (gradient,) = torch.autograd.grad(value, D.weight)
        expected = 20 * max(0, norm - 1) / max(norm, 1) * D.weight.detach()
        torch.testing.assert_close(gradient, expected)


def test_lp_samples_uniformly_between_real_and_fake():
    class Square(nn.Module):
        """D(x) = x²/2 in one dimension, with gradient x."""

        def forward(self, x, y):
            return x.square().sum(1) / 2

    # The gradient x̂ is uniform between 0 and 3: E max(0, x̂ - 1)² = ∫₁³ (x - 1)² / 3 = 8/9.
    torch.manual_seed(0)
    real, fake = torch.zeros(200_000, 1), torch.full((200_000, 1), 3.0)
    assert penalty(LipschitzPenalty(weight=1.0), Square(), real, fake).item() == pytest.approx(8 / 9, rel=0.01)


@pytest.mark.parametrize("n", [1, 4, 64])
def test_dragan_penalises_gradient_norms_below_and_above_1(n):
    for weight, norm in (([0.0, 0.0], 0), ([0.3, 0.4], 0.5), ([0.6, 0.8], 1), ([3.0, 4.0], 5)):
        value = penalty(DRAGAN(weight=10.0), Linear(weight), points(n, 2))
        assert value.item() == pytest.approx(10 * (norm - 1) ** 2, abs=1e-9)


class Recorder(Linear):
    """Records its last input as `seen`."""

    def forward(self, x, y):
        self.seen = x
        return super().forward(x, y)


@pytest.mark.parametrize("shape", [(3,), (2, 4, 4)])
def test_dragan_noise_scales_with_the_std_of_the_batch(shape):
    torch.manual_seed(0)
    D, x = Recorder([1.0] * math.prod(shape)), 7 + 3 * points(5000, *shape)
    penalty(DRAGAN(scale=0.5), D, x)
    delta = D.seen.detach() - x
    assert delta.mean().item() == pytest.approx(0, abs=0.05)  # on both sides of x
    assert delta.std().item() == pytest.approx(1.5, rel=0.03)
    correlation = torch.corrcoef(delta.flatten(1)[:, :2].T)[0, 1]
    assert correlation.abs() < 0.1  # independent in each coordinate


@pytest.mark.parametrize("shape", [(1,), (3,), (2, 4, 4)])
def test_dragan_of_a_single_sample_is_finite(shape):
    D = Hidden(shape=shape)
    value = penalty(DRAGAN(), D, points(1, *shape))
    assert value.isfinite()
    assert all(g is None or g.isfinite().all() for g in torch.autograd.grad(value, [*D.parameters()][:2]))


def test_dragan_is_independent_of_fake_samples():
    D, x = Hidden(dropout=0.0), points(8, 2)
    torch.manual_seed(0)
    value = penalty(DRAGAN(), D, x)
    torch.manual_seed(0)
    assert torch.equal(penalty(DRAGAN(), D, x, fake=points(8, 2, seed=5)), value)


@pytest.mark.parametrize("constraint", [LipschitzPenalty(), DRAGAN()], ids=str)
def test_discriminator_that_mixes_samples_raises_value_error(constraint):
    with pytest.raises(ValueError, match="mixes samples"):
        constraint.check(Hidden(norm=nn.BatchNorm1d(16)))


# --------------------------------------------------------------------------------------------------------- consistency


class Masked(nn.Module):
    """A deterministic dropout mask m: features (x, x) · m, m = 1 in the first half of a batch and 3 in the second."""

    def __init__(self):
        super().__init__()
        self.last = nn.Linear(2, 1, bias=False, dtype=torch.float64)
        nn.init.constant_(self.last.weight, 0.5)

    def forward(self, x, y):
        m = torch.ones(len(x), 1, dtype=x.dtype)
        m[len(x) // 2 :] = 3
        return self.last(x.expand(-1, 2) * m).squeeze(1)


@pytest.mark.parametrize("margin", [0.0, 1.0])
def test_consistency_by_hand(margin):
    # D = m·x, so d(D, D) = (2x)²; D₋ = m·(x, x), whose mean squared difference is (2x)² too.
    x = torch.tensor([[0.0], [0.5], [2.0]], dtype=torch.float64)
    expected = sum(max(0, 1.1 * (2 * value) ** 2 - margin) for value in (0, 0.5, 2)) / 3
    assert penalty(Consistency(weight=2.0, margin=margin), Masked(), x).item() == pytest.approx(2 * expected)


def test_consistency_is_mean_over_dropout_masks():
    # One unit that is kept or dropped: D = m·x, m = 0 or 2. The passes differ by 2x with probability ½.
    torch.manual_seed(0)

    class Dropped(nn.Module):
        def __init__(self):
            super().__init__()
            self.drop, self.last = nn.Dropout(0.5), nn.Linear(1, 1, bias=False)
            nn.init.ones_(self.last.weight)

        def forward(self, x, y):
            return self.last(self.drop(x)).squeeze(1)

    value = penalty(Consistency(weight=1.0), Dropped().double(), torch.ones(100_000, 1).double())
    assert value.item() == pytest.approx(1.1 * 2, rel=0.02)


def test_consistency_in_evaluation_mode_is_0_with_finite_gradients():
    D, x = Hidden(), points(8, 2)
    assert penalty(Consistency(), D.train(), x).item() > 0
    value = penalty(Consistency(), D.eval(), x)
    assert value.item() == 0
    assert all(g.isfinite().all() for g in torch.autograd.grad(value, [*D.parameters()], materialize_grads=True))


def test_consistency_is_independent_of_fake_samples_and_removes_its_hooks():
    D, x = Hidden(), points(8, 2)
    torch.manual_seed(0)
    value = penalty(Consistency(), D, x)
    torch.manual_seed(0)
    assert torch.equal(penalty(Consistency(), D, x, fake=100 * points(8, 2, seed=5)), value)
    assert not any(module._forward_pre_hooks for module in D.modules())
    with pytest.raises(TypeError):  # removed even if D raises
        Consistency().penalty(D, Scored(x, None, None), None)
    assert not any(module._forward_pre_hooks for module in D.modules())


@pytest.mark.parametrize(
    ("name", "options", "shape", "features"),
    [
        ("mlp", {"hidden": (8, 6), "dropout": 0.5}, (2,), 6),
        ("mlp", {"hidden": (8, 6), "dropout": 0.5, "condition": "projection"}, (2,), 6),
        ("dcgan", {"width": 4, "norm": "none"}, (1, 16, 16), 8 * 16),
        ("resnet", {"width": 4}, (3, 32, 32), 8),
    ],
)
def test_consistency_finds_second_to_last_layer_of_built_in_discriminators(name, options, shape, features):
    from ganframe_lipschitz.consistency import _features

    D = ganframe.component("discriminator", name)(**options).build(DataSpec(shape, classes=3))
    with _features(D) as inputs:
        scores = D(torch.randn(5, *shape), torch.zeros(5, dtype=torch.long))
    assert inputs[-1].shape == (5, features)
    if options.get("condition") != "projection":
        torch.testing.assert_close(D.head.linear(inputs[-1]).squeeze(1), scores)


@pytest.mark.parametrize(
    ("D", "remedy"),
    [
        (Hidden(dropout=0.0), r"without dropout; choose a discriminator with dropout \(use = 'mlp', dropout = 0.5\)"),
        (nn.Sequential(nn.Conv2d(1, 1, 4), nn.Dropout(0.5)), r"no linear layer; choose one that ends in an nn.Linear"),
    ],
)
def test_consistency_check_of_unsuitable_discriminator_raises_value_error(D, remedy):
    with pytest.raises(ValueError, match=remedy):
        Consistency().check(D)


# ---------------------------------------------------------------------------------------------------------- orthogonal


def value_on(constraint, *layers):
    return constraint.penalty(nn.Sequential(*layers).double(), None, None)


def with_weight(layer, weight):
    with torch.no_grad():
        layer.weight.copy_(torch.as_tensor(weight).view_as(layer.weight))
    return layer


def test_orthogonal_by_hand():
    W = torch.tensor([[3.0, 0.0, 4.0], [0.0, 2.0, 1.0]])  # WWᵀ = [[25, 4], [4, 5]]
    layer = with_weight(nn.Linear(3, 2), W)
    assert value_on(Orthogonal(weight=0.5), layer).item() == pytest.approx((24**2 + 2 * 4**2 + 4**2) / 2)
    assert value_on(Orthogonal(weight=0.5, off_diagonal=True), layer).item() == pytest.approx(2 * 4**2 / 2)
    tall = with_weight(nn.Linear(2, 3), W.T)  # WᵀW is the same; the inner products of the filters are 0, 12 and 2
    assert value_on(Orthogonal(weight=0.5), tall).item() == pytest.approx((24**2 + 2 * 4**2 + 4**2) / 2)
    assert value_on(Orthogonal(weight=0.5, off_diagonal=True), tall).item() == pytest.approx(12**2 + 2**2)
    assert value_on(Orthogonal(weight=0.5), layer, tall).item() == pytest.approx(24**2 + 2 * 4**2 + 4**2)


def test_orthogonal_of_smaller_gram_matrix_differs_by_a_constant():
    layer = nn.Linear(7, 4, dtype=torch.float64)
    W = layer.weight
    value, larger = value_on(Orthogonal(weight=1.0), layer), (W.T @ W - torch.eye(7)).square().sum()
    assert (larger - value).item() == pytest.approx(7 - 4)
    torch.testing.assert_close(*(torch.autograd.grad(v, W)[0] for v in (value, larger)))


@pytest.mark.parametrize(
    "layer",
    [
        nn.Linear(5, 8),
        nn.Linear(8, 5),
        nn.Conv1d(3, 4, 3),
        nn.Conv2d(3, 8, 3),
        nn.Conv2d(4, 8, 3, groups=2),
        nn.Conv2d(8, 8, 3, groups=8),
        nn.ConvTranspose2d(8, 3, 4),
        nn.ConvTranspose2d(4, 6, 3, groups=2),
        nn.Conv3d(2, 3, 3),
    ],
    ids=str,
)
def test_minimising_orthogonal_makes_singular_values_1(layer):
    layer, constraint = layer.double(), Orthogonal(weight=1.0)
    optimizer = torch.optim.Adam([layer.weight], lr=0.02)
    schedule = torch.optim.lr_scheduler.CosineAnnealingLR(optimizer, 800)  # at a constant rate Adam does not settle
    for _ in range(800):
        optimizer.zero_grad()
        value = value_on(constraint, layer)
        value.backward()
        optimizer.step()
        schedule.step()
    assert value.item() < 1e-3
    if isinstance(layer, (nn.Linear, nn.Conv2d)) and getattr(layer, "groups", 1) == 1:
        assert torch.linalg.svdvals(layer.weight.flatten(1)).sub(1).abs().max() < 0.02


def test_orthogonal_filters_of_transposed_convolution_are_output_channels():
    layer = nn.ConvTranspose2d(4, 6, 3, groups=2, bias=False)
    from ganframe_lipschitz.weights import _matrices

    # The filter of output channel 4, the second of group 1, is the response there to impulses in the inputs of group 1.
    matrices = _matrices(layer)
    assert matrices.shape == (2, 3, 2 * 9)
    impulses = torch.eye(4)[2:, :, None, None]
    torch.testing.assert_close(matrices[1, 1], layer(impulses)[:, 4].flatten())


def test_orthogonal_without_linear_or_convolution_raises_value_error():
    with pytest.raises(ValueError, match="needs linear or convolution layers"):
        Orthogonal().check(Linear([1.0]))


# ------------------------------------------------------------------------------------------------------ instance noise


def noisy(std=0.5):
    """A Recorder with instance noise: the same object, with the same keys in its state dict."""
    plain = Recorder([1.0, 2.0])
    keys = [*plain.state_dict()]
    D = InstanceNoise(std=std).wrap(plain)
    assert D is plain
    assert [*D.state_dict()] == keys
    return D


def test_instance_noise_has_requested_std_and_is_independent_per_call_and_sample():
    torch.manual_seed(0)
    D, x, y = noisy(), points(20_000, 2), torch.zeros(20_000, dtype=torch.long)
    noises = []
    for _ in range(2):
        D(x, y)
        noises.append(D.seen - x)
    for noise in noises:
        assert noise.mean().item() == pytest.approx(0, abs=0.02)
        assert noise.std().item() == pytest.approx(0.5, rel=0.02)
        assert noise.dtype == torch.float64
    together = torch.corrcoef(torch.cat([*noises, noises[0].roll(1, 0)], dim=1).T)
    assert (together - torch.eye(6)).abs().max() < 0.05


def test_instance_noise_is_off_in_evaluation_mode_and_does_not_modify_samples():
    D, x, y = noisy(), points(4, 2), torch.zeros(4, dtype=torch.long)
    before = x.clone()
    assert not torch.equal(D(x, y), Linear([1.0, 2.0])(x, y))
    assert torch.equal(x, before)
    assert torch.equal(D.eval()(x, y), Linear([1.0, 2.0])(x, y))


def test_instance_noise_is_reproducible_with_torch_manual_seed():
    D, x, y = noisy(), points(4, 2), torch.zeros(4, dtype=torch.long)
    torch.manual_seed(3)
    first = D(x, y)
    torch.manual_seed(3)
    assert torch.equal(D(x, y), first)


def test_instance_noise_passes_input_gradients():
    D, x, y = noisy(), points(4, 2).requires_grad_(), torch.zeros(4, dtype=torch.long)
    (gradient,) = torch.autograd.grad(D(x, y).sum(), x)
    torch.testing.assert_close(gradient, torch.tensor([[1.0, 2.0]]).double().expand(4, 2))


# ------------------------------------------------------------------------------------- mistakes that the kit rejects


def between(real, fake, shape):
    epsilon = torch.rand(shape, dtype=real.x.dtype, device=real.x.device)
    return torch.lerp(fake.x.detach(), real.x.detach(), epsilon).requires_grad_()


def ones(x):
    return [1] * (x.ndim - 1)


class GradientPenalty(Constraint):
    """A correct gradient penalty; each mistake overrides one method."""

    def check(self, D):
        refuse_mixed_samples(D)

    def points(self, real, fake):
        return between(real, fake, (len(real.x), *ones(real.x)))

    def gradient(self, D, x, y):
        return score_gradients(D, D(x, y), x)

    def norms(self, gradient):
        return torch.linalg.vector_norm(gradient.flatten(1), dim=1)

    def penalty(self, D, real, fake):
        x = self.points(real, fake)
        return (self.norms(self.gradient(D, x, real.y)) - 1).relu().square().mean()


def mistake(base, doc, **methods):
    return attrs.frozen(type("Mistake", (base,), {"__doc__": doc, **methods}))


def flat_sum(self, D, x, y):
    """The gradient in the shape of the samples."""
    return torch.autograd.grad(D(x, y).sum(), x, create_graph=True)[0]


def batch_std(x):
    return x.std(dim=0, keepdim=True)


def distance(D, real, d):
    first, second = D(real.x, real.y), D(real.x, real.y)
    return d(first - second)


def in_evaluation(D, real):
    D.eval()
    return distance(D, real, lambda t: t.square().mean())


MISTAKES = {
    "one norm for the batch": (
        mistake(GradientPenalty, "LP.", norms=lambda self, g: g.norm()[None]),
        "norm",
    ),
    "a norm along one axis": (
        mistake(GradientPenalty, "LP.", gradient=flat_sum, norms=lambda self, g: g.norm(dim=1)),
        "norm per sample",
    ),
    "√ of a sum of squares": (
        mistake(GradientPenalty, "DRAGAN.", norms=lambda self, g: g.flatten(1).square().sum(1).sqrt()),
        "non-finite",
    ),
    "the mean of the scores": (
        mistake(
            GradientPenalty,
            "LP.",
            gradient=lambda self, D, x, y: torch.autograd.grad(D(x, y).mean(), x, create_graph=True)[0],
        ),
        "must not depend on the batch size",
    ),
    "one ε for the batch": (
        mistake(GradientPenalty, "LP.", points=lambda self, real, fake: between(real, fake, (1, *ones(real.x)))),
        "drawn for each sample",
    ),
    "ε of shape (N, 1)": (
        mistake(GradientPenalty, "LP.", points=lambda self, real, fake: between(real, fake, (len(real.x), 1))),
        "ε|raised",
    ),
    "no graph": (
        mistake(GradientPenalty, "LP.", gradient=lambda self, D, x, y: torch.autograd.grad(D(x, y).sum(), x)[0]),
        "reaches D's weights",
    ),
    "BatchNorm is accepted": (
        mistake(GradientPenalty, "LP.", check=lambda self, D: None),
        "mixes? samples",
    ),
    "penalty on small gradient norms": (
        mistake(
            GradientPenalty,
            "LP with the wrong sign.",
            penalty=lambda self, D, real, fake: (
                (1 - self.norms(self.gradient(D, self.points(real, fake), real.y))).relu().square().mean()
            ),
        ),
        "must not favour a steep D",
    ),
    "a standard deviation of one sample": (
        mistake(
            GradientPenalty,
            "DRAGAN.",
            points=lambda self, real, fake: (
                (real.x + batch_std(real.x) * torch.randn_like(real.x)).detach().requires_grad_()
            ),
        ),
        "nan",
    ),
    "noise in float32": (
        mistake(
            GradientPenalty,
            "DRAGAN.",
            points=lambda self, real, fake: (real.x + torch.randn(real.x.shape)).detach().float().requires_grad_(),
        ),
        "raised|torch.float",
    ),
    "√ at 0, where both passes agree": (
        mistake(
            Constraint,
            "Consistency.",
            penalty=lambda self, D, real, fake: distance(D, real, lambda t: t.square().sqrt().mean()),
        ),
        "non-finite",
    ),
    "evaluation mode in the penalty": (
        mistake(Constraint, "Consistency.", penalty=lambda self, D, real, fake: in_evaluation(D, real)),
        "training mode",
    ),
    "a detached weight": (
        mistake(
            Constraint,
            "Orthogonal.",
            penalty=lambda self, D, real, fake: sum(p.data.square().sum() for p in D.parameters()),
        ),
        "reaches D's weights",
    ),
    "torch.eye on the default device": (
        mistake(
            Constraint,
            "Orthogonal.",
            penalty=lambda self, D, real, fake: sum(
                (W.T @ W - torch.eye(W.shape[1], dtype=W.dtype)).square().sum() for W in D.parameters() if W.ndim == 2
            ),
        ),
        "default device",
    ),
    "noise in evaluation mode": (
        mistake(
            Constraint,
            "Noise.",
            wrap=lambda self, D: (
                D.register_forward_pre_hook(lambda _, given: (given[0] + torch.randn_like(given[0]), given[1])),
                D,
            )[1],
        ),
        "the same score for the same sample",
    ),
    "a random constant that is not in the state dict": (
        mistake(Constraint, "Noise.", wrap=lambda self, D: Scaled(D)),
        "state_dict",
    ),
}


class Scaled(nn.Module):
    """D times a random constant that its state dict does not contain."""

    def __init__(self, D):
        super().__init__()
        self.D, self.scale = D, torch.rand(())

    def forward(self, x, y):
        return self.D(x, y) * F.softplus(self.scale)


@pytest.mark.filterwarnings("ignore:std")
@pytest.mark.parametrize("name", MISTAKES)
def test_conformance_kit_rejects_mistake(name):
    wrong, message = MISTAKES[name]
    with pytest.raises(AssertionError, match=message):
        check_constraint(wrong)


def test_conformance_kit_accepts_the_penalty_without_mistake():
    check_constraint(mistake(GradientPenalty, "LP, without a mistake."))
