"""Tests that check_constraint refuses wrong constraints, naming the cause, and accepts those of the papers."""

from __future__ import annotations

import warnings
from typing import Literal

import attrs
import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional as F
from torch.nn.utils import parametrizations, parametrize

from ganframe import Constraint, group_size, mean_scores, mixes_samples, option, score_gradients
from ganframe.declarations import has_many_scores
from ganframe.testing import check_constraint

WRONG: list = []


class Flipped(nn.Module):
    """D on augmented images in training mode. Points are refused."""

    def __init__(self, inner, augment):
        super().__init__()
        self.inner, self.augment = inner, augment

    def forward(self, x, *args, **kwargs):
        if x.ndim != 4:
            raise ValueError("images only")
        return self.inner(self.augment(x) if self.training else x, *args, **kwargs)


def wrong(cause: str):
    """Registers a wrong constraint with a regular expression for the kit's message."""

    def register(cls):
        cls = attrs.frozen(cls)
        WRONG.append(pytest.param(cls, cause, id=cls.__name__))
        return cls

    return register


def refuse(D: nn.Module) -> None:
    if mixes_samples(D):
        raise ValueError("no BatchNorm")


class GP(Constraint):
    """A correct gradient penalty in parts. Each wrong one overrides one part."""

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
    """One gradient norm over the batch."""

    def norms(self, slope):
        return slope.norm()


@wrong("not the mean")
class MeanInsideGrad(GP):
    """D(x̂).mean() inside autograd.grad."""

    def slope(self, D, x, y):
        return torch.autograd.grad(D(x, y).mean(), x, create_graph=True)[0]


@wrong("over random masks or points .* a sum or a norm taken over the batch")
class SumOverTwoPasses(Constraint):
    """Consistency term, summed over the batch."""

    def penalty(self, D, real, fake):
        return (D(real.x, real.y) - D(real.x, real.y)).square().sum()


@wrong("a penalty must be ≥ 0")
class NegativeOfTwoPasses(Constraint):
    """Consistency term with the wrong sign."""

    def penalty(self, D, real, fake):
        return -(D(real.x, real.y) - D(real.x, real.y)).square().mean()


@wrong("not depend on the batch size")
class MeanOneSided(GP):
    """The mean of the scores is differentiated, in a penalty that is 0 for gradient norms below 1."""

    def slope(self, D, x, y):
        return torch.autograd.grad(D(x, y).mean(), x, create_graph=True)[0]

    def penalty(self, D, real, fake):
        x = self.between(real, fake)
        return (self.slope(D, x, real.y).flatten(1).norm(dim=1) - 1).relu().square().mean()


@wrong("the wrapped D mixes samples")
class NoiseByTheBatch(Constraint):
    """Noise with the standard deviation of the batch, in training mode."""

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


@wrong("mean over the batch|batch size")
class Summed(GP):
    """A sum over the batch."""

    def cost(self, norms):
        return (norms - 1).square().sum()


@wrong("mean of its samples'")
class WorstOfTheBatch(GP):
    """Only the largest norm of the batch."""

    def cost(self, norms):
        return (norms.max() - 1).square()


@wrong("one norm per sample|per sample")
class NormOverChannels(GP):
    """`gradient.norm(2, dim=1)` without flattening: one norm per pixel for images."""

    def norms(self, slope):
        return slope.norm(2, dim=1)


@wrong("sum|coordinates")
class MeanOverCoordinates(GP):
    """The mean of squares instead of the sum, as with tf.reduce_mean."""

    def norms(self, slope):
        return (slope.flatten(1).square().mean(1) + 1e-12).sqrt()


@wrong("non-finite")
class RootOfSum(GP):
    """√(Σg²), which has no derivative at 0."""

    def norms(self, slope):
        return slope.flatten(1).square().sum(1).sqrt()


@wrong("has the penalty nan")
class Direction(GP):
    """Divides by the norm, which may be 0."""

    def norms(self, slope):
        slope = slope.flatten(1)
        return (slope / slope.norm(dim=1, keepdim=True)).sum(1) * slope.norm(dim=1)


@wrong("must be ≥ 0")
class Negative(GP):
    """The wrong sign."""

    def cost(self, norms):
        return -(norms - 1).square().mean()


@wrong("must be ≥ 0")
class NotSquared(GP):
    """E‖∇‖ - 1."""

    def cost(self, norms):
        return (norms - 1).mean()


