"""The whole batch, where several processes share it: for losses that are not means over samples."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, distributed


def whole_batch(values: Tensor) -> Tensor:
    """Values (n, …) of this process's samples -> (N, …) of the batch of all processes, with their gradient.

    Losses and terms are averaged over processes, so a mean over samples needs nothing. What compares samples with each
    other, or is no linear function of a mean (a squared mean, MMD), would see only this process's part of the batch:
    call this first, and two processes train as one. All processes must call it, as they do in losses and terms. In one
    process it returns `values`. With train.accumulate the batch is the part whose gradient is being computed.
    """
    alone = not (distributed.is_available() and distributed.is_initialized()) or distributed.get_world_size() == 1
    if alone:
        return values
    return _Gathered.apply(values)


# torch.distributed.nn has a differentiable all_gather too, which is deprecated. Imported where there is a process group
# it holds it until the interpreter ends, and gloo's then often ends the process by an abort.


class _Gathered(torch.autograd.Function):
    """The values (n, …) of all processes, in their order: (N, …)."""

    @staticmethod
    def forward(ctx: Any, values: Tensor) -> Tensor:
        values = values.contiguous()
        parts = [torch.empty_like(values) for _ in range(distributed.get_world_size())]
        distributed.all_gather(parts, values)
        return torch.cat(parts)

    @staticmethod
    def backward(ctx: Any, gradient: Tensor) -> Any:
        return _OwnOfSum.apply(gradient)


class _OwnOfSum(torch.autograd.Function):
    """The sum of values (N, …) over processes, of which each has its own part (n, …): the adjoint of `_Gathered`."""

    @staticmethod
    def forward(ctx: Any, values: Tensor) -> Tensor:
        total = values.clone(memory_format=torch.contiguous_format)
        distributed.all_reduce(total)
        return total.chunk(distributed.get_world_size())[distributed.get_rank()].clone()

    @staticmethod
    def backward(ctx: Any, gradient: Tensor) -> Any:
        return _Gathered.apply(gradient)
