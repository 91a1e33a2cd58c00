"""Tests that check_objective refuses wrong objectives, naming the cause, and accepts those of the papers."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Literal

import attrs
import pytest
import torch
from attrs.validators import gt
from torch import Tensor
from torch.nn import functional as F
from torch.nn.functional import relu, softplus

from ganframe import Objective, option
from ganframe.testing import check_objective


def game(d: Callable | None = None, g: Callable | None = None, compares: bool = False) -> type[Objective]:
    """An objective with the losses d(a, b) and g(b), or g(b, a). A loss that is not given is a correct one."""
    d = d or (lambda a, b: softplus(-a).mean() + softplus(b).mean())
    g = g or ((lambda b, a: softplus(a - b).mean()) if compares else (lambda b: softplus(-b).mean()))

    @attrs.frozen
    class Game(Objective):
        """An objective."""

        compares_real = compares

        def discriminator_loss(self, real, fake):
            return d(real, fake)

        def generator_loss(self, fake, real=None):
            return g(fake, real) if compares else g(fake)

    return Game


def bce(scores: Tensor, label: float) -> Tensor:
    return F.binary_cross_entropy_with_logits(scores, torch.full_like(scores, label))


def log_sigmoid_with_epsilon(scores: Tensor, eps: float) -> Tensor:
    return -torch.log(torch.sigmoid(scores) + eps).mean()


# --------------------------------------------------------------------------------------------------------------- wrong

WRONG = {
    # signs, real and fake
    "real and fake swapped": (game(d=lambda a, b: softplus(a).mean() + softplus(-b).mean()), "raise real scores"),
    "D ascends": (game(d=lambda a, b: -softplus(-a).mean() - softplus(b).mean()), "raise real scores"),
    "D ascends on fakes": (game(d=lambda a, b: softplus(-a).mean() - softplus(b).mean()), "lower fake scores"),
    "G ascends": (game(g=lambda b: -softplus(-b).mean()), "raise the scores of fakes"),
    "minimax without the minus sign": (game(g=lambda b: softplus(b).mean()), "raise the scores of fakes"),
    "wgan's D ascends": (game(d=lambda a, b: a.mean() - b.mean()), "raise real scores"),
    "wgan's G lowers the scores of fakes": (game(g=lambda b: b.mean()), "raise the scores of fakes"),
    "hinge with wrong signs in the margin": (
        game(d=lambda a, b: relu(1 + a).mean() + relu(1 - b).mean()),
        "raise real scores",
    ),
    "hinge with the wrong sign for fakes": (
        game(d=lambda a, b: relu(1 - a).mean() + relu(1 - b).mean()),
        "lower fake scores",
    ),
    "G uses D's loss for fakes": (game(g=lambda b: bce(b, 0.0)), "raise the scores of fakes"),
    "least squares, codes swapped": (
        game(d=lambda a, b: a.square().mean() / 2 + (b - 1).square().mean() / 2),
        "raise real scores",
    ),
    "least squares, G's target is the fake code": (
        game(
            d=lambda a, b: (a - 1).square().mean() / 2 + b.square().mean() / 2,
            g=lambda b: b.square().mean() / 2,
        ),
        "raise the scores of fakes",
    ),
    "least squares, G's target is the fake code -1": (
        game(
            d=lambda a, b: (a - 1).square().mean() / 2 + (b + 1).square().mean() / 2,
            g=lambda b: (b + 1).square().mean() / 2,
        ),
        "raise the scores of fakes",
    ),
    "least squares without the square": (game(d=lambda a, b: (a - 1).mean() + b.mean()), "raise real scores"),
    "absolute distance of means, maximised": (
        game(d=lambda a, b: -(a.mean() - b.mean()).abs(), g=lambda b: -b.mean()),
        "raise real scores|lower fake scores",
    ),
    "absolute distance of means, minimised": (
        game(d=lambda a, b: (a.mean() - b.mean()).abs(), g=lambda b: -b.mean()),
        "raise real scores|lower fake scores",
    ),
    "squared distance of means": (
        game(d=lambda a, b: -(a.mean() - b.mean()).square(), g=lambda b: -b.mean()),
        "raise real scores|lower fake scores",
    ),
    "relativistic, difference swapped": (
        game(d=lambda a, b: softplus(a - b).mean(), compares=True),
        "raise real scores",
    ),
    "relativistic, arguments of G in D's order": (
        game(d=lambda a, b: softplus(b - a).mean(), g=lambda real, fake: softplus(real - fake).mean(), compares=True),
        "raise the scores of fakes",
    ),
    "fakes detached in L_D": (
        game(d=lambda a, b: softplus(-a).mean() + softplus(b.detach()).mean()),
        "lower fake scores",
    ),
    "real scores missing in L_D": (game(d=lambda a, b: softplus(b).mean()), "raise real scores"),
    # sums instead of means
    "D sums": (game(d=lambda a, b: softplus(-a).sum() + softplus(b).sum()), "mean over the batch"),
    "D sums fakes only": (game(d=lambda a, b: softplus(-a).mean() + softplus(b).sum()), "mean over the batch"),
    "G sums": (game(g=lambda b: softplus(-b).sum()), "mean over the batch"),
    "a mean divided by the batch size": (game(g=lambda b: softplus(-b).mean() / len(b)), "mean over the batch"),
    "the norm of all errors": (
        game(d=lambda a, b: (a - 1).norm() + b.norm(), g=lambda b: (b - 1).square().mean()),
        "mean over the batch",
    ),
    "only the first sample": (game(g=lambda b: softplus(-b[0])), "order of the batch"),
    "samples with different weights": (
        game(g=lambda b: (softplus(-b) * torch.linspace(2, 1, len(b), dtype=b.dtype)).mean()),
        "mean over the batch|order of the batch",
    ),
    # overflow, underflow and vanishing gradients
    "log(sigmoid)": (
        game(d=lambda a, b: -torch.log(torch.sigmoid(a)).mean() + softplus(b).mean()),
        r"float32|NaN|even in float64",
    ),
    "log(1 - sigmoid)": (
        game(d=lambda a, b: softplus(-a).mean() - torch.log(1 - torch.sigmoid(b)).mean()),
        r"float32|NaN|even in float64",
    ),
    "log(1 - sigmoid) in G": (
        game(g=lambda b: torch.log(1 - torch.sigmoid(b)).mean()),
        r"L_G.*(float32|NaN|even in float64)",
    ),
    "log(1 + exp)": (game(d=lambda a, b: (1 + (-a).exp()).log().mean() + softplus(b).mean()), "float32|NaN"),
    "log(sigmoid + 1e-8)": (
        game(d=lambda a, b: log_sigmoid_with_epsilon(a, 1e-8) + softplus(b).mean()),
        r"vanishes|float32",
    ),
    "log(1 - sigmoid + 1e-8)": (
        game(d=lambda a, b: softplus(-a).mean() - torch.log(1 - torch.sigmoid(b) + 1e-8).mean()),
        r"vanishes|float32",
    ),
    "log(1 - sigmoid + 1e-12)": (
        game(d=lambda a, b: softplus(-a).mean() - torch.log(1 - torch.sigmoid(b) + 1e-12).mean()),
        r"vanishes|float32",
    ),
    "log(sigmoid + 1e-20) in G": (game(g=lambda b: log_sigmoid_with_epsilon(b, 1e-20)), r"vanishes|float32"),
    "log of a clamped sigmoid": (
        game(g=lambda b: -torch.log(torch.sigmoid(b).clamp(min=1e-7)).mean()),
        r"vanishes|float32",
    ),
    "binary_cross_entropy of a sigmoid": (
        game(d=lambda a, b: F.binary_cross_entropy(torch.sigmoid(a), torch.ones_like(a)) + bce(b, 0.0)),
        r"vanishes|float32",
    ),
    "bce with logits of a sigmoid": (
        game(d=lambda a, b: bce(torch.sigmoid(a), 1.0) + bce(torch.sigmoid(b), 0.0)),
        r"vanishes|sigmoid|raw scores",
    ),
    "bce with logits of a sigmoid in G": (
        game(g=lambda b: bce(torch.sigmoid(b), 1.0)),
        r"vanishes|sigmoid|raw scores",
    ),
    "least squares of a sigmoid": (
        game(
            d=lambda a, b: (torch.sigmoid(a) - 1).square().mean() + torch.sigmoid(b).square().mean(),
            g=lambda b: (torch.sigmoid(b) - 1).square().mean(),
        ),
        r"vanishes|sigmoid|raw scores",
    ),
    "scores clamped to 10": (
        game(d=lambda a, b: softplus(-a.clamp(-10, 10)).mean() + softplus(b.clamp(-10, 10)).mean()),
        "vanishes",
    ),
    "scores clamped to 5": (
        game(d=lambda a, b: softplus(-a.clamp(-5, 5)).mean() + softplus(b.clamp(-5, 5)).mean()),
        "vanishes",
    ),
    "scores clamped to 2 in G": (game(g=lambda b: softplus(-b.clamp(-2, 2)).mean()), "vanishes"),
    "f-GAN's JS computed by its definition": (
        game(
            d=lambda a, b: (
                -(math.log(2) - softplus(-a)).mean() - torch.log(2 - torch.exp(math.log(2) - softplus(-b))).mean()
            )
        ),
        r"float32|NaN|even in float64",
    ),
    "f-GAN's squared Hellinger computed by its definition": (
        game(d=lambda a, b: -(1 - (-a).exp()).mean() + ((1 - (-b).exp()) / (-b).exp()).mean()),
        r"float32|NaN|even in float64",
    ),
    "a ratio of exponentials": (
        game(d=lambda a, b: -(a.exp() / (1 + a.exp())).log().mean() + softplus(b).mean()),
        r"float32|NaN|even in float64",
    ),
    # return values
    "a loss per sample": (game(d=lambda a, b: softplus(-a) + softplus(b)), "must be a scalar"),
    "a loss of shape (1,)": (game(g=lambda b: softplus(-b).mean(dim=0, keepdim=True)), "must be a scalar"),
    "(N,) against (N, 1), unreduced": (game(d=lambda a, b: softplus(b - a[:, None])), "must be a scalar"),
    "a Python float": (game(g=lambda b: softplus(-b).mean().item()), "must be a tensor, not float"),
    "return missing": (game(d=lambda a, b: None), "return missing"),
    "a loss and its parts": (game(d=lambda a, b: (softplus(-a).mean(), {"fake": softplus(b)})), "must be a tensor"),
    "a detached loss": (game(g=lambda b: softplus(-b).mean().detach()), "no gradient"),
    "a new tensor with the value of the loss": (
        game(d=lambda a, b: torch.tensor((b - a).mean().item())),
        "no gradient|must be in",
    ),
    "computed by numpy": (
        game(d=lambda a, b: torch.as_tensor((b - a).detach().numpy().mean())),
        "no gradient",
    ),
    "changed in place": (game(d=lambda a, b: softplus(a.neg_()).mean() + softplus(b).mean()), "in place"),
    "clamped in place": (game(g=lambda b: -b.clamp_(-10, 10).mean()), "in place"),
    "in float32 always": (game(d=lambda a, b: softplus(-a.float()).mean() + softplus(b.float()).mean()), "float64"),
    "constants in float32": (
        game(g=lambda b: torch.dot(torch.full((len(b),), -1 / len(b)), b)),
        "float64",
    ),
    "labels on the CPU": (
        game(d=lambda a, b: F.binary_cross_entropy_with_logits(a, torch.ones(len(a))) + softplus(b).mean()),
        "device",
    ),
    "scores moved to the CPU": (game(g=lambda b: softplus(-b.cpu()).mean()), "device"),
    # compares_real
    "compares_real without use": (game(g=lambda b, a: softplus(-b).mean(), compares=True), "does not use it"),
    "compares_real for a term that does not depend on b": (
        game(g=lambda b, a: a.mean() - b.mean(), compares=True),
        "compares_real",
    ),
}


@attrs.frozen
class NeedsReal(Objective):
    """A relativistic objective without compares_real."""

    def discriminator_loss(self, real, fake):
        return softplus(fake - real).mean()

    def generator_loss(self, fake, real=None):
        return softplus(real - fake).mean()


@attrs.frozen
class NoSecondArgument(Objective):
    """generator_loss without the argument `real`, which the engine passes."""

    def discriminator_loss(self, real, fake):
        return fake.mean() - real.mean()

    def generator_loss(self, fake):
        return -fake.mean()


@attrs.frozen
class RealFirst(Objective):
    """generator_loss with the arguments in D's order."""

    def discriminator_loss(self, real, fake):
        return fake.mean() - real.mean()

    def generator_loss(self, real, fake):
        return -fake.mean()


