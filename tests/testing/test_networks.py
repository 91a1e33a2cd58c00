"""check_generator and check_discriminator refuse networks that are wrong, naming the cause, and accept right ones."""

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


def critic(network: Callable, refuses: Callable | None = None) -> type[Discriminator]:
    """A discriminator of network(data)."""

    @attrs.frozen
    class Critic(Discriminator):
        """A critic."""

        def build(self, data):
            if refuses is not None:
                refuses(data)
            return network(data)

    return Critic


def source(network: Callable) -> type[Generator]:
    """A generator of network(data, latent_dim)."""

    @attrs.frozen
    class Source(Generator):
        """A generator."""

        def build(self, data, latent_dim):
            return network(data, latent_dim)

    return Source


def only_images(data):
    if not data.is_image:
        raise ValueError("images only")


def only_labelled(data):
    if data.classes is None:
        raise ValueError("labelled data only")


class D(nn.Module):
    """A right critic in pieces, each of which a wrong one replaces."""

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
    """A right generator in pieces."""

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
    """A subclass of D or G with other pieces; `also(self, data)` runs at the end of __init__."""
    also = methods.pop("also", None)

    def init(self, data, *more):
        base.__init__(self, data, *more)
        also(self, data)

    return type(base.__name__, (base,), methods | ({"__init__": init} if also else {}))


# ------------------------------------------------------------------------------------------------ wrong discriminators


class BatchNormByHand(nn.Module):
    """BatchNorm of one's own, with running statistics, which says nothing of mixing samples."""

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
    """The mean standard deviation over the batch (Karras et al. 2018) as one more feature."""

    def __init__(self, says_so):
        super().__init__()
        if says_so:
            self.mixes_samples = True

    def forward(self, h):
        std = (h.var(0, unbiased=False) + 1e-8).sqrt().mean()
        return torch.cat([h, std.expand(len(h), 1)], dim=1)


class Lazily(D):
    """A layer made in the first forward."""

    def hidden(self, h):
        if not hasattr(self, "extra"):
            self.extra = nn.Linear(16, 16).to(h)
        return self.extra(h).tanh()


class OneHotFloat(D):
    """The label as one-hot in float32, whatever x is."""

    def __init__(self, data):
        super().__init__(data)
        self.classes = data.classes or 1
        self.label = nn.Linear(self.classes, 16)

    def forward(self, x, y):
        h = self.first(x.flatten(1)) + self.label(F.one_hot(y, self.classes).float())
        return self.last(F.leaky_relu(h)).squeeze(1)


class Once(torch.autograd.Function):
    """x², whose gradient cannot be differentiated again."""

    @staticmethod
    def forward(ctx, x):
        ctx.save_for_backward(x)
        return x.square()

    @staticmethod
    @torch.autograd.function.once_differentiable
    def backward(ctx, gradient):
        return gradient * 2 * ctx.saved_tensors[0]


class Moving(D):
    """Divides by a moving mean: an attribute, or a buffer that moves in evaluation too."""

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
    """Distances between the four parts of a sample, as in attention by distance: √0 for each part and itself."""
    parts = h.unflatten(1, (4, 4))
    return (parts[:, :, None] - parts[:, None]).square().sum(3).sqrt().flatten(1)


def no_words(data):
    raise ValueError


def refuses_by_key(data):
    {"mnist": 1}[data.shape]


