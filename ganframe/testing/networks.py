"""Checks of generators and discriminators: declared shapes in every mode, samples kept apart, state that is stored."""

from __future__ import annotations

import functools
import math
from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor, nn

from ganframe.components import DataSpec, Discriminator, Generator, mixes_samples
from ganframe.testing.common import DEVICE, asking, buffers, changed, checked, configured, elsewhere, require

SPECS = (
    DataSpec((2,)),
    DataSpec((3,), classes=4),
    DataSpec((1, 8, 8)),
    DataSpec((3, 32, 32), classes=10),
    DataSpec((5, 7)),
)
"""What networks are tried on where the caller names no data: each that they take, and one at least."""


@checked
def check_generator(generator: Generator | type[Generator], data: DataSpec | None = None, latent_dim: int = 8) -> None:
    """The network G that a generator builds for `data`, or else for each of several kinds of data that it takes.

    `build` draws weights from torch's random state alone. G(z, y) is
    (N, *data.shape), finite, in z's dtype and on its device, in training and evaluation, for one sample too (where
    nothing mixes samples); every parameter gets a gradient; different z give different samples. In evaluation
    nothing changes, one sample does not depend on another, and `state_dict` restores the network.

    Raises AssertionError for the first of these that does not hold.
    """
    config = configured(generator, Generator)
    name = type(config).__qualname__

    def inputs(spec: DataSpec) -> tuple[Tensor, Tensor]:
        return torch.randn(4, latent_dim), _labels(spec)

    for spec, build in _accepted(name, lambda s: config.build(s, latent_dim), data, lambda G, s: G(*inputs(s))):
        z, y = inputs(spec)
        _check_network(name, "G", build, z, y, spec.shape)
        G = build().eval()
        with torch.no_grad():  # a last layer of zeros is a start, not a constant
            for parameter in G.parameters():
                parameter.add_(torch.randn_like(parameter))
        samples = G(z, torch.zeros_like(y))
        require(not torch.equal(samples[0], samples[1]), f"{name}: for {spec}, G gives one sample whatever z is")


@checked
def check_discriminator(discriminator: Discriminator | type[Discriminator], data: DataSpec | None = None) -> None:
    """The network D that a discriminator builds for `data`, or else for each of several kinds of data it takes.

    `build` draws weights from torch's random state alone. D(x, y) is (N,), not
    (N, 1): raw scores, not squashed into an interval; finite, in x's dtype and on its device, in training and
    evaluation, for one sample too; every parameter gets a gradient, and D can be differentiated twice, for penalties.
    In training one sample's score does not depend on another sample, unless the network says so (`mixes_samples`).
    In evaluation nothing changes, and `state_dict` restores the network.

    Raises AssertionError for the first of these that does not hold.
    """
    config = configured(discriminator, Discriminator)
    name = type(config).__qualname__

    def inputs(spec: DataSpec) -> tuple[Tensor, Tensor]:
        return torch.rand(4, *spec.shape) * 2 - 1, _labels(spec)

    for spec, build in _accepted(name, config.build, data, lambda D, s: D(*inputs(s))):
        x, y = inputs(spec)
        _check_network(name, "D", build, x, y, ())
        _keeps_samples_apart(name, build().train(), x, y)
        _differentiates_twice(name, build(), x, y)
        _raw_scores(name, build(), x, y)


def _labels(spec: DataSpec) -> Tensor:
    return torch.arange(4) % (spec.classes or 1)