@attrs.frozen
class FakesOnly(Objective):
    """discriminator_loss with one argument."""

    def discriminator_loss(self, scores):
        return softplus(scores).mean()

    def generator_loss(self, fake, real=None):
        return -fake.mean()


@attrs.frozen
class NoGenerator(Objective):
    """No generator_loss."""

    def discriminator_loss(self, real, fake):
        return fake.mean() - real.mean()


@attrs.frozen
class Matmul(Objective):
    """Multiplies float64 scores by a float32 weight."""

    def discriminator_loss(self, real, fake):
        return (torch.ones(1, len(fake)) @ (fake - real)).squeeze() / len(fake)

    def generator_loss(self, fake, real=None):
        return -fake.mean()


@attrs.frozen
class NoisyLabels(Objective):
    """Real labels drawn from [0.7, 1] in each call."""

    def discriminator_loss(self, real, fake):
        return F.binary_cross_entropy_with_logits(real, 0.7 + 0.3 * torch.rand_like(real)) + softplus(fake).mean()

    def generator_loss(self, fake, real=None):
        return softplus(-fake).mean()


class NoAttrs(game()):
    """Not an attrs class."""


@attrs.define
class Mutable(Objective):
    """A mutable option."""

    weight: float = option(1.0, help="a weight")

    def discriminator_loss(self, real, fake):
        return self.weight * (fake.mean() - real.mean())

    def generator_loss(self, fake, real=None):
        return -fake.mean()


