"""The two sides of a comparison: samples of a dataset or of a run's generator, a part for training and one to judge."""

from __future__ import annotations

import functools
from collections.abc import Callable
from typing import Any

import attrs
import torch
from torch import Tensor, nn
from torch.utils.data import Dataset as TorchDataset
from torch.utils.data import IterableDataset, Subset, TensorDataset

from ganframe.analysis.trained import TrainedGenerator, load_generator
from ganframe.components import Dataset, DataSpec, Distribution, Generator
from ganframe.data.checks import check_data, in_range
from ganframe.data.feed import Feed, Share, check_batch, open_feed
from ganframe.data.latents import sample_prior
from ganframe.data.real import judging_data
from ganframe.data.seeds import derive_seeds
from ganframe.errors import RecipeError, RequestError
from ganframe.recipes.problems import Problems
from ganframe.recipes.tables import Comparison, FromRun, Recipe
from ganframe.training.networks import samples_at_a_time

HELD_OUT = 0.2  # of a finite set


@attrs.frozen
class Side:
    """One side of a comparison: the samples of a dataset or a generator, without labels and conditions."""

    source: Dataset | TrainedGenerator
    seed: int

    @property
    def spec(self) -> DataSpec:
        spec = self.source.spec
        return DataSpec(spec.shape, is_image=spec.is_image)

    @functools.cached_property
    def data(self) -> Any:
        """Built once, so that the held-out part and the training part belong to one set.

        Raises ValueError where it is not what its spec says.
        """
        if isinstance(self.source, TrainedGenerator):
            return Generated(self.source)
        built = self.source.build()
        check_data(built, self.source.spec)  # before it is divided, so that a message has the item's own number
        return built

    @functools.cached_property
    def judged(self) -> Any:
        """What a dataset holds out; None for others."""
        if isinstance(self.source, TrainedGenerator):
            return None
        found = judging_data(self.source, self.source.spec, self.data)
        return None if found is self.data else found

    def part(self, held_out: bool) -> Any:
        """Samples (x, y) to train with, or to judge. Of data with labels or conditions y is blank.

        Of a dataset that holds out samples, all others and those; all of a distribution, which never runs out; random
        parts of another finite set.
        """
        part = self._part(held_out)
        spec = self.source.spec
        return part if spec.classes is None and spec.condition is None else _without_conditions(part)

    def _part(self, held_out: bool) -> Any:
        data = self.data
        if self.judged is not None:
            return self.judged if held_out else data
        if isinstance(data, Distribution):
            return data
        if isinstance(data, IterableDataset):
            raise RequestError("a stream has no length, so no part of it can be held out; use data that holds some out")
        order = torch.randperm(len(data), generator=torch.Generator().manual_seed(self.seed))
        count = max(1, round(HELD_OUT * len(data)))
        rows = order[:count] if held_out else order[count:]
        return _rows(data, rows)


def _rows(data: TorchDataset[Any], rows: Tensor) -> TorchDataset[Any]:
    if isinstance(data, TensorDataset):
        return TensorDataset(*(tensor[rows] for tensor in data.tensors))
    return Subset(data, rows.tolist())


def _without_conditions(data: TorchDataset[Any]) -> TorchDataset[Any]:
    """The same samples with y = 0."""
    if isinstance(data, TensorDataset):
        x = data.tensors[0]
        return TensorDataset(x, torch.zeros(len(x), dtype=torch.long, device=x.device))
    return _DrawnAlone(data) if isinstance(data, Distribution) else _ItemsAlone(data)


class _DrawnAlone(Distribution):
    def __init__(self, data: Distribution) -> None:
        self.data = data

    def draw(self, n: int, generator: torch.Generator) -> tuple[Tensor, Tensor]:
        x = self.data.draw(n, generator)[0]
        return x, torch.zeros(n, dtype=torch.long, device=x.device)


class _ItemsAlone(TorchDataset[Any]):
    def __init__(self, data: TorchDataset[Any]) -> None:
        self.data = data

    def __len__(self) -> int:
        return len(self.data)  # type: ignore[arg-type]

    def __getitem__(self, index: int) -> tuple[Tensor, int]:
        return self.data[index][0], 0


