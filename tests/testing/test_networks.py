"""Tests that check_generator and check_discriminator refuse wrong networks with the cause and accept correct ones."""

from __future__ import annotations

import itertools
import math
import random
from collections.abc import Callable

import attrs
import numpy as np
import pytest
import torch
from torch import nn
from torch.nn import functional as F
from torch.nn.utils import parametrizations

from ganframe import DataSpec, Discriminator, Generator, option
from ganframe.testing import check_discriminator, check_generator

POINTS, IMAGES, LABELLED = DataSpec((3,)), DataSpec((2, 8, 8)), DataSpec((3,), classes=4)


def discriminator(network: Callable, refuses: Callable | None = None) -> type[Discriminator]:
    """A discriminator that builds network(data)."""

    @attrs.frozen
    class Built(Discriminator):
        """A discriminator."""

        def build(self, data):
            if refuses is not None:
                refuses(data)
            return network(data)

    return Built


def generator(network: Callable) -> type[Generator]:
    """A generator that builds network(data, latent_dim)."""

    @attrs.frozen
    class Built(Generator):
        """A generator."""

        def build(self, data, latent_dim):
            return network(data, latent_dim)

    return Built


class ByW(nn.Module):
    """A correct generator that offers its latents w."""

    def __init__(self, data, latent_dim):
        super().__init__()
        self.first, self.last = nn.Linear(latent_dim, 6), nn.Linear(6, math.prod(data.shape))
        self.shape = data.shape

    def map(self, z, y):
        return self.first(z).relu().view(-1, 2, 3)

    def synthesize(self, w, y):
        return self.last(w.flatten(1)).tanh().view(-1, *self.shape)

    def forward(self, z, y):
        return self.synthesize(self.map(z, y), y)


class OtherW(ByW):
    def map(self, z, y):
        return super().map(z, y) + 1

    def forward(self, z, y):
        return self.synthesize(super().map(z, y), y)


class FewerW(ByW):
    def map(self, z, y):
        return super().map(z, y).flatten(0, 1)

    def synthesize(self, w, y):
        return super().synthesize(w.view(-1, 2, 3), y)


class OnlyMap(ByW):
    synthesize = None

    def forward(self, z, y):
        return ByW.synthesize(self, self.map(z, y), y)


def test_generators_that_offer_w_are_checked():
    check_generator(generator(ByW), IMAGES)
    for wrong, cause in (
        (OtherW, r"synthesize\(map\(z, y\), y\) must return"),
        (FewerW, r"map must return w \(N, …\)"),
        (OnlyMap, r"G has one of map\(z, y\) and synthesize"),
    ):
        with pytest.raises(AssertionError, match=cause):
            check_generator(generator(wrong), IMAGES)


class Truncating(ByW):
    truncates_latent = True


class TruncatingBy(ByW):
    truncates_latent = 0.5


def test_declared_truncation_is_checked():
    check_generator(generator(Truncating), IMAGES)
    with pytest.raises(AssertionError, match=r"truncates_latent must be True or False, not \[0\.5\]"):
        check_generator(generator(TruncatingBy), IMAGES)


def only_images(data):
    if not data.is_image:
        raise ValueError("images only")


def only_labelled(data):
    if data.classes is None:
        raise ValueError("labelled data only")


class D(nn.Module):
    """A correct discriminator in parts. Each wrong one replaces one part."""

    def __init__(self, data):
        super().__init__()
        self.first = nn.Linear(math.prod(data.shape), 16)
        self.last = nn.Linear(16, 1)

    def inputs(self, x):
        return x.flatten(1)

    def hidden(self, h):
        return F.leaky_relu(h, 0.2)

    def scores(self, h):
        return h.squeeze(1)

    def forward(self, x, y):
        return self.scores(self.last(self.hidden(self.first(self.inputs(x)))))


class G(nn.Module):
    """A correct generator in parts. Each wrong one replaces one part."""

    def __init__(self, data, latent_dim):
        super().__init__()
        self.shape = data.shape
        self.first = nn.Linear(latent_dim, 16)
        self.last = nn.Linear(16, math.prod(data.shape))

    def inputs(self, z):
        return z

    def hidden(self, h):
        return h.relu()

    def samples(self, h):
        return h.unflatten(1, self.shape)

    def forward(self, z, y):
        return self.samples(self.last(self.hidden(self.first(self.inputs(z)))))


