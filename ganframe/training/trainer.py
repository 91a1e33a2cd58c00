"""A recipe made ready to train, with everything that a checkpoint holds."""

from __future__ import annotations

import functools
from typing import Any, Protocol, cast

import attrs
import torch
from accelerate import Accelerator
from torch import nn
from torch.optim.lr_scheduler import LRScheduler
from torch.optim.swa_utils import AveragedModel
from torch.utils.data import Dataset as TorchDataset

from ganframe.components import DataSpec
from ganframe.data.feed import Feed
from ganframe.data.fingerprint import fingerprint
from ganframe.engine.state import State
from ganframe.judging.best import Best
from ganframe.judging.judge import Judge
from ganframe.recipes.optimizers import Optimizer
from ganframe.recipes.problems import Problems
from ganframe.recipes.tables import Recipe
from ganframe.recipes.writing import to_toml
from ganframe.storage import provenance
from ganframe.training import terms
from ganframe.training.cadence import Cadences, cadences
from ganframe.training.heeding import Heeding
from ganframe.training.log import LogMeans


class Stateful(Protocol):
    """What a checkpoint saves and restores."""

    def state_dict(self) -> dict[str, Any]: ...
    def load_state_dict(self, state: dict[str, Any]) -> object: ...


@attrs.frozen
class Trainer:
    """A recipe made ready to train: the engine's state, and what a run needs besides it."""

    recipe: Recipe
    spec: DataSpec
    accelerator: Accelerator
    state: State
    averaged: AveragedModel | None
    state_keys: set[tuple[str, str]]
    optimizers: tuple[tuple[Optimizer, torch.optim.Optimizer], ...]
    schedules: dict[str, LRScheduler]
    means: LogMeans
    judged: TorchDataset[Any]
    """Real samples for judging: those that the dataset holds out, or the training data if it holds out none."""
    heeding: Heeding | None
    """Which players heed y; None where all samples have the same."""
    judge: Judge | None = None
    """The metrics of the recipe, where it has some. Fitted in the first process only."""
    best: Best | None = None
    """The score by which the best checkpoint is kept."""

    @property
    def data(self) -> TorchDataset[Any]:
        """The opened dataset."""
        return cast(Feed, self.state.batches).data

    @functools.cached_property
    def fingerprint(self) -> dict[str, Any]:
        """What identifies the data; see ganframe.data.fingerprint. Raises RecipeError where it cannot be read."""
        problems = Problems(self.recipe.title)
        found = problems.attempt("dataset", lambda: fingerprint(self.recipe.dataset, self.spec, self.data))
        problems.raise_any()
        return found

    @functools.cached_property
    def toml(self) -> str:
        """The recipe with every option, as the run folder and its checkpoints keep it."""
        return to_toml(self.recipe)

    @functools.cached_property
    def versions(self) -> dict[str, Any]:
        """The versions of all that the run uses."""
        recipe = self.recipe
        return provenance.versions(recipe.components(), recipe.registry, recipe.optimizer.of_plugins())

    @functools.cached_property
    def cadences(self) -> Cadences:
        """When pictures and checkpoints are due. Their clock starts where they are first asked for."""
        return cadences(self.recipe.train, self.recipe.log)

    @property
    def sampled(self) -> nn.Module:
        """The generator to sample from: the moving average if there is one."""
        return self.state.G.network if self.averaged is None else self.averaged.module

    @property
    def networks(self) -> dict[str, nn.Module]:
        """The networks whose weights a checkpoint holds."""
        found = {"generator": self.state.G.network, "discriminator": self.state.D.network}
        found |= dict(terms.saved_parts(self.state.game.parts))
        return found if self.averaged is None else {**found, "average": self.averaged}

    @property
    def stateful(self) -> dict[str, Stateful]:
        """Everything else that a checkpoint holds, except the step and torch's random state."""
        state = self.state
        parts: dict[str, Any] = {
            "optimizer.generator": state.G.optimizer,
            "optimizer.discriminator": state.D.optimizer,
            **{f"schedule.{player}": schedule for player, schedule in self.schedules.items()},
            "scaler": state.scaler,
            "data": state.batches,
            "latents": state.latents,
            "means": self.means,
        }
        return {name: part for name, part in parts.items() if part is not None}
