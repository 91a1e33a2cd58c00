"""Measures the sample quality of runs on this plugin's datasets: `python tests/measure.py RUN [RUN …]`

Compares 2,500 samples of each run with as many new draws of the data, which are the result of a perfect generator.

cube_corners: a sample has high quality if it is within three standard deviations of its nearest corner. A corner is
captured if it is the nearest corner of a high-quality sample (the protocol of Srivastava et al. 2017). For a perfect
sampler 97.07 % of samples have high quality: a Gaussian's share within 3 σ in three dimensions (in two, 98.89 %).

helix, walk: the distance from samples to the curve, or to the nearest walk without noise, measures sample quality. The
distance from new data to the nearest sample measures coverage.
"""

from __future__ import annotations

import sys

import torch
from ganframe_toy3d import CubeCorners, Helix, Walk
from torch import Tensor

import ganframe

SAMPLES, SIGMAS = 2500, 3


def corner_count(x: Tensor, cube: CubeCorners) -> tuple[int, float]:
    """The number of corners captured by samples (n, 3), and the share of high-quality samples, from 0 to 1."""
    corners = cube.corners(torch.arange(8))
    distance, nearest = torch.cdist(x, corners, compute_mode="donot_use_mm_for_euclid_dist").min(1)
    good = distance <= SIGMAS * cube.std
    return len(nearest[good].unique()), good.double().mean().item()


def distance_to_helix(x: Tensor, helix: Helix, fine: int = 4000) -> Tensor:
    """Distances (n,) of points (n, 3) to the nearest strand, each strand approximated by `fine` points."""
    t = torch.linspace(0, 1, fine)
    strands = [helix.curve(t, torch.full((fine,), strand)) for strand in range(helix.strands)]
    return nearest(x, torch.cat(strands))


def distance_to_walk(x: Tensor, walk: Walk) -> Tensor:
    """Distances (n,) of samples (n, points, 3) to the nearest walk without noise, RMS over the points.

    The best rotation of the circle solves the orthogonal Procrustes problem: with U S V' = circle' x, it is U V'.
    """
    circle = walk.circle()
    u, _, v = torch.linalg.svd(circle.T @ x, full_matrices=False)
    return (circle @ u @ v - x).square().sum(2).mean(1).sqrt()


def nearest(x: Tensor, among: Tensor) -> Tensor:
    """Distances (n,) of each x (n, …) to the nearest of `among` (m, …)."""
    parts = x.flatten(1).split(250)  # keeps the distance matrices small
    among = among.flatten(1)
    return torch.cat([torch.cdist(p, among, compute_mode="donot_use_mm_for_euclid_dist").min(1)[0] for p in parts])


def report(x: Tensor, dataset: ganframe.Dataset) -> str:
    """One line of results for samples x (n, *shape), with those of new data in brackets."""
    (real, _), (other, _) = (dataset.build().draw(SAMPLES, torch.Generator().manual_seed(seed)) for seed in (1, 2))
    if isinstance(dataset, CubeCorners):
        (captured, high), (_, perfect) = corner_count(x, dataset), corner_count(real, dataset)
        return f"{captured} of 8 corners, {high:.2%} high quality ({perfect:.2%})"
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
            sys.exit(f"{run}: the dataset {type(dataset).__name__} is not of ganframe-toy3d; use a run on one that is")
        print(f"{run}: {report(ganframe.load_generator(run).sample(SAMPLES, seed=1), dataset)}")


if __name__ == "__main__":
    main()