@wrong("must not favour a steep D")
class OneSidedBelow(GP):
    """max(0, 1 - ‖∇‖)²: a steep D has no penalty."""

    def cost(self, norms):
        return (1 - norms).relu().square().mean()


@wrong("scalar")
class PerSample(GP):
    """Shape (N,)."""

    def cost(self, norms):
        return (norms - 1).square()


@wrong("scalar")
class ShapeOne(GP):
    """Shape (1,)."""

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


# ------------------------------------------------------------------------------------------- wrong: interpolation


@wrong("one ε is used for the whole batch")
class OneEpsilon(GP):
    """One ε for the whole batch."""

    def epsilon(self, x):
        return torch.rand((), dtype=x.dtype, device=x.device)


@wrong("one ε is used for the whole batch")
class OneEpsilonOfPython(GP):
    """One ε for the whole batch, from Python's `random`."""

    def epsilon(self, x):
        import random

        return random.random()


@wrong("within one sample")
class EpsilonOfTwoAxes(GP):
    """ε (N, 1) broadcast to (N, C, H, W)."""

    def epsilon(self, x):
        return torch.rand(len(x), 1, dtype=x.dtype, device=x.device)


@wrong("within one sample")
class EpsilonPerPixel(GP):
    """ε with the shape of the samples."""

    def epsilon(self, x):
        return torch.rand_like(x)


@wrong("within one sample")
class EpsilonPerChannel(GP):
    """ε (N, C, 1, 1)."""

    def epsilon(self, x):
        return torch.rand(*x.shape[:2], *[1] * (x.ndim - 2), dtype=x.dtype, device=x.device)


@wrong("within one sample|one ε is used for the whole batch")
class EpsilonPerPlace(GP):
    """ε (C, H, W), the same for all samples."""

    def epsilon(self, x):
        return torch.rand(1, *x.shape[1:], dtype=x.dtype, device=x.device)


@wrong("the line between them.*ε from 0 to 1")
class NormalEpsilon(GP):
    """randn instead of rand: points beyond both ends."""

    def epsilon(self, x):
        return torch.randn(len(x), *[1] * (x.ndim - 1), dtype=x.dtype, device=x.device)


@wrong("the line between them.*ε from 0 to 1")
class BeyondTheFakes(GP):
    """fake + ε(fake - real)."""

    def between(self, real, fake):
        return (fake.x + self.epsilon(real.x) * (fake.x - real.x)).detach().requires_grad_()


@wrong("the line between them")
class TwoEpsilons(GP):
    """εx + (1 - ε')G(z): a different ε on each side."""

    def between(self, real, fake):
        e, f = self.epsilon(real.x), self.epsilon(real.x)
        return (e * real.x + (1 - f) * fake.x).detach().requires_grad_()


@wrong("device")
class EpsilonOnCPU(GP):
    """ε is created without a device."""

    def epsilon(self, x):
        return torch.rand(len(x), *[1] * (x.ndim - 1), dtype=x.dtype)


@wrong("float64|dtype")
class PointsInFloat32(GP):
    """Converts the samples to float32."""

    def between(self, real, fake):
        return GP.between(self, real, fake).detach().float().requires_grad_()


@wrong("float64")
class CostInFloat32(GP):
    """Converts the norms to float32."""

    def norms(self, slope):
        return slope.flatten(1).float().norm(dim=1)


@wrong(r"x̂|requires_grad_\(\)")
class NoRequiresGrad(GP):
    """x̂ does not require grad."""

    def between(self, real, fake):
        return torch.lerp(fake.x, real.x, self.epsilon(real.x)).detach()


# -------------------------------------------------------------------------------------- wrong: graphs and side effects


@wrong("create_graph")
class NoCreateGraph(GP):
    """create_graph is missing."""

    def slope(self, D, x, y):
        return torch.autograd.grad(D(x, y).sum(), x)[0]


@wrong("no gradient of the penalty reaches")
class Detached(GP):
    """The penalty is detached."""

    def cost(self, norms):
        return (norms - 1).square().mean().detach()


@wrong("no gradient of the penalty reaches")
class DataOfTheSlope(GP):
    """Uses .data of the gradient."""

    def norms(self, slope):
        return slope.data.flatten(1).norm(dim=1).requires_grad_()


