"""Euclidean distances between many samples, in parts, so that memory stays bounded. For metrics."""

from __future__ import annotations

from collections.abc import Iterator

import torch
from torch import Tensor

NUMBERS = 2**22  # distances that are in memory at a time: 32 MiB of float64
VALUES = 2**24  # values of samples that are in memory as float64 at a time: 128 MiB
NARROW = 64  # dimensions up to which differences are as fast as a matrix product


def distances(x: Tensor, others: Tensor) -> Iterator[Tensor]:
    """Distances (rows, m) of samples x (n, …) to all of `others` (m, …), in float64, a part of the rows at a time.

    In few dimensions they are norms of differences, which are exact for close points far from 0. In many dimensions
    ‖a‖² - 2 ab + ‖b‖² is faster, and float64 leaves an error of 1e-7 of the norm where two points are the same.
    """
    x, others = (side.flatten(1).double() for side in (x, others))
    narrow = x.shape[1] <= NARROW
    mode = "donot_use_mm_for_euclid_dist" if narrow else "use_mm_for_euclid_dist"
    for rows in x.split(max(1, NUMBERS // len(others))):
        yield torch.cdist(rows, others, compute_mode=mode)


def nearest(x: Tensor, others: Tensor) -> Tensor:
    """Distances (n,) of samples x (n, …) to the nearest of `others` (m, …), in float64; 0 to a copy."""
    x, others = x.flatten(1), others.flatten(1)
    best = torch.full((len(x),), torch.inf, dtype=torch.float64)
    for block in others.split(max(1, VALUES // others.shape[1])):
        start = 0
        for part in distances(x, block):
            rows = slice(start, start := start + len(part))
            difference = x[rows].double() - block[part.argmin(1)].double()  # exact, where `part` is rounded
            best[rows] = torch.minimum(best[rows], difference.norm(dim=1))
    return best
