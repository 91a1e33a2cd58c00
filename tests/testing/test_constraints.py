"""check_constraint refuses constraints that are wrong, naming the cause, and accepts those of the papers."""

from __future__ import annotations

import warnings
from typing import Literal

import attrs
import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional as F
from torch.nn.utils import parametrizations, parametrize

from ganframe import Constraint, mixes_samples, option
from ganframe.testing import check_constraint

WRONG: list = []


def wrong(cause: str):
    """Registers a wrong constraint with what the kit must say of it."""

    def register(cls):
        cls = attrs.frozen(cls)
        WRONG.append(pytest.param(cls, cause, id=cls.__name__))
        return cls

    return register


def refuse(D: nn.Module) -> None:
    if mixes_samples(D):
        raise ValueError("no BatchNorm")


class GP(Constraint):
    """The pieces of a gradient penalty, each of which a wrong one replaces."""

    def check(self, D):
        refuse(D)

    def epsilon(self, x):
        return torch.rand(len(x), *[1] * (x.ndim - 1), dtype=x.dtype, device=x.device)

    def between(self, real, fake):
        return torch.lerp(fake.x.detach(), real.x.detach(), self.epsilon(real.x)).requires_grad_()

    def slope(self, D, x, y):
        return torch.autograd.grad(D(x, y).sum(), x, create_graph=True)[0]

    def norms(self, slope):
        return torch.linalg.vector_norm(slope.flatten(1), dim=1)

    def cost(self, norms):
        return 10 * (norms - 1).square().mean()

    def penalty(self, D, real, fake):
        return self.cost(self.norms(self.slope(D, self.between(real, fake), real.y)))


# ------------------------------------------------------------------------------------------- wrong: norms and means


@wrong("one norm per sample")
class OneNormPerBatch(GP):
    """The gradient's norm over the whole batch."""

    def norms(self, slope):
        return slope.norm()


@wrong("not the mean")
class MeanInsideGrad(GP):
    """D(x̂).mean() inside autograd.grad."""

    def slope(self, D, x, y):
        return torch.autograd.grad(D(x, y).mean(), x, create_graph=True)[0]


@wrong("on a critic with dropout .* a sum or a norm taken over the batch")
class SumOverTwoPasses(Constraint):
    """Consistency, summed."""

    def penalty(self, D, real, fake):
        return (D(real.x, real.y) - D(real.x, real.y)).square().sum()


@wrong("a penalty is ≥ 0")
class NegativeOfTwoPasses(Constraint):
    """Consistency with its sign swapped."""

    def penalty(self, D, real, fake):
        return -(D(real.x, real.y) - D(real.x, real.y)).square().mean()


@wrong("not depend on the size of the batch")
class MeanOneSided(GP):
    """The mean of the scores, under a penalty that is flat below a slope of 1."""

    def slope(self, D, x, y):
        return torch.autograd.grad(D(x, y).mean(), x, create_graph=True)[0]

    def penalty(self, D, real, fake):
        x = self.between(real, fake)
        return (self.slope(D, x, real.y).flatten(1).norm(dim=1) - 1).relu().square().mean()


@wrong("one sample's score depends on others")
class NoiseByTheBatch(Constraint):
    """Noise as large as the batch's deviation, in training."""

    def wrap(self, D):
        def noisy(module, inputs):
            x, y = inputs
            if module.training:
                x = x + x.std(0, keepdim=True, correction=0) * torch.randn_like(x)
            return x, y

        D.register_forward_pre_hook(noisy)
        return D


@wrong("mean taken before the square")
class SquareOfTheMean(GP):
    """(E‖∇‖ - 1)²."""

    def cost(self, norms):
        return (norms.mean() - 1).square()


@wrong("mean over the batch|size of the batch")
class Summed(GP):
    """A sum over the batch."""

    def cost(self, norms):
        return (norms - 1).square().sum()


@wrong("mean of its samples'")
class WorstOfTheBatch(GP):
    """The largest norm alone."""

    def cost(self, norms):
        return (norms.max() - 1).square()


@wrong("one norm per sample|per sample")
class NormOverChannels(GP):
    """`gradient.norm(2, dim=1)` without flattening: for images a norm per pixel."""

    def norms(self, slope):
        return slope.norm(2, dim=1)


@wrong("sum|coordinates")
class MeanOverCoordinates(GP):
    """The mean of squares for their sum, as tf.reduce_mean gives it."""

    def norms(self, slope):
        return (slope.flatten(1).square().mean(1) + 1e-12).sqrt()


