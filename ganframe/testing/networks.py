"""Checks of generators and discriminators: shapes in both modes, independence of samples, state in `state_dict`."""

from __future__ import annotations

import functools
import math
from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor, nn

from ganframe.components import DataSpec, Discriminator, Generator, mixes_samples
from ganframe.testing.common import DEVICE, buffers, calling, changed, checked, configured, require, require_same_device

SPECS = (
    DataSpec((2,)),
    DataSpec((3,), classes=4),
    DataSpec((1, 8, 8)),
    DataSpec((3, 32, 32), classes=10),
    DataSpec((5, 7)),
)
"""Data tried if the caller passes none. A network must accept at least one, and is checked on all it accepts."""


@checked
def check_generator(generator: Generator | type[Generator], data: DataSpec | None = None, latent_dim: int = 8) -> None:
    """Checks the network G that a generator builds for `data`, by default for several kinds of data it accepts.

    `build` draws weights from torch's random state only. G(z, y) has shape (N, *data.shape), is finite, and has z's
    dtype and device, in training and evaluation mode, also for N = 1 (unless the network mixes samples). Every
    parameter receives a gradient. Different z give different samples. In evaluation mode nothing changes, samples do
    not depend on each other, and `state_dict` restores the network.

    Raises AssertionError for the first property that is violated.
    """
    config = configured(generator, Generator)
    name = type(config).__qualname__

    def inputs(spec: DataSpec) -> tuple[Tensor, Tensor]:
        return torch.randn(4, latent_dim), _labels(spec)

    for spec, build in _accepted(name, lambda s: config.build(s, latent_dim), data, lambda G, s: G(*inputs(s))):
        z, y = inputs(spec)
        _check_network(name, "G", build, z, y, spec.shape)
        G = build().eval()
        with torch.no_grad():  # a last layer initialised to zeros is allowed
            for parameter in G.parameters():
                parameter.add_(torch.randn_like(parameter))
        samples = G(z, torch.zeros_like(y))
        require(not torch.equal(samples[0], samples[1]), f"{name}: for {spec}, G returns the same sample for every z")


@checked
def check_discriminator(discriminator: Discriminator | type[Discriminator], data: DataSpec | None = None) -> None:
    """Checks the network D that a discriminator builds for `data`, by default for several kinds of data it accepts.

    `build` draws weights from torch's random state only. D(x, y) has shape (N,), not (N, 1). Scores are raw, not
    squashed into an interval; they are finite and have x's dtype and device, in training and evaluation mode, also for
    N = 1. Every parameter receives a gradient. D can be differentiated twice, for penalties. In training mode one
    sample's score does not depend on other samples, unless the network declares `mixes_samples`. In evaluation mode
    nothing changes, and `state_dict` restores the network.

    Raises AssertionError for the first property that is violated.
    """
    config = configured(discriminator, Discriminator)
    name = type(config).__qualname__

    def inputs(spec: DataSpec) -> tuple[Tensor, Tensor]:
        return torch.rand(4, *spec.shape) * 2 - 1, _labels(spec)

    for spec, build in _accepted(name, config.build, data, lambda D, s: D(*inputs(s))):
        x, y = inputs(spec)
        _check_network(name, "D", build, x, y, ())
        _check_independence(name, build().train(), x, y)
        _check_second_derivative(name, build(), x, y)
        _check_raw_scores(name, build(), x, y)


def _labels(spec: DataSpec) -> Tensor:
    return torch.arange(4) % (spec.classes or 1)


