"""Builds the networks of a recipe: the discriminator with its constraints, on their device."""

from __future__ import annotations

import copy
import functools
import math
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from typing import TypeVar

import attrs
import torch
from torch import Tensor, nn

from ganframe.components import Constraint, DataSpec
from ganframe.data.real import at_most
from ganframe.declarations import group_size
from ganframe.recipes.problems import Problems
from ganframe.recipes.tables import Comparison, Recipe

T = TypeVar("T")
SIZES = (8, 16, 32, 64, 128, 256, 28, 48, 96)
"""Pixels of each side for which networks of images are made."""
MADE_AT_A_TIME = 256
MADE_PIXELS = 2**14  # of the images made at a time on a CPU together, unless they are few
MADE_AT_LEAST = 30  # at a time: convolutions rearrange their weights at each call


def build_discriminator(recipe: Recipe | Comparison, spec: DataSpec, device: torch.device) -> nn.Module:
    """D as it is trained, with new weights. Raises RecipeError where it cannot be built."""
    problems = Problems(recipe.title)
    D = problems.attempt("discriminator", lambda: recipe.discriminator.build(spec))
    problems.raise_any()
    check_constraints(recipe, D, problems)
    problems.raise_any()
    return place(wrap(recipe, D, problems), spec, device)


def discriminator_of_another_size(recipe: Recipe, spec: DataSpec) -> nn.Module | None:
    """D for images of a size that it supports, where it does not support the data's; None where there is no such size.

    It is only shown to constraints, so that what they have against D is reported with what it has against the size.
    """
    # The nearest first, and not those below 16 before: a network for 8 pixels may have no normalisation.
    near = max(16, spec.shape[-1])
    sizes = sorted(SIZES, key=lambda size: abs(size - near)) if len(spec.shape) == 3 else ()
    for size in sizes:
        with suppress(Exception), torch.random.fork_rng():
            return recipe.discriminator.build(attrs.evolve(spec, shape=(spec.shape[0], size, size)))
    return None


def check_constraints(recipe: Recipe | Comparison, D: nn.Module, problems: Problems) -> None:
    """Adds a problem for each constraint that is given twice or refuses D."""
    for index, constraint in enumerate(recipe.constraints):
        if constraint in recipe.constraints[:index]:
            problems.add(f"constraints[{index}]: the same constraint is given before; remove one of them")
        else:
            problems.attempt(f"constraints[{index}]", functools.partial(constraint.check, D))


def check_ramps(recipe: Recipe, D: nn.Module, spec: DataSpec, problems: Problems) -> None:
    """Adds a problem for each ramp of an option that `wrap` reads: it is called once, so the option could not move.

    D is wrapped on copies with the values of both ends, and must give the same scores.
    """
    for index, constraint in enumerate(recipe.constraints):
        timing = recipe.timing.get(f"constraints[{index}]")
        if timing is None or type(constraint).wrap is Constraint.wrap:
            continue
        for name, ramp in timing.ramps.items():
            first, last = (attrs.evolve(constraint, **{name: value}) for value in (ramp.from_, ramp.to))  # type: ignore[misc]
            with suppress(ValueError):  # `wrap` itself says what is wrong
                if not _same_scores(_wrapped(first, D), _wrapped(last, D), spec):
                    problems.add(
                        f"constraints[{index}].{name}: is read once, when the discriminator is wrapped, so it cannot "
                        "move; write a number"
                    )


def _wrapped(constraint: Constraint, D: nn.Module) -> nn.Module:
    with torch.random.fork_rng():
        torch.manual_seed(0)
        return constraint.wrap(copied(D, D))


def copied(holder: T, *networks: nn.Module) -> T:
    """A deep copy of what holds these networks.

    `torch.nn.utils.weight_norm` and `spectral_norm` keep computed weights, with their graph, as attributes. torch does
    not copy those; they are computed anew before each call.
    """
    held = [v for network in networks for module in network.modules() for v in vars(module).values()]
    return copy.deepcopy(holder, {id(v): v.detach() for v in held if isinstance(v, Tensor) and not v.is_leaf})


@torch.no_grad()
def _same_scores(one: nn.Module, other: nn.Module, spec: DataSpec) -> bool:
    """Whether two discriminators give the same scores, in training and in evaluation mode."""

    def scores(D: nn.Module, training: bool) -> Tensor:
        with torch.random.fork_rng():
            torch.manual_seed(0)
            n = 4 * group_size(D)
            return D.train(training)(torch.randn(n, *spec.shape), spec.blank(n))

    return all(torch.equal(scores(one, training), scores(other, training)) for training in (True, False))


def wrap(recipe: Recipe | Comparison, D: nn.Module, problems: Problems) -> nn.Module:
    """D wrapped by each constraint in turn. Raises RecipeError at the first that fails."""
    for index, constraint in enumerate(recipe.constraints):
        D = problems.attempt(f"constraints[{index}]", functools.partial(constraint.wrap, D))
        problems.raise_any()
    return D


def place(network: nn.Module, spec: DataSpec, device: torch.device) -> nn.Module:
    """The network on its device, in training mode, with channels-last weights where samples are images."""
    return channels_last(network.to(device).train(), spec)


def channels_last(network: nn.Module, spec: DataSpec) -> nn.Module:
    """The network, with channels-last weights where samples are images: convolutions are faster, at any time."""
    return network.to(memory_format=torch.channels_last) if spec.is_image else network


def samples_at_a_time(spec: DataSpec, device: torch.device) -> int:
    """How many samples a generator makes at a time: not so few that calls cost more than they compute.

    On a CPU fewer images than elsewhere: a feature map of more than 32 MiB would be memory that each layer asks of the
    system anew, which then clears every page of it. 256 channels of MADE_AT_LEAST images of 32×32 pixels have 30 MiB.
    """
    most = at_most(MADE_AT_A_TIME, spec)
    return most if device.type != "cpu" else min(most, max(MADE_AT_LEAST, MADE_PIXELS // math.prod(spec.shape[1:])))


@torch.no_grad()
def in_parts(network: Callable[..., Tensor], size: int, device: torch.device, *inputs: Tensor) -> Tensor:
    """network(*inputs), computed on `device` for at most `size` samples at a time, so that it needs little memory.

    The result is on the CPU, contiguous. For networks that treat samples independently, as in evaluation mode.
    """
    out, begin = torch.empty(0), 0
    for part in zip(*(tensor.split(size) for tensor in inputs), strict=True):
        made = network(*(tensor.to(device) for tensor in part))
        if begin == 0:
            out = torch.empty(len(inputs[0]), *made.shape[1:], dtype=made.dtype)
        out[begin : begin + len(made)] = made
        begin += len(made)
    return out[:begin]


@contextmanager
def evaluation(*networks: nn.Module) -> Iterator[None]:
    """Evaluation mode for the networks; restores their modes afterwards."""
    modules = [module for network in networks for module in network.modules()]
    modes = [module.training for module in modules]  # of each module: frozen ones stay in evaluation mode
    for network in networks:
        network.eval()
    try:
        yield
    finally:
        for module, mode in zip(modules, modes, strict=True):
            module.training = mode