WRONG_D = {
    # scores
    "scores (N, 1)": (critic(replacing(D, scores=lambda s, h: h)), r"must give the shape \(4,\)"),
    "a mean over the batch": (critic(replacing(D, scores=lambda s, h: h.mean())), r"must give the shape \(4,\)"),
    "squeeze() of a batch of one": (
        critic(replacing(D, scores=lambda s, h: h.squeeze())),
        r"shape \(1,\) .*for 1 sample",
    ),
    "a sigmoid": (critic(replacing(D, scores=lambda s, h: h.squeeze(1).sigmoid())), "raw scores"),
    "a tanh": (critic(replacing(D, scores=lambda s, h: h.squeeze(1).tanh())), "raw scores"),
    "a clamp": (critic(replacing(D, scores=lambda s, h: h.squeeze(1).clamp(-1, 1))), "raw scores"),
    "five times a tanh": (critic(replacing(D, scores=lambda s, h: 5 * h.squeeze(1).tanh())), "raw scores"),
    "scores and features": (
        critic(replacing(D, scores=lambda s, h: (h.squeeze(1), h))),
        "must give a tensor, not tuple",
    ),
    "two outputs": (critic(replacing(D, also=lambda s, d: setattr(s, "last", nn.Linear(16, 2)))), "shape"),
    "not finite": (critic(replacing(D, scores=lambda s, h: h.squeeze(1) / 0)), "not finite"),
    # samples
    "centred over the batch": (
        critic(replacing(D, hidden=lambda s, h: (h - h.mean(0)).tanh())),
        "depend on the others|∂D",
    ),
    "a softmax over the batch": (critic(replacing(D, hidden=lambda s, h: h.softmax(0))), "depend on the others|∂D"),
    "a norm over the batch": (critic(replacing(D, hidden=lambda s, h: h / h.norm())), "depend on the others|∂D"),
    "BatchNorm by hand": (
        critic(
            replacing(
                D,
                also=lambda s, d: setattr(s, "norm", BatchNormByHand(16)),
                hidden=lambda s, h: F.leaky_relu(s.norm(h)),
            )
        ),
        "mixes_samples",
    ),
    "minibatch statistic, undeclared": (
        critic(
            replacing(
                D,
                also=lambda s, d: (setattr(s, "std", MinibatchStd(False)), setattr(s, "last", nn.Linear(17, 1))),
                hidden=lambda s, h: s.std(F.leaky_relu(h)),
            )
        ),
        "mixes_samples",
    ),
    "GroupNorm over the batch": (
        critic(replacing(D, hidden=lambda s, h: F.layer_norm(h.T, h.T.shape[1:]).T.tanh())),
        "depend on the others|∂D",
    ),
    "batch statistics in evaluation": (
        critic(
            replacing(
                D,
                also=lambda s, d: setattr(s, "norm", nn.BatchNorm1d(16, track_running_stats=False)),
                hidden=lambda s, h: s.norm(h).tanh(),
            )
        ),
        "in evaluation",
    ),
    "the batch's size in view": (
        critic(replacing(D, inputs=lambda s, x: x.reshape(4, -1))),
        "for 1 sample",
    ),
    "a batch of 64 in view": (
        critic(replacing(D, inputs=lambda s, x: x.view(64, -1))),
        "takes none of the data that was tried",
    ),
    "a residue of the flattened batch": (
        critic(replacing(D, inputs=lambda s, x: x.flatten(1).roll(1, dims=0))),
        "depend on the others|∂D",
    ),
    # evaluation
    "dropout in evaluation": (
        critic(replacing(D, hidden=lambda s, h: F.dropout(h.tanh()))),
        "answer one input one way",
    ),
    "noise in evaluation": (
        critic(replacing(D, inputs=lambda s, x: x.flatten(1) + 0.1 * torch.randn_like(x.flatten(1)))),
        "answer one input one way",
    ),
    "noise on the CPU": (
        critic(replacing(D, inputs=lambda s, x: x.flatten(1) + 0 * torch.randn(x.flatten(1).shape))),
        "device",
    ),
    "a buffer that moves in evaluation": (critic(lambda data: Moving(data, buffer=True)), "must keep its buffers"),
    # state
    "a moving average as an attribute": (critic(Moving), "no parameter and no buffer"),
    "random features as an attribute": (
        critic(
            replacing(
                D,
                also=lambda s, d: setattr(s, "rows", torch.randn(math.prod(d.shape), math.prod(d.shape))),
                inputs=lambda s, x: (x.flatten(1) @ s.rows.to(x)).sin(),
            )
        ),
        "no parameter and no buffer",
    ),
    "random features of numpy": (
        critic(
            replacing(
                D,
                also=lambda s, d: s.register_buffer("shift", torch.tensor(np.random.rand(), dtype=torch.float32)),
                inputs=lambda s, x: x.flatten(1) + s.shift,
            )
        ),
        "built twice from one seed",
    ),
    "weights from Python's random": (
        critic(replacing(D, also=lambda s, d: nn.init.constant_(s.last.weight, random.random()))),
        "built twice from one seed",
    ),
    "a buffer that is not stored": (
        critic(
            replacing(
                D,
                also=lambda s, d: s.register_buffer("shift", torch.randn(()), persistent=False),
                inputs=lambda s, x: x.flatten(1) + s.shift,
            )
        ),
        "state_dict does not restore",
    ),
    # parameters and gradients
    "a layer never used": (
        critic(replacing(D, also=lambda s, d: setattr(s, "spare", nn.Linear(2, 2)))),
        r"no gradient: spare\.weight",
    ),
    "a layer under no_grad": (
        critic(replacing(D, hidden=lambda s, h: h.detach().tanh())),
        r"no gradient: first|gradient by x",
    ),
    "all under no_grad": (critic(replacing(D, forward=torch.no_grad()(D.forward))), "no gradient passes"),
    "samples detached": (
        critic(replacing(D, inputs=lambda s, x: x.detach().flatten(1))),
        "gradient by x|differentiat",
    ),
    "samples rounded": (critic(replacing(D, inputs=lambda s, x: x.flatten(1).round())), "gradient by x"),
    "a layer made in forward": (critic(Lazily), "forward|lazy|parameters|state_dict"),
    "nn.LazyLinear": (
        critic(replacing(D, also=lambda s, d: setattr(s, "first", nn.LazyLinear(16)))),
        "lazy|Lazy|uninitiali[sz]ed",
    ),
    "differentiable once": (critic(replacing(D, hidden=lambda s, h: Once.apply(h))), "gradient penalty"),
    "the square root of a distance of 0": (
        critic(replacing(D, hidden=lambda s, h: h + distances(h))),
        "gradient.*finite|not finite",
    ),
    # inputs
    "changes its input": (critic(replacing(D, inputs=lambda s, x: x.mul_(2).sub_(1).flatten(1))), "in place"),
    "clamps its input in place": (
        critic(replacing(D, inputs=lambda s, x: x.clamp_(-0.5, 0.5).flatten(1))),
        "in place",
    ),
    "float32 always": (critic(replacing(D, inputs=lambda s, x: x.flatten(1).float())), "float64|dtype"),
    "scores in float32 always": (
        critic(replacing(D, scores=lambda s, h: h.squeeze(1).float())),
        "float64",
    ),
    "one-hot labels in float32": (critic(OneHotFloat), "float64|dtype"),
    "an image size of its own": (
        critic(replacing(D, also=lambda s, d: setattr(s, "first", nn.Linear(784, 16)))),
        "takes none of the data that was tried",
    ),
    "D(x) without y": (critic(replacing(D, forward=lambda s, x: s.last(s.first(x.flatten(1))).squeeze(1))), "takes 2"),
    # build
    "refuses by KeyError": (critic(D, refuses_by_key), "takes none of the data that was tried"),
    "refuses by TypeError": (critic(lambda data: D(data, data)), "takes none of the data that was tried"),
    "refuses without words": (critic(D, no_words), "takes none of the data that was tried"),
    "returns a class": (critic(lambda data: D), "must return a module, not type"),
    "returns nothing": (critic(lambda data: None), "must return a module, not NoneType"),
    "no discriminator": (D, r"subclass of ganframe\.Discriminator"),
}


