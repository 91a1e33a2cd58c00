"""The exponential moving average (EMA) of the generator's weights, which is then used for samples."""

from __future__ import annotations

from collections.abc import Iterator

from torch import Tensor, nn
from torch.nn import functional as F
from torch.nn.utils import parametrizations
from torch.optim.swa_utils import AveragedModel, get_ema_multi_avg_fn

from ganframe.engine.state import Callback, State
from ganframe.engine.timing import Ramp
from ganframe.training.networks import copied


def moving_average(network: nn.Module) -> AveragedModel:
    """A copy of `network` for `average_into`: parameters and floating buffers are averaged, other buffers copied."""
    return AveragedModel(copied(network, network), use_buffers=True).eval().requires_grad_(False)


def decay_at(decay: float | Ramp, step: int) -> float:
    """The decay at a generator step."""
    return decay.at(step) if isinstance(decay, Ramp) else decay


def average_into(averaged: AveragedModel, decay: float | Ramp, warmup: int) -> Callback:
    """The exponential moving average of G's weights and of its BatchNorm statistics, which belong to the weights.

    The decay at step t is min(decay, (1 + t) / (warmup + t)), so that an average over few steps forgets the initial
    weights. With warmup ≤ 1 it is `decay` from the start. A ramp gives the decay of each step.

    Where G has spectral normalisation, its vectors u and v are averaged and then scaled to length 1: averages of unit
    vectors that turn are shorter, so σ = uᵀWv would come out too small, and W/σ too large.
    """
    vectors = list(_unit_vectors(averaged.module))

    def callback(state: State) -> None:
        now = decay_at(decay, state.step)
        if warmup > 1:
            now = min(now, (1 + state.step) / (warmup + state.step))
        averaged.multi_avg_fn = get_ema_multi_avg_fn(now)
        averaged.update_parameters(state.G.network)
        for buffer, live in zip(averaged.module.buffers(), state.G.network.buffers(), strict=True):
            if not buffer.is_floating_point():
                buffer.copy_(live)
        for vector in vectors:
            F.normalize(vector, dim=0, out=vector)

    return callback


def _unit_vectors(network: nn.Module) -> Iterator[Tensor]:
    """The vectors u and v of both of torch's spectral normalisations, the parametrisation and the older hook."""
    for module in network.modules():
        if isinstance(module, parametrizations._SpectralNorm):
            yield from module.buffers()
        for hook in module._forward_pre_hooks.values():
            if type(hook).__name__ == "SpectralNorm":  # by name, as torch is to remove it
                name = hook.name  # type: ignore[attr-defined]
                yield from (module.get_buffer(f"{name}_{vector}") for vector in ("u", "v"))