def replacing(base: type, **methods: Callable) -> type:
    """A subclass of D or G with other methods; `also(self, data)` runs at the end of __init__."""
    also = methods.pop("also", None)

    def init(self, data, *more):
        base.__init__(self, data, *more)
        also(self, data)

    return type(base.__name__, (base,), methods | ({"__init__": init} if also else {}))


# ------------------------------------------------------------------------------------------------ wrong discriminators


class BatchNormByHand(nn.Module):
    """A custom BatchNorm with running statistics, which does not declare that it mixes samples."""

    def __init__(self, features):
        super().__init__()
        self.register_buffer("mean", torch.zeros(features))
        self.register_buffer("var", torch.ones(features))

    def forward(self, h):
        if not self.training:
            return (h - self.mean.to(h)) / (self.var.to(h) + 1e-5).sqrt()
        mean, var = h.mean(0), h.var(0, unbiased=False)
        self.mean.lerp_(mean.detach().to(self.mean), 0.1)
        self.var.lerp_(var.detach().to(self.var), 0.1)
        return (h - mean) / (var + 1e-5).sqrt()


class MinibatchStd(nn.Module):
    """Concatenates the mean standard deviation over the batch (Karras et al. 2018) as one feature."""

    def __init__(self, declared):
        super().__init__()
        if declared:
            self.mixes_samples = True

    def forward(self, h):
        std = (h.var(0, unbiased=False) + 1e-8).sqrt().mean()
        return torch.cat([h, std.expand(len(h), 1)], dim=1)


class CreatesLayerInForward(D):
    """Creates a layer in the first forward."""

    def hidden(self, h):
        if not hasattr(self, "extra"):
            self.extra = nn.Linear(16, 16).to(h)
        return self.extra(h).tanh()


class OneHotFloat(D):
    """The one-hot label is float32 for any dtype of x."""

    def __init__(self, data):
        super().__init__(data)
        self.classes = data.classes or 1
        self.label = nn.Linear(self.classes, 16)

    def forward(self, x, y):
        h = self.first(x.flatten(1)) + self.label(F.one_hot(y, self.classes).float())
        return self.last(F.leaky_relu(h)).squeeze(1)


class OnceDifferentiable(torch.autograd.Function):
    """x², whose gradient cannot be differentiated."""

    @staticmethod
    def forward(ctx, x):
        ctx.save_for_backward(x)
        return x.square()

    @staticmethod
    @torch.autograd.function.once_differentiable
    def backward(ctx, gradient):
        return gradient * 2 * ctx.saved_tensors[0]


class MovingScale(D):
    """Divides by a moving average: an attribute, or a buffer that also changes in evaluation mode."""

    def __init__(self, data, buffer=False):
        super().__init__(data)
        self.buffer = buffer
        if buffer:
            self.register_buffer("size", torch.ones(()))
        else:
            self.size = torch.ones(())

    def hidden(self, h):
        if self.training or self.buffer:
            self.size = 0.9 * self.size + 0.1 * h.detach().abs().mean()
        return (h / self.size).tanh()


def distances(h):
    """Distances between the four parts of a sample, as in distance attention: √0 between a part and itself."""
    parts = h.unflatten(1, (4, 4))
    return (parts[:, :, None] - parts[:, None]).square().sum(3).sqrt().flatten(1)


def refuses_without_message(data):
    raise ValueError


def refuses_by_key(data):
    {"mnist": 1}[data.shape]


