"""The networks of a run, loaded for sampling or analysis: without its optimisers, its trackers or a GPU."""

from __future__ import annotations

import functools
import platform
import warnings
from collections.abc import Sequence
from pathlib import Path
from typing import Any, Literal

import torch
from torch import Tensor, nn

from ganframe.analysis import standing_statistics, truncation
from ganframe.analysis.translation import is_tileable, refuse_untileable, samples_under
from ganframe.components import DataSpec, Generator, with_nested
from ganframe.data.checks import check_condition, in_range
from ganframe.data.classes import label_of
from ganframe.data.feed import as_y
from ganframe.data.latents import fixed_latents, sample_prior
from ganframe.errors import RequestError, note
from ganframe.plugins.registry import Registry
from ganframe.recipes.problems import Problems
from ganframe.recipes.reading import load_generator_recipe
from ganframe.recipes.tables import Prior, Recipe
from ganframe.storage import checkpoints, provenance, run_folder
from ganframe.storage.conditions import load_conditions
from ganframe.storage.weights import generator_spec, load_generator_weights, load_weights
from ganframe.training.changes import refuse_edits
from ganframe.training.heeding import can_differ, heeds
from ganframe.training.moving_average import moving_average
from ganframe.training.networks import build_discriminator, channels_last, in_parts, samples_at_a_time

HEEDING = 4  # latents that show whether a network heeds y

Classes = int | str | Sequence[int | str]
"""One class, or several: labels, or names."""
Precision = Literal["no", "bf16"]
AVERAGE = "average.safetensors"


