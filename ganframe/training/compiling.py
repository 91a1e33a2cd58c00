"""Whether a run's steps are compiled: what the recipe asks for, what cannot be, and where it repays its time."""

from __future__ import annotations

import json
from typing import Any

import torch

from ganframe.engine.compiled import CompiledIteration
from ganframe.engine.recording import NotCompilable
from ganframe.engine.updates import MOVING
from ganframe.errors import note, warn
from ganframe.recipes.strict import split_index
from ganframe.storage.files import write_text
from ganframe.storage.run_folder import RunFolder
from ganframe.training.trainer import Trainer

REPAID = 40_000  # steps in which compiling repays its time: each operation takes some 30 ms, and saves 1 to 2 µs a step
HEAVY = 2e5  # multiplications of an average operation, from which on a step's time is that of arithmetic

ROUNDING, ROUNDING_OF_HALF = 1e-4, 3e-2


def compiled_iteration(trainer: Trainer, folder: RunFolder, watching: bool = False) -> CompiledIteration | None:
    """What takes the place of an iteration of Algorithm 1 in this run; None where it runs as it is.

    `watching` is that of `CompiledIteration`. Raises NotCompilable where the recipe asks for a graph that cannot be
    made.
    """
    recipe, wanted = trainer.recipe, trainer.recipe.train.compile
    if not wanted:
        return None
    required = wanted is True and trainer.state.step == 0  # a run that has begun keeps its recipe
    reason = _hindrance(trainer)
    if reason is not None and required:
        raise NotCompilable(reason)
    if reason is None and trainer.accelerator.num_processes > 1:
        reason = "it is one of several processes"
    if reason is None and wanted == "auto":
        reason = _not_repaid(trainer)
    if reason is not None:
        if trainer.accelerator.is_main_process:
            (note if wanted == "auto" else warn)(f"{recipe.title}: train.compile: not compiled: {reason}")
        return None
    frozen = [part.frozen for part in trainer.state.game.parts.values() if part.frozen is not None]
    averaged = [] if trainer.averaged is None else [trainer.averaged]

    return CompiledIteration(
        [*frozen, *averaged],
        lambda line: note(f"{folder.path}: {line}"),
        required,
        _heavy if wanted == "auto" else lambda graph: "",
        lambda seconds: _describe(folder, seconds),
        ROUNDING if recipe.train.precision == "no" else ROUNDING_OF_HALF,
        watching,
    )


def _hindrance(trainer: Trainer) -> str | None:
    """Why this run cannot be compiled, or None. What its parts do is seen when its first steps are recorded."""
    recipe = trainer.recipe
    if recipe.train.precision == "fp16":
        return "the loss scaling of fp16 reads values of each step; 'bf16' needs none"
    for player in ("generator", "discriminator"):
        places = getattr(recipe.optimizer, player).ramps
        others = [place for place in places if split_index(place)[0] not in MOVING]
        if others:
            return f"optimizer.{player}.{others[0]} moves; only {', '.join(MOVING)} may"
    return None


def _not_repaid(trainer: Trainer) -> str | None:
    """Why compiling cannot repay its time, as far as the recipe says, or None."""
    if trainer.state.device.type != "cpu":
        return "what it gains was measured on CPUs only; compile = true compiles all the same"
    if trainer.recipe.train.steps < REPAID:
        return f"a run of fewer than {REPAID:,} steps does not repay it"
    return None


def _heavy(graph: torch.fx.GraphModule) -> str:
    """Why compiling this iteration gains little, or nothing. It saves the time around operations, not arithmetic.

    The rule of 'auto' looks at the recipe and the graph alone, so that a resumed run is compiled if the run was.
    """
    operations = sum(node.op == "call_function" for node in graph.graph.nodes)
    heavy = multiplications(graph) > HEAVY * operations
    return "its time is that of large products, which compiling does not make faster" if heavy else ""


def multiplications(graph: torch.fx.GraphModule) -> float:
    """The multiplications of the matrix products and convolutions of a recorded graph, by torch's own formulas."""
    from torch.utils.flop_counter import flop_registry

    total = 0.0
    for node in graph.graph.nodes:
        count = flop_registry.get(getattr(node.target, "overloadpacket", None))
        if count is not None:
            total += count(*_values(node.args), **_values(node.kwargs), out_val=node.meta.get("val")) / 2
    return total


def _values(arguments: Any) -> Any:
    """Arguments of a node with the example tensors in the place of nodes."""
    return torch.fx.node.map_arg(arguments, lambda node: node.meta.get("val"))


def _describe(folder: RunFolder, seconds: float) -> None:
    """Says in environment.json that the run is compiled, and how long that took."""
    environment = json.loads(folder.environment.read_text())
    compiled = environment.setdefault("compiled", {"graphs": 0, "seconds": 0.0})
    compiled["graphs"] += 1
    compiled["seconds"] = round(compiled["seconds"] + seconds, 1)
    write_text(folder.environment, json.dumps(environment, indent=2) + "\n")
