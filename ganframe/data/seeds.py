"""The seeds of a run, all derived from the one in its recipe."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np


class Seeds(NamedTuple):
    """Independent seeds, one for each use of random numbers."""

    weights: int
    """Initial weights of the networks."""
    data: int
    """Order of real samples, or the samples of a distribution."""
    latents: int
    torch: int
    """torch's own generator: dropout, the ε of a gradient penalty."""
    judging: int
    """Latents of pictures, real samples for judging."""


def derive_seeds(seed: int, rank: int = 0) -> Seeds:
    """The seeds of the process `rank` in a run with this seed."""
    return Seeds(*(int(s) for s in np.random.SeedSequence((seed, rank)).generate_state(len(Seeds._fields))))


def batch_seed(*numbers: int) -> int:
    """A seed of 32 bits of what the items of a batch draw, from what identifies the batch."""
    return int(np.random.SeedSequence(numbers).generate_state(1)[0])