@wrong("not finite")
class RootOfSum(GP):
    """√(Σg²), which has no derivative at 0."""

    def norms(self, slope):
        return slope.flatten(1).square().sum(1).sqrt()


@wrong("has the penalty nan")
class Direction(GP):
    """Divides by the norm."""

    def norms(self, slope):
        slope = slope.flatten(1)
        return (slope / slope.norm(dim=1, keepdim=True)).sum(1) * slope.norm(dim=1)


@wrong("≥ 0")
class Negative(GP):
    """The penalty's sign swapped."""

    def cost(self, norms):
        return -(norms - 1).square().mean()


@wrong("≥ 0")
class NotSquared(GP):
    """E‖∇‖ - 1."""

    def cost(self, norms):
        return (norms - 1).mean()


@wrong("steep|hold|larger")
class OneSidedTheOtherWay(GP):
    """max(0, 1 - ‖∇‖)²: it costs a critic nothing to be steep."""

    def cost(self, norms):
        return (1 - norms).relu().square().mean()


@wrong("scalar")
class PerSample(GP):
    """(N,)."""

    def cost(self, norms):
        return (norms - 1).square()


@wrong("scalar")
class ShapeOne(GP):
    """(1,)."""

    def cost(self, norms):
        return (norms - 1).square().mean(0, keepdim=True)


@wrong("must be a tensor, not float")
class Number(GP):
    """.item()."""

    def cost(self, norms):
        return (norms - 1).square().mean().item()


@wrong("must be a tensor, not NoneType")
class ForgottenReturn(GP):
    """Nothing is returned."""

    def cost(self, norms):
        (norms - 1).square().mean()


# ------------------------------------------------------------------------------------------- wrong: the points between


@wrong("one is used for the whole batch")
class OneEpsilon(GP):
    """One ε for the batch."""

    def epsilon(self, x):
        return torch.rand((), dtype=x.dtype, device=x.device)


@wrong("one is used for the whole batch")
class OneEpsilonOfPython(GP):
    """One ε, from Python's generator."""

    def epsilon(self, x):
        import random

        return random.random()


@wrong("within one sample")
class EpsilonOfTwoDimensions(GP):
    """ε (N, 1) against (N, C, H, W)."""

    def epsilon(self, x):
        return torch.rand(len(x), 1, dtype=x.dtype, device=x.device)


@wrong("within one sample")
class EpsilonPerPixel(GP):
    """ε of the samples' shape."""

    def epsilon(self, x):
        return torch.rand_like(x)


@wrong("within one sample")
class EpsilonPerChannel(GP):
    """ε (N, C, 1, 1)."""

    def epsilon(self, x):
        return torch.rand(*x.shape[:2], *[1] * (x.ndim - 2), dtype=x.dtype, device=x.device)


@wrong("within one sample|one is used for the whole batch")
class EpsilonPerPlace(GP):
    """ε (C, H, W), the same for all samples."""

    def epsilon(self, x):
        return torch.rand(1, *x.shape[1:], dtype=x.dtype, device=x.device)


@wrong("the line between them.*ε is 0 to 1")
class NormalEpsilon(GP):
    """randn for rand: points beyond both ends."""

    def epsilon(self, x):
        return torch.randn(len(x), *[1] * (x.ndim - 1), dtype=x.dtype, device=x.device)


@wrong("the line between them.*ε is 0 to 1")
class BeyondTheFakes(GP):
    """fake + ε(fake - real)."""

    def between(self, real, fake):
        return (fake.x + self.epsilon(real.x) * (fake.x - real.x)).detach().requires_grad_()


@wrong("between a real and a fake sample|line")
class TwoEpsilons(GP):
    """εx + (1 - ε')G(z): another ε on each side."""

    def between(self, real, fake):
        e, f = self.epsilon(real.x), self.epsilon(real.x)
        return (e * real.x + (1 - f) * fake.x).detach().requires_grad_()


@wrong("device")
class EpsilonOnTheCPU(GP):
    """ε without a device."""

    def epsilon(self, x):
        return torch.rand(len(x), *[1] * (x.ndim - 1), dtype=x.dtype)


@wrong("float64|dtype")
class PointsInFloat32(GP):
    """float() of the samples."""

    def between(self, real, fake):
        return GP.between(self, real, fake).detach().float().requires_grad_()


