"""The terms of a recipe made ready: their names, their parts, and when they act."""

from __future__ import annotations

import functools
from collections.abc import Iterable, Iterator
from typing import Any, TypeVar
from urllib.parse import quote

import attrs
import torch
from torch import nn

from ganframe.components import DataSpec, Parts
from ganframe.declarations import has_extras
from ganframe.engine.state import Timetable
from ganframe.plugins.registry import Registry
from ganframe.recipes.problems import Problems
from ganframe.recipes.tables import Recipe
from ganframe.training.networks import place

C = TypeVar("C")


def named(components: Iterable[C], registry: Registry) -> dict[str, C]:
    """Constraints or terms by their names in the log. The second of one name ends in _2."""
    found: dict[str, C] = {}
    for component in components:
        name = registry.locate(type(component))[1]
        number = 2
        free = name
        while free in found:
            free, number = f"{name}_{number}", number + 1
        found[free] = component
    return found


def prepare_parts(recipe: Recipe, G: nn.Module, D: nn.Module, spec: DataSpec, problems: Problems) -> dict[str, Parts]:
    """The parts of each term by its name. Adds a problem for each term that does not fit.

    Called before the networks are on their device, so that a term can try them.
    """
    parts: dict[str, Parts] = {}
    theirs = {id(tensor) for network in (G, D) for tensor in (*network.parameters(), *network.buffers())}
    for index, (name, term) in enumerate(named(recipe.terms, recipe.registry).items()):
        place = f"terms[{index}]"
        missing = term.needs_extras and not has_extras(D)
        if missing:
            problems.add(
                f"{place}: reads {', '.join(term.needs_extras)} of the discriminator, which does not declare "
                "gives_extras; use one that does (built-in: mlp, dcgan, resnet)"
            )
            continue
        found = problems.attempt(place, functools.partial(term.prepare, G, D, spec))
        if found is not None:
            fault = _fault(found, theirs)
            if fault:
                problems.add(f"{place}: {fault}")
                continue
            parts[name] = found
    return parts


def _fault(parts: Any, theirs: set[int]) -> str:
    """What is wrong with what `prepare` returned, or nothing."""
    if not isinstance(parts, Parts):
        return f"prepare returned a {type(parts).__name__}, not ganframe.Parts or None"
    for name, module in attrs.asdict(parts, recurse=False).items():
        if module is not None and not isinstance(module, nn.Module):
            return f"Parts.{name} must be a module, not {type(module).__name__}"
        if module is not None and any(id(t) in theirs for t in (*module.parameters(), *module.buffers())):
            return f"Parts.{name} holds weights of G or D, which are saved and trained already; they are in each turn"
    return ""


def place_parts(parts: dict[str, Parts], spec: DataSpec, device: torch.device) -> dict[str, Parts]:
    """The parts on their device: trained ones in training mode, frozen ones in evaluation mode, without gradients."""

    def placed(part: Parts) -> Parts:
        trained = {player: place(module, spec, device) for player, module in part.trained.items()}
        frozen = part.frozen and part.frozen.to(device).eval().requires_grad_(False)
        return Parts(**trained, frozen=frozen)

    return {name: placed(part) for name, part in parts.items()}


def trained_parts(parts: dict[str, Parts], player: str) -> list[nn.Module]:
    """The modules that are trained with a player."""
    return [part.trained[player] for part in parts.values() if player in part.trained]


def saved_parts(parts: dict[str, Parts]) -> Iterator[tuple[str, nn.Module]]:
    """(name of the file, module) of all parts that a checkpoint holds."""
    for name, part in parts.items():
        for player, module in part.trained.items():
            yield f"term.{quote(name, safe='')}.{player}", module


def timetable(recipe: Recipe) -> Timetable:
    """When the objective, constraints and terms act, by their names in the log."""
    constraints, terms = (list(named(given, recipe.registry)) for given in (recipe.constraints, recipe.terms))
    names = {"objective": "objective"}
    names |= {f"constraints[{index}]": f"penalty_{name}" for index, name in enumerate(constraints)}
    names |= {f"terms[{index}]": f"term_{name}" for index, name in enumerate(terms)}
    return Timetable({names[place]: timing for place, timing in recipe.timing.items()})
