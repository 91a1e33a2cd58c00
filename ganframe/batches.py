"""The whole batch, where several processes share it: for losses that are not means over samples."""

from __future__ import annotations

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
    from torch.distributed.nn.functional import all_gather  # the other processes' gradients come back through it

    return torch.cat(all_gather(values.contiguous()))
