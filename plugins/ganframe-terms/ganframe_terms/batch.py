"""Means over a batch that a loss is no linear function of."""

from __future__ import annotations

from torch import Tensor, distributed
from torch.distributed.nn import functional


def batch_mean(values: Tensor) -> Tensor:
    """The mean over samples (N, …) -> (…), over the batch of all processes, with its gradient.

    Each process would otherwise compare the means of its own share of a batch: ‖E f(x) - E f(G(z))‖² of half a batch
    is larger, and one process would train otherwise than two. All processes must call it, as they do in a term. With
    train.accumulate the means are those of each part of a batch.
    """
    mean = values.mean(0)
    processes = distributed.get_world_size() if distributed.is_available() and distributed.is_initialized() else 1
    return mean if processes == 1 else functional.all_reduce(mean) / processes