@wrong(r"must not change D's \.grad or requires_grad")
class OwnBackward(GP):
    """Calls backward() itself."""

    def penalty(self, D, real, fake):
        value = GP.penalty(self, D, real, fake)
        value.backward(retain_graph=True)
        return value


@wrong(r"must not change D's \.grad or requires_grad")
class Freezes(GP):
    """Leaves D with requires_grad_(False)."""

    def penalty(self, D, real, fake):
        value = GP.penalty(self, D, real, fake)
        D.requires_grad_(False)
        return value


@wrong("D's weights or training mode")
class Evaluates(GP):
    """Leaves D in evaluation mode."""

    def penalty(self, D, real, fake):
        D.eval()
        return GP.penalty(self, D, real, fake)


@wrong("D's weights or training mode")
class StepsItself(GP):
    """Changes D's weights."""

    def penalty(self, D, real, fake):
        value = GP.penalty(self, D, real, fake)
        parameters = list(D.parameters())
        slopes = torch.autograd.grad(value, parameters, retain_graph=True, allow_unused=True)
        for parameter, slope in zip(parameters, slopes, strict=True):
            if slope is not None:
                parameter.data -= 1e-3 * slope
        return value


@wrong("changes samples in place")
class MixesInPlace(GP):
    """Overwrites the real samples with x̂."""

    def between(self, real, fake):
        return real.x.detach().lerp_(fake.x, self.epsilon(real.x)).requires_grad_()


@wrong("replaces the tensors of real or fake")
class ReplacesScores(GP):
    """Assigns to real.x."""

    def between(self, real, fake):
        real.x = GP.between(self, real, fake)
        return real.x


@wrong("BatchNorm")
class AcceptsBatchNorm(GP):
    """check accepts every D."""

    def check(self, D):
        pass


@wrong("mixes_samples = True")
class KnowsBatchNormOnly(GP):
    """check tests types only: D with mixes_samples = True is accepted."""

    def check(self, D):
        if any(isinstance(m, nn.modules.batchnorm._BatchNorm) for m in D.modules()):
            raise ValueError("no BatchNorm")


@wrong("refuses every plain perceptron")
class RefusesAll(GP):
    """check refuses the opposite."""

    def check(self, D):
        if not mixes_samples(D):
            raise ValueError("no")


@wrong("CheckAsserts.check")
class CheckAsserts(GP):
    """check raises AssertionError, not ValueError."""

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
class R1WithoutInputGradients(Constraint):
    """input_gradients is missing."""

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


@wrong(r"leaves gradients on the samples|must not change D's \.grad")
class R1ByBackward(Constraint):
    """real.x.grad after backward()."""

    input_gradients = True

    def penalty(self, D, real, fake):
        real.scores.sum().backward(create_graph=True)
        return real.x.grad.flatten(1).square().sum(1).mean()


@wrong("sum|coordinates")
class R1MeanOverPixels(Constraint):
    """The mean over all elements instead of the mean of squared norms."""

    input_gradients = True

    def penalty(self, D, real, fake):
        (slope,) = torch.autograd.grad(real.scores.sum(), real.x, create_graph=True)
        return slope.square().mean()


@wrong("mean over the batch|batch size")
class R1Summed(Constraint):
    """The sum over samples as well."""

    input_gradients = True

    def penalty(self, D, real, fake):
        (slope,) = torch.autograd.grad(real.scores.sum(), real.x, create_graph=True)
        return slope.square().sum()


@wrong("reaches D's weights")
class ConsistencyInEvaluation(Constraint):
    """Two identical passes in evaluation mode."""

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
    """DRAGAN's points: random noise makes each call different."""

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


@wrong(r"must not change D's \.grad or requires_grad")
class ZeroGrads(GP):
    """D.zero_grad() before the penalty."""

    def penalty(self, D, real, fake):
        D.zero_grad()
        return GP.penalty(self, D, real, fake)


@wrong("override wrap, penalty or project")
class Nothing(Constraint):
    """Overrides nothing."""


@wrong("must be a tensor, not NoneType")
class ReturnsNoPenalty(Constraint):
    """Always None."""

    def penalty(self, D, real, fake):
        return None


@wrong(r"penalty\(D, real, fake\)")
class FourArguments(Constraint):
    """An older signature."""

    def penalty(self, D, real, fake, labels):
        return real.scores.square().mean()


# --------------------------------------------------------------------------------------------------- wrong: projections


