"""From a recipe to the engine's state: builds every part, checks that they fit together, and writes nothing."""

from __future__ import annotations

import functools
import sys
from collections.abc import Sized
from typing import Any

import attrs
import torch
from accelerate.utils import gather_object
from torch import Tensor, nn

from ganframe.components import DataSpec, Parts
from ganframe.data.feed import Feed, Share, check_batch, open_feed
from ganframe.data.latents import LatentFeed
from ganframe.data.randomness import seed_all
from ganframe.data.real import judging_data
from ganframe.data.seeds import derive_seeds
from ganframe.data.workers import refuse_in_worker
from ganframe.declarations import group_size
from ganframe.engine.state import Game, Player, State
from ganframe.errors import RequestError, noted_if_slow, warn
from ganframe.judging.best import Best, best_of
from ganframe.judging.judge import Judge, JudgedData, named
from ganframe.recipes.endings import ended_rates
from ganframe.recipes.problems import Problems
from ganframe.recipes.tables import Recipe
from ganframe.training import accelerator as processes
from ganframe.training import compatibility, terms
from ganframe.training.cautions import cautions
from ganframe.training.heeding import heeding
from ganframe.training.log import LogMeans
from ganframe.training.moving_average import average_into, moving_average
from ganframe.training.networks import (
    check_constraints,
    check_ramps,
    discriminator_of_another_size,
    place,
    wrap,
)
from ganframe.training.trainer import Trainer
from ganframe.training.warm_start import freeze, refuse_other_labels, warm_start


