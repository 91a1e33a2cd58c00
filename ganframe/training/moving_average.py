"""The exponential moving average (EMA) of the generator's weights, which is then used for samples."""

from __future__ import annotations

import functools
from collections.abc import Iterator

import torch
from torch import Tensor, nn
from torch.nn import functional as F
from torch.nn.utils import parametrizations
from torch.optim.swa_utils import AveragedModel

from ganframe.engine.state import Callback, State
from ganframe.engine.timing import Ramp
from ganframe.training.networks import copied

Place = tuple[dict[str, Tensor], str]
"""Where a module keeps a tensor: its dict of parameters or buffers, and the name there."""


def moving_average(network: nn.Module) -> AveragedModel:
    """A copy of `network` for `average_into`: parameters and floating buffers are averaged, other buffers copied."""
    return AveragedModel(copied(network, network), use_buffers=True).eval().requires_grad_(False)


def decay_at(decay: float | Ramp, step: int) -> float:
    """The decay at a generator step."""
    return decay.at(step) if isinstance(decay, Ramp) else decay


def average_into(averaged: AveragedModel, decay: float | Ramp, warmup: int) -> Callback:
    """The exponential moving average of G's weights and of its BatchNorm statistics, which belong to the weights.

    It is called at the end of an iteration. The decay after t iterations is min(decay, (1 + t) / (warmup + t)), so
    that an average over few steps forgets the initial weights. With warmup ≤ 1 it is `decay` from the start. A ramp
    gives the decay of each step. After the first iteration the average is G itself.

    Where G has spectral normalisation, its vectors u and v are averaged and then scaled to length 1: averages of unit
    vectors that turn are shorter, so σ = uᵀWv would come out too small, and W/σ too large.
    """
    vectors = list(_unit_vectors(averaged.module))
    step_weight = functools.partial(_step_weight, decay, warmup)
    network: nn.Module | None = None
    moved: list[tuple[Tensor, Place]] = []
    others: list[tuple[Tensor, Place]] = []

    def callback(state: State) -> None:
        nonlocal network, moved, others
        if state.G.network is not network:  # to look for its tensors at each step would take as long as averaging them
            network = state.G.network
            pairs = [
                (_tensor(place), other) for place, other in zip(_places(averaged.module), _places(network), strict=True)
            ]
            moved = [pair for pair in pairs if pair[0].is_floating_point()]
            others = [pair for pair in pairs if not pair[0].is_floating_point()]
        weight = state.number(step_weight)
        with torch.no_grad():
            held, live = [a for a, _ in moved], [_tensor(place) for _, place in moved]
            if state.step == 0:
                torch._foreach_copy_(held, live)
            elif isinstance(weight, Tensor):
                for a, b in zip(held, live, strict=True):
                    a.lerp_(b, weight.to(a.dtype))
            else:
                torch._foreach_lerp_(held, live, weight)
            for a, place in others:
                a.copy_(_tensor(place))
            for vector in vectors:
                vector.copy_(F.normalize(vector, dim=0))
            averaged.n_averaged += 1

    return callback


def _places(network: nn.Module) -> Iterator[Place]:
    """Where each parameter and buffer of a network is kept, in the order of `parameters()` and `buffers()`."""
    for kind, found in (("_parameters", network.named_parameters()), ("_buffers", network.named_buffers())):
        for path, _ in found:
            module, _, name = path.rpartition(".")
            yield getattr(network.get_submodule(module), kind), name


def _tensor(place: Place) -> Tensor:
    """What is there now: a network may replace its buffers."""
    tensors, name = place
    return tensors[name]


def _step_weight(decay: float | Ramp, warmup: int, step: int) -> float:
    """How far the average moves towards the weights after the iteration of a step: 1 - decay."""
    done = step + 1
    now = decay_at(decay, done)
    return 1 - (min(now, (1 + done) / (warmup + done)) if warmup > 1 else now)


def _unit_vectors(network: nn.Module) -> Iterator[Tensor]:
    """The vectors u and v of both of torch's spectral normalisations, the parametrisation and the older hook."""
    for module in network.modules():
        if isinstance(module, parametrizations._SpectralNorm):
            yield from module.buffers()
        for hook in module._forward_pre_hooks.values():
            if type(hook).__name__ == "SpectralNorm":  # by name, as torch is to remove it
                name = hook.name  # type: ignore[attr-defined]
                yield from (module.get_buffer(f"{name}_{vector}") for vector in ("u", "v"))
