"""Checks of generators and discriminators: shapes in both modes, independence of samples, state in `state_dict`."""

from __future__ import annotations

import functools
from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor, nn

from ganframe.components import DataSpec, Discriminator, Generator
from ganframe.declarations import group_size, growth, has_many_scores, has_w, ignores_latent, mixes_samples
from ganframe.testing.common import (
    DEVICE,
    buffers,
    calling,
    changed,
    checked,
    configured,
    descend,
    require,
    require_same_device,
)
from ganframe.testing.scores import check_extras, check_independence, check_raw_scores, check_second_derivative
from ganframe.testing.slopes import check_lipschitz_constants

SPECS = (
    DataSpec((2,)),
    DataSpec((3,), classes=4),
    DataSpec((1, 8, 8)),
    DataSpec((3, 32, 32), classes=10),
    DataSpec((5, 7)),
    DataSpec((3,), condition=(4,)),
    DataSpec((1, 8, 8), condition=(1, 8, 8)),
)
"""Data tried if the caller passes none. A network must accept at least one, and is checked on all it accepts."""


@checked
def check_generator(generator: Generator | type[Generator], data: DataSpec | None = None, latent_dim: int = 8) -> None:
    """Checks the network G that a generator builds for `data`, by default for several kinds of data it accepts.

    `build` draws weights from torch's random state only. G(z, y) has shape (N, *data.shape), is finite, and has z's
    dtype and device, in training and evaluation mode, also for N = 1 (unless the network mixes samples). Every
    parameter receives a gradient; where a buffer `training_step` holds the step, at one of several steps. Different z
    give different samples, or the same where the network declares `ignores_latent` and the data has conditions; then it
    does not declare `truncates_latent`. Where it offers latents w, map and then synthesize give what G gives. In
    evaluation mode nothing changes, samples do not depend on each other. `state_dict` restores the network, also after
    steps of training.

    Raises AssertionError for the first property that is violated.
    """
    config = configured(generator, Generator)
    name = type(config).__qualname__

    def inputs(G: nn.Module, spec: DataSpec) -> tuple[Tensor, Tensor]:
        n = _batch_size(G)
        return torch.randn(n, latent_dim), conditions(spec, n)

    for spec, build in _accepted(name, lambda s: config.build(s, latent_dim), data, lambda G, s: G(*inputs(G, s))):
        z, y = inputs(build(), spec)
        _check_network(name, "G", build, z, y, spec.shape)
        _check_latent(name, build().eval(), z, torch.zeros_like(y), spec)
        _check_w(name, build().eval(), z, y)


@checked
def check_discriminator(discriminator: Discriminator | type[Discriminator], data: DataSpec | None = None) -> None:
    """Checks the network D that a discriminator builds for `data`, by default for several kinds of data it accepts.

    `build` draws weights from torch's random state only. D(x, y) has shape (N,), not (N, 1), or (N, …) where the
    network declares `many_scores`. It fills the dict `extras` where it declares `gives_extras`. Scores are raw, not
    squashed into an interval; they are finite and have x's dtype and device, in training and evaluation mode, also for
    N = 1. Every parameter receives a gradient. D can be differentiated twice, for penalties. In training mode one
    sample's score does not depend on other samples, unless the network declares `mixes_samples`, or on those of other
    groups where it declares `mixes_groups_of`. In evaluation mode nothing changes. `state_dict` restores the network,
    also after steps of training. A module's `lipschitz_constant()` is not below any slope that is found by ascent.

    Raises AssertionError for the first property that is violated.
    """
    config = configured(discriminator, Discriminator)
    name = type(config).__qualname__

    def inputs(D: nn.Module, spec: DataSpec) -> tuple[Tensor, Tensor]:
        n = _batch_size(D)
        return torch.rand(n, *spec.shape) * 2 - 1, conditions(spec, n)

    for spec, build in _accepted(name, config.build, data, lambda D, s: D(*inputs(D, s))):
        x, y = inputs(build(), spec)
        _check_network(name, "D", build, x, y, None if has_many_scores(build()) else ())
        check_independence(name, build().train(), x, y)
        check_second_derivative(name, build(), x, y)
        check_raw_scores(name, build(), x, y)
        check_extras(name, build(), x, y)
        check_lipschitz_constants(name, build(), x, y)