def with_option(annotation: object, default: object, help: str = "an option") -> type[Objective]:
    """An objective with one option."""
    return attrs.make_class(
        "Optional",
        {"setting": attrs.field(default=default, metadata={"help": help}, type=annotation)},
        bases=(game(),),
        frozen=True,
        class_body={"__doc__": "With an option."},
    )


WRONG |= {
    "needs real without compares_real": (NeedsReal, "compares_real = True"),
    "no second argument": (NoSecondArgument, r"^(?!.*compares_real).*generator_loss"),
    "real first": (RealFirst, r"order|generator_loss\(fake, real"),
    "one argument": (FakesOnly, "discriminator_loss"),
    "no generator_loss": (NoGenerator, "has no generator_loss"),
    "constants in float32, multiplied": (Matmul, "float64|dtype"),
    "noisy labels": (NoisyLabels, "the same samples twice"),
    "not an attrs class": (NoAttrs, "attrs.frozen"),
    "a mutable component": (Mutable, "is mutable"),
    "an option without help": (with_option(float, 1.0, help=""), "no help"),
    "an option that is a list": (with_option(list[float], [1.0]), "has a mutable option"),
    "an option that is a dict": (with_option(dict[str, float], attrs.Factory(dict)), "has a mutable option"),
    "an option that is a tensor": (with_option(Tensor, torch.ones(2)), "cannot be read from a recipe"),
    "an option that is a function": (with_option(Callable[[Tensor], Tensor], softplus), "cannot be read|of no type"),
    "an option whose default is of another type": (with_option(int, 0.5), "must be an integer"),
    "an option without a type": (with_option(None, 0.5), "type"),
    "not an objective": (torch.nn.BCEWithLogitsLoss, "subclass of ganframe.Objective"),
    "a required option": (with_option(float, attrs.NOTHING), r"no default for setting"),
}


