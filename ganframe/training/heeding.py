"""Which players heed y, the labels or conditions: found by trying, as y may enter a network in any way.

A network heeds y if its output or the gradient of any of its parameters changes with y. The gradient counts because an
embedding that starts at zero leaves the output as it is.
"""

from __future__ import annotations

import functools
import math
from collections.abc import Callable, Iterator
from typing import Any

import attrs
import torch
from torch import Tensor, nn

from ganframe.components import DataSpec, Objective
from ganframe.declarations import group_size
from ganframe.engine.algorithm import discriminator_loss, generator_loss
from ganframe.engine.state import Batch, Game
from ganframe.engine.timing import ALWAYS, numbers_at
from ganframe.recipes.problems import unexpected
from ganframe.recipes.tables import Recipe
from ganframe.training.networks import copied

TRIED = 4  # samples, or groups of them
ROUNDING = 1e-3  # relative to the largest value: what another order of samples may change


@attrs.frozen
class Heeding:
    """Whether G, D, and the losses of each player beyond G heed y: G's loss heeds it through D's scores or a term.

    `paired` is whether a term compares each fake with the real sample of the same y, as L1 does, which teaches G too.
    """

    generator: bool
    discriminator: bool
    generator_loss: bool
    discriminator_loss: bool
    paired: bool = False

    def described(self) -> str:
        """Which player heeds y, in one line."""
        by_terms = "heeds them by a term" if self.generator_loss or self.discriminator_loss else "does not heed them"
        of_D = "heeds them" if self.discriminator else by_terms
        if not self.generator and of_D == "does not heed them":
            return "neither player heeds them: samples cannot be asked for by class or condition"
        return f"the generator {'heeds' if self.generator else 'does not heed'} them, the discriminator {of_D}"

    @property
    def fault(self) -> str | None:
        """Why training would not teach G what y means, or None. It names the recipe's tables."""
        remedy = "give both a condition, or none (built-in networks: `condition`)"
        if self.generator and not (self.generator_loss or self.paired):
            return (
                "discriminator: labels or conditions reach the generator alone, and nothing teaches it what they mean: "
                f"neither the scores nor a term depend on them; {remedy}"
            )
        if not self.generator and (self.discriminator or self.generator_loss):
            side = "the discriminator" if self.discriminator else "a term of the generator's loss"
            return (
                f"generator: labels or conditions reach {side} alone: the generator does not heed them, and its "
                f"samples are judged by them; {remedy}"
            )
        return None


def can_differ(spec: DataSpec) -> bool:
    """Whether two samples of this data can have different y."""
    return spec.condition is not None or (spec.classes or 1) > 1


def heeds(network: nn.Module, inputs: Tensor, spec: DataSpec) -> bool:
    """Whether a network, called as network(inputs, y), heeds y. Changes nothing, torch's random state included.

    It is tried as it is, and then with noise added to its weights: behind a layer that starts at zero no gradient
    arrives. Inputs are a few samples, on the network's device.
    """
    tried = copied(network, network)
    return _heeds(functools.partial(tried, inputs), [tried], *_two(spec, len(inputs), inputs.device))


def heeding(recipe: Recipe, game: Game, spec: DataSpec) -> Heeding | None:
    """Which players of a game heed y, in eval mode on a copy; None where no two samples can have different y.

    Constraints and the times at which terms act do not count. None also where a part fails in this trial: it may work
    in training, which else says what is wrong.
    """
    if not can_differ(spec):
        return None
    try:
        return _heeding(recipe, game, spec)
    except Exception as error:
        unexpected(error)  # raises it again with GANFRAME_STRICT=1
        return None


def _heeding(recipe: Recipe, game: Game, spec: DataSpec) -> Heeding:
    n = TRIED * group_size(game.D)
    device = next((p.device for p in game.D.parameters()), torch.device("cpu"))
    with torch.random.fork_rng():
        torch.manual_seed(0)
        z = torch.randn(n, recipe.latent.dim, device=device)
        x = torch.randn(n, *spec.shape, device=device)
        x = x.clamp(-1, 1) if spec.is_image else x
    of_G, of_D = heeds(game.G, z, spec), heeds(game.D, x, spec)
    if of_D or not game.terms:
        return Heeding(of_G, of_D, of_D, of_D)
    return Heeding(of_G, of_D, *_losses_heed(recipe, game, spec, x, z))


def _losses_heed(recipe: Recipe, game: Game, spec: DataSpec, x: Tensor, z: Tensor) -> tuple[bool, bool, bool]:
    """Whether G's loss and D's loss heed y through terms, and whether a term of G's loss pairs fakes and real samples.

    G is called with blank y whatever it is given. A term that pairs gives another value for another order of the real
    samples.
    """
    blank, other = _two(spec, len(x), x.device)
    found = {"generator": False, "discriminator": False}
    paired = False
    for tried in _moved(recipe, game):
        tried.G.register_forward_pre_hook(_blank_y, with_kwargs=True)
        owned = [m for part in tried.parts.values() for m in (part.generator, part.discriminator) if m is not None]
        modules = [tried.G, tried.D, *owned]
        for player in found:
            found[player] = found[player] or _heeds(_loss(tried, player, x, z), modules, blank, other)
        if any(term.needs_real for term in tried.terms.values()):
            alone = attrs.evolve(tried, objective=_Nothing())  # which may pair samples too, and says nothing of y
            values, turned = _Values(modules), x.roll(1, 0)
            first, second = (values(_loss(alone, "generator", rows, z), blank) for rows in (x, turned))
            paired = paired or _difference(first, second, relative=True) > ROUNDING
    return found["generator"], found["discriminator"], paired


