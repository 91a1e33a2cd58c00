"""The generated samples that metrics judge: the same latents for every run, and y as frequent as in the data."""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor

from ganframe.data.checks import in_range
from ganframe.data.latents import fixed_latents
from ganframe.data.randomness import own_random_state
from ganframe.judging.judge import SEED, Judge
from ganframe.recipes.tables import Prior

BLOCK = 16  # torch draws normal numbers in blocks of 16: of a multiple, the first n are the same for any number


def generate(
    judge: Judge, prior: Prior, decode: Callable[[Tensor, Tensor], Tensor], n: int, heeds_y: bool
) -> tuple[Tensor, Tensor | None]:
    """n samples x (n, *shape) on the CPU and the y that they were made for; None where the generator heeds none.

    Those of a smaller n are the first of them, so that a score does not depend on the metrics beside it. Images are
    clipped to [-1, 1], as those of a file are.

    `decode(z, y)` makes samples (n, *shape) of latents z (n, dim), in parts. The random state is not changed.
    """
    spec = judge.data.spec
    z = fixed_latents(prior, spec, -(-n // BLOCK) * BLOCK, SEED + 1)[0][:n]
    y = judge.conditions(n) if heeds_y else None
    with torch.no_grad(), own_random_state(SEED, judge.device):
        return in_range(decode(z, spec.blank(n) if y is None else y), spec), y
