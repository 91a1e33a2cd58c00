"""The time of training steps, by phase: what an engine's step spends on data, networks, penalties, terms, optimisers.

The engine is not changed for it. While `timed` is active, the functions `differentiate` and `descend` of the engine,
the sources of batches, and the objective, the constraints and the terms of the game tell a clock when they begin and
end. What a penalty or a term adds to the backward pass counts as theirs: autograd runs the nodes of a graph from the
newest to the oldest, so those made by a penalty run before those of the loss that it was added to.
"""

from __future__ import annotations

import functools
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import Any, TypeVar

import attrs
import torch
from torch import Tensor

from ganframe.components import Constraint, Objective, Term
from ganframe.engine import algorithm
from ganframe.engine.state import Batch, Callback, Game, Logs, Player, State

DATA, FAKES, D, PENALTY, TERMS, G, OPTIMISER, EMA, CALLBACKS, OTHER = PHASES = (
    "data",
    "fakes",
    "D",
    "penalty",
    "terms",
    "G",
    "optimiser",
    "ema",
    "callbacks",
    "other",
)
"""`fakes` are G's samples for D's steps, `D` and `G` the rest of the losses and gradients of their steps. `optimiser`
is the step of an optimiser, with clipping and projections; `ema` the moving average of weights; `other` the rest."""

C = TypeVar("C")
Way = Callable[[Callable[..., Any]], Callable[..., Any]]
"""What is made of a method."""


class Clock:
    """Adds up milliseconds by phase. At each moment there is one phase, `other` where no other was entered.

    Moments on a GPU are events in its stream, so that they are those of the work and not of its launch. Nothing waits
    for them until `totals`.
    """

    def __init__(self, device: torch.device) -> None:
        self.device = device
        self.phase = OTHER
        self.moments: list[tuple[Any, str]] = []  # with the phase that begins

    def enter(self, phase: str) -> None:
        self.phase = phase
        self.moments.append((moment(self.device), phase))

    @contextmanager
    def within(self, phase: str) -> Iterator[None]:
        before = self.phase
        self.enter(phase)
        try:
            yield
        finally:
            self.enter(before)

    def totals(self) -> dict[str, float]:
        """Milliseconds by phase, from the first moment to the last one, which are then forgotten."""
        found = dict.fromkeys(PHASES, 0.0)
        for (begin, phase), (end, _) in zip(self.moments, self.moments[1:], strict=False):
            found[phase] += milliseconds(begin, end)
        self.moments.clear()
        return found


def moment(device: torch.device) -> Any:
    """The present moment: seconds on a CPU; on another device an event in its stream."""
    if device.type == "cpu":
        return time.perf_counter()
    event = torch.Event(device, enable_timing=True)
    event.record()
    return event


def milliseconds(begin: Any, end: Any) -> float:
    """The time between two moments. Waits for the second one."""
    if isinstance(end, float):
        return (end - begin) * 1e3
    end.synchronize()
    return float(begin.elapsed_time(end))


@contextmanager
def timed(state: State, clock: Clock) -> Iterator[None]:
    """Has the engine's steps on this state timed by phase meanwhile. No other run may be in progress in the process."""
    game, batches, latents, moving_average = state.game, state.batches, state.latents, state.moving_average
    differentiate, descend = algorithm.differentiate, algorithm.descend

    def timed_differentiate(state: State, player: Player, loss_of: Any, game: Game, batch: Batch) -> Logs:
        with clock.within(D if player is state.D else G):
            return differentiate(state, player, loss_of, game, batch)

    def timed_descend(state: State, player: Player) -> None:
        with clock.within(OPTIMISER):
            descend(state, player)

    state.game = timed_game(game, clock)
    hooks = _time_fakes(game, clock)
    state.batches, state.latents = _Timed(batches, clock, DATA), _Timed(latents, clock, DATA)
    if moving_average is not None:
        state.moving_average = _Timed(moving_average, clock, EMA)
    algorithm.differentiate, algorithm.descend = timed_differentiate, timed_descend
    try:
        yield
    finally:
        algorithm.differentiate, algorithm.descend = differentiate, descend
        state.game, state.batches, state.latents, state.moving_average = game, batches, latents, moving_average
        for hook in hooks:
            hook.remove()