@wrong("float64")
class CostInFloat32(GP):
    """float() of the norms."""

    def norms(self, slope):
        return slope.flatten(1).float().norm(dim=1)


@wrong(r"x̂|requires_grad_\(\)")
class NoRequiresGrad(GP):
    """x̂ does not require grad."""

    def between(self, real, fake):
        return torch.lerp(fake.x, real.x, self.epsilon(real.x)).detach()


# ------------------------------------------------------------------------------------------- wrong: graphs and effects


@wrong("create_graph")
class NoCreateGraph(GP):
    """create_graph forgotten."""

    def slope(self, D, x, y):
        return torch.autograd.grad(D(x, y).sum(), x)[0]


@wrong("does not reach")
class Detached(GP):
    """A detached penalty."""

    def cost(self, norms):
        return (norms - 1).square().mean().detach()


@wrong("does not reach")
class DataOfTheSlope(GP):
    """.data of the gradient."""

    def norms(self, slope):
        return slope.data.flatten(1).norm(dim=1).requires_grad_()


@wrong("fills.* or freezes")
class OwnBackward(GP):
    """Calls backward() itself."""

    def penalty(self, D, real, fake):
        value = GP.penalty(self, D, real, fake)
        value.backward(retain_graph=True)
        return value


@wrong("fills.* or freezes")
class Freezes(GP):
    """requires_grad_(False) on D, left so."""

    def penalty(self, D, real, fake):
        value = GP.penalty(self, D, real, fake)
        D.requires_grad_(False)
        return value


@wrong("mode")
class Evaluates(GP):
    """D.eval(), left so."""

    def penalty(self, D, real, fake):
        D.eval()
        return GP.penalty(self, D, real, fake)


@wrong("weights, or its mode")
class StepsItself(GP):
    """Moves D's weights."""

    def penalty(self, D, real, fake):
        value = GP.penalty(self, D, real, fake)
        parameters = list(D.parameters())
        slopes = torch.autograd.grad(value, parameters, retain_graph=True, allow_unused=True)
        for parameter, slope in zip(parameters, slopes, strict=True):
            if slope is not None:
                parameter.data -= 1e-3 * slope
        return value


@wrong("in place|samples")
class MixesInPlace(GP):
    """x̂ written over the real samples."""

    def between(self, real, fake):
        return real.x.detach().lerp_(fake.x, self.epsilon(real.x)).requires_grad_()


@wrong("in place|samples|scores")
class ReplacesScores(GP):
    """Scored is no notepad."""

    def between(self, real, fake):
        real.x = GP.between(self, real, fake)
        return real.x


@wrong("BatchNorm")
class AcceptsBatchNorm(GP):
    """check left out."""

    def check(self, D):
        pass


@wrong("mixes samples|mixes_samples")
class KnowsBatchNormOnly(GP):
    """check by type: a critic that says mixes_samples = True passes."""

    def check(self, D):
        if any(isinstance(m, nn.modules.batchnorm._BatchNorm) for m in D.modules()):
            raise ValueError("no BatchNorm")


@wrong("refuses a plain perceptron")
class RefusesAll(GP):
    """check the wrong way round."""

    def check(self, D):
        if not mixes_samples(D):
            raise ValueError("no")


@wrong("check")
class CheckAsserts(GP):
    """assert is no ValueError."""

    def check(self, D):
        assert not mixes_samples(D)


def r1(side, reduce=torch.sum):
    (slope,) = torch.autograd.grad(reduce(side.scores), side.x, create_graph=True)
    return 0.5 * slope.flatten(1).square().sum(1).mean()


@wrong("not the mean")
class R1OfTheMean(Constraint):
    """The scores' mean is differentiated."""

    input_gradients = True

    def penalty(self, D, real, fake):
        return r1(real, torch.mean)


@wrong("input_gradients = True")
class R1WithoutSayingSo(Constraint):
    """input_gradients forgotten."""

    def check(self, D):
        refuse(D)

    def penalty(self, D, real, fake):
        return r1(real)


@wrong("create_graph")
class R1FreesTheGraph(Constraint):
    """Neither create_graph nor retain_graph."""

    input_gradients = True

    def penalty(self, D, real, fake):
        (slope,) = torch.autograd.grad(real.scores.sum(), real.x)
        return slope.flatten(1).square().sum(1).mean()