class TrainedGenerator(nn.Module):
    """A generator with its prior. `spec` says what its samples and their y are; `registry` has the plugins in use.

    `conditions` (k, *condition) are what samples are conditioned on by default, in turn, where the data has conditions.
    A generator that heeds no y gives every class the same samples, so a class or a condition asked of it is refused.
    """

    def __init__(
        self,
        network: nn.Module,
        spec: DataSpec,
        prior: Prior,
        registry: Registry | None = None,
        conditions: Tensor | None = None,
        precision: Precision = "no",
    ) -> None:
        super().__init__()
        self.network = network
        self.spec = spec
        self.prior = prior
        self.registry = registry
        self.conditions = conditions
        self.precision = precision
        self.eval()

    def forward(self, z: Tensor, y: Tensor | None = None) -> Tensor:
        """z (N, latent_dim), y (N,) or (N, *condition) -> (N, *shape)."""
        y = self.spec.blank(z.shape[0], z.device) if y is None else y  # len(z) is fixed by tracing
        if self.precision == "no":
            return self.network(z, y)
        with torch.autocast(z.device.type, torch.bfloat16):
            return self.network(z, y).float()

    @functools.cached_property
    def heeds_y(self) -> bool:
        """Whether the samples can depend on y: whether the network heeds it, or all samples have the same."""
        if not can_differ(self.spec):
            return self.spec.classes is not None
        z = sample_prior(self.prior, HEEDING, torch.Generator().manual_seed(0))
        try:
            return heeds(truncation.whole(self.network), z.to(self._device), self.spec)
        except Exception:  # a network without gradients or copies, which may sample all the same
            return True

    @torch.no_grad()
    def sample(
        self, n: int, seed: int = 0, y: Classes | Tensor | None = None, truncation: float | None = None
    ) -> Tensor:
        """n samples (n, *shape), the same for the same seed on any device.

        `y` is one class for all or one for each, labels or names; where the data has conditions, a condition
        (*condition) for all or (n, *condition), in floats, or in uint8 if they are images. By default classes are drawn
        uniformly, and the conditions that the run keeps are taken in turn. `truncation` is that of `truncated`. Raises
        ValueError where y is not of this form or the generator heeds none, RequestError where there are no conditions
        to take, or no truncation.
        """
        if truncation is not None:
            return self.truncated(truncation).sample(n, seed, y)
        if y is None:
            return self.decode(*self.latents(n, seed))
        return self.decode(fixed_latents(self.prior, self.spec, n, seed)[0], self.as_y(y, n))

    def latents(self, n: int, seed: int = 0) -> tuple[Tensor, Tensor]:
        """The latents z (n, dim) and y of `sample(n, seed)`; y is blank if the generator heeds none."""
        if not self.heeds_y:
            return fixed_latents(self.prior, self.spec, n, seed)[0], self.spec.blank(n)
        if self.spec.condition is not None and self.conditions is None:
            raise RequestError("the run keeps no conditions (conditions.safetensors is not there); give some")
        return fixed_latents(self.prior, self.spec, n, seed, self.conditions)

    def with_conditions(self, conditions: Tensor) -> TrainedGenerator:
        """The same generator with other conditions (k, *condition) to take in turn. ValueError where it heeds none."""
        self._refuse_if_deaf("condition")
        return self._with(self.network, conditions)

    def with_precision(self, precision: Precision) -> TrainedGenerator:
        """The same generator, whose network runs in bf16 as in mixed-precision training; its samples stay float32.

        Raises RequestError where the GPU of its weights has no bf16. Notes where a processor has to emulate it.
        """
        if precision == "bf16":
            _refuse_without_bf16(self._device)
        return self._with(self.network, self.conditions, precision)

    def _with(
        self, network: nn.Module, conditions: Tensor | None, precision: Precision | None = None
    ) -> TrainedGenerator:
        precision = precision or self.precision
        return TrainedGenerator(network, self.spec, self.prior, self.registry, conditions, precision)

    @property
    def _device(self) -> torch.device:
        return next((p.device for p in self.parameters()), torch.device("cpu"))

    @functools.cached_property
    def _mean_w(self) -> truncation.MeanW:
        return truncation.MeanW(truncation.whole(self.network), self.spec, self.prior)

    def truncated(self, psi: float) -> TrainedGenerator:
        """The same generator with latents nearer to their middle: samples are better, and vary less, for a small ψ.

        Where the network has latents w they are w̄ + ψ (w - w̄), w̄ the mean w of the class or condition: 1 is no
        truncation, 0 leaves w̄ alone. Where it declares `truncates_latent`, z is of the normal distribution truncated
        to [-ψ, ψ]. A second ψ takes the place of the first. Raises RequestError for other networks and numbers.
        """
        network = truncation.truncated(truncation.whole(self.network), self._mean_w, self.prior, psi)
        return self._with(network, self.conditions)

    def with_standing_statistics(
        self, batches: int, batch_size: int = standing_statistics.BATCH_SIZE
    ) -> TrainedGenerator:
        """A copy whose BatchNorm has the statistics of so many batches of latents, truncated ones if they are here.

        Running means of training lag behind the weights, and fit neither a moving average of them nor truncated
        latents. Raises RequestError where the network has no BatchNorm.
        """
        seeds = range(standing_statistics.SEED, standing_statistics.SEED + batches)
        of_seeds = (self.latents(batch_size, seed) for seed in seeds)
        drawn = ((z.to(self._device), y.to(self._device)) for z, y in of_seeds)
        network = standing_statistics.with_standing_statistics(self.network, drawn)
        return self._with(network, self.conditions)

    def under_one_condition(self) -> TrainedGenerator:
        """The same generator with the first of its conditions for all samples; itself where there are none."""
        return self if self.conditions is None or not self.heeds_y else self.with_conditions(self.conditions[:1])

    @torch.no_grad()
    def decode(self, z: Tensor, y: Tensor | None = None) -> Tensor:
        """The samples of latents z (N, dim) and y (N,) or (N, *condition), made in chunks, on the CPU.

        Images are clipped to [-1, 1], as they are shown and judged; G(z, y) is what the network makes.

        Raises ValueError where y is not blank and the generator heeds none, or where there are no such classes.
        """
        if y is not None and not (isinstance(y, Tensor) and not y.any()):
            y = self.as_y(y, len(z))
        y = self.spec.blank(len(z)) if y is None else y
        size = samples_at_a_time(self.spec, self._device)
        return in_range(in_parts(self, size, self._device, z, y), self.spec)

    @torch.no_grad()
    def translate(
        self, conditions: Tensor, n: int = 1, seed: int = 0, tile: bool = False, overlap: int | None = None
    ) -> Tensor:
        """n samples of each of k conditions: (k, *condition), or one, in floats or uint8 -> (k, n, *shape).

        Place i has the latent of place i of `latents(n, seed)` under every condition. With `tile` conditions may be
        images of another size, all of the same: they are cut into tiles of the size trained on, which lie `overlap`
        pixels of the condition over each other, by default a quarter of a tile, and the samples are blended there.
        Raises ValueError where conditions are not of this form, cannot be tiled, or where the generator heeds none.
        """
        y, wanted = torch.as_tensor(conditions), self.spec.condition
        if wanted is None:
            raise ValueError("this generator takes no conditions")
        if n < 1:
            raise ValueError(f"n = {n}: at least one sample of each condition")
        if tile:
            refuse_untileable(self.spec, overlap)
            wanted = (wanted[0], *y.shape[-2:])
        if tuple(y.shape[-len(wanted) :]) != wanted or y.ndim > len(wanted) + 1 or not y.numel():
            hint = " (tile = True: of any height and width)" if is_tileable(self.spec) else ""
            raise ValueError(f"conditions have shape {tuple(y.shape)}: it must be {wanted}, or (k, …) of them{hint}")
        y = y.reshape(-1, *wanted)
        check_condition(y[0], wanted)
        self._refuse_if_deaf("conditions")
        z = fixed_latents(self.prior, self.spec, n, seed)[0]
        samples = torch.stack([*samples_under(self.decode, self.spec, z, [as_y(y, self.spec)], overlap)])
        return samples.unflatten(0, (len(y), n))

    def as_y(self, y: Classes | Tensor, n: int) -> Tensor:
        """y as n labels (n,) or conditions (n, *condition). Raises ValueError where it is not of this form."""
        if self.spec.condition is None or isinstance(y, str):
            return self.labels(y, n)
        given, wanted = torch.as_tensor(y), self.spec.condition
        if given.shape not in (wanted, (n, *wanted)):
            shape = tuple(given.shape)
            raise ValueError(f"y has shape {shape}: it must be one condition of shape {wanted}, or {n} of them")
        given = given.expand(n, *wanted)
        if n:
            check_condition(given[0], wanted)
        self._refuse_if_deaf("y")
        return as_y(given, self.spec)

    def labels(self, y: Classes | Tensor, n: int) -> Tensor:
        """y, labels or names of classes, as n labels (n,). Raises ValueError where there are no such classes."""
        classes = self.spec.classes
        if self.spec.condition is not None:
            raise ValueError(f"y = {y}: the data has conditions of shape {self.spec.condition}, and no classes")
        if classes is None:
            raise ValueError(f"y = {y}: the data has no classes")
        try:
            labels = torch.as_tensor(_numbers(y, self.spec))
        except (TypeError, RuntimeError, OverflowError):
            raise ValueError(f"y = {y!r:.60}: it must be one integer or name of a class, or {n} of them") from None
        if labels.shape not in ((), (n,)) or labels.is_floating_point() or labels.dtype == torch.bool:
            raise ValueError(f"y = {y}: it must be one integer, or {n} of them")
        if n:
            self._refuse_unknown(labels, y)
        self._refuse_if_deaf(f"y = {y}")
        return labels.long().expand(n)

    def _refuse_unknown(self, labels: Tensor, y: Classes | Tensor) -> None:
        classes = self.spec.classes or 1
        if not 0 <= int(labels.min()) <= int(labels.max()) < classes:
            raise ValueError(f"y = {y}: the data has classes 0 to {classes - 1}")

    def _refuse_if_deaf(self, asked: str) -> None:
        """Raises ValueError if the network heeds no y, and so cannot do what is asked."""
        if not self.heeds_y:
            what = "labels" if self.spec.condition is None else "conditions"
            raise ValueError(
                f"{asked}: this generator heeds no {what}, and its samples are the same for all; train one that does, "
                "with a discriminator that does (built-in networks: `condition`)"
            )


