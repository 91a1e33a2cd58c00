"""The networks of a run, loaded for sampling or analysis: without its optimisers, its trackers or a GPU."""

from __future__ import annotations

import warnings
from collections.abc import Sequence
from pathlib import Path

import torch
from torch import Tensor, nn

from ganframe.components import DataSpec, Generator
from ganframe.data.latents import fixed_latents
from ganframe.errors import RequestError
from ganframe.plugins.registry import Registry
from ganframe.recipes.reading import load_generator_recipe
from ganframe.recipes.tables import Prior, Recipe
from ganframe.storage import provenance, run_folder
from ganframe.storage.weights import generator_spec, load_generator_weights, load_weights
from ganframe.training.moving_average import moving_average
from ganframe.training.networks import build_discriminator
from ganframe.training.problems import Problems

CHUNK = 256  # samples made at a time


class TrainedGenerator(nn.Module):
    """A generator with its prior. `spec` has the shape and classes of its samples; `registry` the plugins in use."""

    def __init__(self, network: nn.Module, spec: DataSpec, prior: Prior, registry: Registry | None = None) -> None:
        super().__init__()
        self.network = network
        self.spec = spec
        self.prior = prior
        self.registry = registry
        self.eval()

    def forward(self, z: Tensor, y: Tensor | None = None) -> Tensor:
        """z (N, latent_dim), y (N,) -> (N, *shape)."""
        return self.network(z, torch.zeros(len(z), dtype=torch.long, device=z.device) if y is None else y)

    @torch.no_grad()
    def sample(self, n: int, seed: int = 0, y: int | Sequence[int] | Tensor | None = None) -> Tensor:
        """n samples (n, *shape), the same for the same seed on any device.

        `y` is one class for all or one for each. By default classes are drawn uniformly. Raises ValueError where there
        are no such classes.
        """
        z, labels = self.latents(n, seed)
        return self.decode(z, labels if y is None else self.labels(y, n))

    def latents(self, n: int, seed: int = 0) -> tuple[Tensor, Tensor]:
        """The latents (n, dim) and labels (n,) of `sample(n, seed)`."""
        return fixed_latents(self.prior, self.spec, n, seed)

    @torch.no_grad()
    def decode(self, z: Tensor, y: Tensor | None = None) -> Tensor:
        """The samples of latents z (N, dim) and labels y (N,), made in chunks, on the CPU."""
        device = next((p.device for p in self.parameters()), torch.device("cpu"))
        labels = torch.zeros(len(z), dtype=torch.long) if y is None else y
        chunks = zip(z.split(CHUNK), labels.split(CHUNK), strict=True)
        return torch.cat([self(chunk.to(device), label.to(device)).cpu() for chunk, label in chunks])

    def labels(self, y: int | Sequence[int] | Tensor, n: int) -> Tensor:
        """y as n labels (n,). Raises ValueError where there are no such classes."""
        labels, classes = torch.as_tensor(y), self.spec.classes
        if classes is None:
            raise ValueError(f"y = {y}: the data has no classes")
        if labels.shape not in ((), (n,)) or labels.is_floating_point() or labels.dtype == torch.bool:
            raise ValueError(f"y = {y}: it must be one integer, or {n} of them")
        if n and not 0 <= int(labels.min()) <= int(labels.max()) < classes:
            raise ValueError(f"y = {y}: the data has classes 0 to {classes - 1}")
        return labels.long().expand(n)


def load_generator(path: str | Path, registry: Registry | None = None) -> TrainedGenerator:
    """The trained generator of a run, in evaluation mode, on the CPU. Needs the generator's plugin, but no dataset.

    The plugins are those of `registry`; by default the installed ones are loaded. Warns where the run was made with
    other versions. Raises RequestError where the run, its weights or the generator's plugin are missing.
    """
    folder = run_folder.existing(path)
    with provenance.naming_missing_plugins(folder):
        recipe = load_generator_recipe(folder.recipe, registry)
    spec = generator_spec(folder.generator)
    network = _build_generator(str(path), recipe.generator, spec, recipe.latent)
    load_generator_weights(folder.generator, network)
    for line in provenance.changed_versions(folder, [("generator", recipe.generator)], recipe.registry):
        warnings.warn(line, stacklevel=2)
    return TrainedGenerator(network, spec, recipe.latent, recipe.registry)


def _build_generator(name: str, generator: Generator, spec: DataSpec, prior: Prior) -> nn.Module:
    """G with new weights. Raises RecipeError where it cannot be built."""
    problems = Problems(name)
    G = problems.attempt("generator", lambda: generator.build(spec, prior.dim))
    problems.raise_any()
    return G


def newest_checkpoint(path: str | Path) -> Path:
    """The newest checkpoint of a run; its checksums are not checked. Raises RequestError where there is none."""
    saved = run_folder.existing(path).checkpoints()
    if not saved:
        raise RequestError(f"{path}: this run has no checkpoint yet, and so no discriminator to examine")
    return saved[-1]


def load_networks(
    checkpoint: Path, recipe: Recipe, spec: DataSpec, device: torch.device
) -> tuple[TrainedGenerator, nn.Module]:
    """The generator, or its moving average, and the discriminator of a checkpoint, in evaluation mode, frozen.

    Opens no data. Raises RequestError where the weights are missing, damaged or of other networks.
    """
    G = _build_generator(recipe.name, recipe.generator, spec, recipe.latent).to(device)
    if recipe.train.ema is None:
        load_weights(checkpoint / "generator.safetensors", G)
    else:
        averaged = moving_average(G)
        load_weights(checkpoint / "average.safetensors", averaged)
        G = averaged.module
    D = build_discriminator(recipe, spec, device)
    load_weights(checkpoint / "discriminator.safetensors", D)
    generator = TrainedGenerator(G, spec, recipe.latent, recipe.registry)
    return generator.requires_grad_(False), D.eval().requires_grad_(False)