@wrong("twice")
class Decay(Constraint):
    """A projection that is not idempotent."""

    def project(self, D):
        for p in D.parameters():
            p.data = p.data * 0.9


@wrong("twice")
class HalvesTheLarge(Constraint):
    """Moves towards the allowed set, not into it."""

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
    """Creates new parameters, which the optimiser does not have."""

    def project(self, D):
        for module in D.modules():
            for name, p in list(module.named_parameters(recurse=False)):
                setattr(module, name, nn.Parameter(p.detach().clamp(-0.01, 0.01)))


@wrong("in place|requires")
class FreezesWhileProjecting(Constraint):
    """Leaves parameters with requires_grad_(False)."""

    def project(self, D):
        for p in D.parameters():
            p.requires_grad_(False).clamp_(-0.01, 0.01)


@wrong("does not change weights")
class ClampsACopy(Constraint):
    """clamp instead of clamp_."""

    def project(self, D):
        for p in D.parameters():
            p.data.clamp(-0.01, 0.01)


@wrong("does not change weights")
class ClampsGradients(Constraint):
    """Clamps the gradients, not the weights."""

    def project(self, D):
        for p in D.parameters():
            if p.grad is not None:
                p.grad.clamp_(-0.01, 0.01)


@wrong("no_grad")
class ProjectsWithGradients(Constraint):
    """torch.no_grad is missing."""

    def project(self, D):
        for p in D.parameters():
            p.clamp_(-0.01, 0.01)


@wrong("non-finite")
class DividesByZero(Constraint):
    """Divides weights by 0."""

    @torch.no_grad()
    def project(self, D):
        for p in D.parameters():
            p.div_(p.sum() - p.sum())


@wrong("float64|dtype")
class ProjectsToFloat32(Constraint):
    """Converts the weights to float32."""

    def project(self, D):
        for p in D.parameters():
            p.data = p.data.float().clamp(-0.01, 0.01)


@wrong("device")
class BoundOnCPU(Constraint):
    """The bound is created without a device."""

    @torch.no_grad()
    def project(self, D):
        for p in D.parameters():
            p.copy_(torch.minimum(p, torch.full(p.shape, 0.01, dtype=p.dtype)))


# --------------------------------------------------------------------------------------------------------- wrong: wrap


class Iterated(nn.Module):
    """W / σ(W) by power iteration. Parameters: how u is stored, and whether it changes in evaluation mode."""

    def __init__(self, weight: Tensor, storage: str, in_eval: bool) -> None:
        super().__init__()
        u = F.normalize(torch.randn(weight.shape[0]), dim=0)
        if storage == "attribute":
            self.u = u
        else:
            self.register_buffer("u", u, persistent=storage == "buffer")
        self.in_eval = in_eval

    def forward(self, W):
        with torch.no_grad():
            v = F.normalize(W.T @ self.u.to(W), dim=0)
            if self.training or self.in_eval:
                self.u = F.normalize(W @ v, dim=0)
        return W / (self.u.to(W) @ W @ v).detach()


class SN(Constraint):
    """Spectral normalisation."""

    storage = "buffer"
    in_eval = False

    def wrap(self, D):
        for module in list(D.modules()):
            if isinstance(module, nn.Linear):
                iterated = Iterated(module.weight, self.storage, self.in_eval)
                parametrize.register_parametrization(module, "weight", iterated, unsafe=True)
        return D


@wrong("in evaluation mode.*must not change its buffers")
class IteratesInEvaluation(SN):
    """Power iteration in evaluation mode."""

    in_eval = True


@wrong("state_dict")
class VectorsAsAttributes(SN):
    """u is an attribute."""

    storage = "attribute"


@wrong("state_dict")
class VectorsNotPersistent(SN):
    """u is a non-persistent buffer, which state_dict omits."""

    storage = "not persistent"


class Wrapped(nn.Module):
    """A module that wraps D and changes its inputs or scores."""

    def __init__(self, D: nn.Module, before=None, after=None) -> None:
        super().__init__()
        self.D, self.before, self.after = D, before or (lambda x, training: x), after or (lambda scores: scores)

    def forward(self, x, *args, **kwargs):
        return self.after(self.D(self.before(x, self.training), *args, **kwargs))


@wrong(r"shape \(1,\) .*their shape is \(1, 1\)")
class ScoresInColumn(Constraint):
    """Scores of shape (N, 1)."""

    def wrap(self, D):
        return Wrapped(D, after=lambda scores: scores[:, None])


