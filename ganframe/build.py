"""From a recipe to the engine's state: builds every part, checks that they fit, and writes nothing.

Accelerate owns devices, processes and precision; everything it is asked for here is asked in `_accelerator`.
"""

from __future__ import annotations

import ctypes
import functools
import itertools
import os
import platform
from collections.abc import Callable
from contextlib import nullcontext
from typing import Any

import attrs
import numpy as np
import torch
from accelerate import Accelerator
from accelerate.state import AcceleratorState
from accelerate.tracking import get_available_trackers
from accelerate.utils import AutocastKwargs, ProjectConfiguration, broadcast
from torch import Tensor, nn
from torch.optim.lr_scheduler import LRScheduler
from torch.optim.swa_utils import AveragedModel

from ganframe import callbacks, plugins, trial
from ganframe.components import Constraint, DataSpec, mixes_samples
from ganframe.engine import Player, State
from ganframe.errors import RecipeError, RunError, did_you_mean
from ganframe.feed import Feed, Latents, Share, open_feed
from ganframe.plugins import STRICT_VARIABLE, Registry
from ganframe.recipe import Recipe


@attrs.frozen
class Session:
    """A recipe made ready to train."""

    recipe: Recipe
    registry: Registry
    spec: DataSpec
    accelerator: Accelerator
    state: State
    feed: Feed
    latents: Latents
    averaged: AveragedModel | None
    schedules: list[LRScheduler]

    @property
    def sampled(self) -> nn.Module:
        """The generator to sample from: the moving average where there is one."""
        return self.state.G.network if self.averaged is None else self.averaged.module

    @property
    def networks(self) -> dict[str, nn.Module]:
        """The networks that a checkpoint holds."""
        both = {"generator": self.state.G.network, "discriminator": self.state.D.network}
        return both if self.averaged is None else {**both, "average": self.averaged.module}


