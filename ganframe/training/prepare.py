"""From a recipe to the engine's state: builds every part, checks that they fit together, and writes nothing."""

from __future__ import annotations

import functools
from typing import Any, Protocol, cast

import attrs
import torch
from accelerate import Accelerator
from accelerate.utils import gather_object
from torch import nn
from torch.optim.lr_scheduler import LRScheduler
from torch.optim.swa_utils import AveragedModel
from torch.utils.data import Dataset as TorchDataset

from ganframe.components import Constraint, DataSpec
from ganframe.data.feed import Feed, Share, open_feed
from ganframe.data.latents import LatentFeed
from ganframe.data.seeds import derive_seeds
from ganframe.engine.state import Game, Player, State
from ganframe.plugins.registry import Registry
from ganframe.recipes.tables import Recipe
from ganframe.training import accelerator as processes
from ganframe.training import compatibility
from ganframe.training.log import LogMeans
from ganframe.training.moving_average import moving_average
from ganframe.training.networks import check_constraints, place, wrap
from ganframe.training.problems import Problems


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
    schedules: dict[str, LRScheduler]
    means: LogMeans

    @property
    def data(self) -> TorchDataset[Any]:
        """The opened dataset."""
        return cast(Feed, self.state.batches).data

    @property
    def sampled(self) -> nn.Module:
        """The generator to sample from: the moving average if there is one."""
        return self.state.G.network if self.averaged is None else self.averaged.module

    @property
    def networks(self) -> dict[str, nn.Module]:
        """The networks whose weights a checkpoint holds."""
        both = {"generator": self.state.G.network, "discriminator": self.state.D.network}
        return both if self.averaged is None else {**both, "average": self.averaged}

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


def prepare(recipe: Recipe) -> Trainer:
    """Builds networks, optimisers and data, and checks that they fit together.

    Raises RecipeError with every part that cannot be built. Seeds torch's random state.
    """
    accelerator = processes.make_accelerator(recipe)
    device = accelerator.device
    autocast, scaler = processes.mixed_precision(recipe, device)
    share = Share(device, accelerator.num_processes, accelerator.process_index)
    seeds = derive_seeds(recipe.seed)
    problems = Problems(recipe.name)
    batch, generator_batch = _batch_sizes(recipe, share, problems)

    torch.manual_seed(seeds.weights)
    spec = problems.attempt("dataset", lambda: recipe.dataset.spec)
    if spec is None:
        problems.raise_any()
    G = problems.attempt("generator", lambda: recipe.generator.build(spec, recipe.latent.dim))
    D = problems.attempt("discriminator", lambda: recipe.discriminator.build(spec))
    if D is not None:
        check_constraints(recipe, D, problems)
    workers = recipe.train.workers
    feed = problems.attempt(
        "dataset", lambda: open_feed(recipe.dataset.build(), spec, batch, seeds.data, share, workers)
    )
    problems.raise_any()

    D = wrap(recipe, D, problems)
    G, D = place(G, spec, device), place(D, spec, device)
    if share.processes > 1:
        processes.copy_first_process([G, D])
    faults = compatibility.faults(recipe, G, D, spec)
    if not faults and not problems.found and min(batch // share.processes, generator_batch) == 1:
        faults = compatibility.faults_of_single_samples(recipe, G, D)
    for fault in faults:
        problems.add(fault)
    networks = {"generator": G, "discriminator": D}
    optimizers = {name: _optimizer(recipe, name, network, problems) for name, network in networks.items()}
    problems.raise_any()
    configs = {name: getattr(recipe.optimizer, name).schedule for name in networks}

    several = share.processes > 1
    state = State(
        game=Game(G, D, recipe.objective, _named(recipe.constraints, recipe.registry), autocast),
        G=Player(G, optimizers["generator"]),
        D=Player(D, optimizers["discriminator"]),
        batches=feed,
        latents=LatentFeed(recipe.latent, seeds.latents, share),
        generator_batch_size=generator_batch,
        device=device,
        scaler=scaler,
        average=functools.partial(processes.average, accelerator) if several else None,
    )
    averaged = moving_average(G) if recipe.train.ema is not None else None
    # What torch's own generator is used for (dropout, a penalty's ε) must differ between processes.
    torch.manual_seed(derive_seeds(recipe.seed, share.rank).torch)
    return Trainer(
        recipe=recipe,
        spec=spec,
        accelerator=accelerator,
        state=state,
        averaged=averaged,
        schedules={name: config.build(optimizers[name]) for name, config in configs.items() if config is not None},
        means=LogMeans(lambda own: gather_object([own]), accelerator.is_main_process),
    )


def _optimizer(recipe: Recipe, name: str, network: nn.Module, problems: Problems) -> Any:
    """A player's optimiser. Adds a problem where it cannot be built, or its schedule ends before the training does."""
    config = getattr(recipe.optimizer, name)
    if config.schedule is not None:
        problems.attempt(f"optimizer.{name}.schedule", functools.partial(config.schedule.lasts, recipe.train.steps))
    return problems.attempt(f"optimizer.{name}", functools.partial(config.build, network.parameters()))


def _batch_sizes(recipe: Recipe, share: Share, problems: Problems) -> tuple[int, int]:
    """The size of D's batch over all processes, and of G's batch in each process."""
    batch = recipe.train.batch_size
    generator_batch = recipe.train.generator_batch_size or batch
    for name, size in (("batch_size", batch), ("generator_batch_size", generator_batch)):
        if size % share.processes:
            problems.add(f"train.{name}: {share.processes} processes cannot share {size} evenly")
    if recipe.objective.compares_real and generator_batch != batch:
        problems.add(
            "train.generator_batch_size: this objective compares each fake with a real sample; "
            f"it must be batch_size, {batch}"
        )
    return batch, generator_batch // share.processes


def _named(constraints: tuple[Constraint, ...], registry: Registry) -> dict[str, Constraint]:
    """The constraints by their names in the log. The second of one name ends in _2."""
    named: dict[str, Constraint] = {}
    for constraint in constraints:
        name = registry.locate(type(constraint))[1]
        number = 2
        free = name
        while free in named:
            free, number = f"{name}_{number}", number + 1
        named[free] = constraint
    return named