WRONG_D = {
    # scores
    "scores (N, 1)": (discriminator(replacing(D, scores=lambda s, h: h)), r"must return the shape \(4,\)"),
    "a mean over the batch": (
        discriminator(replacing(D, scores=lambda s, h: h.mean())),
        r"must return the shape \(4,\)",
    ),
    "squeeze() of a batch of one": (
        discriminator(replacing(D, scores=lambda s, h: h.squeeze())),
        r"shape \(1,\) .*for 1 sample",
    ),
    "a sigmoid": (discriminator(replacing(D, scores=lambda s, h: h.squeeze(1).sigmoid())), "raw scores"),
    "a tanh": (discriminator(replacing(D, scores=lambda s, h: h.squeeze(1).tanh())), "raw scores"),
    "a clamp": (discriminator(replacing(D, scores=lambda s, h: h.squeeze(1).clamp(-1, 1))), "raw scores"),
    "five times a tanh": (discriminator(replacing(D, scores=lambda s, h: 5 * h.squeeze(1).tanh())), "raw scores"),
    "scores and features": (
        discriminator(replacing(D, scores=lambda s, h: (h.squeeze(1), h))),
        "must return a tensor, not tuple",
    ),
    "two outputs": (
        discriminator(replacing(D, also=lambda s, d: setattr(s, "last", nn.Linear(16, 2)))),
        "must return the shape",
    ),
    "non-finite": (discriminator(replacing(D, scores=lambda s, h: h.squeeze(1) / 0)), "non-finite values"),
    # samples
    "centred over the batch": (
        discriminator(replacing(D, hidden=lambda s, h: (h - h.mean(0)).tanh())),
        "depend on the others|∂D",
    ),
    "a softmax over the batch": (
        discriminator(replacing(D, hidden=lambda s, h: h.softmax(0))),
        "depend on the others|∂D",
    ),
    "a norm over the batch": (discriminator(replacing(D, hidden=lambda s, h: h / h.norm())), "depend on the others|∂D"),
    "BatchNorm by hand": (
        discriminator(
            replacing(
                D,
                also=lambda s, d: setattr(s, "norm", BatchNormByHand(16)),
                hidden=lambda s, h: F.leaky_relu(s.norm(h)),
            )
        ),
        "mixes_samples",
    ),
    "minibatch statistic, undeclared": (
        discriminator(
            replacing(
                D,
                also=lambda s, d: (setattr(s, "std", MinibatchStd(False)), setattr(s, "last", nn.Linear(17, 1))),
                hidden=lambda s, h: s.std(F.leaky_relu(h)),
            )
        ),
        "mixes_samples",
    ),
    "GroupNorm over the batch": (
        discriminator(replacing(D, hidden=lambda s, h: F.layer_norm(h.T, h.T.shape[1:]).T.tanh())),
        "depend on the others|∂D",
    ),
    "batch statistics in evaluation mode": (
        discriminator(
            replacing(
                D,
                also=lambda s, d: setattr(s, "norm", nn.BatchNorm1d(16, track_running_stats=False)),
                hidden=lambda s, h: s.norm(h).tanh(),
            )
        ),
        "in evaluation mode",
    ),
    "the batch size in view": (
        discriminator(replacing(D, inputs=lambda s, x: x.reshape(4, -1))),
        "for 1 sample",
    ),
    "a batch of 64 in view": (
        discriminator(replacing(D, inputs=lambda s, x: x.view(64, -1))),
        "accepts none of the data tried",
    ),
    "samples shifted along the batch": (
        discriminator(replacing(D, inputs=lambda s, x: x.flatten(1).roll(1, dims=0))),
        "depend on the others|∂D",
    ),
    # evaluation
    "dropout in evaluation mode": (
        discriminator(replacing(D, hidden=lambda s, h: F.dropout(h.tanh()))),
        "the same output for the same input",
    ),
    "noise in evaluation mode": (
        discriminator(replacing(D, inputs=lambda s, x: x.flatten(1) + 0.1 * torch.randn_like(x.flatten(1)))),
        "the same output for the same input",
    ),
    "noise on the CPU": (
        discriminator(replacing(D, inputs=lambda s, x: x.flatten(1) + 0 * torch.randn(x.flatten(1).shape))),
        "device",
    ),
    "a buffer that changes in evaluation mode": (
        discriminator(lambda data: MovingScale(data, buffer=True)),
        "must not change its buffers",
    ),
    # state
    "a moving average as an attribute": (discriminator(MovingScale), "neither a parameter nor a buffer"),
    "random features as an attribute": (
        discriminator(
            replacing(
                D,
                also=lambda s, d: setattr(s, "rows", torch.randn(math.prod(d.shape), math.prod(d.shape))),
                inputs=lambda s, x: (x.flatten(1) @ s.rows.to(x)).sin(),
            )
        ),
        "neither a parameter nor a buffer",
    ),
    "random features from numpy": (
        discriminator(
            replacing(
                D,
                also=lambda s, d: s.register_buffer("shift", torch.tensor(np.random.rand(), dtype=torch.float32)),
                inputs=lambda s, x: x.flatten(1) + s.shift,
            )
        ),
        "built twice from one seed",
    ),
    "weights from Python's random": (
        discriminator(replacing(D, also=lambda s, d: nn.init.constant_(s.last.weight, random.random()))),
        "built twice from one seed",
    ),
    "a non-persistent buffer": (
        discriminator(
            replacing(
                D,
                also=lambda s, d: s.register_buffer("shift", torch.randn(()), persistent=False),
                inputs=lambda s, x: x.flatten(1) + s.shift,
            )
        ),
        "state_dict does not restore",
    ),
    # parameters and gradients
    "an unused layer": (
        discriminator(replacing(D, also=lambda s, d: setattr(s, "spare", nn.Linear(2, 2)))),
        r"no gradient: spare\.weight",
    ),
    "a layer under no_grad": (
        discriminator(replacing(D, hidden=lambda s, h: h.detach().tanh())),
        r"no gradient: first|gradient with respect to x",
    ),
    "everything under no_grad": (discriminator(replacing(D, forward=torch.no_grad()(D.forward))), "no gradient passes"),
    "samples detached": (
        discriminator(replacing(D, inputs=lambda s, x: x.detach().flatten(1))),
        "gradient with respect to x",
    ),
    "samples rounded": (
        discriminator(replacing(D, inputs=lambda s, x: x.flatten(1).round())),
        "gradient with respect to x",
    ),
    "a layer created in forward": (discriminator(CreatesLayerInForward), "creates parameters or buffers in forward"),
    "nn.LazyLinear": (
        discriminator(replacing(D, also=lambda s, d: setattr(s, "first", nn.LazyLinear(16)))),
        "uninitialised",
    ),
    "differentiable once": (
        discriminator(replacing(D, hidden=lambda s, h: OnceDifferentiable.apply(h))),
        "gradient penalty",
    ),
    "the square root of a distance of 0": (
        discriminator(replacing(D, hidden=lambda s, h: h + distances(h))),
        "gradients are non-finite",
    ),
    # inputs
    "changes its input": (discriminator(replacing(D, inputs=lambda s, x: x.mul_(2).sub_(1).flatten(1))), "in place"),
    "clamps its input in place": (
        discriminator(replacing(D, inputs=lambda s, x: x.clamp_(-0.5, 0.5).flatten(1))),
        "in place",
    ),
    "float32 always": (discriminator(replacing(D, inputs=lambda s, x: x.flatten(1).float())), "float64|dtype"),
    "scores in float32 always": (
        discriminator(replacing(D, scores=lambda s, h: h.squeeze(1).float())),
        "float64",
    ),
    "one-hot labels in float32": (discriminator(OneHotFloat), "float64|dtype"),
    "a fixed image size": (
        discriminator(replacing(D, also=lambda s, d: setattr(s, "first", nn.Linear(784, 16)))),
        "accepts none of the data tried",
    ),
    "D(x) without y": (
        discriminator(replacing(D, forward=lambda s, x: s.last(s.first(x.flatten(1))).squeeze(1))),
        "takes 2",
    ),
    # build
    "refuses by KeyError": (discriminator(D, refuses_by_key), "accepts none of the data tried"),
    "refuses by TypeError": (discriminator(lambda data: D(data, data)), "accepts none of the data tried"),
    "refuses without a message": (discriminator(D, refuses_without_message), "accepts none of the data tried"),
    "returns a class": (discriminator(lambda data: D), "must return a module, not type"),
    "returns nothing": (discriminator(lambda data: None), "must return a module, not NoneType"),
    "not a discriminator": (D, r"subclass of ganframe\.Discriminator"),
}