def _accepted(
    name: str, build: Callable[[DataSpec], Any], data: DataSpec | None, call: Callable[[nn.Module, DataSpec], Any]
) -> list[tuple[DataSpec, Callable[..., nn.Module]]]:
    """The kinds of data to try, each with a function that builds the same network each time.

    Data that the caller names must be accepted. Of SPECS one must, and the others may fail, at once or when the network
    is first called: a network for points need not know of images.
    """

    def rebuild(spec: DataSpec, seed: int = 1) -> nn.Module:
        torch.default_generator.manual_seed(seed)
        return build(spec)

    accepted: list[tuple[DataSpec, Callable[..., nn.Module]]] = []
    refusals = []
    for spec in SPECS if data is None else (data,):
        network = None
        try:
            network = rebuild(spec)
            if data is None and isinstance(network, nn.Module):
                call(network.eval(), spec)
        except Exception as error:
            text = str(error).partition("\n")[0]
            refusals.append(f"{spec.shape}: {type(error).__name__}{text and ': '}{text}")
            continue
        require(isinstance(network, nn.Module), f"{name}: build must return a module, not {type(network).__name__}")
        accepted.append((spec, functools.partial(rebuild, spec)))
    require(bool(accepted), f"{name} takes none of the data that was tried; name its own kind. {'; '.join(refusals)}")
    return accepted


def _check_network(
    name: str, symbol: str, build: Callable[..., nn.Module], inputs: Tensor, y: Tensor, each: tuple[int, ...]
) -> None:
    network, again = build(), build()
    for key, parameter in network.named_parameters():
        lazy = isinstance(parameter, nn.parameter.UninitializedParameter)
        require(not lazy, f"{name}: {key} is uninitialised, a lazy module's; build gives every layer its sizes")
    differs = changed(network.state_dict(), again.state_dict())
    require(not differs, f"{name}: built twice from one seed, {', '.join(differs)} differ: a run could not be repeated")
    mixing = mixes_samples(network)
    for training in (True, False):
        for n in (4, 1):
            if training and n == 1 and mixing:
                continue  # a batch of one has no statistics
            mode = f"in {'training' if training else 'evaluation'}, for {n} sample{'s' * (n > 1)}"
            given, known = inputs[:n].clone(), set(network.state_dict())
            try:
                out = network.train(training)(given, y[:n])
            except Exception as error:
                raise AssertionError(f"{name}: {symbol} raised {type(error).__name__} {mode}: {error}") from error
            require(torch.equal(given, inputs[:n]), f"{name}: {symbol} changes its input in place; it is the engine's")
            made = set(network.state_dict()) - known
            require(not made, f"{name}: {symbol} makes parameters in forward, {made}; no optimiser would know them")
            require(isinstance(out, Tensor), f"{name}: {symbol} must give a tensor, not {type(out).__name__}")
            right = tuple(out.shape) == (n, *each)
            require(right, f"{name}: {symbol} must give the shape {(n, *each)} {mode}, and gives {tuple(out.shape)}")
            require(bool(out.isfinite().all()), f"{name}: {symbol} gives values that are not finite {mode}")
            require(out.dtype == inputs.dtype, f"{name}: {symbol} of {inputs.dtype} gives {out.dtype}")
    _reaches_every_parameter(name, symbol, build().train(), inputs, y)
    _at_rest(name, symbol, network.eval(), inputs, y)
    again = build(seed=2)
    again.load_state_dict(network.state_dict())
    same = torch.allclose(again.eval()(inputs, y), network(inputs, y), atol=1e-5)
    require(same, f"{name}: state_dict does not restore {symbol}: a tensor that matters is no parameter and no buffer")
    with asking(f"{name}: {symbol}.double(), with an input in float64,"):
        double = build().double().eval()(inputs.double(), y)
    require(double.dtype == torch.float64, f"{name}: {symbol} in float64 gives {double.dtype}")
    with elsewhere(f"{name}: {symbol}"):
        out = build().to(DEVICE).eval()(inputs.to(DEVICE), y.to(DEVICE))
        require(out.device.type == DEVICE, f"{name}: {symbol} leaves the device of its input")


def _reaches_every_parameter(name: str, symbol: str, network: nn.Module, inputs: Tensor, y: Tensor) -> None:
    out = network(inputs, y)
    require(out.requires_grad, f"{name}: no gradient passes through {symbol}")
    (out * torch.randn_like(out)).sum().backward()
    idle = [key for key, p in network.named_parameters() if p.requires_grad and p.grad is None]
    require(not idle, f"{name}: {symbol} has parameters that get no gradient: {', '.join(idle)}; they are never used")
    wild = [key for key, p in network.named_parameters() if p.grad is not None and not p.grad.isfinite().all()]
    require(not wild, f"{name}: the gradients of {symbol} are not finite at {', '.join(wild)}, though its values are")


