"""A trained generator, loaded from its run: no dataset, tracker or GPU needed."""

from __future__ import annotations

import warnings
from collections.abc import Sequence
from pathlib import Path

import torch
from torch import Tensor, nn

from ganframe import provenance, runfolder
from ganframe.components import DataSpec
from ganframe.feed import Latents, Share
from ganframe.recipe import Latent, load_sampler


def load_generator(path: str | Path) -> TrainedGenerator:
    """The trained generator of a run, in evaluation mode, on the CPU. Needs no dataset, and one plugin at the most.

    Warns where it was made with other versions. Raises RequestError where the run, its weights or the generator's
    plugin are missing.
    """
    folder = runfolder.existing(path)
    with provenance.telling_what_is_missing(folder):
        made = load_sampler(folder.recipe)
    spec = runfolder.generator_spec(folder.generator)
    network = made.generator.build(spec, made.latent.dim)
    runfolder.load_generator_weights(folder.generator, network)
    for line in provenance.changed(folder, [("generator", made.generator)]):
        warnings.warn(line, stacklevel=2)
    return TrainedGenerator(network, spec, made.latent)


class TrainedGenerator(nn.Module):
    """A generator with its latent distribution; `spec` tells the shape and classes of what it makes."""

    def __init__(self, network: nn.Module, spec: DataSpec, latent: Latent) -> None:
        super().__init__()
        self.network = network
        self.spec = spec
        self.latent = latent
        self.eval()

    def forward(self, z: Tensor, y: Tensor | None = None) -> Tensor:
        """z (N, latent_dim), y (N,) -> (N, *shape)."""
        return self.network(z, torch.zeros(len(z), dtype=torch.long, device=z.device) if y is None else y)

    @torch.no_grad()
    def sample(self, n: int, seed: int = 0, y: int | Sequence[int] | Tensor | None = None) -> Tensor:
        """n samples (n, *shape), the same for the same seed on any device.

        `y` is a class for all or one for each; without it classes are drawn evenly. Raises ValueError where there
        are no such classes.
        """
        z, labels = self.latents(n, seed)
        return self.decode(z, labels if y is None else self.labels(y, n))

    def latents(self, n: int, seed: int = 0) -> tuple[Tensor, Tensor]:
        """The latents (n, dim) and labels (n,) of `sample(n, seed)`."""
        return draw_latents(self.latent, self.spec, n, seed)

    @torch.no_grad()
    def decode(self, z: Tensor, y: Tensor | None = None) -> Tensor:
        """The samples of latents z (N, dim) and labels y (N,), made in parts, on the CPU."""
        device = next((p.device for p in self.parameters()), torch.device("cpu"))
        labels = torch.zeros(len(z), dtype=torch.long) if y is None else y
        parts = zip(z.split(256), labels.split(256), strict=True)
        return torch.cat([self(part.to(device), label.to(device)).cpu() for part, label in parts])

    def labels(self, y: int | Sequence[int] | Tensor, n: int) -> Tensor:
        """y as n labels (n,). Raises ValueError where there are no such classes."""
        labels, classes = torch.as_tensor(y), self.spec.classes
        if classes is None:
            raise ValueError(f"y = {y}: the data has no classes")
        if labels.shape not in ((), (n,)) or labels.is_floating_point() or labels.dtype == torch.bool:
            raise ValueError(f"y = {y}: one integer is wanted, or {n} of them")
        if n and not 0 <= int(labels.min()) <= int(labels.max()) < classes:
            raise ValueError(f"y = {y}: the data has classes 0 to {classes - 1}")
        return labels.long().expand(n)


def draw_latents(latent: Latent, spec: DataSpec, n: int, seed: int) -> tuple[Tensor, Tensor]:
    """n latents (n, dim) and as many labels (n,), drawn evenly from the classes, on the CPU."""
    source = Latents(latent.dim, latent.distribution, seed, Share(torch.device("cpu")))
    z = source(n)
    return z, torch.randint(spec.classes or 1, (n,), generator=source.generator)