def prepare(recipe: Recipe) -> Session:
    """Builds networks, optimisers and data, and checks that they fit together. Writes nothing.

    Raises RecipeError with every part that cannot be built.
    """
    registry = plugins.load()
    accelerator = _accelerator(recipe)
    share = Share(accelerator.device, accelerator.num_processes, accelerator.process_index)
    if accelerator.device.type == "cpu":
        _keep_freed_memory()
    init_seed, data_seed, latent_seed, *_ = seeds(recipe.seed)
    problems: list[str] = []
    attempt = functools.partial(_attempt, problems, recipe.name)
    batch, g_batch = _batch_sizes(recipe, share, problems)

    torch.manual_seed(init_seed)
    spec = attempt("dataset", lambda: recipe.dataset.spec)
    if spec is None:
        raise RecipeError(problems)
    G = attempt("generator", lambda: recipe.generator.build(spec, recipe.latent.dim))
    D = attempt("discriminator", lambda: recipe.discriminator.build(spec))
    for index, constraint in enumerate(recipe.constraints):
        if constraint in recipe.constraints[:index]:
            problems.append(f"{recipe.name}: constraints[{index}]: the same is there before it; leave one out")
        elif D is not None:
            attempt(f"constraints[{index}]", functools.partial(constraint.check, D))
    feed = attempt(
        "dataset",
        lambda: open_feed(recipe.dataset.build(), spec, batch, data_seed, share, recipe.train.workers),
    )
    if problems:
        raise RecipeError(problems)
    for index, constraint in enumerate(recipe.constraints):
        D = attempt(f"constraints[{index}]", functools.partial(constraint.wrap, D))
        if problems:
            raise RecipeError(problems)
    G, D = (_placed(network, spec, accelerator.device) for network in (G, D))
    if share.processes > 1:
        _follow_first(accelerator, [G, D])
    problems += [f"{recipe.name}: {fault}" for fault in trial.faults(recipe, G, D, spec)]
    if not problems and min(batch // share.processes, g_batch) == 1:
        problems += [f"{recipe.name}: {fault}" for fault in trial.faults_alone(recipe, G, D)]
    # Torch wants something to optimise: for a generator without weights, which only `ganframe divergence` has, nothing.
    g_weights = list(G.parameters()) or [nn.Parameter(torch.zeros(0))]
    g_optimizer = attempt("optimizer.generator", lambda: recipe.optimizer.generator.build(g_weights))
    d_optimizer = attempt("optimizer.discriminator", lambda: recipe.optimizer.discriminator.build(D.parameters()))
    pairs = ((recipe.optimizer.generator, g_optimizer), (recipe.optimizer.discriminator, d_optimizer))
    for player, (config, _) in zip(("generator", "discriminator"), pairs, strict=True):
        if config.schedule is not None:
            attempt(f"optimizer.{player}.schedule", functools.partial(config.schedule.lasts, recipe.train.steps))
    if problems:
        raise RecipeError(problems)
    latents = Latents(recipe.latent.dim, recipe.latent.distribution, latent_seed, share)
    state = State(
        G=Player(G, g_optimizer),
        D=Player(D, d_optimizer),
        objective=recipe.objective,
        constraints=_named(recipe.constraints, registry),
        batches=feed,
        latents=latents,
        joint=not mixes_samples(D) and not any(constraint.input_gradients for constraint in recipe.constraints),
        generator_batch_size=g_batch,
        device=accelerator.device,
        autocast=nullcontext if recipe.train.precision == "no" else accelerator.autocast,
        scaler=accelerator.scaler,
        average=functools.partial(_average, accelerator) if share.processes > 1 else None,
    )
    # What is left to torch's own generator (dropout, a penalty's ε) must differ between processes.
    torch.manual_seed(seeds(recipe.seed, share.rank)[3])
    return Session(
        recipe=recipe,
        registry=registry,
        spec=spec,
        accelerator=accelerator,
        state=state,
        feed=feed,
        latents=latents,
        averaged=callbacks.moving_average(G) if recipe.train.ema is not None else None,
        schedules=[config.schedule.build(optimizer) for config, optimizer in pairs if config.schedule is not None],
    )


def _attempt(problems: list[str], name: str, place: str, build: Callable[[], Any]) -> Any:
    """What `build` returns, or None and one more problem; GANFRAME_STRICT=1 raises what no component should."""
    try:
        return build()
    except (ValueError, OSError, RunError) as error:
        problems.append(f"{name}: {place}: {error}")
    except Exception as error:
        if lacks_memory(error):
            problems.append(f"{name}: {place}: there is not the memory for it")
            return None
        if os.environ.get(STRICT_VARIABLE) == "1":
            raise
        text = str(error).partition("\n")[0]
        shown = f"{type(error).__name__}{text and ': '}{text}"
        problems.append(f"{name}: {place}: raised {shown}; {STRICT_VARIABLE}=1 shows where")
    return None


def lacks_memory(error: Exception) -> bool:
    """Whether there was not the memory, of the machine or of its device; torch says it in several ways."""
    return isinstance(error, (MemoryError, torch.OutOfMemoryError)) or "allocate memory" in str(error)


def _accelerator(recipe: Recipe) -> Accelerator:
    available = {str(tracker.value): tracker for tracker in get_available_trackers()}
    for tracker in recipe.log.trackers:
        if tracker not in available:
            extra = "; pip install 'ganframe[tensorboard]'" if tracker == "tensorboard" else ""
            raise RecipeError(
                [f"{recipe.name}: log.trackers: '{tracker}' is not installed{extra}{did_you_mean(tracker, available)}"]
            )
    # Accelerate keeps the precision for the life of a process; a second run in it may want another.
    AcceleratorState._reset_state()
    folder = ProjectConfiguration(project_dir=".", logging_dir=".")  # the run's, once it is made
    trackers = list(recipe.log.trackers) or None
    # Without autocast's cache of casts: what older torch casts for a power iteration has no gradient to give to σ.
    uncached = AutocastKwargs(cache_enabled=False)
    try:
        accelerator = Accelerator(
            mixed_precision=recipe.train.precision,
            log_with=trackers,
            project_config=folder,
            kwargs_handlers=[uncached],
        )
        if recipe.train.precision == "fp16" and accelerator.scaler is None:
            raise ValueError(f"fp16 needs a GPU, and this runs on {accelerator.device}; use 'bf16' or 'no'")
    except ValueError as error:
        raise RecipeError([f"{recipe.name}: train.precision: {error}"]) from None
    return accelerator


def _batch_sizes(recipe: Recipe, share: Share, problems: list[str]) -> tuple[int, int]:
    """The size of a critic's batch over all processes, and of a generator's batch in each."""
    batch = recipe.train.batch_size
    g_batch = recipe.train.generator_batch_size or batch
    for name, size in (("batch_size", batch), ("generator_batch_size", g_batch)):
        if size % share.processes:
            problems.append(f"{recipe.name}: train.{name}: {share.processes} processes cannot share {size} evenly")
    if recipe.objective.compares_real and g_batch != batch:
        problems.append(
            f"{recipe.name}: train.generator_batch_size: this objective compares each fake with a real sample; "
            f"it must be batch_size, {batch}"
        )
    return batch, g_batch // share.processes


def _named(constraints: tuple[Constraint, ...], registry: Registry) -> dict[str, Constraint]:
    """The constraints by their names in the metrics; the second of one name ends in _2."""
    named: dict[str, Constraint] = {}
    for constraint in constraints:
        name = registry.locate(type(constraint))[1]
        free = (f"{name}_{i}" for i in itertools.count(2))
        named[name if name not in named else next(f for f in free if f not in named)] = constraint
    return named


def _placed(network: nn.Module, spec: DataSpec, device: torch.device) -> nn.Module:
    """The network on its device, in training mode, its convolutions' weights laid out with channels last."""
    network = network.to(device).train()
    return network.to(memory_format=torch.channels_last) if spec.is_image else network


def _average(accelerator: Accelerator, tensors: list[Tensor]) -> None:
    """One reduction for all: flat, averaged over processes, and copied back."""
    _spread(accelerator.reduce(torch.cat([tensor.flatten() for tensor in tensors]), "mean"), tensors)


@torch.no_grad()
def _follow_first(accelerator: Accelerator, networks: list[nn.Module]) -> None:
    """Every process begins with the first one's weights, whatever its own initialisation drew."""
    tensors = [t for network in networks for t in network.state_dict().values() if t.is_floating_point()]
    _spread(broadcast(torch.cat([tensor.flatten() for tensor in tensors])), tensors)


def _spread(flat: Tensor, tensors: list[Tensor]) -> None:
    """Copies one flat tensor back into the tensors it was made of."""
    for tensor, part in zip(tensors, flat.split([tensor.numel() for tensor in tensors]), strict=True):
        tensor.copy_(part.view(tensor.shape))


def seeds(seed: int, rank: int = 0) -> list[int]:
    """Independent seeds: networks' weights, data, latents, torch's own generator, pictures."""
    return [int(s) for s in np.random.SeedSequence((seed, rank)).generate_state(5)]


@functools.cache
def _keep_freed_memory() -> None:
    """Tells glibc to keep freed memory: giving large activations back costs half a million page faults a step."""
    if platform.libc_ver()[0] == "glibc":
        libc = ctypes.CDLL(None)
        m_trim_threshold, m_mmap_max = -1, -4  # malloc.h
        libc.mallopt(m_mmap_max, 0)
        libc.mallopt(m_trim_threshold, -1)