def _at_rest(name: str, symbol: str, network: nn.Module, inputs: Tensor, y: Tensor) -> None:
    """In evaluation: no buffer moves, the same input gives the same output, and each sample stands alone."""
    before, first = buffers(network), network(inputs, y)
    moved = changed(before, dict(network.named_buffers()))
    require(not moved, f"{name}: in evaluation {symbol} must keep its buffers, and {', '.join(moved)} move")
    require(torch.equal(first, network(inputs, y)), f"{name}: in evaluation {symbol} must answer one input one way")
    if any(getattr(module, "mixes_samples", False) for module in network.modules()):
        return  # on purpose; BatchNorm, which says nothing, does not mix them in evaluation
    alone = torch.cat([network(inputs[i : i + 1], y[i : i + 1]) for i in range(len(y))])
    scale = first.abs().max().item() + 1e-3
    require(
        torch.allclose(alone, first, atol=1e-3 * scale),
        f"{name}: in evaluation one sample of {symbol} must not depend on the others of its batch; "
        "a network that is meant to mix samples has the attribute mixes_samples = True",
    )


def _keeps_samples_apart(name: str, D: nn.Module, x: Tensor, y: Tensor) -> None:
    if mixes_samples(D):
        return
    x = x.double().requires_grad_()
    scores = D.double()(x, y)
    for i in range(len(y)):
        (slope,) = torch.autograd.grad(scores[i], x, retain_graph=True, allow_unused=True)
        require(slope is not None, f"{name}: D has no gradient by x: G could not learn from its scores")
        others = torch.cat([slope[:i], slope[i + 1 :]]).abs().max().item()
        require(
            others <= 1e-12,
            f"{name}: ∂D(x)_i/∂x_j must be 0 for i ≠ j, and is {others:.2g}: the engine would score real and fake "
            "samples in one batch, and a gradient penalty would be wrong. A network that is meant to mix samples "
            "has the attribute mixes_samples = True",
        )


def _differentiates_twice(name: str, D: nn.Module, x: Tensor, y: Tensor) -> None:
    x = x.clone().requires_grad_()
    try:
        (slope,) = torch.autograd.grad(D(x, y).sum(), x, create_graph=True)
        slope.square().sum().backward()
    except RuntimeError as error:
        raise AssertionError(
            f"{name}: a gradient penalty needs D's gradient by x to be differentiable by D's weights: {error}"
        ) from error
    slopes = [p.grad for p in D.parameters() if p.grad is not None]
    require(bool(slopes), f"{name}: D's gradient by x does not depend on D's weights")
    require(all(bool(s.isfinite().all()) for s in slopes), f"{name}: the gradient of D's gradient by x is not finite")


@torch.no_grad()
def _raw_scores(name: str, D: nn.Module, x: Tensor, y: Tensor) -> None:
    """With large random weights raw scores leave any interval; a sigmoid's or a tanh's never do."""
    D.double().eval()
    first, second = (_largest(D, x, y, scale) for scale in (10.0, 1000.0))
    require(
        second > 1.5 * first or second == math.inf,
        f"{name}: D must give raw scores, before any sigmoid or tanh, and whatever its weights they stay within "
        f"[{-second:.3g}, {second:.3g}]; objectives take scores of any size",
    )


def _largest(D: nn.Module, x: Tensor, y: Tensor, scale: float) -> float:
    """The largest |score| over several draws of weights, and of samples, of a scale."""
    largest = 0.0
    for _ in range(10):
        for parameter in D.parameters():
            parameter.normal_(0, scale)
        largest = max(largest, D(x.double() * scale, y).abs().nan_to_num(posinf=math.inf, nan=math.inf).max().item())
    return largest