@pytest.mark.parametrize("name", WRONG_D)
def test_it_refuses_the_discriminator(name):
    discriminator, cause = WRONG_D[name]
    with pytest.raises(AssertionError, match=cause):
        check_discriminator(discriminator)


# ---------------------------------------------------------------------------------------------------- wrong generators


class ByLabelAlone(nn.Module):
    """A sample for each class, whatever z is."""

    def __init__(self, data, latent_dim):
        super().__init__()
        only_labelled(data)
        self.table = nn.Embedding(data.classes, math.prod(data.shape))
        self.shape = data.shape

    def forward(self, z, y):
        return self.table(y).unflatten(1, self.shape).to(z)


WRONG_G = {
    "flat samples": (source(replacing(G, samples=lambda s, h: h.unsqueeze(1))), "must give the shape"),
    "squeeze()": (source(replacing(G, samples=lambda s, h: h.unflatten(1, s.shape).squeeze())), "must give the shape"),
    "the batch's size in view": (source(replacing(G, samples=lambda s, h: h.reshape(4, *s.shape))), "for 1 sample"),
    "28 by 28": (
        source(replacing(G, samples=lambda s, h: h.reshape(-1, 1, 28, 28))),
        "takes none of the data that was tried",
    ),
    "ignores z": (source(replacing(G, inputs=lambda s, z: torch.ones_like(z))), "whatever z is"),
    "ignores z but not y": (source(ByLabelAlone), "whatever z is"),
    "noise for z": (source(replacing(G, inputs=lambda s, z: torch.randn_like(z))), "answer one input one way"),
    "noise beside z": (
        source(replacing(G, hidden=lambda s, h: h.relu() + 0.1 * torch.randn_like(h))),
        "answer one input one way",
    ),
    "noise on the CPU": (source(replacing(G, inputs=lambda s, z: z + 0 * torch.randn(z.shape))), "device"),
    "dropout in evaluation": (
        source(replacing(G, hidden=lambda s, h: F.dropout(h.relu()))),
        "answer one input one way",
    ),
    "normalised over the batch always": (
        source(replacing(G, hidden=lambda s, h: ((h - h.mean(0)) / (h.var(0, unbiased=False) + 1e-5).sqrt()).relu())),
        "depend on the others",
    ),
    "attention across the batch": (
        source(replacing(G, hidden=lambda s, h: (h @ h.T).softmax(1) @ h)),
        "depend on the others",
    ),
    "batch statistics in evaluation": (
        source(
            replacing(
                G,
                also=lambda s, d: setattr(s, "norm", nn.BatchNorm1d(16, track_running_stats=False)),
                hidden=lambda s, h: s.norm(h).relu(),
            )
        ),
        "in evaluation",
    ),
    "random features as an attribute": (
        source(
            replacing(
                G,
                also=lambda s, d: setattr(s, "rows", torch.randn(8, 8)),
                inputs=lambda s, z: (z @ s.rows.to(z)).sin(),
            )
        ),
        "no parameter and no buffer",
    ),
    "a constant of the CPU": (
        source(
            replacing(
                G, also=lambda s, d: setattr(s, "scale", torch.arange(1.0, 17)), hidden=lambda s, h: h.relu() * s.scale
            )
        ),
        "device|no parameter and no buffer",
    ),
    "weights of numpy": (
        source(
            replacing(
                G, also=lambda s, d: s.last.weight.data.copy_(torch.from_numpy(np.random.randn(*s.last.weight.shape)))
            )
        ),
        "built twice from one seed",
    ),
    "a layer never used": (
        source(replacing(G, also=lambda s, d: setattr(s, "spare", nn.Linear(2, 2)))),
        r"no gradient: spare\.weight",
    ),
    "uint8 images": (
        source(replacing(G, samples=lambda s, h: (h.unflatten(1, s.shape).sigmoid() * 255).byte())),
        "gives torch.uint8",
    ),
    "numpy inside": (
        source(replacing(G, samples=lambda s, h: torch.from_numpy(h.detach().numpy()).unflatten(1, s.shape))),
        "no gradient passes",
    ),
    "the square root of a distance of 0": (
        source(replacing(G, hidden=lambda s, h: h + distances(h))),
        "gradient.*finite|not finite",
    ),
    "clamps z in place": (source(replacing(G, inputs=lambda s, z: z.clamp_(-0.5, 0.5))), "in place"),
    "float32 always": (source(replacing(G, inputs=lambda s, z: z.float())), "float64|dtype"),
    "z as an image": (
        source(replacing(G, inputs=lambda s, z: z.view(-1, 100))),
        "takes none of the data that was tried",
    ),
    "a latent size of its own": (
        source(replacing(G, also=lambda s, d: setattr(s, "first", nn.Linear(100, 16)))),
        "takes none of the data that was tried",
    ),
    "the mean and the spread": (source(replacing(G, samples=lambda s, h: (h, h))), "must give a tensor"),
    "a layer made by numpy's seed": (
        source(replacing(G, also=lambda s, d: nn.init.constant_(s.first.bias, random.random()))),
        "built twice from one seed",
    ),
}