@pytest.mark.parametrize("name", WRONG)
def test_wrong_objective_is_refused(name):
    objective, cause = WRONG[name]
    with pytest.raises(AssertionError, match=cause):
        check_objective(objective)


# ------------------------------------------------------------------------------------------------------------- correct


@attrs.frozen
class Hinge(Objective):
    """Hinge loss (Lim & Ye 2017)."""

    margin: float = option(1.0, help="scores beyond this distance from 0 have zero loss")

    def discriminator_loss(self, real, fake):
        return relu(self.margin - real).mean() + relu(self.margin + fake).mean()

    def generator_loss(self, fake, real=None):
        return -fake.mean()


@attrs.frozen
class LeastSquares(Objective):
    """Least squares with three target codes (Mao et al. 2017)."""

    fake: float = option(0.0, help="D's target for fakes")
    real: float = option(1.0, help="D's target for real samples")
    wanted: float = option(1.0, help="G's target for fakes")

    def discriminator_loss(self, real, fake):
        return 0.5 * ((real - self.real) ** 2).mean() + 0.5 * ((fake - self.fake) ** 2).mean()

    def generator_loss(self, fake, real=None):
        return 0.5 * ((fake - self.wanted) ** 2).mean()


@attrs.frozen
class Logistic(Objective):
    """The logistic game with one-sided label smoothing and a temperature."""

    label: float = option(1.0, help="the label of real samples")
    temperature: float = option(1.0, help="divisor of the scores", validator=gt(0))
    form: Literal["minimax", "non_saturating", "likelihood"] = option("non_saturating", help="G's loss")

    def discriminator_loss(self, real, fake):
        return bce(real / self.temperature, self.label) + bce(fake / self.temperature, 0.0)

    def generator_loss(self, fake, real=None):
        b = fake / self.temperature
        if self.form == "likelihood":
            return -b.exp().mean()
        return -softplus(b).mean() if self.form == "minimax" else softplus(-b).mean()


