"""How well does a run on this plugin's data do? `python tests/measure.py RUN [RUN …]`

2,500 samples of the run are held against as many fresh draws of the data, which score what a perfect generator would.

cube_corners: a sample is of high quality within three standard deviations of its nearest corner, and a corner is
captured when some sample of high quality is nearest to it (the protocol of Srivastava et al. 2017). A perfect sampler
scores 97.07 %, the share of a Gaussian within 3 σ in three dimensions; in two it is 98.89 %.

helix, walk: the distance from the samples to the curve, or to the nearest walk without noise, says whether samples are
right; the distance from fresh data to the nearest of the samples says whether all of the data is there.
"""

from __future__ import annotations

import sys

import torch
from ganframe_toy3d import CubeCorners, Helix, Walk
from torch import Tensor

import ganframe

SAMPLES, SIGMAS = 2500, 3


def corner_count(x: Tensor, cube: CubeCorners) -> tuple[int, float]:
    """The corners captured by samples (n, 3), and the share of high quality, from 0 to 1."""
    corners = cube.corners(torch.arange(8))
    distance, nearest = torch.cdist(x, corners, compute_mode="donot_use_mm_for_euclid_dist").min(1)
    good = distance <= SIGMAS * cube.std
    return len(nearest[good].unique()), good.double().mean().item()


def distance_to_helix(x: Tensor, helix: Helix, fine: int = 4000) -> Tensor:
    """The distance (n,) of points (n, 3) to the nearest strand, each strand taken as `fine` points."""
    t = torch.linspace(0, 1, fine)
    strands = [helix.curve(t, torch.full((fine,), strand)) for strand in range(helix.strands)]
    return nearest(x, torch.cat(strands))


def distance_to_walk(x: Tensor, walk: Walk) -> Tensor:
    """The distance (n,) of samples (n, points, 3) to the nearest walk without noise, as RMS over the points.

    The best turn of the circle is the solution of Procrustes' problem: with U S V' = circle' x, it is U V'.
    """
    circle = walk.circle()
    u, _, v = torch.linalg.svd(circle.T @ x, full_matrices=False)
    return (circle @ u @ v - x).square().sum(2).mean(1).sqrt()


def nearest(x: Tensor, among: Tensor) -> Tensor:
    """The distance (n,) of each x (n, …) to the nearest of `among` (m, …)."""
    parts = x.flatten(1).split(250)  # so that the matrices of distances stay small
    among = among.flatten(1)
    return torch.cat([torch.cdist(p, among, compute_mode="donot_use_mm_for_euclid_dist").min(1)[0] for p in parts])


def report(x: Tensor, dataset: ganframe.Dataset) -> str:
    """One line on samples x (n, *shape), with the same of fresh data in brackets."""
    (real, _), (other, _) = (dataset.build().draw(SAMPLES, torch.Generator().manual_seed(seed)) for seed in (1, 2))
    if isinstance(dataset, CubeCorners):
        (captured, high), (_, perfect) = corner_count(x, dataset), corner_count(real, dataset)
        return f"{captured} of 8 corners, {high:.2%} of high quality ({perfect:.2%})"
    if isinstance(dataset, Helix):
        to, off, perfect = "the curve", distance_to_helix(x, dataset), distance_to_helix(real, dataset)
    else:
        to, off, perfect = "a walk", distance_to_walk(x, dataset), distance_to_walk(real, dataset)
    covered, ideal = nearest(other, x).quantile(0.95), nearest(other, real).quantile(0.95)
    return (
        f"median distance to {to} {off.median():.4f} ({perfect.median():.4f}), "
        f"95 % of the data within {covered:.3f} ({ideal:.3f}) of a sample"
    )


def main() -> None:
    for run in sys.argv[1:]:
        dataset = ganframe.load_recipe(f"{run}/recipe.toml").dataset
        if not isinstance(dataset, CubeCorners | Helix | Walk):
            sys.exit(f"{run}: its dataset is {type(dataset).__name__}, none of this plugin's")
        print(f"{run}: {report(ganframe.load_generator(run).sample(SAMPLES, seed=1), dataset)}")


if __name__ == "__main__":
    main()