@pytest.mark.parametrize("name", WRONG_D)
def test_wrong_discriminator_is_refused(name):
    discriminator, cause = WRONG_D[name]
    with pytest.raises(AssertionError, match=cause):
        check_discriminator(discriminator)


# ---------------------------------------------------------------------------------------------------- wrong generators


class IgnoresLatent(nn.Module):
    """One sample per class, for every z."""

    def __init__(self, data, latent_dim):
        super().__init__()
        only_labelled(data)
        self.table = nn.Embedding(data.classes, math.prod(data.shape))
        self.shape = data.shape

    def forward(self, z, y):
        return self.table(y).unflatten(1, self.shape).to(z)


class Translation(nn.Module):
    """One sample of each condition, which it declares by default."""

    def __init__(self, data, latent_dim, declares=True):
        super().__init__()
        if data.condition is None:
            raise ValueError("needs conditions")
        self.linear = nn.Linear(math.prod(data.condition), math.prod(data.shape))
        self.shape = data.shape
        self.ignores_latent = declares

    def forward(self, z, y):
        return self.linear(y.flatten(1).to(z)).unflatten(1, self.shape)


class UndeclaredTranslation(Translation):
    def __init__(self, data, latent_dim):
        super().__init__(data, latent_dim, declares=False)


class DeclaredInVain(Translation):
    def forward(self, z, y):
        return super().forward(z, y) + z.mean(1).view(-1, *[1] * len(self.shape))


class DeclaresWithoutConditions(IgnoresLatent):
    ignores_latent = True


def test_generator_that_declares_to_ignore_the_latent_passes_on_conditions():
    check_generator(generator(Translation))