class Generated(Distribution):
    """The samples of a trained generator, as a distribution; under its conditions, drawn uniformly, if it has any.

    Images are clipped to [-1, 1], as where they are sampled and judged.
    """

    def __init__(self, generator: TrainedGenerator) -> None:
        self.generator = generator

    @torch.no_grad()
    def draw(self, n: int, generator: torch.Generator) -> tuple[Tensor, Tensor]:
        z = sample_prior(self.generator.prior, n, generator)
        conditions = self.generator.conditions
        choices = (self.generator.spec.classes or 1) if conditions is None else len(conditions)
        y = torch.randint(choices, (n,), generator=generator, device=generator.device)
        if conditions is not None:
            y = conditions.to(generator.device)[y]
        network = self.generator.to(generator.device)
        size = samples_at_a_time(self.generator.spec, generator.device)
        x = torch.cat([network(*part) for part in zip(z.split(size), y.split(size), strict=True)])
        return in_range(x, self.generator.spec), y


def open_sides(comparison: Comparison) -> tuple[Side, Side]:
    """Both sides of a comparison. Raises RecipeError where they do not fit together."""
    seed = derive_seeds(comparison.seed).data
    against = comparison.against
    other = load_generator(against.run, comparison.registry) if isinstance(against, FromRun) else against
    sides = Side(comparison.dataset, seed), Side(other, seed + 1)
    problems = Problems(comparison.title)
    shapes = [
        problems.attempt(place, lambda side=side: side.spec.shape)  # type: ignore[misc]
        for place, side in zip(("dataset", "against"), sides, strict=True)
    ]
    problems.raise_any()
    if isinstance(other, TrainedGenerator) and other.spec.condition is not None and other.conditions is None:
        problem = "against: the run keeps no conditions to sample under (its conditions.safetensors is missing)"
        raise RecipeError([f"{comparison.title}: {problem}"])
    if shapes[0] != shapes[1]:
        problem = f"against: its samples have shape {shapes[1]}, and the dataset's {shapes[0]}"
        raise RecipeError([f"{comparison.title}: {problem}"])
    return sides


# --------------------------------------------------------------------------------------------------------- as a recipe


@attrs.frozen
class _TrainingPart(Dataset):
    """The training part of a side, as the dataset of a recipe."""

    side: Side

    @property
    def spec(self) -> DataSpec:
        return self.side.spec

    def build(self) -> TorchDataset[Any]:
        return self.side.part(held_out=False)


@attrs.frozen
class _SideAsGenerator(Generator):
    """A side as the generator of a recipe: its samples take the place of fakes."""

    side: Side
    batch_size: int
    title: str

    def build(self, data: DataSpec, latent_dim: int) -> nn.Module:
        problems = Problems(self.title)
        part = problems.attempt("against", lambda: self.side.part(held_out=False))
        problems.raise_any()
        if isinstance(self.side.source, Dataset):
            problems.attempt("against", lambda: check_batch(part, self.batch_size))
            problems.raise_any()
        return _Fakes(lambda share: open_feed(part, data, self.batch_size, self.side.seed, share))


class _Fakes(nn.Module):
    """forward(z, y) -> as many samples of a feed as there are labels, on z's device."""

    def __init__(self, opened: Callable[[Share], Feed]) -> None:
        super().__init__()
        self.opened = opened
        self.feed: Feed | None = None
        self.empty = nn.Parameter(torch.zeros(0))  # optimizers need at least one parameter

    def forward(self, z: Tensor, y: Tensor) -> Tensor:
        if self.feed is None:
            self.feed = self.opened(Share(z.device))
        return self.feed()[0][: len(y)]


def as_recipe(comparison: Comparison, p: Side, q: Side) -> Recipe:
    """A recipe with the comparison's discriminator; one side is its dataset, the other takes its generator's place."""
    shared = {a.name: getattr(comparison, a.name) for a in attrs.fields(Comparison) if a.name != "against"}
    generator = _SideAsGenerator(q, comparison.train.batch_size, comparison.title)
    return Recipe(**{**shared, "dataset": _TrainingPart(p), "generator": generator})