@wrong("the wrapped D mixes samples")
class Centred(Constraint):
    """Subtracts the mean of the batch, which mixes samples, without mixes_samples."""

    def wrap(self, D):
        return Wrapped(D, after=lambda scores: scores - scores.mean())


@wrong("no gradient reaches")
class Frozen(Constraint):
    """Freezes all weights."""

    def wrap(self, D):
        return D.requires_grad_(False)


@wrong("wrap freezes weights")
class FrozenFirstLayer(Constraint):
    """Freezes the first layer."""

    def wrap(self, D):
        next(m for m in D.modules() if isinstance(m, nn.Linear)).requires_grad_(False)
        return D


@wrong("must return the discriminator.*not NoneType")
class ReturnsNone(Constraint):
    """return is missing."""

    def wrap(self, D):
        parametrizations.spectral_norm(next(m for m in D.modules() if isinstance(m, nn.Linear)))


class Hidden(nn.Module):
    def __init__(self, D):
        super().__init__()
        self.D = [D]

    def forward(self, x, y):
        return self.D[0](x, y)


@wrong("no gradient reaches|parameters")
class HidesD(Constraint):
    """D is in a list, so its weights are not registered."""

    def wrap(self, D):
        return Hidden(D)


@wrong("the same score for the same sample")
class NoiseInEvaluation(Constraint):
    """Instance noise in evaluation mode too."""

    def wrap(self, D):
        return Wrapped(D, before=lambda x, training: x + 0.1 * torch.randn_like(x))


@wrong("device")
class NoiseOnCPU(Constraint):
    """Instance noise is created without a device."""

    def wrap(self, D):
        return Wrapped(D, before=lambda x, training: x + 0.1 * torch.randn(x.shape, dtype=x.dtype) * training)


@wrong("no gradient reaches")
class DetachedScores(Constraint):
    """Detaches the scores."""

    def wrap(self, D):
        return Wrapped(D, after=lambda scores: scores.detach())


@wrong(r"the wrapped D\(x, y\) raised TypeError")
class DropsLabels(Constraint):
    """nn.Sequential takes one argument, not (x, y)."""

    def wrap(self, D):
        return nn.Sequential(nn.Identity(), D)


# ------------------------------------------------------------------------------- wrong: memory, schedules, declarations


@wrong(r"r1_calls is registered by penalty .* \(Unexpected key in state_dict\); register it in wrap")
class RegistersInPenalty(Constraint):
    """Lazy R1 whose counter appears in the first step."""

    input_gradients = True

    def penalty(self, D, real, fake):
        if not hasattr(D, "r1_calls"):
            D.register_buffer("r1_calls", torch.zeros((), dtype=torch.long))
        D.r1_calls += 1
        return score_gradients(D, real.scores, real.x).square().sum(1).mean() if int(D.r1_calls) % 4 == 1 else None


@wrong("what a constraint remembers must be a buffer or a weight in what wrap returns")
class CountsInAnAttribute(Constraint):
    """Lazy drift whose counter is not in the state dict."""

    def penalty(self, D, real, fake):
        D.calls = getattr(D, "calls", 0) + 1
        return 1e-3 * real.scores.square().mean() if D.calls % 4 == 1 else None


CALLS = []


@wrong("must not depend on the batch size|must be a buffer or a weight in what wrap returns")
class CountsInAGlobal(Constraint):
    """Drift that grows with a number which belongs to no run."""

    def penalty(self, D, real, fake):
        CALLS.append(0)
        return 1e-3 * len(CALLS) * real.scores.square().mean()

    def check(self, D):
        CALLS.clear()


@wrong("gamma is scheduled, but wrap reads it, and wrap is called once")
class CapturedByWrap(Constraint):
    """The scale of samples is read once, although it is said to move."""

    gamma: float = option(0.1, help="of the scale", scheduled=True)

    def wrap(self, D):
        return Wrapped(D, before=lambda x, training: x * (1 + self.gamma))

    def penalty(self, D, real, fake):
        return self.gamma * real.scores.square().mean()


@wrong("gamma is scheduled, but neither the penalty nor the projection changes")
class ReadFromABuffer(Constraint):
    """The weight is kept in a buffer, so it stays what it was."""

    gamma: float = option(0.1, help="weight", scheduled=True)

    def wrap(self, D):
        D.register_buffer("gamma", torch.tensor(self.gamma))
        return D

    def penalty(self, D, real, fake):
        return D.gamma.to(real.scores) * real.scores.square().mean()


