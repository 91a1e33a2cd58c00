"""Interpolation between latents of a trained generator, linear or spherical."""

from __future__ import annotations

import re
from collections.abc import Sequence
from typing import Literal

import torch
from torch import Tensor

from ganframe.analysis.trained import TrainedGenerator
from ganframe.errors import RequestError, counted

Interpolation = Literal["linear", "spherical"]


def interpolate(start: Tensor, end: Tensor, steps: int = 9, path: Interpolation = "spherical") -> Tensor:
    """`steps` latents from `start` to `end`, both included: (dim,) or (N, dim) each -> (steps, dim) or (steps, N, dim).

    "linear" is the straight line, whose middle has few Gaussian latents near it: halfway between two of them the norm
    is smaller by √2. "spherical" interpolates the direction along the great circle (White 2016, section 2.1) and the
    norm linearly; where the directions are equal or opposite, it is linear. (White's formula interpolates the vectors
    themselves. That is the same for equal norms; for unequal norms at a wide angle it exceeds both.)

    Raises ValueError for fewer than two steps and for shapes that differ.
    """
    if steps < 2:
        raise ValueError(f"steps = {steps}: at least 2 are needed, the two ends")
    if start.shape != end.shape:
        raise ValueError(f"the ends have shapes {tuple(start.shape)} and {tuple(end.shape)}")
    t = torch.linspace(0, 1, steps, dtype=torch.float64, device=start.device).view(-1, *[1] * start.ndim)
    a, b = start.double(), end.double()
    latents = torch.lerp(a, b, t)
    if path == "spherical":
        a_norm, b_norm = (side.norm(dim=-1, keepdim=True) for side in (a, b))
        u, v = a / a_norm, b / b_norm
        angle = 2 * torch.atan2((u - v).norm(dim=-1, keepdim=True), (u + v).norm(dim=-1, keepdim=True))
        turned = (((1 - t) * angle).sin() * u + (t * angle).sin() * v) / angle.sin()
        # Comparisons with NaN are false, so a latent of norm 0 is interpolated linearly too.
        latents = torch.where(angle.sin() > 1e-6, torch.lerp(a_norm, b_norm, t) * turned, latents)
    elif path != "linear":
        raise ValueError(f"path = '{path}': it must be linear or spherical")
    latents = latents.to(start.dtype)
    latents[0], latents[-1] = start, end  # exact to the last bit
    return latents


def interpolate_samples(
    G: TrainedGenerator,
    pairs: Sequence[tuple[str, str]],
    steps: int = 9,
    path: Interpolation | None = None,
    label: int | str | None = None,
    seed: int = 0,
    n: int = 64,
) -> Tensor:
    """Samples (len(pairs), steps, *shape) along the interpolations between pairs of samples, chosen by `choose`.

    By default the path is linear for a uniform prior and spherical otherwise. All samples of a path have the label of
    its start, or `label`; where the data has conditions, all samples have the first of `G.conditions`. Raises
    RequestError for samples that do not exist, ValueError for such labels or steps.
    """
    G = G.under_one_condition()
    starts, ends = ([choose(G, pair[side], seed, n) for pair in pairs] for side in (0, 1))
    start, end = (torch.cat([z for z, _ in side]) for side in (starts, ends))
    y = torch.cat([y for _, y in starts]) if label is None else G.labels(label, len(pairs))
    default: Interpolation = "linear" if G.prior.distribution == "uniform" else "spherical"
    latents = interpolate(start, end, steps, path or default)
    samples = G.decode(latents.transpose(0, 1).flatten(0, 1), y.repeat_interleave(steps, 0))
    return samples.unflatten(0, (len(pairs), steps))


def choose(G: TrainedGenerator, item: str, seed: int, n: int) -> tuple[Tensor, Tensor]:
    """The latent z (1, dim) and the y of one sample in a picture of `ganframe sample RUN -n N --seed S`.

    `item` is "PLACE", counted from 0 along the rows of the picture of `seed`, or "SEED:PLACE". Raises RequestError.
    """
    match = re.fullmatch(r"(?:(\d{1,18}):)?(\d{1,18})", item.strip())
    if match is None:
        raise RequestError(f"'{item.strip()}': write the place of a sample, as in 7, or SEED:PLACE, as in 2:7")
    place = int(match[2])
    if place >= n:
        raise RequestError(
            f"'{item.strip()}': the picture has {counted(n, 'sample')}, 0 to {n - 1}; -n makes it larger"
        )
    z, y = G.latents(n, int(match[1] or seed))
    return z[place : place + 1], y[place : place + 1]