@pytest.mark.parametrize("name", WRONG_G)
def test_it_refuses_the_generator(name):
    generator, cause = WRONG_G[name]
    with pytest.raises(AssertionError, match=cause):
        check_generator(generator)


def test_it_refuses_what_is_wrong_for_the_data_it_is_given():
    def build(data):
        return D(DataSpec((784,)))

    with pytest.raises(AssertionError, match="in training, for 4 samples"):
        check_discriminator(critic(build), DataSpec((1, 14, 14)))
    check_discriminator(critic(build), DataSpec((1, 28, 28)))


def test_it_refuses_build_for_the_data_it_is_given_with_its_reason():
    with pytest.raises(AssertionError, match="images only"):
        check_discriminator(critic(D, only_images), POINTS)


# --------------------------------------------------------------------------------------------------------------- right


def with_modules(*modules: Callable[[], nn.Module], width: int = 16) -> Callable:
    """D whose hidden features pass through these modules."""

    def also(self, data):
        self.more = nn.Sequential(*(module() for module in modules))
        self.last = nn.Linear(width, 1)

    return critic(replacing(D, also=also, hidden=lambda s, h: s.more(h)))


class Attention(nn.Module):
    """Self-attention over places (Zhang et al. 2019), its γ 0 at the start."""

    def __init__(self, channels):
        super().__init__()
        self.q, self.k, self.v = (nn.Conv2d(channels, channels, 1) for _ in range(3))
        self.gamma = nn.Parameter(torch.zeros(()))

    def forward(self, h):
        q, k, v = (f(h).flatten(2) for f in (self.q, self.k, self.v))
        weights = (q.transpose(1, 2) @ k).softmax(-1)
        return h + self.gamma * (v @ weights.transpose(1, 2)).view_as(h)


