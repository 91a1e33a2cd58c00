"""Latents z, drawn from the prior of a recipe."""

from __future__ import annotations

import math
from typing import Any

import torch
from torch import Tensor

from ganframe.components import DataSpec
from ganframe.data.feed import Share
from ganframe.recipes.tables import Prior


def sample_prior(prior: Prior, n: int, generator: torch.Generator) -> Tensor:
    """z (n, dim) from N(0, I) or U(-√3, √3)^dim, drawn with `generator` on its device."""
    if prior.distribution == "normal":
        return torch.randn(n, prior.dim, generator=generator, device=generator.device)
    return torch.rand(n, prior.dim, generator=generator, device=generator.device).sub_(0.5).mul_(2 * math.sqrt(3))


def fixed_latents(
    prior: Prior, spec: DataSpec, n: int, seed: int, conditions: Tensor | None = None
) -> tuple[Tensor, Tensor]:
    """n latents z (n, dim) and y for them, the same for the same seed, on the CPU.

    y are labels (n,), uniform over the classes; or where the data has conditions, `conditions` (k, *condition) in turn,
    by default blank ones.
    """
    generator = torch.Generator().manual_seed(seed)
    z = sample_prior(prior, n, generator)
    if spec.condition is not None:
        return z, spec.blank(n) if conditions is None else conditions[torch.arange(n) % len(conditions)]
    return z, torch.randint(spec.classes or 1, (n,), generator=generator)


class LatentFeed:
    """The latents of training: this process's rows of each batch. `share` may be replaced before the first one."""

    def __init__(self, prior: Prior, seed: int, share: Share) -> None:
        self.prior, self.share = prior, share
        self.generator = torch.Generator(share.device).manual_seed(seed)

    def __call__(self, n: int) -> Tensor:
        """z (n, dim): this process's rows of a batch of n · processes."""
        return self.share.of(sample_prior(self.prior, n * self.share.processes, self.generator))

    def state_dict(self) -> dict[str, Any]:
        return {"generator": self.generator.get_state()}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        self.generator.set_state(state["generator"])
