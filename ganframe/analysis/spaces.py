"""The spaces of latents: z, which the prior draws, and w, which some networks compute from it (Karras et al. 2019)."""

from __future__ import annotations

import functools
from typing import Literal

import torch
from torch import Tensor, nn

from ganframe.analysis.standing_statistics import BATCH_SIZE
from ganframe.analysis.trained import Classes, TrainedGenerator
from ganframe.declarations import has_w
from ganframe.errors import RequestError
from ganframe.training.networks import in_parts, samples_at_a_time

Space = Literal["z", "w"]


class _Synthesis(nn.Module):
    """The part of a network from w to samples, called as a generator is."""

    def __init__(self, network: nn.Module) -> None:
        super().__init__()
        self.network = network

    def forward(self, w: Tensor, y: Tensor) -> Tensor:
        return self.network.synthesize(w, y)  # type: ignore[operator]


class GeneratorOfW(TrainedGenerator):
    """A trained generator whose latents are w = map(z, y): it decodes w, and its `latents` are those of random z."""

    def __init__(self, G: TrainedGenerator) -> None:
        if not has_w(G.network):
            raise RequestError(
                "this generator has no latents w: its network offers no map(z, y) and synthesize(w, y); use z"
            )
        super().__init__(_Synthesis(G.network), G.spec, G.prior, G.registry, G.conditions, G.precision)
        self.of_z = G

    @functools.cached_property
    def heeds_y(self) -> bool:
        return self.of_z.heeds_y

    def latents(self, n: int, seed: int = 0) -> tuple[Tensor, Tensor]:
        """The latents w (n, *shape of w) and y of `sample(n, seed)`."""
        z, y = self.of_z.latents(n, seed)
        return self.map(z, y), y

    @torch.no_grad()
    def sample(
        self, n: int, seed: int = 0, y: Classes | Tensor | None = None, truncation: float | None = None
    ) -> Tensor:
        return self.of_z.sample(n, seed, y, truncation)

    def truncated(self, psi: float) -> GeneratorOfW:
        return GeneratorOfW(self.of_z.truncated(psi))

    def with_standing_statistics(self, batches: int, batch_size: int = BATCH_SIZE) -> GeneratorOfW:
        return GeneratorOfW(self.of_z.with_standing_statistics(batches, batch_size))

    @torch.no_grad()
    def map(self, z: Tensor, y: Tensor) -> Tensor:
        """w (n, *shape of w) of latents z (n, dim) and their y, on the CPU."""
        size = samples_at_a_time(self.spec, self._device)
        return in_parts(self.of_z.network.map, size, self._device, z, y)  # type: ignore[arg-type]


def in_space(G: TrainedGenerator, space: Space) -> TrainedGenerator:
    """The generator whose latents are of this space. Raises RequestError where its network has no w."""
    if isinstance(G, GeneratorOfW):
        return G if space == "w" else G.of_z
    return GeneratorOfW(G) if space == "w" else G


def latent_shape(G: TrainedGenerator) -> tuple[int, ...]:
    """The shape of one latent, of z or of w."""
    if isinstance(G, GeneratorOfW):
        return tuple(G.map(torch.zeros(1, G.prior.dim), G.spec.blank(1)).shape[1:])
    return (G.prior.dim,)
