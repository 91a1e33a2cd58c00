"""Inversion: latents whose samples are given images (Zhu et al. 2016, iGAN; Lipton & Tripathi 2017).

Of some thousand random samples the nearest to an image are its starts. From each of them the mean squared error is
minimised by L-BFGS, for all images and starts at once, and the best result of an image is kept.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

import attrs
import torch
from torch import Tensor

from ganframe.analysis.lbfgs import minimise
from ganframe.analysis.spaces import GeneratorOfW, Space, in_space
from ganframe.analysis.targets import read_targets
from ganframe.analysis.trained import Classes, TrainedGenerator, load_generator
from ganframe.components import DataSpec
from ganframe.data.checks import check_samples
from ganframe.data.feed import as_float
from ganframe.data.latents import fixed_latents
from ganframe.data.real import at_most
from ganframe.data.seeds import derive_seeds
from ganframe.declarations import group_size
from ganframe.errors import RequestError, RunError
from ganframe.recipes.problems import is_out_of_memory
from ganframe.recipes.tables import Prior
from ganframe.storage.files import first_line

POOL = 4096  # random samples among which the starts are, fewer of large images; of each y its share of them, but
OWN_POOL = 256  # at least so many
TOGETHER = 256  # latents that are moved at a time
WIDE = 1.65  # about 99 % of standard normal latents have a norm below √dim + WIDE
FIRST = 0.1  # length of the first step, for latents of variance 1


@attrs.frozen
class Inversion:
    """Latents (k, dim), or (k, *shape of w), whose samples are nearest to k images, with y (k,) or (k, *condition).

    `samples` (k, *shape) are theirs, `errors` (k,) the mean squared errors of those, for images on the scale [-1, 1].
    """

    latents: Tensor
    y: Tensor
    samples: Tensor
    errors: Tensor
    space: Space


def invert(
    run: str | Path,
    images: Tensor | Sequence[str | Path],
    y: Classes | Tensor | None = None,
    *,
    space: Space = "z",
    restarts: int = 4,
    steps: int = 200,
    prior: float = 0.1,
    seed: int = 0,
    step: int | None = None,
    device: torch.device | str | None = None,
) -> Inversion:
    """Finds latents of the generator of a run whose samples are `images`: (k, *shape), or files and folders.

    `y` is the class, or the condition, of all images or one for each. By default classes are found too, and the
    condition is the first of those that the run keeps. Of each image `restarts` starts are moved `steps` times, and the
    best is kept. `space` "w" finds latents w, where the network offers them. `prior` is the weight of a pull on latents
    that are farther out than random ones. `step` is that of a checkpoint.

    Raises RequestError where the images are not of the generator's shape, or the generator cannot be inverted; RunError
    where its samples or their gradients are not finite.
    """
    G = load_generator(run, step=step)
    x = images if isinstance(images, Tensor) else read_targets(images, G.spec)[0]
    asked = None if y is None else G.as_y(y, len(x))
    where = device if device is not None else "cuda" if torch.cuda.is_available() else "cpu"
    return invert_samples(G.to(where), x, asked, space, restarts, steps, prior, seed)


def invert_samples(
    G: TrainedGenerator,
    x: Tensor,
    y: Tensor | None = None,
    space: Space = "z",
    restarts: int = 4,
    steps: int = 200,
    prior: float = 0.1,
    seed: int = 0,
) -> Inversion:
    """`invert` with a generator that is loaded already, and y (k,) or (k, *condition) for all images x (k, *shape)."""
    G = in_space(G, space).requires_grad_(False)
    x = _checked(x, G.spec)
    _refuse_mixing(G)
    if not G.heeds_y:
        y = G.spec.blank(len(x))
    elif y is None and G.spec.condition is not None:
        y = G.under_one_condition().latents(len(x), seed)[1]
    together = max(1, at_most(TOGETHER, G.spec) // restarts)  # images
    try:
        starts, their_y = _starts(G, x, y, restarts, seed)
        parts = zip(x.split(together), starts.split(together), their_y.split(together), strict=True)
        moved = [_moved(G, part, z, of_z, steps, prior) for part, z, of_z in parts]
    except (MemoryError, RuntimeError) as error:
        if not is_out_of_memory(error):
            raise
        raise RequestError("there is not enough memory to invert these; use fewer --restarts") from error
    latents, found_y = (torch.cat(side) for side in zip(*moved, strict=True))
    samples = G.decode(latents, found_y)
    return Inversion(latents, found_y, samples, (samples - x).flatten(1).square().mean(1), space)


def typical_norm(G: TrainedGenerator) -> float:
    """The norm that random latents have: √dim of z, the mean of some of w."""
    if not isinstance(G, GeneratorOfW):
        return math.sqrt(G.prior.dim)
    z, _ = fixed_latents(G.prior, G.spec, OWN_POOL, 0)
    return G.map(z, G.spec.blank(OWN_POOL)).flatten(1).norm(dim=1).mean().item()


def _checked(x: Tensor, spec: DataSpec) -> Tensor:
    """x as floats (k, *shape). Raises RequestError where it is not samples of the data."""
    if tuple(x.shape[1:]) != spec.shape or not len(x):
        raise RequestError(f"images have shape {tuple(x.shape)}: it must be {('k', *spec.shape)}".replace("'k'", "k"))
    try:
        check_samples(x, spec.blank(len(x)), spec)
    except ValueError as error:
        raise RequestError(str(error)) from None
    return as_float(x.detach().cpu())


def _refuse_mixing(G: TrainedGenerator) -> None:
    mixes = any(getattr(module, "mixes_samples", False) for module in G.modules())
    if mixes or group_size(G) > 1:
        raise RequestError(
            "this generator cannot be inverted: a sample depends on the other latents of its batch, as its network "
            "declares (mixes_samples, mixes_groups_of)"
        )


def _starts(G: TrainedGenerator, x: Tensor, y: Tensor | None, restarts: int, seed: int) -> tuple[Tensor, Tensor]:
    """Latents (k, restarts, …) whose samples are the nearest to x of random ones, and their y; y None: of any class.

    Of latents w, the first start is the mean of those of its y, from which Karras et al. 2020 (StyleGAN2) project.
    """
    which = torch.zeros(len(x), dtype=torch.long)
    given = None
    if y is not None:
        given, which = y.unique(dim=0, return_inverse=True)
    groups = 1 if given is None else len(given)
    n = max(restarts, OWN_POOL, at_most(POOL, G.spec) // groups)
    z, drawn = fixed_latents(G.prior, G.spec, n, derive_seeds(seed).latents)
    starts, their_y = [], []
    order = which.argsort(stable=True)
    for group, rows in enumerate(order.split(which.bincount(minlength=groups).tolist())):
        own = drawn if given is None else given[group].expand(n, *given.shape[1:])
        latents = G.map(z, own) if isinstance(G, GeneratorOfW) else z
        nearest = _nearest(G, latents, own, x[rows], restarts)
        chosen, chosen_y = latents[nearest], own[nearest]
        if isinstance(G, GeneratorOfW):
            for row, label in enumerate(chosen_y[:, 0]):
                chosen[row, 0] = latents[(own == label).view(n, -1).all(1)].mean(0)
        starts.append(chosen)
        their_y.append(chosen_y)
    back = order.argsort()
    return torch.cat(starts)[back], torch.cat(their_y)[back]


def _nearest(G: TrainedGenerator, latents: Tensor, y: Tensor, x: Tensor, restarts: int) -> Tensor:
    """The places (k, restarts) of the latents whose samples are nearest to x, in chunks. Raises RunError."""
    distances = []
    chunk = at_most(TOGETHER, G.spec)
    for part, of_part in zip(latents.split(chunk), y.split(chunk), strict=True):
        samples = G.decode(part, of_part).flatten(1)
        if not samples.isfinite().all():
            raise RunError("the samples of this generator are not all finite; it cannot be inverted")
        distances.append(torch.cdist(x.flatten(1), samples))
    return torch.cat(distances, 1).topk(restarts, largest=False).indices


def _moved(
    G: TrainedGenerator, x: Tensor, starts: Tensor, y: Tensor, steps: int, prior: float
) -> tuple[Tensor, Tensor]:
    """The best latents (k, …) that were found from starts (k, restarts, …), and their y, on the CPU."""
    device = next((p.device for p in G.parameters()), torch.device("cpu"))
    k, restarts = starts.shape[:2]
    shape = starts.shape[2:]
    x, of_x = x.repeat_interleave(restarts, 0).to(device), y.flatten(0, 1).to(device)
    flat = starts.flatten(0, 1).flatten(1).to(device)

    def f(points: Tensor) -> tuple[Tensor, Tensor]:
        points = points.detach().requires_grad_()
        with torch.enable_grad(), _refusing():
            samples = G(points.unflatten(1, shape), of_x)
            if not samples.requires_grad:
                raise RuntimeError("its samples have no gradient by its latents")
            error = (samples - x).flatten(1).square().mean(1)
            if prior and not isinstance(G, GeneratorOfW):
                error = error + prior * _beyond(points, G.prior)
            (slope,) = torch.autograd.grad(error.sum(), points)
        return error.detach(), slope

    value, slope = f(flat)
    if not (value.isfinite() & slope.isfinite().all(1)).view(k, restarts).any(1).all():
        raise RunError("the gradient of this generator is not finite at the nearest samples; it cannot be inverted")
    if value.any() and not slope.any():
        raise RequestError("this generator cannot be inverted: the gradient of its samples by its latents is 0")
    unit = starts.std().item() if isinstance(G, GeneratorOfW) and starts.numel() > 1 else 1.0
    found, value = minimise(f, flat, steps, FIRST * unit)
    best = value.view(k, restarts).nan_to_num(nan=math.inf).argmin(1).cpu()
    rows = torch.arange(k)
    return found.cpu().unflatten(1, shape).unflatten(0, (k, restarts))[rows, best], y[rows, best]


@contextmanager
def _refusing() -> Iterator[None]:
    """Raises RequestError for what torch raises where a network cannot be differentiated."""
    try:
        yield
    except RuntimeError as error:
        if is_out_of_memory(error):
            raise
        raise RequestError(f"this generator cannot be inverted: {first_line(error)}") from None


def _beyond(z: Tensor, prior: Prior) -> Tensor:
    """How far latents z (N, dim) lie beyond random ones, squared (N,): outside the cube, or the norm of 99 %."""
    if prior.distribution == "uniform":
        return (z.abs() - math.sqrt(3)).clamp(min=0).square().mean(1)
    dim = z.shape[1]
    return ((z.norm(dim=1) - math.sqrt(dim) - WIDE).clamp(min=0) / math.sqrt(dim)).square()