@wrong("leaves gradients on the samples|fills.* or freezes")
class R1ByBackward(Constraint):
    """real.x.grad after backward()."""

    input_gradients = True

    def penalty(self, D, real, fake):
        real.scores.sum().backward(create_graph=True)
        return real.x.grad.flatten(1).square().sum(1).mean()


@wrong("sum|coordinates")
class R1MeanOverPixels(Constraint):
    """Mean over all elements for the mean of the squared norms."""

    input_gradients = True

    def penalty(self, D, real, fake):
        (slope,) = torch.autograd.grad(real.scores.sum(), real.x, create_graph=True)
        return slope.square().mean()


@wrong("mean over the batch|size of the batch")
class R1Summed(Constraint):
    """Sum over samples too."""

    input_gradients = True

    def penalty(self, D, real, fake):
        (slope,) = torch.autograd.grad(real.scores.sum(), real.x, create_graph=True)
        return slope.square().sum()


@wrong("reach D's weights")
class ConsistencyInEvaluation(Constraint):
    """Two passes that are the same."""

    def penalty(self, D, real, fake):
        D.eval()
        first, second = D(real.x, real.y), D(real.x, real.y)
        D.train()
        return (first - second).square().mean()


@wrong("mean of its samples'|square")
class DriftOfTheMean(Constraint):
    """(E D(x))²."""

    def penalty(self, D, real, fake):
        return 1e-3 * real.scores.mean().square()


class Perturbed(GP):
    """DRAGAN's points: their noise makes each call another."""

    def between(self, real, fake):
        return (real.x + 0.1 * torch.randn_like(real.x)).detach().requires_grad_()


@wrong("mean of its samples'|square")
class PerturbedSquareOfTheMean(Perturbed):
    """(E‖∇‖ - 1)²."""

    def cost(self, norms):
        return (norms.mean() - 1).square()


@wrong("not the mean")
class PerturbedMeanInsideGrad(Perturbed):
    """D(x̂).mean() inside autograd.grad."""

    def slope(self, D, x, y):
        return torch.autograd.grad(D(x, y).mean(), x, create_graph=True)[0]


@wrong("one norm per sample")
class PerturbedOneNorm(Perturbed):
    """One norm for the batch."""

    def norms(self, slope):
        return slope.norm()


@wrong("gradients")
class ZeroGrads(GP):
    """D.zero_grad() before the penalty."""

    def penalty(self, D, real, fake):
        D.zero_grad()
        return GP.penalty(self, D, real, fake)


@wrong("override wrap, penalty or project")
class Nothing(Constraint):
    """No moment."""


@wrong("is None|returns None|must be a tensor, not NoneType")
class NeverPenalises(Constraint):
    """Always None."""

    def penalty(self, D, real, fake):
        return None


@wrong("penalty")
class FourArguments(Constraint):
    """An older signature."""

    def penalty(self, D, real, fake, labels):
        return real.scores.square().mean()


# --------------------------------------------------------------------------------------------------- wrong: projections


@wrong("twice")
class Decay(Constraint):
    """Not idempotent."""

    def project(self, D):
        for p in D.parameters():
            p.data = p.data * 0.9


@wrong("twice")
class HalvesTheLarge(Constraint):
    """A step towards the set, not into it."""

    @torch.no_grad()
    def project(self, D):
        for p in D.parameters():
            p.copy_(torch.where(p.abs() > 0.01, p / 2, p))


@wrong("twice")
class NoisyProjection(Constraint):
    """Adds noise."""

    @torch.no_grad()
    def project(self, D):
        for p in D.parameters():
            p.clamp_(-0.01, 0.01).add_(torch.randn_like(p) * 1e-3)


@wrong("in place")
class NewParameters(Constraint):
    """New parameters, which the optimiser does not know."""

    def project(self, D):
        for module in D.modules():
            for name, p in list(module.named_parameters(recurse=False)):
                setattr(module, name, nn.Parameter(p.detach().clamp(-0.01, 0.01)))


@wrong("in place|requires")
class FreezesWhileProjecting(Constraint):
    """requires_grad_(False), left so."""

    def project(self, D):
        for p in D.parameters():
            p.requires_grad_(False).clamp_(-0.01, 0.01)


@wrong("leaves even weights")
class ClampsACopy(Constraint):
    """clamp for clamp_."""

    def project(self, D):
        for p in D.parameters():
            p.data.clamp(-0.01, 0.01)