class ImageCritic(nn.Module):
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
    """The network itself says that it mixes samples."""

    mixes_samples = True

    def hidden(self, h):
        return F.leaky_relu(h - h.mean(0))


class SpectralNoBias(D):
    """Spectral normalisation built in, and no bias: |D(x)| ≤ ‖x‖, raw all the same."""

    def __init__(self, data):
        super().__init__(data)
        self.first = parametrizations.spectral_norm(nn.Linear(math.prod(data.shape), 16, bias=False))
        self.last = parametrizations.spectral_norm(nn.Linear(16, 1, bias=False))


class Recurrent(nn.Module):
    """A critic of sequences (T, D)."""

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
    "plain": critic(D),
    "dropout": with_modules(nn.LeakyReLU, nn.Dropout),
    "LayerNorm": with_modules(lambda: nn.LayerNorm(16), nn.GELU),
    "GroupNorm": with_modules(lambda: nn.GroupNorm(4, 16), nn.SiLU),
    "BatchNorm": with_modules(lambda: nn.BatchNorm1d(16), nn.LeakyReLU),
    "maxout": critic(
        replacing(
            D,
            also=lambda s, d: setattr(s, "first", nn.Linear(math.prod(d.shape), 80)),
            hidden=lambda s, h: h.unflatten(1, (16, 5)).amax(2),
        )
    ),
    "inplace activations": with_modules(lambda: nn.LeakyReLU(0.2, inplace=True)),
    "spectral norm": with_modules(lambda: parametrizations.spectral_norm(nn.Linear(16, 16)), nn.LeakyReLU),
    "spectral norm of all layers, no bias": critic(SpectralNoBias),
    "weight norm": with_modules(lambda: parametrizations.weight_norm(nn.Linear(16, 16)), nn.Tanh),
    "minibatch statistic, declared by its layer": with_modules(nn.LeakyReLU, lambda: MinibatchStd(True), width=17),
    "minibatch statistic, declared by the network": critic(DeclaredByNetwork),
    "linear": critic(replacing(D, hidden=lambda s, h: h)),
    "a last layer of zeros": critic(
        replacing(D, also=lambda s, d: (nn.init.zeros_(s.last.weight), nn.init.zeros_(s.last.bias)))
    ),
    "noise in training": critic(
        replacing(D, inputs=lambda s, x: (x + 0.1 * torch.randn_like(x) if s.training else x).flatten(1))
    ),
    "random features in a buffer": critic(
        replacing(
            D,
            also=lambda s, d: s.register_buffer("rows", torch.randn(math.prod(d.shape), math.prod(d.shape))),
            inputs=lambda s, x: (x.flatten(1) @ s.rows).sin(),
        )
    ),
    "a frozen first layer": critic(replacing(D, also=lambda s, d: s.first.requires_grad_(False))),
    "images": critic(ImageCritic),
    "images with GroupNorm": critic(lambda data: ImageCritic(data, lambda: nn.GroupNorm(2, 8))),
    "images with BatchNorm": critic(lambda data: ImageCritic(data, lambda: nn.BatchNorm2d(8))),
    "images with InstanceNorm": critic(lambda data: ImageCritic(data, lambda: nn.InstanceNorm2d(8))),
    "images, last layer zero": critic(lambda data: ImageCritic(data, last_zero=True)),
    "sequences": critic(Recurrent),
    "labelled data only": critic(D, only_labelled),
}


@pytest.mark.parametrize("name", RIGHT_D)
def test_it_accepts_the_discriminator(name):
    check_discriminator(RIGHT_D[name])


class ConditionalBatchNorm(nn.Module):
    """Scale and shift by class."""

    def __init__(self, channels, classes):
        super().__init__()
        self.norm = nn.BatchNorm2d(channels, affine=False)
        self.scale, self.shift = nn.Embedding(classes, channels), nn.Embedding(classes, channels)

    def forward(self, h, y):
        return self.norm(h) * (1 + self.scale(y)[:, :, None, None]) + self.shift(y)[:, :, None, None]