def _check_w(name: str, G: nn.Module, z: Tensor, y: Tensor) -> None:
    """Where G offers latents w, samples made by way of w must be those of G, in evaluation mode."""
    one, other = (callable(getattr(G, method, None)) for method in ("map", "synthesize"))
    require(one == other, f"{name}: G has one of map(z, y) and synthesize(w, y); offer both, or rename it")
    if not has_w(G):
        return
    with calling(f"{name}: synthesize(map(z, y), y)"):
        w = G.map(z, y)  # type: ignore[operator]
        samples = G.synthesize(w, y)  # type: ignore[operator]
    require(len(w) == len(z), f"{name}: map must return w (N, …) for z (N, latent_dim), not {tuple(w.shape)}")
    require(
        torch.allclose(samples, G(z, y), rtol=1e-4, atol=1e-5),
        f"{name}: synthesize(map(z, y), y) must return the samples of G(z, y)",
    )


def _check_latent(name: str, G: nn.Module, z: Tensor, y: Tensor, spec: DataSpec) -> None:
    """Different z must give different samples of one y, as built or with noise added to the weights.

    A last layer may start at zero, and with noise a tanh may be ±1 everywhere. A network that declares
    `ignores_latent`, for data with conditions, must give the same samples.
    """
    ignores = ignores_latent(G) and spec.condition is not None
    heeds = False
    for noise in (0.0, 1.0):
        with torch.no_grad():
            for parameter in G.parameters():
                parameter.add_(noise * torch.randn_like(parameter))
        samples = G(z, y)
        heeds = heeds or bool((samples != samples[:1]).any())
    declared = [module.truncates_latent for module in G.modules() if hasattr(module, "truncates_latent")]
    wrong = [value for value in declared if not isinstance(value, bool)]
    require(not wrong, f"{name}: truncates_latent must be True or False, not {wrong[:1]}")
    both = ignores and any(declared)
    require(not both, f"{name}: for {spec}, G declares ignores_latent and truncates_latent; without z drop the second")
    require(not (ignores and heeds), f"{name}: for {spec}, G declares ignores_latent, but z changes its samples")
    require(
        ignores or heeds,
        f"{name}: for {spec}, G returns the same sample for every z; a network that makes one sample of each condition "
        "on purpose must set ignores_latent = True",
    )