def timed_callbacks(callbacks: Sequence[Callback], clock: Clock) -> list[Callback]:
    """The callbacks, as a phase."""
    return [lambda state: clock.enter(CALLBACKS), *callbacks, lambda state: clock.enter(OTHER)]


def timed_game(game: Game, clock: Clock) -> Game:
    """The game with an objective, constraints and terms that tell the clock what they do."""

    def loss(phase: str) -> Way:
        return lambda method: _loss(method, clock, phase)

    def added(phase: str) -> Way:
        return lambda method: _added(method, clock, phase)

    losses = {"discriminator_loss": loss(D), "generator_loss": loss(G)}
    constrains = {"penalty": added(PENALTY), "project": added(OPTIMISER)}
    adds = dict.fromkeys(("discriminator_term", "generator_term"), added(TERMS))
    return attrs.evolve(
        game,
        objective=_overriding(game.objective, Objective, losses),
        constraints={name: _overriding(part, Constraint, constrains) for name, part in game.constraints.items()},
        terms={name: _overriding(part, Term, adds) for name, part in game.terms.items()},
    )


class _Timed:
    """Something to call, as a source of batches, whose calls are a phase. Its other attributes are its own."""

    def __init__(self, source: Callable[..., Any], clock: Clock, phase: str) -> None:
        self.source, self.clock, self.phase = source, clock, phase

    def __call__(self, *arguments: Any) -> Any:
        with self.clock.within(self.phase):
            return self.source(*arguments)

    def __getattr__(self, name: str) -> Any:
        return getattr(self.source, name)


def _time_fakes(game: Game, clock: Clock) -> list[Any]:
    """Hooks by which G's calls in D's steps are timed as fakes. Those of penalties and terms belong to these.

    Fakes that D's step shares with G's (`share_fakes`) are made before any other phase.
    """
    entered: list[str] = []

    def before(*_: Any) -> None:
        if clock.phase in (D, OTHER):
            entered.append(clock.phase)
            clock.enter(FAKES)

    def after(*_: Any) -> None:
        if clock.phase == FAKES:
            clock.enter(entered.pop())

    return [game.G.register_forward_pre_hook(before), game.G.register_forward_hook(after, always_call=True)]


def _overriding(component: C, base: type, ways: Mapping[str, Way]) -> C:
    """A component of a subclass, where those of these methods that it overrides are what each way makes of them.

    A subclass and not a wrapper, so that `attrs.evolve` keeps it where options move.
    """
    cls: Any = type(component)
    own = {name: getattr(cls, name) for name in ways if getattr(cls, name) is not getattr(base, name)}
    values = {field.alias: getattr(component, field.name) for field in attrs.fields(cls) if field.init}
    overriding: Callable[..., C] = type(cls.__name__, (cls,), {name: ways[name](own[name]) for name in own})
    return overriding(**values)


def _added(method: Callable[..., Any], clock: Clock, phase: str) -> Callable[..., Any]:
    """A penalty or a term: its call and its part of the backward pass are this phase."""

    @functools.wraps(method)
    def call(*arguments: Any) -> Any:
        with clock.within(phase):
            value = method(*arguments)
        _when_differentiated(value, clock, phase)
        return value

    return call


def _loss(method: Callable[..., Any], clock: Clock, phase: str) -> Callable[..., Any]:
    """A loss of the objective: once the backward pass comes to it, that of penalties and terms is over."""

    @functools.wraps(method)
    def call(*arguments: Any) -> Any:
        value = method(*arguments)
        if clock.phase == phase:  # else a term called it
            _when_differentiated(value, clock, phase)
        return value

    return call


def _when_differentiated(value: Any, clock: Clock, phase: str) -> None:
    """Enters a phase where the backward pass comes to a value."""
    if isinstance(value, Tensor) and value.grad_fn is not None:
        value.grad_fn.register_prehook(lambda gradients: clock.enter(phase))