def prepare(recipe: Recipe, start: bool = True) -> Trainer:
    """Builds networks, optimisers and data, and checks that they fit together.

    Raises RecipeError with every part that cannot be built. Seeds the random generators of torch, numpy and Python.
    Without `start`, as where a checkpoint is restored afterwards, the run of `train.from` is not read.
    """
    refuse_in_worker()
    accelerator = processes.make_accelerator(recipe)
    device = accelerator.device
    autocast, scaler = processes.mixed_precision(recipe, device)
    share = Share(device, accelerator.num_processes, accelerator.process_index)
    seeds = derive_seeds(recipe.seed)
    problems = Problems(recipe.title)
    batch, generator_batch = _batch_sizes(recipe, share, problems)

    seed_all(seeds.weights)
    spec = problems.attempt("dataset", lambda: recipe.dataset.spec)
    if spec is None:
        problems.raise_any()
    G = problems.attempt("generator", lambda: recipe.generator.build(spec, recipe.latent.dim))
    D = problems.attempt("discriminator", lambda: recipe.discriminator.build(spec))
    before = len(problems.found)
    stand_in = discriminator_of_another_size(recipe, spec) if D is None else D
    if stand_in is not None:
        check_constraints(recipe, stand_in, problems)
    networks_fit = G is not None and D is not None and len(problems.found) == before
    with noted_if_slow(f"{recipe.title}: reading the dataset"):
        feed = _open_feed(recipe, spec, batch, seeds.data, share, problems)
    trained: Any = feed and feed.data  # asked for once: each time it may be another object
    judged: Any = feed and problems.attempt("dataset: held_out", lambda: judging_data(recipe.dataset, spec, trained))
    if not networks_fit:
        problems.raise_any()
    before = len(problems.found)

    check_ramps(recipe, D, spec, problems)
    D = wrap(recipe, D, problems)
    latents = LatentFeed(recipe.latent, seeds.latents, share)
    if feed is not None:
        _keep_groups(group_size(D), feed, latents, recipe, problems)
    parts = terms.prepare_parts(recipe, G, D, spec, problems)
    if len(problems.found) > before:  # else the networks are tried, though the data may not fit
        problems.raise_any()
    G, D, parts = place(G, spec, device), place(D, spec, device), terms.place_parts(parts, spec, device)
    if share.processes > 1:
        frozen = [part.frozen for part in parts.values() if part.frozen is not None]
        processes.copy_first_process([G, D, *(module for _, module in terms.saved_parts(parts)), *frozen])
    networks = {"generator": G, "discriminator": D}
    if start and recipe.train.from_ is not None:
        _warm_start(recipe.train.from_, networks, problems, tell=accelerator.is_main_process)
    for problem in freeze(recipe.train.freeze, networks):
        problems.add(problem)
    game = Game(
        G,
        D,
        recipe.objective,
        terms.named(recipe.constraints, recipe.registry),
        autocast,
        terms.named(recipe.terms, recipe.registry),
        parts,
    )
    faults = compatibility.faults(recipe, game, spec)
    smallest = min(batch // share.processes, generator_batch) // recipe.train.accumulate
    if not faults and not problems.found and smallest == 1:
        faults = compatibility.faults_of_single_samples(recipe, G, D, spec)
    for fault in faults:
        problems.add(fault)
    found = None
    if not problems.found:
        found = heeding(recipe, game, spec)
        # A run that has begun keeps its recipe, and could not be mended.
        if start and found is not None and found.fault is not None and not recipe.train.one_sided_labels:
            problems.add(f"{found.fault}; or say that it is meant: train.one_sided_labels = true")
        if start and found is not None and recipe.train.from_ is not None and (found.generator or found.discriminator):
            try:
                refuse_other_labels(recipe.train.from_, spec)
            except RequestError as error:
                problems.add(f"train.from: {error}")
    players = {name: _player(recipe, name, network, parts, problems) for name, network in networks.items()}
    step_buffers = _step_buffers(game, problems)
    problems.raise_any()
    assert feed is not None
    judge, best = _judge(recipe, spec, trained, judged, device, problems)
    problems.raise_any()
    if judge is not None:
        processes.in_first_process(accelerator, judge.fit)
    if start and accelerator.is_main_process:
        for line in cautions(recipe, G, D):
            warn(f"{recipe.title}: {line}")
    configs = {name: getattr(recipe.optimizer, name) for name in networks}
    for name, config in configs.items() if accelerator.is_main_process else ():
        for line in ended_rates(config, recipe.train.steps):
            warn(f"{recipe.title}: optimizer.{name}.{line}")
    optimizers = {name: player.optimizer for name, player in players.items()}

    several = share.processes > 1
    state = State(
        game=game,
        G=players["generator"],
        D=players["discriminator"],
        batches=feed,
        latents=latents,
        generator_batch_size=generator_batch,
        device=device,
        scaler=scaler,
        average=functools.partial(processes.average, accelerator) if several else None,
        timetable=terms.timetable(recipe),
        accumulate=recipe.train.accumulate,
        step_buffers=step_buffers,
        share_fakes=recipe.train.share_fakes,
    )
    averaged = None
    if recipe.train.ema is not None:
        averaged = moving_average(G)
        state.moving_average = average_into(averaged, recipe.train.ema, recipe.train.ema_warmup)
    # What the global generators are used for (dropout, a penalty's ε) must differ between processes.
    seed_all(derive_seeds(recipe.seed, share.rank).torch)
    return Trainer(
        recipe=recipe,
        spec=spec,
        accelerator=accelerator,
        state=state,
        averaged=averaged,
        state_keys=compatibility.state_keys(game),
        optimizers=tuple((configs[name], optimizers[name]) for name in networks),
        schedules={
            name: config.schedule.build(optimizers[name]) for name, config in configs.items() if config.schedule
        },
        means=LogMeans(lambda own: gather_object([own]), accelerator.is_main_process),
        judged=judged,
        heeding=found,
        judge=judge,
        best=best,
    )


def _open_feed(recipe: Recipe, spec: DataSpec, batch: int, seed: int, share: Share, problems: Problems) -> Feed | None:
    """The feed of the recipe's dataset. Adds a problem for data that is not what `spec` says, and for too little."""
    opened: list[Any] = []

    def build_and_open() -> Feed:
        opened.append(recipe.dataset.build())
        return open_feed(opened[0], spec, batch, seed, share, recipe.train.workers)

    feed: Feed | None = problems.attempt("dataset", build_and_open)
    if feed is None and opened and isinstance(opened[0], Sized):
        problems.attempt("dataset", lambda: check_batch(opened[0], batch))
    return feed


def _judge(
    recipe: Recipe, spec: DataSpec, trained: Any, judged: Any, device: torch.device, problems: Problems
) -> tuple[Judge | None, Best | None]:
    """The recipe's metrics and the one that chooses the best checkpoint. Adds a problem for each that does not suit."""
    evaluations = named(recipe.metrics, recipe.registry)
    best = best_of(recipe, evaluations, problems)
    if not evaluations:
        return None, None
    data = JudgedData(recipe.dataset, spec, trained, None if judged is trained else judged)
    judge = problems.attempt("metrics", lambda: Judge(evaluations, data, recipe.registry, device, recipe.title))
    return judge, best


def _player(recipe: Recipe, name: str, network: nn.Module, parts: dict[str, Parts], problems: Problems) -> Any:
    """A player with its optimiser, which trains parts of terms too.

    Adds a problem where the optimiser cannot be built, or its schedule ends before the training does.
    """
    config = getattr(recipe.optimizer, name)
    if config.schedule is not None:
        problems.attempt(f"optimizer.{name}.schedule", functools.partial(config.schedule.lasts, recipe.train.steps))
    modules = terms.trained_parts(parts, name)
    weights = [p for module in (network, *modules) for p in module.parameters()]
    optimizer = problems.attempt(f"optimizer.{name}", functools.partial(config.build, weights))
    if optimizer is None:
        return None
    config.move(optimizer, 0)
    return Player(network, optimizer, modules, config.max_norm)


def _keep_groups(size: int, feed: Feed, latents: LatentFeed, recipe: Recipe, problems: Problems) -> None:
    """Processes and parts of a batch share it by whole groups, where D mixes groups of samples."""
    if size == 1:
        return
    feed.share = latents.share = attrs.evolve(latents.share, group=size)
    each = size * latents.share.processes * recipe.train.accumulate
    for name in ("batch_size", "generator_batch_size"):
        given = getattr(recipe.train, name)
        if given is not None and given % each:
            problems.add(
                f"train.{name}: the discriminator mixes groups of {size} samples; it must be a multiple of {each}, "
                f"not {given}"
            )


def _warm_start(run: str, networks: dict[str, nn.Module], problems: Problems, tell: bool) -> None:
    """Adds a problem where the run has no weights for these networks; else says what was taken."""
    try:
        lines = warm_start(run, networks)
    except RequestError as error:
        problems.add(f"train.from: {error}")
        return
    for line in lines if tell else ():
        print(line, file=sys.stderr, flush=True)


def _step_buffers(game: Game, problems: Problems) -> list[Tensor]:
    """The buffers called training_step, in which networks find the step."""
    modules = [("generator", game.G), ("discriminator", game.D), *terms.saved_parts(game.parts)]
    named = [(owner, name, buffer) for owner, module in modules for name, buffer in module.named_buffers()]
    found = [(owner, name, buffer) for owner, name, buffer in named if name.rpartition(".")[2] == "training_step"]
    for owner, name, buffer in found:
        if buffer.is_floating_point():
            problems.add(f"{owner}: the buffer {name} must be an integer, not {buffer.dtype}; it counts steps")
    return [buffer for _, _, buffer in found]


def _batch_sizes(recipe: Recipe, share: Share, problems: Problems) -> tuple[int, int]:
    """The size of D's batch over all processes, and of G's batch in each process."""
    batch = recipe.train.batch_size
    generator_batch = recipe.train.generator_batch_size or batch
    parts = recipe.train.accumulate
    for name, size in (("batch_size", batch), ("generator_batch_size", generator_batch)):
        if size % share.processes:
            problems.add(f"train.{name}: {share.processes} processes cannot share {size} evenly")
        elif size // share.processes % parts:
            each = size // share.processes
            problems.add(f"train.accumulate: a batch of {each} in each process has no {parts} equal parts")
    comparing = ["this objective"] if recipe.objective.compares_real else []
    comparing += [f"terms[{index}]" for index, term in enumerate(recipe.terms) if term.needs_real is not None]
    if comparing and generator_batch != batch:
        problems.add(
            f"train.generator_batch_size: {comparing[0]} compares each fake with a real sample; "
            f"it must be batch_size, {batch}"
        )
    if recipe.train.share_fakes:
        if generator_batch != batch:
            problems.add(f"train.share_fakes: both players see the same fakes; generator_batch_size must be {batch}")
        if parts > 1:
            problems.add("train.share_fakes: a batch in parts has no fakes to share; train.accumulate must be 1")
    start = recipe.timing["objective"].start if "objective" in recipe.timing else 0
    if start and not recipe.terms:
        problems.add("objective.start: until then only terms train the generator, and this recipe has no [[terms]]")
    return batch, generator_batch // share.processes
