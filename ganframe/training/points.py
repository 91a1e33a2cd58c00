"""Keeps what pages show of samples on the line or in the plane: a few kilobytes beside each picture."""

from __future__ import annotations

import math
from collections.abc import Callable
from pathlib import Path

import torch
from torch import Tensor

from ganframe.components import DataSpec
from ganframe.data.latents import fixed_latents
from ganframe.data.randomness import own_random_state
from ganframe.data.real import real_samples
from ganframe.data.seeds import derive_seeds
from ganframe.declarations import group_size, mean_scores
from ganframe.engine.state import Callback, State
from ganframe.recipes.tables import Prior
from ganframe.storage.points import Points, save_points
from ganframe.training.networks import evaluation
from ganframe.training.trainer import Trainer

SHOWN = {1: 2_000, 2: 400}  # samples, by dimensions: densities need more
PULLED = 128  # samples whose gradients are kept
PLACES = {1: 200, 2: 32}  # along each axis, at which D is asked
LINES = 15  # of the grid of latents, along each of two axes
ALONG = 61  # latents on the line, where they have one dimension
MARGIN = 0.25  # of the data's width, on each side


def has_points(spec: DataSpec) -> bool:
    """Whether samples are on the line or in the plane."""
    return not spec.is_image and math.prod(spec.shape) in PLACES


def keep_points(trainer: Trainer, file: Callable[[int], Path]) -> Callback:
    """Writes samples of the same latents each time to the `file` of a step, with data, D's scores, and gradients.

    Several processes keep no gradients, as a loss may then ask the other processes, which are not here.
    """
    recipe, spec, state = trainer.recipe, trainer.spec, trainer.state
    seed, device = derive_seeds(recipe.seed).judging, trainer.state.device
    dimensions = math.prod(spec.shape)
    shown = SHOWN[dimensions]
    real, real_y = real_samples(trainer.judged, spec, shown, seed, device)
    z, y = (side.to(device) for side in fixed_latents(recipe.latent, spec, shown, seed, real_y.cpu()))
    edges = range_of(real.flatten(1).cpu())
    grid, rows = latent_grid(recipe.latent)
    grid, grid_y = grid.to(device), y[:1].expand(len(grid), *y.shape[1:])
    if spec.classes:
        grid_y = torch.zeros_like(grid_y)
    pulled = min(PULLED, len(z), len(real)) if trainer.accelerator.num_processes == 1 else 0

    def pulls(fakes: Tensor, D: torch.nn.Module) -> Tensor:
        """Minus the gradient of G's loss at each of the fakes, times their number: where it would have them go."""
        objective = state.game.objective
        with torch.enable_grad():
            x = fakes.detach().requires_grad_()
            scores = D(x, y[:pulled])
            against = D(real[:pulled], real_y[:pulled]) if objective.compares_real else None
            loss = objective.generator_loss(scores, against)
            (gradient,) = torch.autograd.grad(loss, x, allow_unused=True, materialize_grads=True)
        return -len(x) * gradient

    def callback(state: State) -> None:
        G, D = trainer.sampled, state.D.network
        with torch.no_grad(), own_random_state(seed, device), evaluation(G, D):
            fakes = G(z, y)
            images = G(grid, grid_y).flatten(1) if dimensions == 2 else None
            scores = None
            if group_size(D) == 1:  # else a point has no score of its own
                x = places(edges).to(device)
                scores = mean_scores(D(x.unflatten(1, spec.shape), spec.blank(len(x), device)))
                scores = scores.view((PLACES[dimensions],) * dimensions)
            apart = dimensions == 2 and pulled and group_size(D) == 1 and state.game.started
            found = pulls(fakes[:pulled], D).flatten(1) if apart else None
        points = Points(
            samples=fakes.flatten(1),
            data=real.flatten(1),
            range=edges,
            scores=scores,
            grid=None if images is None else images.view(rows, -1, dimensions),
            pulls=found,
        )
        save_points(file(state.step), points)

    return callback


def range_of(data: Tensor) -> Tensor:
    """The ends (d, 2) of each axis of a square around data (n, d), with a margin on each side."""
    low, high = data.quantile(0.001, 0), data.quantile(0.999, 0)
    half = (0.5 + MARGIN) * (high - low).max().clamp(min=1e-3)
    middle = (low + high) / 2
    return torch.stack([middle - half, middle + half], 1)


def places(edges: Tensor) -> Tensor:
    """Points (s, 1) or (s·s, 2) evenly spaced over the range, the last coordinate moving first."""
    n = PLACES[len(edges)]
    axes = [torch.linspace(low.item(), high.item(), n) for low, high in edges]
    return torch.cartesian_prod(*axes).view(-1, len(axes))


def latent_grid(prior: Prior) -> tuple[Tensor, int]:
    """Latents z (n, dim) on a grid, and its number of rows: quantiles of the prior along z₁ and z₂, 0 in the others."""
    n = ALONG if prior.dim == 1 else LINES
    levels = torch.linspace(0.02, 0.98, n)
    normal = prior.distribution == "normal"
    along = torch.special.ndtri(levels) if normal else (2 * levels - 1) * math.sqrt(3)
    if prior.dim == 1:
        return along[:, None], 1
    plane = torch.cartesian_prod(along, along)
    return torch.cat([plane, torch.zeros(len(plane), prior.dim - 2)], 1), n