@attrs.frozen
class LogSigmoid(Objective):
    """The non-saturating game with torch's logsigmoid."""

    def discriminator_loss(self, real, fake):
        return -F.logsigmoid(real).mean() - F.logsigmoid(-fake).mean()

    def generator_loss(self, fake, real=None):
        return -F.logsigmoid(fake).mean()


@attrs.frozen
class Wasserstein(Objective):
    """WGAN."""

    def discriminator_loss(self, real, fake):
        return -(real - fake).mean()

    def generator_loss(self, fake, real=None):
        return -fake.mean()


@attrs.frozen
class Pairing(Objective):
    """Relativistic pairing (Jolicoeur-Martineau 2018); G's gradient does not pass through real scores."""

    compares_real = True
    detach: bool = option(False, help="detach real scores in G's loss")

    def discriminator_loss(self, real, fake):
        return softplus(fake - real).mean()

    def generator_loss(self, fake, real=None):
        return softplus((real.detach() if self.detach else real) - fake).mean()


@attrs.frozen
class RelativisticAverage(Objective):
    """Relativistic average, logistic, hinge or least squares (Jolicoeur-Martineau 2018)."""

    compares_real = True
    loss: Literal["logistic", "hinge", "squares"] = option("logistic", help="loss of the differences")

    def _loss(self, high, low):
        up, down = high - low.mean(), low - high.mean()
        if self.loss == "logistic":
            return (bce(up, 1.0) + bce(down, 0.0)) / 2
        if self.loss == "hinge":
            return (relu(1 - up).mean() + relu(1 + down).mean()) / 2
        return ((up - 1).square().mean() + (down + 1).square().mean()) / 2

    def discriminator_loss(self, real, fake):
        return self._loss(real, fake)

    def generator_loss(self, fake, real=None):
        return self._loss(fake, real)