def _loss(game: Game, player: str, x: Tensor, z: Tensor) -> Callable[[Tensor], Tensor]:
    """The player's loss as a function of y."""
    real = player == "discriminator" or game.scoring.generator_real
    loss_of = discriminator_loss if player == "discriminator" else generator_loss
    return lambda y: loss_of(game, Batch(x if real else None, y, z))[0]


@attrs.frozen
class _Nothing(Objective):
    """An objective without losses, so that only terms are left."""

    def generator_loss(self, fake: Tensor, real: Tensor | None = None) -> Tensor:
        return 0 * fake.sum()


def _moved(recipe: Recipe, game: Game) -> Iterator[Game]:
    """Copies of the game without constraints, with the options that move as they are at the start, midway, at the end.

    A term whose weight starts at 0 acts later.
    """
    last = recipe.train.steps - 1
    ramps = any(timing.ramps for place, timing in recipe.timing.items() if place.startswith("terms["))
    for step in sorted({0, last // 2, last}) if ramps else (0,):
        G, D, parts = copied((game.G, game.D, game.parts), game.G, game.D)
        terms = {
            name: recipe.timing.get(f"terms[{index}]", ALWAYS).moved(term, numbers_at(step))
            for index, (name, term) in enumerate(game.terms.items())
        }
        yield attrs.evolve(game, G=G, D=D, parts=parts, constraints={}, terms=terms)


def _blank_y(module: nn.Module, args: tuple[Any, ...], kwargs: dict[str, Any]) -> tuple[Any, Any]:
    """A hook that lets a network see blank y."""
    blank = {name: torch.zeros_like(value) if name == "y" else value for name, value in kwargs.items()}
    return (*args[:1], *(torch.zeros_like(y) for y in args[1:2]), *args[2:]), blank


def _two(spec: DataSpec, n: int, device: torch.device) -> tuple[Tensor, Tensor]:
    """Blank y for n samples, and other ones: labels spread over the classes, or conditions of noise in [-1, 1]."""
    if spec.condition is None:
        assert spec.classes is not None
        other = torch.linspace(1, spec.classes - 1, n).round().long()
    else:
        other = torch.rand(n, *spec.condition, generator=torch.Generator().manual_seed(1)) * 2 - 1
    return spec.blank(n, device), other.to(device)


def _heeds(output: Callable[[Tensor], Tensor], modules: list[nn.Module], blank: Tensor, other: Tensor) -> bool:
    """Whether the output, or its gradient in the modules, changes with y. The modules may be changed."""
    values = _Values(modules)
    for filled in (False, True):
        if filled:
            _fill_zeros(values.parameters)
        first = values(output, blank)
        found = _difference(first, values(output, other))
        if found and found > 4 * _difference(first, values(output, blank)):  # sums on a GPU may differ by chance
            return True
    return False


class _Values:
    """An output and its gradients in the weights of modules, from the same buffers and random numbers at each call."""

    def __init__(self, modules: list[nn.Module]) -> None:
        inside = list(dict.fromkeys(m for module in modules for m in module.modules()))
        for module in inside:
            module.training = False
        self.parameters = [p for p in dict.fromkeys(p for m in inside for p in m.parameters()) if p.is_floating_point()]
        for parameter in self.parameters:
            parameter.requires_grad_(True)
        buffers = [(m, name, b) for m in inside for name, b in m.named_buffers(recurse=False)]
        self.buffers = [(module, name, buffer.clone()) for module, name, buffer in buffers]

    def __call__(self, output: Callable[[Tensor], Tensor], y: Tensor) -> list[Tensor | None]:
        for module, name, buffer in self.buffers:
            setattr(module, name, buffer.clone())
        with torch.inference_mode(False), torch.enable_grad(), torch.random.fork_rng():
            torch.manual_seed(0)
            found = output(y)
            if not found.requires_grad:
                return [found]
            weights = torch.randn(found.shape, generator=torch.Generator().manual_seed(0)).to(found)
            slopes = torch.autograd.grad((found * weights).sum(), self.parameters, allow_unused=True)
        return [found.detach(), *slopes]


def _fill_zeros(parameters: list[nn.Parameter]) -> None:
    """Fills weights that are all zero with noise: behind them no gradient arrives."""
    generator = torch.Generator().manual_seed(2)
    for parameter in parameters:
        if not parameter.any():
            inputs = parameter[0].numel() if parameter.ndim > 1 else 1
            noise = torch.randn(parameter.shape, generator=generator) * 0.3 * inputs**-0.5
            parameter.data.copy_(noise)


def _difference(one: list[Tensor | None], other: list[Tensor | None], relative: bool = False) -> float:
    """The largest difference between values, divided by the largest value of each tensor if it is to be relative."""
    largest = 0.0
    for a, b in zip(one, other, strict=True):
        if a is None or b is None:
            largest = max(largest, 0.0 if a is b else math.inf)
        elif a.numel():
            a, b = a.double().nan_to_num(), b.double().nan_to_num()
            scale = max(float(a.abs().max()), 1e-12) if relative else 1.0
            largest = max(largest, float((a - b).abs().max()) / scale)
    return largest
