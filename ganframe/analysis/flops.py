"""Floating-point operations of training steps, and how many a second this machine reaches."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import AbstractContextManager
from typing import Any

import torch
from torch.nn import functional as F
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils.flop_counter import flop_registry

from ganframe.analysis.phases import milliseconds, moment

SIZE = {"cpu": 1024}  # of the square matrices, by device
LARGE = 8192  # on others
TRIES = 5


class _Counter(TorchDispatchMode):
    """Adds up what torch's formulas say of each operation. `FlopCounterMode` fails at the gradients of a penalty."""

    def __init__(self) -> None:
        super().__init__()
        self.flops = 0

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        out = func(*args, **(kwargs or {}))
        formula = flop_registry.get(func._overloadpacket)
        if formula is not None:
            self.flops += formula(*args, **(kwargs or {}), out_val=out)
        return out


def counted_flops(act: Callable[[], object]) -> int:
    """The operations of matrix products and convolutions in a call, forward and backward, as torch counts them."""
    with _Counter() as counter:
        act()
    return counter.flops


@torch.no_grad()
def peak_flops(device: torch.device, autocast: Callable[[], AbstractContextManager[None]]) -> float:
    """The most operations a second that this machine reaches now, in a large matrix product or convolution.

    In the precision of `autocast` and with torch's present number of threads. Both are tried because different
    libraries compute them: on a CPU one may be twice as fast as the other.
    """
    n = SIZE.get(device.type, LARGE)
    a, b = (torch.randn(n, n, device=device) for _ in range(2))
    # Some more operations: 256 channels, nine taps.
    x = torch.randn(n // 256, 256, 32, 32, device=device).contiguous(memory_format=torch.channels_last)
    kernel = torch.randn(256, 256, 3, 3, device=device).contiguous(memory_format=torch.channels_last)
    with autocast():
        if torch.is_autocast_enabled(device.type):  # so that no cast is timed
            a, b, x, kernel = (t.to(torch.get_autocast_dtype(device.type)) for t in (a, b, x, kernel))
        rates = [_rate(device, lambda: a @ b), _rate(device, lambda: F.conv2d(x, kernel, padding=1))]
    return max(rates)


def _rate(device: torch.device, act: Callable[[], object]) -> float:
    """Operations a second: those of the fastest of some calls."""
    flops, times = counted_flops(act), []
    for _ in range(TRIES):
        begin = moment(device)
        act()
        times.append(milliseconds(begin, moment(device)))
    return flops / min(times) * 1e3