class TruncatesNothing(Translation):
    truncates_latent = True


WRONG_G = {
    "flat samples": (generator(replacing(G, samples=lambda s, h: h.unsqueeze(1))), "must return the shape"),
    "squeeze()": (
        generator(replacing(G, samples=lambda s, h: h.unflatten(1, s.shape).squeeze())),
        "must return the shape",
    ),
    "the batch size in view": (generator(replacing(G, samples=lambda s, h: h.reshape(4, *s.shape))), "for 1 sample"),
    "28 by 28": (
        generator(replacing(G, samples=lambda s, h: h.reshape(-1, 1, 28, 28))),
        "accepts none of the data tried",
    ),
    "ignores z": (generator(replacing(G, inputs=lambda s, z: torch.ones_like(z))), "the same sample for every z"),
    "ignores z but not y": (generator(IgnoresLatent), "the same sample for every z"),
    "ignores z beside an image": (generator(UndeclaredTranslation), "must set ignores_latent = True"),
    "ignores z by declaration, without conditions": (
        generator(DeclaresWithoutConditions),
        "the same sample for every z",
    ),
    "declares to ignore z and to truncate it": (generator(TruncatesNothing), "ignores_latent and truncates_latent"),
    "declares to ignore z and heeds it": (generator(DeclaredInVain), "z changes its samples"),
    "noise instead of z": (
        generator(replacing(G, inputs=lambda s, z: torch.randn_like(z))),
        "the same output for the same input",
    ),
    "noise added to features": (
        generator(replacing(G, hidden=lambda s, h: h.relu() + 0.1 * torch.randn_like(h))),
        "the same output for the same input",
    ),
    "noise on the CPU": (generator(replacing(G, inputs=lambda s, z: z + 0 * torch.randn(z.shape))), "device"),
    "dropout in evaluation mode": (
        generator(replacing(G, hidden=lambda s, h: F.dropout(h.relu()))),
        "the same output for the same input",
    ),
    "normalised over the batch always": (
        generator(
            replacing(G, hidden=lambda s, h: ((h - h.mean(0)) / (h.var(0, unbiased=False) + 1e-5).sqrt()).relu())
        ),
        "depend on the others",
    ),
    "attention across the batch": (
        generator(replacing(G, hidden=lambda s, h: (h @ h.T).softmax(1) @ h)),
        "depend on the others",
    ),
    "batch statistics in evaluation mode": (
        generator(
            replacing(
                G,
                also=lambda s, d: setattr(s, "norm", nn.BatchNorm1d(16, track_running_stats=False)),
                hidden=lambda s, h: s.norm(h).relu(),
            )
        ),
        "in evaluation mode",
    ),
    "random features as an attribute": (
        generator(
            replacing(
                G,
                also=lambda s, d: setattr(s, "rows", torch.randn(8, 8)),
                inputs=lambda s, z: (z @ s.rows.to(z)).sin(),
            )
        ),
        "neither a parameter nor a buffer",
    ),
    "a constant on the CPU": (
        generator(
            replacing(
                G, also=lambda s, d: setattr(s, "scale", torch.arange(1.0, 17)), hidden=lambda s, h: h.relu() * s.scale
            )
        ),
        "device|neither a parameter nor a buffer",
    ),
    "weights from numpy": (
        generator(
            replacing(
                G, also=lambda s, d: s.last.weight.data.copy_(torch.from_numpy(np.random.randn(*s.last.weight.shape)))
            )
        ),
        "built twice from one seed",
    ),
    "an unused layer": (
        generator(replacing(G, also=lambda s, d: setattr(s, "spare", nn.Linear(2, 2)))),
        r"no gradient: spare\.weight",
    ),
    "uint8 images": (
        generator(replacing(G, samples=lambda s, h: (h.unflatten(1, s.shape).sigmoid() * 255).byte())),
        "returns torch.uint8",
    ),
    "numpy inside": (
        generator(replacing(G, samples=lambda s, h: torch.from_numpy(h.detach().numpy()).unflatten(1, s.shape))),
        "no gradient passes",
    ),
    "the square root of a distance of 0": (
        generator(replacing(G, hidden=lambda s, h: h + distances(h))),
        "gradients are non-finite",
    ),
    "clamps z in place": (generator(replacing(G, inputs=lambda s, z: z.clamp_(-0.5, 0.5))), "in place"),
    "float32 always": (generator(replacing(G, inputs=lambda s, z: z.float())), "float64|dtype"),
    "z as an image": (
        generator(replacing(G, inputs=lambda s, z: z.view(-1, 100))),
        "accepts none of the data tried",
    ),
    "a fixed latent size": (
        generator(replacing(G, also=lambda s, d: setattr(s, "first", nn.Linear(100, 16)))),
        "accepts none of the data tried",
    ),
    "a tuple of tensors": (generator(replacing(G, samples=lambda s, h: (h, h))), "must return a tensor"),
    "weights from Python's random": (
        generator(replacing(G, also=lambda s, d: nn.init.constant_(s.first.bias, random.random()))),
        "built twice from one seed",
    ),
}


