"""Counts the modes that a run on a ring or a grid captures: `python tests/measure/modes.py RUN [RUN …]`.

By VEEGAN's protocol (Srivastava et al. 2017), with 2,500 samples: a sample is of high quality if it is within three
standard deviations of its nearest mode, and a mode is captured if a sample of high quality is nearest to it. A perfect
sampler has 98.889 % of high quality, 1 - exp(-4.5); a higher share means that the modes have shrunk. Exits with 1
unless every run captures every mode.
"""

from __future__ import annotations

import sys
from pathlib import Path

import torch
from torch import Tensor

import ganframe
from ganframe.builtin.distributions import Grid, Ring

SAMPLES, SIGMAS = 2500, 3


def mode_count(samples: Tensor, means: Tensor, std: float) -> tuple[int, float]:
    """The modes captured by samples (N, D), of modes with means (K, D), and the share of high quality, from 0 to 1."""
    # Differences, not cdist's matrix product, which loses the digits that a small σ far from 0 needs.
    distances = torch.cdist(samples.double(), means.double(), compute_mode="donot_use_mm_for_euclid_dist")
    distance, nearest = distances.min(1)
    good = distance <= SIGMAS * std
    return len(nearest[good].unique()), good.double().mean().item()


def main() -> int:
    complete = True
    for run in sys.argv[1:]:
        dataset = ganframe.load_recipe(Path(run) / "recipe.toml").dataset
        if not isinstance(dataset, (Ring, Grid)):
            print(f"{run}: its dataset is {type(dataset).__name__}, neither ring nor grid")
            complete = False
            continue
        means = dataset.build().means
        modes, share = mode_count(ganframe.load_generator(run).sample(SAMPLES, seed=1), means, dataset.std)
        print(f"{run}: {modes} of {len(means)} modes, {share:.2%} of high quality")
        complete = complete and modes == len(means)
    return 0 if complete else 1


if __name__ == "__main__":
    sys.exit(main())