def _batch_size(network: nn.Module) -> int:
    """At least 4 samples and two groups: a multiple of the groups that the network may mix."""
    m = group_size(network)
    return max(2, -(-4 // m)) * m


GROWTH = (0, 10, 100, 1_000, 10_000, 100_000, 1_000_000)
"""Generator steps at which a network with a buffer `training_step` is tried, beside those at which it declares to grow.

Each parameter must be used at one of them.
"""


def conditions(spec: DataSpec, n: int = 4) -> Tensor:
    """y for n samples: labels (n,), 0 for data without classes, or conditions (n, *condition) in [-1, 1]."""
    if spec.condition is None:
        return torch.arange(n) % (spec.classes or 1)
    return torch.rand(n, *spec.condition) * 2 - 1


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
    name: str, symbol: str, build: Callable[..., nn.Module], inputs: Tensor, y: Tensor, each: tuple[int, ...] | None
) -> None:
    """Checks all but what is special to scores. `each` is the shape of one output, None for any."""
    network, again = build(), build()
    for key, parameter in network.named_parameters():
        lazy = isinstance(parameter, nn.parameter.UninitializedParameter)
        require(not lazy, f"{name}: {key} is uninitialised (a lazy module); build must set the size of every layer")
    differs = changed(network.state_dict(), again.state_dict())
    require(not differs, f"{name}: built twice from one seed, {', '.join(differs)} differ: runs are not reproducible")
    mixing = mixes_samples(network)
    for training in (True, False):
        for n in (len(y), group_size(network)):
            if training and n == group_size(network) and mixing:
                continue  # no batch statistics of one sample, or of one group
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
            right = out.shape[:1] == (n,) if each is None else tuple(out.shape) == (n, *each)
            wanted = f"({n}, …)" if each is None else (n, *each)
            require(right, f"{name}: {symbol} must return the shape {wanted} {mode}, not {tuple(out.shape)}")
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
    _check_memory(name, symbol, build, inputs, y)
    with calling(f"{name}: {symbol}.double(), with an input in float64,"):
        double = build().double().eval()(inputs.double(), y)
    require(double.dtype == torch.float64, f"{name}: {symbol} in float64 returns {double.dtype}")
    with require_same_device(f"{name}: {symbol}"):
        out = build().to(DEVICE).eval()(inputs.to(DEVICE), y.to(DEVICE))
        require(out.device.type == DEVICE, f"{name}: {symbol} must return a tensor on the device of its input")


def _check_memory(name: str, symbol: str, build: Callable[..., nn.Module], inputs: Tensor, y: Tensor) -> None:
    """Saved after some steps and loaded into a new network, the next steps in training mode must be the same."""

    def steps(network: nn.Module, at: range) -> list[Tensor]:
        outs = []
        for step in at:
            torch.default_generator.manual_seed(step)
            out = network(inputs, y)
            outs.append(out.detach().clone())
            out.square().mean().backward()
            descend(network)
        return outs

    network, other = build().train(), build(seed=2).train()
    steps(network, range(3))
    other.load_state_dict({key: tensor.clone() for key, tensor in network.state_dict().items()})
    pairs = zip(steps(network, range(3, 6)), steps(other, range(3, 6)), strict=True)
    same = all(torch.allclose(a, b, rtol=1e-4, atol=1e-5) for a, b in pairs)
    require(
        same,
        f"{name}: saved after 3 steps and restored in a new network, {symbol}'s next outputs differ: what a network "
        "remembers must be a parameter or a buffer",
    )


def _check_parameter_gradients(name: str, symbol: str, network: nn.Module, inputs: Tensor, y: Tensor) -> None:
    stages = [b for key, b in network.named_buffers() if key.split(".")[-1] == "training_step"]
    used: set[str] = set()
    bad: set[str] = set()
    for step in sorted({*GROWTH, *growth(network)}) if stages else (0,):
        for buffer in stages:  # as the engine fills it: parts of a growing network wait for their time
            buffer.fill_(step)
        network.zero_grad(set_to_none=True)
        out = network(inputs, y)
        require(out.requires_grad, f"{name}: no gradient passes through {symbol}")
        (out * torch.randn_like(out)).sum().backward()
        slopes = {key: p.grad for key, p in network.named_parameters() if p.grad is not None}
        used |= slopes.keys()
        bad |= {key for key, slope in slopes.items() if not slope.isfinite().all()}
    idle = [key for key, p in network.named_parameters() if p.requires_grad and key not in used]
    require(
        not idle,
        f"{name}: {symbol} has parameters that get no gradient: {', '.join(idle)}; are they unused or detached?",
    )
    require(not bad, f"{name}: {symbol} is finite, but its gradients are non-finite at {', '.join(sorted(bad))}")


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
    m = group_size(network)
    alone = torch.cat([network(inputs[i : i + m], y[i : i + m]) for i in range(0, len(y), m)])
    scale = first.abs().max().item() + 1e-3
    require(
        torch.allclose(alone, first, atol=1e-3 * scale),
        f"{name}: in evaluation mode {symbol}'s output for one sample must not depend on the others of its batch; "
        "a network that mixes samples on purpose must set mixes_samples = True, or mixes_groups_of = m where it mixes "
        "m consecutive samples",
    )