@wrong("leaves even weights|gradients")
class ClampsGradients(Constraint):
    """The gradients, not the weights."""

    def project(self, D):
        for p in D.parameters():
            if p.grad is not None:
                p.grad.clamp_(-0.01, 0.01)


@wrong("no_grad")
class ProjectsWithGradients(Constraint):
    """torch.no_grad forgotten."""

    def project(self, D):
        for p in D.parameters():
            p.clamp_(-0.01, 0.01)


@wrong("not finite")
class DividesByNothing(Constraint):
    """x / 0."""

    @torch.no_grad()
    def project(self, D):
        for p in D.parameters():
            p.div_(p.sum() - p.sum())


@wrong("float64|dtype")
class ProjectsToFloat32(Constraint):
    """The weights come back in float32."""

    def project(self, D):
        for p in D.parameters():
            p.data = p.data.float().clamp(-0.01, 0.01)


@wrong("device")
class BoundOnTheCPU(Constraint):
    """A bound without a device."""

    @torch.no_grad()
    def project(self, D):
        for p in D.parameters():
            p.copy_(torch.minimum(p, torch.full(p.shape, 0.01, dtype=p.dtype)))


# --------------------------------------------------------------------------------------------------------- wrong: wraps


class Iterated(nn.Module):
    """W / σ(W) by power iteration; how u is kept and when it moves are the options."""

    def __init__(self, weight: Tensor, kept: str, in_eval: bool) -> None:
        super().__init__()
        u = F.normalize(torch.randn(weight.shape[0]), dim=0)
        if kept == "attribute":
            self.u = u
        else:
            self.register_buffer("u", u, persistent=kept == "buffer")
        self.in_eval = in_eval

    def forward(self, W):
        with torch.no_grad():
            v = F.normalize(W.T @ self.u.to(W), dim=0)
            if self.training or self.in_eval:
                self.u = F.normalize(W @ v, dim=0)
        return W / (self.u.to(W) @ W @ v).detach()


class SN(Constraint):
    """Spectral normalisation."""

    kept = "buffer"
    in_eval = False

    def wrap(self, D):
        for module in list(D.modules()):
            if isinstance(module, nn.Linear):
                iterated = Iterated(module.weight, self.kept, self.in_eval)
                parametrize.register_parametrization(module, "weight", iterated, unsafe=True)
        return D


@wrong("in evaluation.*must keep its buffers")
class IteratesInEvaluation(SN):
    """Power iteration in evaluation."""

    in_eval = True


@wrong("state_dict")
class VectorsAreNoBuffers(SN):
    """u is an attribute."""

    kept = "attribute"


@wrong("state_dict")
class VectorsAreNotStored(SN):
    """u is a buffer that state_dict leaves out."""

    kept = "not persistent"


class Wrapped(nn.Module):
    """A critic around another."""

    def __init__(self, D: nn.Module, before=None, after=None) -> None:
        super().__init__()
        self.D, self.before, self.after = D, before or (lambda x, training: x), after or (lambda scores: scores)

    def forward(self, x, y):
        return self.after(self.D(self.before(x, self.training), y))


@wrong(r"not \(1,\)|not \(4,\)")
class Columns(Constraint):
    """(N, 1)."""

    def wrap(self, D):
        return Wrapped(D, after=lambda scores: scores[:, None])


@wrong("depend on|mixes|∂D")
class Centred(Constraint):
    """The batch's mean subtracted: samples are mixed, and nothing says so."""

    def wrap(self, D):
        return Wrapped(D, after=lambda scores: scores - scores.mean())


@wrong("no gradient reaches")
class Frozen(Constraint):
    """All weights frozen."""

    def wrap(self, D):
        return D.requires_grad_(False)


@wrong("freez|frozen|requires_grad")
class FrozenFirstLayer(Constraint):
    """The first layer frozen."""

    def wrap(self, D):
        next(m for m in D.modules() if isinstance(m, nn.Linear)).requires_grad_(False)
        return D


@wrong("must return the critic.*not NoneType")
class ReturnsNone(Constraint):
    """return forgotten."""

    def wrap(self, D):
        parametrizations.spectral_norm(next(m for m in D.modules() if isinstance(m, nn.Linear)))


class Hidden(nn.Module):
    def __init__(self, D):
        super().__init__()
        self.D = [D]

    def forward(self, x, y):
        return self.D[0](x, y)


@wrong("no gradient reaches|parameters")
class HidesTheCritic(Constraint):
    """The critic in a list: its weights are not found."""

    def wrap(self, D):
        return Hidden(D)


