"""Builds the networks of a recipe: the discriminator with its constraints, on their device."""

from __future__ import annotations

import functools

import torch
from torch import nn

from ganframe.components import DataSpec
from ganframe.recipes.tables import Comparison, Recipe
from ganframe.training.problems import Problems


def build_discriminator(recipe: Recipe | Comparison, spec: DataSpec, device: torch.device) -> nn.Module:
    """D as it is trained, with new weights. Raises RecipeError where it cannot be built."""
    problems = Problems(recipe.name)
    D = problems.attempt("discriminator", lambda: recipe.discriminator.build(spec))
    problems.raise_any()
    check_constraints(recipe, D, problems)
    problems.raise_any()
    return place(wrap(recipe, D, problems), spec, device)


def check_constraints(recipe: Recipe | Comparison, D: nn.Module, problems: Problems) -> None:
    """Adds a problem for each constraint that is given twice or refuses D."""
    for index, constraint in enumerate(recipe.constraints):
        if constraint in recipe.constraints[:index]:
            problems.add(f"constraints[{index}]: the same constraint is given before; remove one of them")
        else:
            problems.attempt(f"constraints[{index}]", functools.partial(constraint.check, D))


def wrap(recipe: Recipe | Comparison, D: nn.Module, problems: Problems) -> nn.Module:
    """D wrapped by each constraint in turn. Raises RecipeError at the first that fails."""
    for index, constraint in enumerate(recipe.constraints):
        D = problems.attempt(f"constraints[{index}]", functools.partial(constraint.wrap, D))
        problems.raise_any()
    return D


def place(network: nn.Module, spec: DataSpec, device: torch.device) -> nn.Module:
    """The network on its device, in training mode, with channels-last weights where samples are images."""
    network = network.to(device).train()
    return network.to(memory_format=torch.channels_last) if spec.is_image else network
