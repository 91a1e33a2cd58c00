"""Interpolation between latents of a trained generator, linear or spherical."""

from __future__ import annotations

import re
from collections.abc import Sequence
from typing import Literal

import attrs
import torch
from torch import Tensor

from ganframe.analysis.latent_files import file_of, read_latents, space_of
from ganframe.analysis.spaces import GeneratorOfW, Space, in_space
from ganframe.analysis.trained import Classes, TrainedGenerator
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


@attrs.frozen
class Paths:
    """Latents (p, steps, …) along p paths, y (p,) or (p, *condition) of each, and the generator that decodes them."""

    G: TrainedGenerator
    latents: Tensor
    y: Tensor

    def samples(self) -> Tensor:
        """(p, steps, *shape)."""
        paths, steps = self.latents.shape[:2]
        made = self.G.decode(self.latents.flatten(0, 1), self.y.repeat_interleave(steps, 0))
        return made.unflatten(0, (paths, steps))


def find_paths(
    G: TrainedGenerator,
    pairs: Sequence[tuple[str, str]],
    steps: int = 9,
    path: Interpolation | None = None,
    y: Classes | Tensor | None = None,
    seed: int = 0,
    n: int = 64,
    space: Space | None = None,
) -> Paths:
    """The interpolations between pairs of samples, chosen by `choose`, in the `space` of z or w.

    By default it is z, or w where one of the samples is a file of latents w.

    By default the path is linear for a uniform prior and in w, and spherical otherwise. All samples of a path have the
    class or condition of its start, or `y`; of samples that are no file it is the first of `G.conditions`. Raises
    RequestError for samples that do not exist, ValueError for such y or steps.
    """
    G = in_space(G.under_one_condition(), space or space_of([item for pair in pairs for item in pair]))
    asked = None if y is None else G.as_y(y, len(pairs))
    known = [None] * len(pairs) if asked is None else asked.split(1)
    chosen = [[_one(G, item, seed, n, of) for item in pair] for pair, of in zip(pairs, known, strict=True)]
    starts, ends = zip(*chosen, strict=True)
    start, end = (torch.cat([z for z, _ in side]) for side in (starts, ends))
    straight = G.prior.distribution == "uniform" or isinstance(G, GeneratorOfW)
    default: Interpolation = "linear" if straight else "spherical"
    latents = interpolate(start, end, steps, path or default).transpose(0, 1)
    of_start = torch.cat([y for _, y in starts])
    return Paths(G, latents, of_start if asked is None else asked)


def interpolate_samples(
    G: TrainedGenerator,
    pairs: Sequence[tuple[str, str]],
    steps: int = 9,
    path: Interpolation | None = None,
    label: Classes | Tensor | None = None,
    seed: int = 0,
    n: int = 64,
    space: Space | None = None,
) -> Tensor:
    """Samples (len(pairs), steps, *shape) along the paths of `find_paths`."""
    return find_paths(G, pairs, steps, path, label, seed, n, space).samples()


def _one(G: TrainedGenerator, item: str, seed: int, n: int, y: Tensor | None) -> tuple[Tensor, Tensor]:
    z, of_z = choose(G, item, seed, n, y)
    if len(z) > 1:
        raise RequestError(f"'{item.strip()}': the file has {len(z)} rows; say which one, as in {item.strip()}:0")
    return z, of_z


def choose(G: TrainedGenerator, item: str, seed: int, n: int, y: Tensor | None = None) -> tuple[Tensor, Tensor]:
    """The latent (1, …) and the y of one sample in a picture of `ganframe sample RUN -n N --seed S`, or of a file.

    `item` is "PLACE", counted from 0 along the rows of the picture of `seed`, or "SEED:PLACE"; or "FILE.npy:ROW", the
    latents that `ganframe invert` wrote, or "FILE.npy", all of its rows. `y` (1, …) is theirs where it is not known.
    Raises RequestError.
    """
    match = re.fullmatch(r"(?:(\d{1,18}):)?(\d{1,18})", item.strip())
    if match is None and file_of(item) is not None:
        return read_latents(item, G, y)
    if match is None:
        raise RequestError(
            f"'{item.strip()}': write the place of a sample, as in 7, or SEED:PLACE, as in 2:7, or FILE.npy:ROW"
        )
    place = int(match[2])
    if place >= n:
        raise RequestError(
            f"'{item.strip()}': the picture has {counted(n, 'sample')}, 0 to {n - 1}; -n makes it larger"
        )
    z, of_z = G.latents(n, int(match[1] or seed))
    return z[place : place + 1], of_z[place : place + 1]
