"""Measures how honest and how sharp certificates are: `python tests/measure/certificates.py [COUNT] [SEED]`.

Real against real: COUNT comparisons (1,000 by default) of two sides of one distribution, in turn normal, skewed and
with repeats, at a total risk of 5 %: at most 5 % may be above 0. Known distances: Gaussians and funnels with a known
W1, how often the bound is above it, and its share of it.
"""

from __future__ import annotations

import math
import sys
import time

import torch
from torch import Tensor

from ganframe.analysis import critics
from ganframe.analysis.certify import SideSamples, compare, divided
from ganframe.components import DataSpec
from ganframe.plugins.registry import component, load
from ganframe.recipes.reading import load_critic

DELTA = 0.05
CPU = torch.device("cpu")
QUICK = ("train.steps=40", "train.batch_size=128", "discriminator.hidden=[32]")


def normal(n: int, draws: torch.Generator) -> Tensor:
    return torch.randn(n, 2, generator=draws)


def skewed(n: int, draws: torch.Generator) -> Tensor:
    return (torch.rand(n, 1, generator=draws) < 0.03).float() * 10


def repeated(n: int, draws: torch.Generator) -> Tensor:
    """Thirty points in 16 dimensions, of unequal probabilities."""
    points = torch.randn(30, 16, generator=torch.Generator().manual_seed(7))
    return points[(30 * torch.rand(n, generator=draws) ** 2).long()]


def side(x: Tensor) -> SideSamples:
    return divided(x, len(x) // 2)


def null(count: int, first: int) -> None:
    recipe = load_critic(critics.DEFAULT, QUICK, load(), "critic")
    kinds = (normal, skewed, repeated)
    above = dict.fromkeys((kind.__name__ for kind in kinds), 0)
    begun = time.monotonic()
    for index in range(count):
        draw, n = kinds[index % 3], (80, 200, 1_000)[index // 3 % 3]
        draws = torch.Generator().manual_seed(first + index)
        x, y = draw(n, draws), draw(n, draws)
        found, _ = compare(side(x), side(y), recipe, DataSpec(tuple(x.shape[1:])), DELTA, first + index, CPU)
        above[draw.__name__] += found.certified > 0
    total = sum(above.values())
    print(f"real against real: {total} of {count} above 0 ({total / count:.2%}; at most {DELTA:.0%}): {above}")
    print(f"{(time.monotonic() - begun) / count:.3f} s each")


def known(repeats: int, first: int) -> None:
    registry = load()
    for d, shift, n, steps in (
        (2, 2.0, 1_000, 150),
        (2, 2.0, 5_000, 300),
        (16, 1.0, 5_000, 300),
        (1, 0.2, 5_000, 300),
    ):
        recipe = load_critic(critics.DEFAULT, (f"train.steps={steps}",), registry, "critic")
        shares = []
        for seed in range(first, first + repeats):
            draws = torch.Generator().manual_seed(seed)
            x, y = torch.randn(2 * n, d, generator=draws), torch.randn(2 * n, d, generator=draws)
            found, _ = compare(side(x + shift / math.sqrt(d)), side(y), recipe, DataSpec((d,)), DELTA, seed, CPU)
            shares.append(found.certified / shift)
        mean = sum(shares) / len(shares)
        print(
            f"N(0, I) in {d} dimensions, W1 = {shift}, {n:,} judged samples: certified / true {mean:.3f} "
            f"({min(shares):.3f} to {max(shares):.3f}), {sum(share > 1 for share in shares)} of {repeats} above it"
        )


def funnels(repeats: int, first: int) -> None:
    """Pairs of the benchmark whose optimal critic is known; W1 from 200,000 samples of each side."""
    recipe = load_critic(critics.DEFAULT, (), load(), "critic")
    for d in (2, 16):
        moved, cube = (component("dataset", name)(dimension=d).build() for name in ("funnels_moved", "funnels"))
        best, draws = moved.optimal_critic(cube), torch.Generator().manual_seed(first)
        w1 = (best(moved.draw(200_000, draws)[0]).mean() - best(cube.draw(200_000, draws)[0]).mean()).item()
        shares = []
        for seed in range(first, first + repeats):
            x, y = (data.draw(10_000, draws)[0].float() for data in (moved, cube))
            found, _ = compare(side(x), side(y), recipe, DataSpec((d,)), DELTA, seed, CPU)
            shares.append(found.certified / w1)
        mean, above = sum(shares) / len(shares), sum(share > 1 for share in shares)
        print(f"funnels in {d} dimensions, W1 = {w1:.4f}: certified / true {mean:.3f}, {above} of {repeats} above it")


if __name__ == "__main__":
    null(int(sys.argv[1]) if len(sys.argv) > 1 else 1_000, int(sys.argv[2]) if len(sys.argv) > 2 else 0)
    known(5, 0)
    funnels(3, 0)