@pytest.mark.parametrize("name", WRONG_G)
def test_wrong_generator_is_refused(name):
    generator, cause = WRONG_G[name]
    with pytest.raises(AssertionError, match=cause):
        check_generator(generator)


def test_network_is_checked_on_given_data():
    def build(data):
        return D(DataSpec((784,)))

    with pytest.raises(AssertionError, match="in training mode, for 4 samples"):
        check_discriminator(discriminator(build), DataSpec((1, 14, 14)))
    check_discriminator(discriminator(build), DataSpec((1, 28, 28)))


def test_refusal_of_given_data_quotes_the_error_of_build():
    with pytest.raises(AssertionError, match="images only"):
        check_discriminator(discriminator(D, only_images), POINTS)


# ------------------------------------------------------------------------------------------------------------- correct


def with_modules(*modules: Callable[[], nn.Module], width: int = 16) -> Callable:
    """A discriminator that applies these modules to its hidden features."""

    def also(self, data):
        self.more = nn.Sequential(*(module() for module in modules))
        self.last = nn.Linear(width, 1)

    return discriminator(replacing(D, also=also, hidden=lambda s, h: s.more(h)))


class Attention(nn.Module):
    """Self-attention over positions (Zhang et al. 2019), with γ initialised to 0."""

    def __init__(self, channels):
        super().__init__()
        self.q, self.k, self.v = (nn.Conv2d(channels, channels, 1) for _ in range(3))
        self.gamma = nn.Parameter(torch.zeros(()))

    def forward(self, h):
        q, k, v = (f(h).flatten(2) for f in (self.q, self.k, self.v))
        weights = (q.transpose(1, 2) @ k).softmax(-1)
        return h + self.gamma * (v @ weights.transpose(1, 2)).view_as(h)


class ImageDiscriminator(nn.Module):
    """Convolutions, pooling, residual blocks, attention, label projection."""

    def __init__(self, data, norm=nn.Identity, last_zero=False):
        super().__init__()
        only_images(data)
        self.first = nn.Conv2d(data.shape[0], 8, 3, padding=1)
        self.norm = norm()
        self.block = nn.Sequential(nn.LeakyReLU(0.2), nn.Conv2d(8, 8, 3, padding=1))
        self.attention = Attention(8)
        self.last = nn.Linear(8, 1)
        self.label = nn.Embedding(data.classes, 8) if data.classes else None
        if last_zero:
            nn.init.zeros_(self.last.weight)
            nn.init.zeros_(self.last.bias)

    def forward(self, x, y):
        h = F.max_pool2d(self.norm(self.first(x)), 2)
        h = self.attention(h + self.block(h)).relu().mean((2, 3))
        scores = self.last(h).flatten()
        return scores if self.label is None else scores + (self.label(y) * h).sum(1)


class DeclaredByNetwork(D):
    """The network declares that it mixes samples."""

    mixes_samples = True

    def hidden(self, h):
        return F.leaky_relu(h - h.mean(0))


class SpectralNoBias(D):
    """Spectral normalisation without bias: |D(x)| ≤ ‖x‖, which still is a raw score."""

    def __init__(self, data):
        super().__init__(data)
        self.first = parametrizations.spectral_norm(nn.Linear(math.prod(data.shape), 16, bias=False))
        self.last = parametrizations.spectral_norm(nn.Linear(16, 1, bias=False))


class SequenceDiscriminator(nn.Module):
    """A discriminator of sequences (T, D)."""

    def __init__(self, data):
        super().__init__()
        if len(data.shape) != 2:
            raise ValueError("sequences (T, D) only")
        self.embed = nn.Linear(data.shape[1], 8)
        self.mix = nn.Conv1d(8, 8, 3, padding=1)
        self.last = nn.Linear(8, 1)

    def forward(self, x, y):
        h = self.embed(x).transpose(1, 2)
        return self.last(self.mix(h).tanh().mean(2))[:, 0]


