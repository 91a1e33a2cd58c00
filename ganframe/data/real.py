"""Real samples for judging: pictures, diagnostics and measurements compare with them.

They are drawn apart from the training feed, so that looking at a run does not change it. Where a dataset holds samples
out of training, they are drawn from those.
"""

from __future__ import annotations

import math
from typing import Any

import torch
from torch import Tensor
from torch.utils.data import Dataset as TorchDataset
from torch.utils.data import IterableDataset

from ganframe.components import Dataset, DataSpec, Distribution
from ganframe.data.checks import check_data, check_drawn, check_length, check_samples, is_indexed, read_items
from ganframe.data.feed import as_float, as_y, narrowed
from ganframe.data.randomness import kept_random_state, own_random_state

PART = 1_000  # samples drawn at a time
NUMBERS = 2**22  # that samples drawn at a time have together at most: 16 MiB of float32
FEW = 16  # samples that are drawn at a time however large they are


def at_most(n: int, spec: DataSpec) -> int:
    """`n`, or fewer where samples are so large that n of them would need much memory, as volumes do."""
    return min(n, max(FEW, NUMBERS // math.prod(spec.shape)))


def judging_data(dataset: Dataset, spec: DataSpec, built: TorchDataset[Any]) -> TorchDataset[Any]:
    """What the dataset holds out of training, or what it built for training if it holds out nothing.

    Raises ValueError where it is not what `spec` says, and what `Dataset.held_out` raises. The random state is not
    changed.
    """
    with kept_random_state():
        held_out = dataset.held_out()
        if held_out is None:
            return built
        check_data(held_out, spec)
    return held_out


def real_samples(
    data: TorchDataset[Any], spec: DataSpec, n: int, seed: int, device: torch.device
) -> tuple[Tensor, Tensor]:
    """n real samples x (n, *shape) with their y (n,) or (n, *condition), on `device`, the same for the same seed.

    Of a distribution they are drawn. Of a finite set they are the first n of a random order, each sample once, and
    fewer than n where the set is smaller. Of a stream they are its first ones. `data` is what `Dataset.build` returned.
    Raises ValueError where it is not what `spec` says.
    """
    x, y = _samples(data, spec, n, seed, device)
    x, y = (narrowed(side, device).to(device) for side in (x, y))
    return as_float(x), as_y(y, spec)


def conditions(data: TorchDataset[Any], spec: DataSpec, n: int, seed: int, device: torch.device) -> Tensor:
    """The y of `real_samples`, for data with conditions: (n, *condition), or fewer where the set is smaller.

    In the type in which the data has them, uint8 or floats: `as_y` makes what networks take.
    """
    return _samples(data, spec, n, seed, device)[1].to(device)


def _samples(data: TorchDataset[Any], spec: DataSpec, n: int, seed: int, device: torch.device) -> tuple[Tensor, Tensor]:
    """x and y as the data has them."""
    with own_random_state(seed):  # items may be drawn at random, as by augmentation
        return _drawn(data, spec, n, seed, device)


def _drawn(data: TorchDataset[Any], spec: DataSpec, n: int, seed: int, device: torch.device) -> tuple[Tensor, Tensor]:
    if isinstance(data, Distribution):
        generator = torch.Generator(device).manual_seed(seed)
        part = at_most(PART, spec)
        draws = [data.draw(part, generator) for _ in range(-(-n // part))]
        for drawn in draws:
            check_drawn(drawn, part, spec)
        x, y = (torch.cat(side)[:n] for side in zip(*draws, strict=True))
        return x, y
    if isinstance(data, IterableDataset):
        first = [*range(n)]
        x, y = read_items(data, spec, first)
        check_samples(x, y, spec, first)
        return x, y
    count = check_length(data)
    rows = torch.randperm(count, generator=torch.Generator().manual_seed(seed))[:n]
    if is_indexed(data):
        read_items(data, spec, [0])  # the form of one is that of all
        x, y = (tensor[rows.to(tensor.device)] for tensor in data.tensors)
    else:
        x, y = read_items(data, spec, rows.tolist())
    check_samples(x, y, spec, rows.tolist())
    return x, y