@wrong("where D mixes groups of 2 samples .* differentiate by ganframe.score_gradients")
class R1OfSingleSamples(Constraint):
    """R1 whose gradient of one sample holds the scores of its group."""

    input_gradients = True

    def penalty(self, D, real, fake):
        (g,) = torch.autograd.grad(real.scores.sum(), real.x, create_graph=True)
        return g.flatten(1).square().sum(1).mean()


@wrong("where D returns three equal scores for each sample .* the penalty must be that of one score")
class SumOfScores(Constraint):
    """Drift that grows with the number of scores."""

    def penalty(self, D, real, fake):
        return 1e-3 * real.scores.square().sum() / len(real.scores)


@wrong("does not fill the dict extras|raised TypeError.*forward\\(self, x, \\*args, \\*\\*kwargs\\)")
class DropsExtras(Constraint):
    """A network around D that takes x and y only."""

    def wrap(self, D):
        class Around(nn.Module):
            def __init__(self):
                super().__init__()
                self.D = D

            def forward(self, x, y):
                return self.D(x, y)

        return Around()


@wrong("a penalty must be ≥ 0 unless it reads scores only")
class NegativeGradients(Constraint):
    """A penalty that rewards steep gradients."""

    input_gradients = True

    def penalty(self, D, real, fake):
        return -score_gradients(D, real.scores, real.x).square().sum(1).mean()


@wrong("penalty must be a tensor, not NoneType")
class NeverSays(Constraint):
    """A penalty without a value, and nothing that it could look for."""

    def penalty(self, D, real, fake):
        return None


@wrong("over random masks or points .* a sum or a norm taken over the batch")
class SumOverNoise(Constraint):
    """The distance of scores under noise, summed over the batch."""

    def penalty(self, D, real, fake):
        return (real.scores - D(real.x + torch.randn_like(real.x), real.y)).square().sum()


@wrong("mixes samples")
class MixesImages(Constraint):
    """An augmentation of images that takes its numbers from the whole batch."""

    def wrap(self, D):
        return Flipped(D, lambda x: x - x.mean())


@pytest.mark.filterwarnings("ignore:Using backward.. with create_graph")
@pytest.mark.parametrize(("constraint", "cause"), WRONG)
def test_wrong_constraint_is_refused(constraint, cause):
    with pytest.raises(AssertionError, match=cause):
        check_constraint(constraint)


@attrs.define
class Mutable(Constraint):
    """A mutable option."""

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


@pytest.mark.parametrize(("constraint", "cause"), [(Mutable, "is mutable"), (Undocumented, "no help")])
def test_mutable_and_undocumented_options_are_refused(constraint, cause):
    with pytest.raises(AssertionError, match=cause):
        check_constraint(constraint)


# ------------------------------------------------------------------------------------------------------------- correct


@attrs.frozen
class GradientPenalty(Constraint):
    """WGAN-GP (Gulrajani et al. 2017), two-sided or one-sided (Petzka et al. 2018)."""

    weight: float = option(10.0, help="λ")
    one_sided: bool = option(False, help="whether gradient norms below 1 have no penalty")

    def check(self, D):
        if mixes_samples(D):
            raise ValueError("a gradient penalty needs a discriminator that treats samples independently")

    def penalty(self, D, real, fake):
        eps = torch.rand([len(real.x)] + [1] * (real.x.dim() - 1), device=real.x.device, dtype=real.x.dtype)
        x = (eps * real.x + (1 - eps) * fake.x).detach().requires_grad_(True)
        scores = D(x, real.y)
        excess = score_gradients(D, scores, x).norm(2, dim=1) - 1
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
            value = value + self.gamma / 2 * score_gradients(D, side.scores, side.x).square().sum(1).mean()
        return value


@attrs.frozen
class R1BySecondCall(Constraint):
    """R1 that calls D again on the real samples. It refuses a D for which its own gradient would be wrong."""

    def check(self, D):
        refuse(D)
        if group_size(D) > 1 or has_many_scores(D):
            raise ValueError("one score and no groups, please")

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
        return 10 * (score_gradients(D, D(x, real.y), x).norm(dim=1) - 1).square().mean()