class _JeffreyConjugate(torch.autograd.Function):
    """f*(t) = w + 1/w + t - 2 with w + log w = 1 - t, by Newton's method for s = log w; df*/dt = 1/w."""

    @staticmethod
    def forward(ctx, t):
        s = torch.where(t < 0, (1 - t).clamp(min=1).log(), 1 - t)
        for _ in range(8):
            s = s - (s.exp() + s - (1 - t)) / (s.exp() + 1)
        ctx.save_for_backward(s)
        return s.exp() + (-s).exp() + t - 2

    @staticmethod
    def backward(ctx, gradient):
        (s,) = ctx.saved_tensors
        return gradient * (-s).exp()


PI = 0.3
F_GAN = {  # name: g(v), f*(g(v))
    "total_variation": (lambda v: v.tanh() / 2, lambda v: v.tanh() / 2),
    "kl": (lambda v: v, lambda v: (v - 1).exp()),
    "reverse_kl": (lambda v: -(-v).exp(), lambda v: v - 1),
    "pearson": (lambda v: v, lambda v: v.square() / 4 + v),
    "neyman": (lambda v: 1 - (-v).exp(), lambda v: -2 * (-v / 2).expm1()),
    "hellinger": (lambda v: 1 - (-v).exp(), lambda v: v.expm1()),
    "jeffrey": (lambda v: v, _JeffreyConjugate.apply),
    "jensen_shannon": (lambda v: math.log(2) - softplus(-v), lambda v: softplus(v) - math.log(2)),
    "weighted_jensen_shannon": (
        lambda v: -PI * math.log(PI) - PI * softplus(-v),
        lambda v: (1 - PI) * (math.log(1 - PI) + softplus(v)),
    ),
    "gan": (lambda v: -softplus(-v), lambda v: softplus(v)),
}


@attrs.frozen
class FGAN(Objective):
    """f-GAN (Nowozin et al. 2016)."""

    divergence: str = option("kl", help="the divergence")
    minimax: bool = option(False, help="whether G minimises the objective that D maximises")

    def discriminator_loss(self, real, fake):
        g, conjugate = F_GAN[self.divergence]
        return -g(real).mean() + conjugate(fake).mean()

    def generator_loss(self, fake, real=None):
        g, conjugate = F_GAN[self.divergence]
        return -conjugate(fake).mean() if self.minimax else -g(fake).mean()


@attrs.frozen
class Codes:
    """A table of options."""

    fake: float = option(-1.0, help="for fakes")
    real: float = option(1.0, help="for real samples")


@attrs.frozen
class Nested(Objective):
    """Least squares with the codes in a nested table."""

    codes: Codes = option(Codes(), help="the two codes")
    scales: tuple[tuple[float, float], ...] = option(((1.0, 2.0),), help="pairs")
    power: float | None = option(None, help="not used")

    def discriminator_loss(self, real, fake):
        return (real - self.codes.real).square().mean() + (fake - self.codes.fake).square().mean()

    def generator_loss(self, fake, real=None):
        return (fake - self.codes.real).square().mean()