@wrong("score one sample one way")
class NoiseInEvaluation(Constraint):
    """Instance noise always."""

    def wrap(self, D):
        return Wrapped(D, before=lambda x, training: x + 0.1 * torch.randn_like(x))


@wrong("device")
class NoiseOnTheCPU(Constraint):
    """Instance noise without a device."""

    def wrap(self, D):
        return Wrapped(D, before=lambda x, training: x + 0.1 * torch.randn(x.shape, dtype=x.dtype) * training)


@wrong("no gradient reaches|differentiate")
class Ungraded(Constraint):
    """Without gradients."""

    def wrap(self, D):
        return Wrapped(D, after=lambda scores: scores.detach())


@wrong(r"D\(x, y\)|takes|label")
class DropsLabels(Constraint):
    """nn.Sequential takes one argument."""

    def wrap(self, D):
        return nn.Sequential(nn.Identity(), D)


@pytest.mark.filterwarnings("ignore:Using backward.. with create_graph")
@pytest.mark.parametrize(("constraint", "cause"), WRONG)
def test_it_refuses(constraint, cause):
    with pytest.raises(AssertionError, match=cause):
        check_constraint(constraint)


@attrs.define
class Loose(Constraint):
    """An option that can be changed."""

    limit: float = option(0.01, help="limit")

    @torch.no_grad()
    def project(self, D):
        for p in D.parameters():
            p.clamp_(-self.limit, self.limit)


@attrs.frozen
class Undocumented(Constraint):
    """An option without help."""

    limit: float = 0.01

    def project(self, D):
        pass


@pytest.mark.parametrize(("constraint", "cause"), [(Loose, "can be changed"), (Undocumented, "no help")])
def test_it_refuses_options_that_are_not_frozen_and_documented(constraint, cause):
    with pytest.raises(AssertionError, match=cause):
        check_constraint(constraint)


# --------------------------------------------------------------------------------------------------------------- right


@attrs.frozen
class GradientPenalty(Constraint):
    """WGAN-GP (Gulrajani et al. 2017), two-sided or one-sided (Petzka et al. 2018)."""

    weight: float = option(10.0, help="λ")
    one_sided: bool = option(False, help="whether gentle slopes cost nothing")

    def check(self, D):
        if mixes_samples(D):
            raise ValueError("a gradient penalty needs a critic that treats samples independently")

    def penalty(self, D, real, fake):
        eps = torch.rand([len(real.x)] + [1] * (real.x.dim() - 1), device=real.x.device, dtype=real.x.dtype)
        x = (eps * real.x + (1 - eps) * fake.x).detach().requires_grad_(True)
        scores = D(x, real.y)
        grads = torch.autograd.grad(
            scores, x, grad_outputs=torch.ones_like(scores), create_graph=True, retain_graph=True, only_inputs=True
        )[0]
        excess = grads.reshape(len(x), -1).norm(2, dim=1) - 1
        return self.weight * (excess.relu() if self.one_sided else excess).pow(2).mean()


@attrs.frozen
class R(Constraint):
    """R1 or R2 (Mescheder et al. 2018)."""

    gamma: float = option(10.0, help="γ")
    side: Literal["real", "fake", "both"] = option("real", help="which samples")
    input_gradients = True

    def penalty(self, D, real, fake):
        sides = {"real": [real], "fake": [fake], "both": [real, fake]}[self.side]
        value = 0
        for side in sides:
            (g,) = torch.autograd.grad(side.scores.sum(), side.x, create_graph=True)
            value = value + self.gamma / 2 * g.flatten(1).square().sum(1).mean()
        return value


@attrs.frozen
class R1OfItsOwn(Constraint):
    """R1 that scores the real samples once more."""

    def check(self, D):
        refuse(D)

    def penalty(self, D, real, fake):
        x = real.x.detach().clone().requires_grad_()
        (g,) = torch.autograd.grad(D(x, real.y).sum(), x, create_graph=True)
        return 5 * g.square().sum(dim=list(range(1, g.ndim))).mean()