@attrs.frozen
class Consistency(Constraint):
    """Two dropout passes over the real batch (Wei et al. 2018); D₋ is the input of the last linear layer."""

    weight: float = option(2.0, help="λ₂")
    margin: float = option(0.0, help="M'")
    needs_dropout: bool = option(False, help="whether to refuse D without dropout, whose term is 0")

    def check(self, D):
        if self.needs_dropout and not any(isinstance(m, nn.Dropout) and m.p > 0 for m in D.modules()):
            raise ValueError("the consistency term is 0 without dropout; use a discriminator with dropout")

    def penalty(self, D, real, fake):
        features = []
        last = [m for m in D.modules() if isinstance(m, nn.Linear)][-1]
        handle = last.register_forward_pre_hook(lambda module, inputs: features.append(inputs[0].flatten(1)))
        first, second = D(real.x, real.y), D(real.x, real.y)
        handle.remove()
        distance = mean_scores((first - second).square()) + 0.1 * (features[0] - features[1]).square().mean(1)
        return self.weight * (distance - self.margin).relu().mean()


@attrs.frozen
class GPWithConsistency(Constraint):
    """Both terms of Wei et al. 2018."""

    def check(self, D):
        refuse(D)
        if group_size(D) > 1:
            raise ValueError("the inputs of the last layer are not those of single samples")

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
    """LeCam regularisation with moving anchors in a buffer of D, created by wrap."""

    decay: float = option(0.99, help="decay of the anchors")

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
    """R1 in every k-th step only, times k; the counter is a buffer of D."""

    gamma: float = option(1.0, help="γ")
    every: int = option(4, help="k")
    input_gradients = True

    def wrap(self, D):
        D.register_buffer("r1_calls", torch.zeros((), dtype=torch.long))
        return D

    def penalty(self, D, real, fake):
        due = int(D.r1_calls) % self.every == 0
        D.r1_calls += 1
        if not due:
            return None
        return self.every * self.gamma / 2 * score_gradients(D, real.scores, real.x).square().sum(1).mean()


class Noisy(nn.Module):
    def __init__(self, D, std):
        super().__init__()
        self.D, self.std = D, std

    def forward(self, x, *args, **kwargs):
        return self.D(x + self.std * torch.randn_like(x) if self.training else x, *args, **kwargs)


@attrs.frozen
class InstanceNoise(Constraint):
    """Noise on all samples in training mode (Sønderby et al. 2017)."""

    std: float = option(0.1, help="σ")

    def wrap(self, D):
        return Noisy(D, self.std)


@attrs.frozen
class Normalised(Constraint):
    """Spectral or weight normalisation by torch."""

    by: Literal["spectral", "old spectral", "weight", "old weight"] = option(
        "spectral", help="torch's normalisation to use"
    )

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
    """A correct spectral normalisation without torch's."""


@attrs.frozen
class Clipping(Constraint):
    """Weight clipping (Arjovsky et al. 2017)."""

    c: float = option(0.01, help="c")

    def project(self, D):
        for p in D.parameters():
            p.data.clamp_(-self.c, self.c)


@attrs.frozen
class Reassigned(Constraint):
    """Clips by assigning p.data, which keeps the parameter."""

    def project(self, D):
        for p in D.parameters():
            p.data = p.data.clamp(-0.01, 0.01)


@attrs.frozen
class SpectralProjection(Constraint):
    """Clamps W's singular values to a bound (Gouk et al. 2018), or divides W by the largest one."""

    bound: float = option(1.0, help="largest singular value")
    cut: bool = option(False, help="clamp each singular value, or divide all")

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
    """Two methods: spectral normalisation and a penalty on the scores."""

    def wrap(self, D):
        return Normalised("spectral").wrap(D)

    def penalty(self, D, real, fake):
        return 1e-3 * real.scores.square().mean()


class RecordsFeatures(nn.Module):
    """Wraps D and stores the inputs of its last layer."""

    def __init__(self, D):
        super().__init__()
        self.D = D
        last = [m for m in D.modules() if isinstance(m, nn.Linear)][-1]
        last.register_forward_pre_hook(lambda module, inputs: setattr(self, "features", inputs[0].flatten(1)))

    def forward(self, x, *args, **kwargs):
        return self.D(x, *args, **kwargs)