class ImageSource(nn.Module):
    """Sub-pixel convolution (Shi et al. 2016), residual, with conditional BatchNorm where there are classes."""

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
    """The label's embedding times z (as in the conditional DCGAN of Keras)."""

    def __init__(self, data, latent_dim):
        super().__init__(data, latent_dim)
        self.label = nn.Embedding(data.classes or 1, latent_dim)

    def forward(self, z, y):
        return super().forward(z * self.label(y), y)


class Averaged(G):
    """A mean of latents kept in a buffer, for truncation (Karras et al. 2019)."""

    def __init__(self, data, latent_dim):
        super().__init__(data, latent_dim)
        self.register_buffer("mean", torch.zeros(16))

    def hidden(self, h):
        if self.training:
            self.mean.lerp_(h.detach().mean(0).to(self.mean), 0.005)
            return h.relu()
        return torch.lerp(self.mean.to(h), h, 0.7).relu()


RIGHT_G = {
    "plain": source(G),
    "BatchNorm": source(
        replacing(G, also=lambda s, d: setattr(s, "norm", nn.BatchNorm1d(16)), hidden=lambda s, h: s.norm(h).relu())
    ),
    "LayerNorm": source(
        replacing(G, also=lambda s, d: setattr(s, "norm", nn.LayerNorm(16)), hidden=lambda s, h: s.norm(h).relu())
    ),
    "PixelNorm": source(replacing(G, inputs=lambda s, z: z * (z.square().mean(1, keepdim=True) + 1e-8).rsqrt())),
    "dropout in training": source(replacing(G, hidden=lambda s, h: F.dropout(h.relu(), 0.5, s.training))),
    "noise in training": source(
        replacing(G, hidden=lambda s, h: (h + torch.randn_like(h) if s.training else h).relu())
    ),
    "embedding": source(Conditional),
    "tanh": source(replacing(G, samples=lambda s, h: h.unflatten(1, s.shape).tanh())),
    "linear": source(replacing(G, hidden=lambda s, h: h)),
    "residual": source(replacing(G, hidden=lambda s, h: h + h.tanh())),
    "a mean of latents": source(Averaged),
    "a last layer of zeros": source(
        replacing(G, also=lambda s, d: (nn.init.zeros_(s.last.weight), nn.init.zeros_(s.last.bias)))
    ),
    "images": source(ImageSource),
    "images, last layer zero": source(lambda data, latent_dim: ImageSource(data, latent_dim, last_zero=True)),
}


@pytest.mark.parametrize("name", RIGHT_G)
def test_it_accepts_the_generator(name):
    check_generator(RIGHT_G[name])


@pytest.mark.parametrize("data", [POINTS, LABELLED, IMAGES, DataSpec((5, 7)), DataSpec((2, 3, 4, 4))], ids=str)
def test_it_accepts_any_data_by_name(data):
    check_generator(source(G), data, latent_dim=3)
    check_discriminator(critic(D), data)


@attrs.frozen
class Wide(Discriminator):
    """A critic with options."""

    widths: tuple[int, ...] = option((8, 4), help="units of each layer")
    slope: float = option(0.2, help="of leaky ReLU")

    def build(self, data):
        sizes = (math.prod(data.shape), *self.widths)
        layers = [m for a, b in itertools.pairwise(sizes) for m in (nn.Linear(a, b), nn.LeakyReLU(self.slope))]
        return Sequence(nn.Flatten(), *layers, nn.Linear(sizes[-1], 1), nn.Flatten(0))


class Sequence(nn.Sequential):
    def forward(self, x, y):
        return super().forward(x)


def test_it_accepts_options_and_instances():
    check_discriminator(Wide)
    check_discriminator(Wide(widths=(), slope=0))


@attrs.frozen
class ForPoints(Discriminator):
    """A critic of points in the plane, which takes the first axis for the number of coordinates."""

    def build(self, data):
        return Quadratic(*data.shape)


class Quadratic(nn.Module):
    def __init__(self, dimensions: int) -> None:
        super().__init__()
        self.bilinear = nn.Bilinear(dimensions, dimensions, 1)

    def forward(self, x, y):
        return self.bilinear(x, x).squeeze(1)


def test_a_network_for_points_need_not_know_of_images():
    check_discriminator(ForPoints)
    with pytest.raises(AssertionError, match=r"takes none of the data that was tried.*TypeError"):
        check_discriminator(ForPoints, DataSpec((1, 8, 8)))