@attrs.frozen
class DRAGAN(Constraint):
    """A gradient penalty around real samples (Kodali et al. 2017)."""

    noise: Literal["uniform", "normal"] = option("uniform", help="the perturbation")

    def check(self, D):
        refuse(D)

    def penalty(self, D, real, fake):
        spread = 0.5 * real.x.std()
        noise = torch.rand_like(real.x) if self.noise == "uniform" else torch.randn_like(real.x)
        x = (real.x + spread * noise).detach().requires_grad_()
        (g,) = torch.autograd.grad(D(x, real.y).sum(), x, create_graph=True)
        return 10 * (g.flatten(1).norm(dim=1) - 1).square().mean()


@attrs.frozen
class Consistency(Constraint):
    """Two dropout passes over the real batch (Wei et al. 2018); D₋ is what the last linear layer is given."""

    weight: float = option(2.0, help="λ₂")
    margin: float = option(0.0, help="M'")
    needs_dropout: bool = option(False, help="whether a critic without dropout, whose term is always 0, is refused")

    def check(self, D):
        if self.needs_dropout and not any(isinstance(m, nn.Dropout) and m.p > 0 for m in D.modules()):
            raise ValueError("the consistency term of a critic without dropout is 0; give the critic dropout")

    def penalty(self, D, real, fake):
        features = []
        last = [m for m in D.modules() if isinstance(m, nn.Linear)][-1]
        handle = last.register_forward_pre_hook(lambda module, inputs: features.append(inputs[0].flatten(1)))
        first, second = D(real.x, real.y), D(real.x, real.y)
        handle.remove()
        distance = (first - second).square() + 0.1 * (features[0] - features[1]).square().mean(1)
        return self.weight * (distance - self.margin).relu().mean()


@attrs.frozen
class GPWithConsistency(Constraint):
    """Both terms of Wei et al. 2018."""

    def check(self, D):
        refuse(D)

    def penalty(self, D, real, fake):
        return GradientPenalty().penalty(D, real, fake) + Consistency().penalty(D, real, fake)


@attrs.frozen
class Orthogonal(Constraint):
    """β‖WWᵀ ⊙ (1 - I)‖² (Brock et al. 2018), or with the diagonal (Brock et al. 2016)."""

    beta: float = option(1e-4, help="β")
    diagonal: bool = option(False, help="whether rows must have norm 1")

    def penalty(self, D, real, fake):
        total = 0.0
        for p in D.parameters():
            if p.ndim > 1:
                W = p.flatten(1)
                gram = W @ W.T
                eye = torch.eye(len(W), device=p.device, dtype=p.dtype)
                total = total + ((gram - eye) if self.diagonal else gram * (1 - eye)).square().sum()
        return self.beta * total


@attrs.frozen
class Drift(Constraint):
    """ε E D(x)² (Karras et al. 2018)."""

    epsilon: float = option(1e-3, help="ε")

    def penalty(self, D, real, fake):
        return self.epsilon * real.scores.square().mean()


@attrs.frozen
class Anchored(Constraint):
    """LeCam regularisation (Tseng et al. 2021) with fixed anchors."""

    real: float = option(1.0, help="anchor of real scores")
    fake: float = option(-1.0, help="anchor of fake scores")

    def penalty(self, D, real, fake):
        return (real.scores - self.fake).relu().square().mean() + (self.real - fake.scores).relu().square().mean()


@attrs.frozen
class LeCam(Constraint):
    """LeCam regularisation with moving anchors, which wrap keeps in D's buffers."""

    decay: float = option(0.99, help="of the anchors")

    def wrap(self, D):
        D.register_buffer("anchors", torch.zeros(2))
        return D

    def penalty(self, D, real, fake):
        now = torch.stack([real.scores.detach().mean(), fake.scores.detach().mean()])
        D.anchors.lerp_(now.to(D.anchors), 1 - self.decay)
        return ((real.scores - D.anchors[1]).square().mean() + (fake.scores - D.anchors[0]).square().mean()).to(
            real.scores
        )


@attrs.frozen
class LazyR1(Constraint):
    """R1 in every k-th step only, k times as heavy; the count is a buffer of D's."""

    gamma: float = option(1.0, help="γ")
    every: int = option(4, help="k")
    input_gradients = True

    def penalty(self, D, real, fake):
        if not hasattr(D, "r1_calls"):
            D.register_buffer("r1_calls", torch.zeros((), dtype=torch.long))
        due = int(D.r1_calls) % self.every == 0
        D.r1_calls += 1
        if not due:
            return None
        (g,) = torch.autograd.grad(real.scores.sum(), real.x, create_graph=True)
        return self.every * self.gamma / 2 * g.flatten(1).square().sum(1).mean()