@attrs.frozen
class FeatureDrift(Constraint):
    """A penalty on features that its wrapper stores."""

    def wrap(self, D):
        return RecordsFeatures(D)

    def penalty(self, D, real, fake):
        scores = D(real.x, real.y)
        return 1e-3 * (D.features.square().mean(1) + mean_scores(scores.square())).mean()


@attrs.frozen
class Balance(Constraint):
    """As BEGAN's balance (Berthelot et al. 2017): k moves with the scores, and the penalty may be negative."""

    rate: float = option(0.1, help="of k", scheduled=True)

    def wrap(self, D):
        D.register_buffer("k", torch.zeros(()))
        return D

    def penalty(self, D, real, fake):
        value = -(0.5 + D.k) * fake.scores.mean()
        D.k.add_((self.rate * (real.scores - fake.scores).mean().detach()).to(D.k)).clamp_(0, 1)
        return value


@attrs.frozen
class Looks(Constraint):
    """As ADA's look at the scores (Karras et al. 2020): a penalty without a value, for what the wrapper does."""

    def wrap(self, D):
        D.register_buffer("p", torch.zeros(()))
        D.register_forward_pre_hook(lambda D, given: (given[0] * (1 - D.p), *given[1:]) if D.training else None)
        return D

    def penalty(self, D, real, fake):
        D.p.add_(0.01 * real.scores.detach().sign().mean().to(D.p)).clamp_(0, 0.5)


@attrs.frozen
class Multiplier(Constraint):
    """As Sobolev GAN (Mroueh et al. 2018): the multiplier of E‖∇D‖² = 1 is a buffer."""

    rho: float = option(0.1, help="ρ", scheduled=True)
    input_gradients = True

    def wrap(self, D):
        D.register_buffer("multiplier", torch.zeros(()))
        return D

    def penalty(self, D, real, fake):
        excess = score_gradients(D, real.scores, real.x).square().sum(1).mean() - 1
        value = D.multiplier.clone() * excess + self.rho / 2 * excess.square()
        D.multiplier.add_((self.rho * excess.detach()).to(D.multiplier))
        return value


class Headed(nn.Module):
    def __init__(self, D):
        super().__init__()
        self.D, self.head = D, nn.Linear(1, 1)

    def forward(self, x, *args, **kwargs):
        scores = self.D(x, *args, **kwargs)
        return scores + 0.1 * self.head(scores[..., None]).squeeze(-1)


@attrs.frozen
class Head(Constraint):
    """A head with random weights, and a penalty that depends on it."""

    gamma: float = option(1.0, help="γ", scheduled=True)
    input_gradients = True

    def wrap(self, D):
        return Headed(D)

    def penalty(self, D, real, fake):
        return self.gamma / 2 * score_gradients(D, real.scores, real.x).square().sum(1).mean()


@attrs.frozen
class ScheduledClipping(Constraint):
    """An option that project reads."""

    c: float = option(0.01, help="c", scheduled=True)

    def project(self, D):
        for p in D.parameters():
            p.data.clamp_(-self.c, self.c)


@attrs.frozen
class NeedsOneScore(Constraint):
    """Says in penalty that it needs scores (N,)."""

    def penalty(self, D, real, fake):
        if real.scores.ndim > 1:
            raise ValueError("drift needs one score for each sample")
        return (1e-3 * real.scores.square()).mean()


@attrs.frozen
class Flips(Constraint):
    """An augmentation of images, which has no meaning for points."""

    def wrap(self, D):
        return Flipped(D, lambda x: x.flip(3))


@attrs.frozen
class FlipConsistency(Constraint):
    """The distance of the scores of an image and of its mirror image, of half of the images."""

    def penalty(self, D, real, fake):
        if real.x.ndim != 4:
            raise ValueError("images only")
        chosen = torch.rand(len(real.x), 1, 1, 1, device=real.x.device) < 0.5
        flipped = torch.where(chosen, real.x.detach().flip(3), real.x.detach())
        return (real.scores - D(flipped, real.y)).square().mean()


RIGHT = [
    Flips,
    FlipConsistency,
    Balance,
    Looks,
    Multiplier,
    Head,
    ScheduledClipping,
    NeedsOneScore,
    GradientPenalty,
    GradientPenalty(weight=0.1),
    GradientPenalty(one_sided=True),
    R,
    R(side="fake"),
    R(gamma=0.05, side="both"),
    R1BySecondCall,
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
def test_correct_constraint_is_accepted(constraint):
    check_constraint(constraint)
