"""A game in miniature, on which terms are checked: two networks, a term and its parts, and an engine's calls."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from typing import Any, Literal

import attrs
import torch
from torch import Tensor, nn

from ganframe.components import DataSpec, Discriminator, Generator, Parts, Turn
from ganframe.engine.scoring import Scoring
from ganframe.testing.common import calling, descend, require
from ganframe.testing.networks import conditions
from ganframe.testing.players import Logistic

LATENT_DIM, BATCH = 8, 8
BOTH = ("discriminator_term", "generator_term")


@attrs.frozen
class Makers:
    """What the networks of a game are built from."""

    generator: Generator
    discriminator: Discriminator


class _Extras(dict[str, Tensor]):
    """The extras that a term declared."""

    def __missing__(self, name: str) -> Tensor:
        raise KeyError(f"extras['{name}'] is not in needs_extras")


class Match:
    """Both networks, a term and its parts, and the calls that the engine makes in a step."""

    def __init__(self, name: str, term: Any, makers: Makers, spec: DataSpec, seed: int = 1) -> None:
        self.name, self.term, self.spec = name, term, spec
        torch.default_generator.manual_seed(seed)
        self.G = makers.generator.build(spec, LATENT_DIM).train()
        self.D = makers.discriminator.build(spec).train()
        self.device = torch.device("cpu")
        self.parts = Parts()

    def prepare(self) -> Match:
        parts = self.term.prepare(self.G, self.D, self.spec)
        require(
            parts is None or isinstance(parts, Parts),
            f"{self.name}: prepare must return ganframe.Parts or None, not {type(parts).__name__}",
        )
        self.parts = parts or Parts()
        for part, module in self.modules("generator", "discriminator", "frozen").items():
            right = isinstance(module, nn.Module)
            require(right, f"{self.name}: {part} must be a module or None, not {type(module).__name__}")
            module.requires_grad_(False).eval() if part == "parts.frozen" else module.train()
        self.scoring = Scoring.decide(self.D, (), contextlib.nullcontext, [self.term])
        return self

    def modules(self, *parts: str) -> dict[str, nn.Module]:
        """Those of the term's parts that exist, by their names for messages."""
        found = {f"parts.{part}": getattr(self.parts, part) for part in parts}
        return {name: module for name, module in found.items() if module is not None}

    def players(self) -> dict[str, dict[str, nn.Module]]:
        """The modules that each player trains, by the player's method."""
        return {
            "discriminator_term": {"D": self.D, **self.modules("discriminator")},
            "generator_term": {"G": self.G, **self.modules("generator")},
        }

    def everything(self) -> dict[str, nn.Module]:
        return {"G": self.G, "D": self.D, **self.modules("generator", "discriminator", "frozen")}

    def to(self, device: str) -> Match:
        for module in self.everything().values():
            module.to(device)
        self.device = torch.device(device)
        return self

    def batch(self, seed: int) -> tuple[Tensor, Tensor, Tensor]:
        """x, y and z of a batch."""
        torch.default_generator.manual_seed(seed)
        x, y = torch.rand(BATCH, *self.spec.shape) * 2 - 1, conditions(self.spec, BATCH)
        z = torch.randn(BATCH, LATENT_DIM)
        return x.to(self.device), y.to(self.device), z.to(self.device)

    def turn(self, method: str, step: int, needs_real: Literal["x", "scores"] | None) -> Turn:
        """What the method sees at a step. Batch and random state are those of the step."""
        x, y, z = self.batch(1000 + step)
        if method == "discriminator_term":
            with torch.no_grad():
                fakes = self.G(z, y)
            real, fake = self.scoring.both_sides(self.D, x, fakes, y, z)
        else:
            given = x if needs_real else None
            scoring = attrs.evolve(self.scoring, generator_real=needs_real)
            real, fake = scoring.generator_sides(self.D, given, self.G(z, y), y, z)  # type: ignore[assignment]
        for side in filter(None, (real, fake)):
            side.extras = _Extras({k: v for k, v in side.extras.items() if k in self.term.needs_extras})
        return Turn(self.G, self.D, real, fake, Logistic(), step, self.parts)

    def call(self, method: str, step: int) -> tuple[Tensor | None, Turn]:
        """The term's value at a step, with what it saw. The other player's weights are frozen, as in the engine."""
        with self.frozen(method):
            turn = self.turn(method, step, self.term.needs_real)
            trained, samples = self._trained(), _copies(turn)
            try:
                with calling(f"{self.name}: {method}(turn) for {self.spec}"):
                    value = getattr(self.term, method)(turn)
            except AssertionError as raised:
                raise AssertionError(self._reads_too_much(method, step) or str(raised)) from raised.__cause__
            gained = [key for key, train in self._trained().items() if train != trained[key]]
            require(not gained, f"{self.name}: {method} changes requires_grad of {', '.join(gained)}")
        same = self.device.type == "meta" or all(map(torch.equal, samples, _copies(turn)))
        require(same, f"{self.name}: {method} changes samples or scores in place; other terms read them")
        self._check_value(method, value)
        return value, turn

    def _trained(self) -> dict[str, bool]:
        """Whether each weight requires a gradient."""
        named = ((part, *pair) for part, module in self.everything().items() for pair in module.named_parameters())
        return {f"{part}.{key}": parameter.requires_grad for part, key, parameter in named}

    def _reads_too_much(self, method: str, step: int) -> str:
        """What is wrong where a call fails only for lack of a real batch, or an empty string."""
        stronger: dict[Any, tuple[Literal["x", "scores"], ...]] = {None: ("x", "scores"), "x": ("scores",)}
        more = stronger.get(self.term.needs_real, ())
        for needs in more if method == "generator_term" else ():
            with contextlib.suppress(Exception):
                getattr(self.term, method)(self.turn(method, step, needs))
                what = "turn.real, which is None" if self.term.needs_real is None else "turn.real's scores or extras"
                return f"{self.name}: generator_term reads {what}; declare needs_real = '{needs}'"
        return ""

    def _check_value(self, method: str, value: Any) -> None:
        if value is None:
            return
        what = f"{self.name}: {method}"
        require(isinstance(value, Tensor), f"{what} must return a tensor or None, not {type(value).__name__}")
        require(value.shape == (), f"{what} must be a scalar; its shape is {tuple(value.shape)}")
        require(value.dtype == torch.float32, f"{what} must be in float32, not {value.dtype}")
        require(value.device.type == self.device.type, f"{what} must be on the networks' device")
        finite = self.device.type == "meta" or bool(value.isfinite())
        require(finite, f"{what} is {value} for {self.spec}")

    @contextlib.contextmanager
    def frozen(self, method: str) -> Iterator[None]:
        """The weights of the other player, which `method` does not train, require no gradient meanwhile."""
        (other,) = (m for m in BOTH if m != method)
        held = [p for module in self.players()[other].values() for p in module.parameters() if p.requires_grad]
        for parameter in held:
            parameter.requires_grad_(False)
        try:
            yield
        finally:
            for parameter in held:
                parameter.requires_grad_(True)

    def step(self, step: int) -> list[float | None]:
        """One step of training: the values of both methods."""
        values: list[float | None] = []
        for method in BOTH:
            value, turn = self.call(method, step)
            with self.frozen(method):
                loss = value if value is not None and value.requires_grad else torch.zeros((), requires_grad=True)
                (loss + game_loss(turn, method)).backward()
            descend(*self.players()[method].values())
            values.append(None if value is None else value.item())
        return values


def _copies(turn: Turn) -> list[Tensor]:
    """What both sides hold."""
    sides = [side for side in (turn.real, turn.fake) if side is not None]
    held = [tensor for side in sides for tensor in (side.x, side.y, side.z, side.scores, *side.extras.values())]
    return [tensor.detach().clone() for tensor in held if tensor is not None]


def game_loss(turn: Turn, method: str) -> Tensor:
    """The loss of the objective, so that both networks move as they do in training."""
    if method == "discriminator_term":
        assert turn.real is not None
        return turn.objective.discriminator_loss(turn.real.scores, turn.fake.scores)
    return turn.objective.generator_loss(turn.fake.scores)