RIGHT = [
    Wasserstein,
    LogSigmoid,
    *(Hinge(margin) for margin in (1, 0.5, 3.0, 0.02)),
    *(LeastSquares(*codes) for codes in ((), (-1.0, 1.0, 0.0), (0.0, 0.9, 1.0), (0.0, 0.9, 0.9), (-1.0, 1.0, 1.0))),
    *(LeastSquares(*codes) for codes in ((0.2, 1.0, 1.0), (0.0, 0.4, 0.4), (-2.0, -1.0, -1.0))),
    *(Logistic(form=form) for form in ("minimax", "non_saturating", "likelihood")),
    *(Logistic(label=label) for label in (0.9, 0.7)),
    *(Logistic(temperature=temperature) for temperature in (0.1, 10.0)),
    Logistic(temperature=0.1, form="likelihood"),  # exp(1000) overflows float64, so infinity is correct
    *(Pairing(detach) for detach in (False, True)),
    *(RelativisticAverage(loss) for loss in ("logistic", "hinge", "squares")),
    *(FGAN(divergence, minimax) for divergence in F_GAN for minimax in (False, True)),
    Nested,
]


@pytest.mark.parametrize("objective", RIGHT, ids=str)
def test_correct_objective_is_accepted(objective):
    check_objective(objective)


def test_jeffrey_conjugate_matches_its_definition():
    t = torch.linspace(-8, 8, 33, dtype=torch.float64, requires_grad=True)
    u = torch.linspace(-12, 12, 480_001, dtype=torch.float64).exp()
    conjugate = torch.stack([(x * u - (u - 1) * u.log()).max() for x in t.detach()])  # f*(t) = sup ut - f(u)
    torch.testing.assert_close(_JeffreyConjugate.apply(t).detach(), conjugate, atol=1e-4, rtol=1e-4)
    assert torch.autograd.gradcheck(_JeffreyConjugate.apply, t)


@attrs.frozen
class Solved(Objective):
    """The non-saturating game with an optimal score that is scaled and shifted."""

    scale: float = option(1.0, help="factor of the optimal score")
    shift: float = option(0.0, help="added to it")

    def discriminator_loss(self, real, fake):
        return softplus(-real).mean() + softplus(fake).mean()

    def generator_loss(self, fake, real=None):
        return softplus(-fake).mean()

    def optimal_score(self, log_ratio):
        return self.scale * log_ratio + self.shift


def test_wrong_optimal_score_is_refused():
    check_objective(Solved())
    for wrong in (*(Solved(scale=scale) for scale in (0.5, -1.0, 2.0)), Solved(shift=0.2), Solved(shift=-0.2)):
        with pytest.raises(AssertionError, match="L_D must be smallest at optimal_score"):
            check_objective(wrong)


@attrs.frozen
class Smoothed(Objective):
    """Labels 1 - real for real samples and fake for fakes; by default the optimal score ignores `fake`."""

    real: float = option(0.1, help="subtracted from the label of real samples")
    fake: float = option(0.0, help="added to the label of fakes")
    two_sided: bool = option(False, help="include `fake` in the optimal score")

    def discriminator_loss(self, real, fake):
        return bce(real, 1 - self.real) + bce(fake, self.fake)

    def generator_loss(self, fake, real=None):
        return softplus(-fake).mean()

    def optimal_score(self, log_ratio):
        """The logit of D* = ((1 - real) p + fake q) / (p + q)."""
        fake = self.fake if self.two_sided else 0.0
        return torch.log((1 - self.real) * log_ratio.exp() + fake) - torch.log(self.real * log_ratio.exp() + 1 - fake)


def test_optimal_score_with_smoothed_labels():
    """Salimans et al. 2016, section 3.2: with q in the numerator, fakes far from the data have no reason to move."""
    check_objective(Smoothed())
    for fake in (0.05, 0.1, 0.3):
        with pytest.raises(AssertionError, match="L_D must be smallest at optimal_score"):
            check_objective(Smoothed(fake=fake))
        check_objective(Smoothed(fake=fake, two_sided=True))  # optimal_score includes the labels of fakes
    log_ratio = torch.tensor(-200.0, dtype=torch.float64)  # far from the data
    assert Smoothed().optimal_score(log_ratio).item() == pytest.approx(-200, abs=1)
    assert Smoothed(fake=0.1, two_sided=True).optimal_score(log_ratio).sigmoid().item() == pytest.approx(0.1)