RIGHT_D = {
    "plain": discriminator(D),
    "dropout": with_modules(nn.LeakyReLU, nn.Dropout),
    "LayerNorm": with_modules(lambda: nn.LayerNorm(16), nn.GELU),
    "GroupNorm": with_modules(lambda: nn.GroupNorm(4, 16), nn.SiLU),
    "BatchNorm": with_modules(lambda: nn.BatchNorm1d(16), nn.LeakyReLU),
    "maxout": discriminator(
        replacing(
            D,
            also=lambda s, d: setattr(s, "first", nn.Linear(math.prod(d.shape), 80)),
            hidden=lambda s, h: h.unflatten(1, (16, 5)).amax(2),
        )
    ),
    "inplace activations": with_modules(lambda: nn.LeakyReLU(0.2, inplace=True)),
    "spectral norm": with_modules(lambda: parametrizations.spectral_norm(nn.Linear(16, 16)), nn.LeakyReLU),
    "spectral norm of all layers, no bias": discriminator(SpectralNoBias),
    "weight norm": with_modules(lambda: parametrizations.weight_norm(nn.Linear(16, 16)), nn.Tanh),
    "minibatch statistic, declared by its layer": with_modules(nn.LeakyReLU, lambda: MinibatchStd(True), width=17),
    "minibatch statistic, declared by the network": discriminator(DeclaredByNetwork),
    "linear": discriminator(replacing(D, hidden=lambda s, h: h)),
    "a last layer of zeros": discriminator(
        replacing(D, also=lambda s, d: (nn.init.zeros_(s.last.weight), nn.init.zeros_(s.last.bias)))
    ),
    "noise in training": discriminator(
        replacing(D, inputs=lambda s, x: (x + 0.1 * torch.randn_like(x) if s.training else x).flatten(1))
    ),
    "random features in a buffer": discriminator(
        replacing(
            D,
            also=lambda s, d: s.register_buffer("rows", torch.randn(math.prod(d.shape), math.prod(d.shape))),
            inputs=lambda s, x: (x.flatten(1) @ s.rows).sin(),
        )
    ),
    "a frozen first layer": discriminator(replacing(D, also=lambda s, d: s.first.requires_grad_(False))),
    "images": discriminator(ImageDiscriminator),
    "images with GroupNorm": discriminator(lambda data: ImageDiscriminator(data, lambda: nn.GroupNorm(2, 8))),
    "images with BatchNorm": discriminator(lambda data: ImageDiscriminator(data, lambda: nn.BatchNorm2d(8))),
    "images with InstanceNorm": discriminator(lambda data: ImageDiscriminator(data, lambda: nn.InstanceNorm2d(8))),
    "images, last layer zero": discriminator(lambda data: ImageDiscriminator(data, last_zero=True)),
    "sequences": discriminator(SequenceDiscriminator),
    "labelled data only": discriminator(D, only_labelled),
}


@pytest.mark.parametrize("name", RIGHT_D)
def test_correct_discriminator_is_accepted(name):
    check_discriminator(RIGHT_D[name])


class ConditionalBatchNorm(nn.Module):
    """BatchNorm with scale and shift per class."""

    def __init__(self, channels, classes):
        super().__init__()
        self.norm = nn.BatchNorm2d(channels, affine=False)
        self.scale, self.shift = nn.Embedding(classes, channels), nn.Embedding(classes, channels)

    def forward(self, h, y):
        return self.norm(h) * (1 + self.scale(y)[:, :, None, None]) + self.shift(y)[:, :, None, None]