def _accepted(
    name: str, build: Callable[[DataSpec], Any], data: DataSpec | None, call: Callable[[nn.Module, DataSpec], Any]
) -> list[tuple[DataSpec, Callable[..., nn.Module]]]:
    """The data that the network accepts, each with a function that builds the same network each time.

    Data that the caller passes must be accepted. Without it, at least one of SPECS must be; the others may fail in
    `build` or at the first call: a network for points need not support images.
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
    require(bool(accepted), f"{name} accepts none of the data tried; pass `data` to the check. {'; '.join(refusals)}")
    return accepted


def _check_network(
    name: str, symbol: str, build: Callable[..., nn.Module], inputs: Tensor, y: Tensor, each: tuple[int, ...]
) -> None:
    network, again = build(), build()
    for key, parameter in network.named_parameters():
        lazy = isinstance(parameter, nn.parameter.UninitializedParameter)
        require(not lazy, f"{name}: {key} is uninitialised (a lazy module); build must set the size of every layer")
    differs = changed(network.state_dict(), again.state_dict())
    require(not differs, f"{name}: built twice from one seed, {', '.join(differs)} differ: runs are not reproducible")
    mixing = mixes_samples(network)
    for training in (True, False):
        for n in (4, 1):
            if training and n == 1 and mixing:
                continue  # no batch statistics of one sample
            mode = f"in {'training' if training else 'evaluation'} mode, for {n} sample{'s' * (n > 1)}"
            given, keys = inputs[:n].clone(), set(network.state_dict())
            try:
                out = network.train(training)(given, y[:n])
            except Exception as error:
                raise AssertionError(f"{name}: {symbol} raised {type(error).__name__} {mode}: {error}") from error
            require(
                torch.equal(given, inputs[:n]),
                f"{name}: {symbol} changes its input in place; the engine needs it unchanged",
            )
            created = set(network.state_dict()) - keys
            require(
                not created,
                f"{name}: {symbol} creates parameters or buffers in forward: {created}; create them in build",
            )
            require(isinstance(out, Tensor), f"{name}: {symbol} must return a tensor, not {type(out).__name__}")
            right = tuple(out.shape) == (n, *each)
            require(right, f"{name}: {symbol} must return the shape {(n, *each)} {mode}, not {tuple(out.shape)}")
            require(bool(out.isfinite().all()), f"{name}: {symbol} returns non-finite values {mode}")
            require(out.dtype == inputs.dtype, f"{name}: {symbol} returns {out.dtype} for an input in {inputs.dtype}")
    _check_parameter_gradients(name, symbol, build().train(), inputs, y)
    _check_evaluation_mode(name, symbol, network.eval(), inputs, y)
    again = build(seed=2)
    again.load_state_dict(network.state_dict())
    same = torch.allclose(again.eval()(inputs, y), network(inputs, y), atol=1e-5)
    require(
        same, f"{name}: state_dict does not restore {symbol}: some tensor it uses is neither a parameter nor a buffer"
    )
    with calling(f"{name}: {symbol}.double(), with an input in float64,"):
        double = build().double().eval()(inputs.double(), y)
    require(double.dtype == torch.float64, f"{name}: {symbol} in float64 returns {double.dtype}")
    with require_same_device(f"{name}: {symbol}"):
        out = build().to(DEVICE).eval()(inputs.to(DEVICE), y.to(DEVICE))
        require(out.device.type == DEVICE, f"{name}: {symbol} must return a tensor on the device of its input")


def _check_parameter_gradients(name: str, symbol: str, network: nn.Module, inputs: Tensor, y: Tensor) -> None:
    out = network(inputs, y)
    require(out.requires_grad, f"{name}: no gradient passes through {symbol}")
    (out * torch.randn_like(out)).sum().backward()
    idle = [key for key, p in network.named_parameters() if p.requires_grad and p.grad is None]
    require(
        not idle,
        f"{name}: {symbol} has parameters that get no gradient: {', '.join(idle)}; are they unused or detached?",
    )
    bad = [key for key, p in network.named_parameters() if p.grad is not None and not p.grad.isfinite().all()]
    require(not bad, f"{name}: {symbol} is finite, but its gradients are non-finite at {', '.join(bad)}")


def _check_evaluation_mode(name: str, symbol: str, network: nn.Module, inputs: Tensor, y: Tensor) -> None:
    """In evaluation mode buffers do not change, outputs are deterministic and samples are independent."""
    before, first = buffers(network), network(inputs, y)
    moved = changed(before, dict(network.named_buffers()))
    require(not moved, f"{name}: in evaluation mode {symbol} must not change its buffers: {', '.join(moved)}")
    require(
        torch.equal(first, network(inputs, y)),
        f"{name}: in evaluation mode {symbol} must return the same output for the same input",
    )
    if any(getattr(module, "mixes_samples", False) for module in network.modules()):
        return  # declared; BatchNorm declares nothing, as it does not mix samples in evaluation mode
    alone = torch.cat([network(inputs[i : i + 1], y[i : i + 1]) for i in range(len(y))])
    scale = first.abs().max().item() + 1e-3
    require(
        torch.allclose(alone, first, atol=1e-3 * scale),
        f"{name}: in evaluation mode {symbol}'s output for one sample must not depend on the others of its batch; "
        "a network that mixes samples on purpose must set mixes_samples = True",
    )


def _check_independence(name: str, D: nn.Module, x: Tensor, y: Tensor) -> None:
    if mixes_samples(D):
        return
    x = x.double().requires_grad_()
    scores = D.double()(x, y)
    for i in range(len(y)):
        (slope,) = torch.autograd.grad(scores[i], x, retain_graph=True, allow_unused=True)
        require(slope is not None, f"{name}: D has no gradient with respect to x: G cannot learn from its scores")
        others = torch.cat([slope[:i], slope[i + 1 :]]).abs().max().item()
        require(
            others <= 1e-12,
            f"{name}: ∂D(x)_i/∂x_j must be 0 for i ≠ j; it is {others:.2g}: the engine would score real and fake "
            "samples in one batch, and a gradient penalty would be wrong. A network that mixes samples on purpose "
            "must set mixes_samples = True",
        )


def _check_second_derivative(name: str, D: nn.Module, x: Tensor, y: Tensor) -> None:
    x = x.clone().requires_grad_()
    try:
        (slope,) = torch.autograd.grad(D(x, y).sum(), x, create_graph=True)
        slope.square().sum().backward()
    except RuntimeError as error:
        raise AssertionError(
            f"{name}: a gradient penalty needs D's gradient with respect to x to be differentiable: {error}"
        ) from error
    slopes = [p.grad for p in D.parameters() if p.grad is not None]
    require(bool(slopes), f"{name}: D's gradient with respect to x does not depend on D's weights")
    finite = all(bool(s.isfinite().all()) for s in slopes)
    require(finite, f"{name}: D's gradient with respect to x has a non-finite derivative by D's weights")


@torch.no_grad()
def _check_raw_scores(name: str, D: nn.Module, x: Tensor, y: Tensor) -> None:
    """With large random weights raw scores leave any interval; outputs of a sigmoid or a tanh do not."""
    D.double().eval()
    first, second = (_largest(D, x, y, scale) for scale in (10.0, 1000.0))
    require(
        second > 1.5 * first or second == math.inf,
        f"{name}: D must return raw scores, before any sigmoid or tanh; with large weights they still stay within "
        f"[{-second:.3g}, {second:.3g}]; objectives accept scores of any size",
    )


def _largest(D: nn.Module, x: Tensor, y: Tensor, scale: float) -> float:
    """The largest |score| over 10 draws of weights from N(0, scale²), with x multiplied by `scale`."""
    largest = 0.0
    for _ in range(10):
        for parameter in D.parameters():
            parameter.normal_(0, scale)
        largest = max(largest, D(x.double() * scale, y).abs().nan_to_num(posinf=math.inf, nan=math.inf).max().item())
    return largest
