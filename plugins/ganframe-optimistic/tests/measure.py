"""Measures how near plain and optimistic optimisers come to the equilibrium: `python tests/measure.py`.

The bilinear game min over x, max over y of x·y, alternating steps from (1.5, 0.5), without noise: the largest radius in
the last 100 of 3,000 steps. Then wgan_mean.toml with five seeds, 1,500 steps: the distance (|mean of G - 3|, |slope of
D|) from the equilibrium, averaged over the last 500 steps; mean ± standard deviation over the seeds.
"""

from __future__ import annotations

import math
import tempfile
from collections.abc import Callable
from pathlib import Path

import numpy as np
import torch
from ganframe_optimistic import OptimisticAdam, OptimisticSGD

import ganframe

RECIPE = Path(__file__).parent.parent / "wgan_mean.toml"


def radius(make: Callable[[list[torch.Tensor]], torch.optim.Optimizer]) -> float:
    x, y = (torch.tensor([start], requires_grad=True) for start in (1.5, 0.5))
    of_x, of_y, radii = make([x]), make([y]), []
    for _ in range(3000):
        y.grad = -x.detach().clone()
        of_y.step()
        x.grad = y.detach().clone()
        of_x.step()
        radii.append(math.hypot(x.item(), y.item()))
    return max(radii[-100:])


def bilinear() -> None:
    for cls in (torch.optim.SGD, OptimisticSGD):
        print(f"bilinear, lr 0.1: {cls.__name__} {radius(lambda p, c=cls: c(p, lr=0.1)):.2g}")  # type: ignore[misc]
    for betas in ((0.0, 0.999), (0.5, 0.999), (0.5, 0.9), (0.9, 0.999)):
        for kind in (torch.optim.Adam, OptimisticAdam):
            found = radius(lambda p, c=kind, b=betas: c(p, lr=0.02, betas=b))  # type: ignore[misc]
            print(f"bilinear, lr 0.02, betas {betas}: {kind.__name__} {found:.2g}", flush=True)


def distances(name: str, beta1: float, seed: int) -> list[float]:
    found = []

    def remember(state) -> None:  # type: ignore[no-untyped-def]
        if state.step > 1000:
            mean, slope = state.G.network.last.bias.item(), state.D.network.head.linear.weight.item()
            found.append((abs(mean - 3), abs(slope)))

    players = ("generator", "discriminator")
    changes = [f"seed={seed}", "log.checkpoint_every=1500"]
    changes += [f"optimizer.{player}.use='{name}'" for player in players]
    changes += [f"optimizer.{player}.betas=[{beta1}, 0.999]" for player in players]
    with tempfile.TemporaryDirectory() as folder:
        ganframe.run(ganframe.load_recipe(RECIPE, changes), f"{folder}/run", [remember])
    return list(np.mean(found, axis=0))


def main() -> None:
    bilinear()
    for beta1 in (0.0, 0.5):
        for name in ("Adam", "OptimisticAdam"):
            found = np.array([distances(name, beta1, seed) for seed in range(5)])
            (mean, slope), stds = found.mean(0), found.std(0)
            print(f"{name}, β1 {beta1}: mean {mean:.3f} ± {stds[0]:.3f}, slope {slope:.3f} ± {stds[1]:.3f}", flush=True)


if __name__ == "__main__":
    main()