def _refuse_without_bf16(device: torch.device) -> None:
    """Raises RequestError on a GPU without bf16, and notes where a processor is slower with it."""
    if device.type == "cuda" and not torch.cuda.is_bf16_supported(including_emulation=False):
        raise RequestError(f"precision bf16: {torch.cuda.get_device_name(device)} does not support it; leave it out")
    has_bf16 = getattr(torch.cpu, "_is_avx512_bf16_supported", lambda: True)
    if device.type == "cpu" and platform.machine() in ("x86_64", "AMD64") and not has_bf16():
        note("precision bf16: this processor has no instructions for it, so samples take longer than without it")


def _numbers(y: Classes | Tensor, spec: DataSpec) -> Any:
    """y with labels in the place of names."""
    if isinstance(y, str):
        return label_of(spec, y)
    if isinstance(y, (list, tuple)):
        return [label_of(spec, item) if isinstance(item, str) else item for item in y]
    return y


def load_generator(path: str | Path, registry: Registry | None = None, step: int | None = None) -> TrainedGenerator:
    """The trained generator of a run, in evaluation mode, on the CPU. Needs the generator's plugin, but no dataset.

    That of the newest checkpoint, or of the checkpoint of `step`; its moving average if there is one.
    Where the data has conditions, it has those that the run keeps, which were held out of training where possible.

    The plugins are those of `registry`; by default the installed ones are loaded. Warns where the run was made with
    other versions. Raises RequestError where the run, its weights, the step or the generator's plugin are missing.
    """
    folder = run_folder.existing(path)
    with provenance.naming_missing_plugins(folder):
        recipe = load_generator_recipe(folder.recipe, registry)
    refuse_edits(folder, recipe)
    spec = generator_spec(folder.generator)
    network = _build_generator(str(path), recipe.generator, spec, recipe.latent)
    if step is None:
        load_generator_weights(folder.generator, network)
    else:
        checkpoint = checkpoints.of_step(folder, step)
        network = _load_from_checkpoint(checkpoint, network, (checkpoint / AVERAGE).is_file())
    network = channels_last(network, spec)
    for line in provenance.changed_versions(folder, with_nested(recipe.generator), recipe.registry):
        warnings.warn(line, stacklevel=2)
    conditions = None if spec.condition is None else load_conditions(folder.conditions, spec)
    return TrainedGenerator(network, spec, recipe.latent, recipe.registry, conditions)


def _build_generator(name: str, generator: Generator, spec: DataSpec, prior: Prior) -> nn.Module:
    """G with new weights. Raises RecipeError where it cannot be built."""
    problems = Problems(name)
    G = problems.attempt("generator", lambda: generator.build(spec, prior.dim))
    problems.raise_any()
    return G


def _load_from_checkpoint(checkpoint: Path, G: nn.Module, averaged: bool) -> nn.Module:
    """G, or a copy of it, with the weights or the moving average of a checkpoint."""
    if not averaged:
        load_weights(checkpoint / "generator.safetensors", G)
        return G
    average = moving_average(G)
    load_weights(checkpoint / AVERAGE, average)
    return average.module


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
    G = channels_last(_load_from_checkpoint(checkpoint, G, recipe.train.ema is not None), spec)
    D = build_discriminator(recipe, spec, device)
    load_weights(checkpoint / "discriminator.safetensors", D)
    generator = TrainedGenerator(G, spec, recipe.latent, recipe.registry)
    return generator.requires_grad_(False), D.eval().requires_grad_(False)