class Noisy(nn.Module):
    def __init__(self, D, std):
        super().__init__()
        self.D, self.std = D, std

    def forward(self, x, y):
        return self.D(x + self.std * torch.randn_like(x) if self.training else x, y)


@attrs.frozen
class InstanceNoise(Constraint):
    """Noise on all samples in training (Sønderby et al. 2017)."""

    std: float = option(0.1, help="σ")

    def wrap(self, D):
        return Noisy(D, self.std)


@attrs.frozen
class Normalised(Constraint):
    """Spectral or weight normalisation by torch."""

    by: Literal["spectral", "old spectral", "weight", "old weight"] = option("spectral", help="which of torch's")

    def wrap(self, D):
        how = {
            "spectral": parametrizations.spectral_norm,
            "old spectral": nn.utils.spectral_norm,
            "weight": parametrizations.weight_norm,
            "old weight": nn.utils.weight_norm,
        }[self.by]
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", FutureWarning)
            for module in list(D.modules()):
                if isinstance(module, (nn.Linear, nn.Conv2d)):
                    how(module)
        return D


@attrs.frozen
class SpectralNormWithBuffer(SN):
    """Spectral normalisation written by hand, right."""


@attrs.frozen
class Clipping(Constraint):
    """Weight clipping (Arjovsky et al. 2017)."""

    c: float = option(0.01, help="c")

    def project(self, D):
        for p in D.parameters():
            p.data.clamp_(-self.c, self.c)


@attrs.frozen
class Reassigned(Constraint):
    """Clipping by p.data = …, which keeps the parameter."""

    def project(self, D):
        for p in D.parameters():
            p.data = p.data.clamp(-0.01, 0.01)


@attrs.frozen
class SpectralProjection(Constraint):
    """W's singular values cut off at a bound (Gouk et al. 2018), or W divided by its largest one."""

    bound: float = option(1.0, help="largest singular value")
    cut: bool = option(False, help="cut each singular value, or divide all")

    @torch.no_grad()
    def project(self, D):
        for p in D.parameters():
            if p.ndim < 2 or p.device.type == "meta":
                continue
            W = p.flatten(1)
            if self.cut:
                U, s, V = torch.linalg.svd(W, full_matrices=False)
                p.copy_((U * s.clamp(max=self.bound) @ V).view_as(p))
            else:
                p.div_((torch.linalg.matrix_norm(W, 2) / self.bound).clamp(min=1))


@attrs.frozen
class NormedAndPenalised(Constraint):
    """Two moments at once: spectral norm and a penalty on the scores."""

    def wrap(self, D):
        return Normalised("spectral").wrap(D)

    def penalty(self, D, real, fake):
        return 1e-3 * real.scores.square().mean()


class Remembers(nn.Module):
    """A critic that keeps its last layer's inputs."""

    def __init__(self, D):
        super().__init__()
        self.D = D
        last = [m for m in D.modules() if isinstance(m, nn.Linear)][-1]
        last.register_forward_pre_hook(lambda module, inputs: setattr(self, "features", inputs[0].flatten(1)))

    def forward(self, x, y):
        return self.D(x, y)


@attrs.frozen
class FeatureDrift(Constraint):
    """A penalty on features that its own wrapper keeps."""

    def wrap(self, D):
        return Remembers(D)

    def penalty(self, D, real, fake):
        scores = D(real.x, real.y)
        return 1e-3 * (D.features.square().mean(1) + scores.square()).mean()


RIGHT = [
    GradientPenalty,
    GradientPenalty(weight=0.1),
    GradientPenalty(one_sided=True),
    R,
    R(side="fake"),
    R(gamma=0.05, side="both"),
    R1OfItsOwn,
    DRAGAN,
    DRAGAN("normal"),
    Consistency,
    Consistency(needs_dropout=True),
    GPWithConsistency,
    Orthogonal,
    Orthogonal(diagonal=True),
    Drift,
    Anchored,
    LeCam,
    LazyR1,
    InstanceNoise,
    *(Normalised(by) for by in ("spectral", "old spectral", "weight", "old weight")),
    SpectralNormWithBuffer,
    Clipping,
    Clipping(1.0),
    Reassigned,
    SpectralProjection,
    SpectralProjection(cut=True),
    NormedAndPenalised,
    FeatureDrift,
]


@pytest.mark.parametrize("constraint", RIGHT, ids=str)
def test_it_accepts(constraint):
    check_constraint(constraint)