class ImageGenerator(nn.Module):
    """Residual sub-pixel convolution (Shi et al. 2016); conditional BatchNorm if the data has classes."""

    def __init__(self, data, latent_dim, last_zero=False):
        super().__init__()
        only_images(data)
        if data.shape[1] % 2 or data.shape[2] % 2:
            raise ValueError("sizes divisible by 2 only")
        self.size = (8, data.shape[1] // 2, data.shape[2] // 2)
        self.first = nn.Linear(latent_dim, math.prod(self.size))
        self.norm = ConditionalBatchNorm(8, data.classes) if data.classes else None
        self.plain = nn.GroupNorm(2, 8)
        self.block = nn.Conv2d(8, 8, 3, padding=1)
        self.up = nn.Sequential(nn.Conv2d(8, 4 * data.shape[0], 3, padding=1), nn.PixelShuffle(2))
        if last_zero:
            nn.init.zeros_(self.up[0].weight)
            nn.init.zeros_(self.up[0].bias)

    def forward(self, z, y):
        h = self.first(z).unflatten(1, self.size)
        h = h if self.norm is None else self.norm(h, y)
        return self.up(h + self.block(self.plain(h).relu())).tanh()


class Conditional(G):
    """Multiplies z by the label's embedding (as in the conditional DCGAN of Keras)."""

    def __init__(self, data, latent_dim):
        super().__init__(data, latent_dim)
        self.label = nn.Embedding(data.classes or 1, latent_dim)

    def forward(self, z, y):
        return super().forward(z * self.label(y), y)


class Averaged(G):
    """Stores the mean of latents in a buffer, for truncation (Karras et al. 2019)."""

    def __init__(self, data, latent_dim):
        super().__init__(data, latent_dim)
        self.register_buffer("mean", torch.zeros(16))

    def hidden(self, h):
        if self.training:
            self.mean.lerp_(h.detach().mean(0).to(self.mean), 0.005)
            return h.relu()
        return torch.lerp(self.mean.to(h), h, 0.7).relu()


RIGHT_G = {
    "plain": generator(G),
    "BatchNorm": generator(
        replacing(G, also=lambda s, d: setattr(s, "norm", nn.BatchNorm1d(16)), hidden=lambda s, h: s.norm(h).relu())
    ),
    "LayerNorm": generator(
        replacing(G, also=lambda s, d: setattr(s, "norm", nn.LayerNorm(16)), hidden=lambda s, h: s.norm(h).relu())
    ),
    "PixelNorm": generator(replacing(G, inputs=lambda s, z: z * (z.square().mean(1, keepdim=True) + 1e-8).rsqrt())),
    "dropout in training": generator(replacing(G, hidden=lambda s, h: F.dropout(h.relu(), 0.5, s.training))),
    "noise in training": generator(
        replacing(G, hidden=lambda s, h: (h + torch.randn_like(h) if s.training else h).relu())
    ),
    "embedding": generator(Conditional),
    "tanh": generator(replacing(G, samples=lambda s, h: h.unflatten(1, s.shape).tanh())),
    "linear": generator(replacing(G, hidden=lambda s, h: h)),
    "residual": generator(replacing(G, hidden=lambda s, h: h + h.tanh())),
    "a mean of latents": generator(Averaged),
    "a last layer of zeros": generator(
        replacing(G, also=lambda s, d: (nn.init.zeros_(s.last.weight), nn.init.zeros_(s.last.bias)))
    ),
    "images": generator(ImageGenerator),
    "images, last layer zero": generator(lambda data, latent_dim: ImageGenerator(data, latent_dim, last_zero=True)),
}


@pytest.mark.parametrize("name", RIGHT_G)
def test_correct_generator_is_accepted(name):
    check_generator(RIGHT_G[name])


@pytest.mark.parametrize("data", [POINTS, LABELLED, IMAGES, DataSpec((5, 7)), DataSpec((2, 3, 4, 4))], ids=str)
def test_networks_for_any_data_are_accepted(data):
    check_generator(generator(G), data, latent_dim=3)
    check_discriminator(discriminator(D), data)


@attrs.frozen
class Wide(Discriminator):
    """A discriminator with options."""

    widths: tuple[int, ...] = option((8, 4), help="units of each layer")
    slope: float = option(0.2, help="slope of leaky ReLU")

    def build(self, data):
        sizes = (math.prod(data.shape), *self.widths)
        layers = [m for a, b in itertools.pairwise(sizes) for m in (nn.Linear(a, b), nn.LeakyReLU(self.slope))]
        return Sequence(nn.Flatten(), *layers, nn.Linear(sizes[-1], 1), nn.Flatten(0))


class Sequence(nn.Sequential):
    def forward(self, x, y):
        return super().forward(x)


def test_options_and_instances_are_accepted():
    check_discriminator(Wide)
    check_discriminator(Wide(widths=(), slope=0))


@attrs.frozen
class ForPoints(Discriminator):
    """A discriminator of points, which uses the first size as the number of coordinates."""

    def build(self, data):
        return Quadratic(*data.shape)


class Quadratic(nn.Module):
    def __init__(self, dimensions: int) -> None:
        super().__init__()
        self.bilinear = nn.Bilinear(dimensions, dimensions, 1)

    def forward(self, x, y):
        return self.bilinear(x, x).squeeze(1)


def test_network_for_points_may_fail_for_images():
    check_discriminator(ForPoints)
    with pytest.raises(AssertionError, match=r"accepts none of the data tried.*TypeError"):
        check_discriminator(ForPoints, DataSpec((1, 8, 8)))
