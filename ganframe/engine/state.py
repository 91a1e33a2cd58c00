"""What Algorithm 1 reads and changes: the networks and their losses, the optimisers, the sources of batches."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from contextlib import AbstractContextManager, nullcontext
from typing import Any, NamedTuple

import attrs
import torch
from torch import Tensor, nn
from torch.optim import Optimizer

from ganframe.components import Constraint, Objective, Parts, Term
from ganframe.engine.scoring import Scoring
from ganframe.engine.timing import ALWAYS, Numbers, Timing, numbers_at

RealBatches = Callable[[], tuple[Tensor, Tensor]]
"""Draws a real batch: x (N, *shape) and y (N,) or (N, *condition), on the device."""

LatentBatches = Callable[[int], Tensor]
"""Draws this process's share of a batch of latents: n -> z (n, latent_dim), on the device."""

Average = Callable[[list[Tensor]], None]
"""Replaces tensors by their averages over all processes, in place."""

Callback = Callable[["State"], None]
"""A function called after each generator step."""

Logs = dict[str, Tensor]
"""What a step reports: losses, penalties and terms, scalars, and scores (N,). Detached, on the device."""


class Batch(NamedTuple):
    """Real samples x (N, *shape), or None where a loss needs none; y (N,) or (N, *condition); latents z (N, dim).

    `fakes` are G's samples of z and y where they are made already.
    """

    x: Tensor | None
    y: Tensor
    z: Tensor
    fakes: Tensor | None = None

    def parts(self, n: int) -> Iterator[Batch]:
        """The batch in n equal parts."""
        if n == 1:
            yield self
            return
        size = len(self.y) // n
        for rows in (slice(i * size, (i + 1) * size) for i in range(n)):
            yield Batch(None if self.x is None else self.x[rows], self.y[rows], self.z[rows])


@attrs.define
class Game:
    """The two networks and the rules: all that a loss depends on besides the batch.

    `constraints` and `terms` have the names of the log; `parts` are those of each term. `factors` multiply penalties
    and terms, by their names in the log. `started` is false while G is trained by its terms alone.

    `scoring` is decided here, from D, constraints and terms. Replace one by `attrs.evolve`, which decides anew.
    """

    G: nn.Module
    D: nn.Module
    objective: Objective
    constraints: dict[str, Constraint] = attrs.field(factory=dict)
    autocast: Callable[[], AbstractContextManager[None]] = nullcontext
    terms: dict[str, Term] = attrs.field(factory=dict)
    parts: dict[str, Parts] = attrs.field(factory=dict)
    factors: Mapping[str, int] = attrs.field(factory=dict)
    started: bool = True
    step: Any = 0
    scoring: Scoring = attrs.field(init=False)

    def __attrs_post_init__(self) -> None:
        compares_real = self.started and self.objective.compares_real
        terms = self.terms.values()
        self.scoring = Scoring.decide(
            self.D, self.constraints.values(), self.autocast, terms, compares_real, self.started
        )


class Timetable:
    """The game at each step, where parts of it are not always due or have options that move.

    `timings` are by their names in the log, and "objective". Without any, the game is always the same.
    """

    def __init__(self, timings: Mapping[str, Timing] | None = None) -> None:
        self.timings = dict(timings or {})
        self.full: Game | None = None
        self.games: dict[tuple[str, ...], Game] = {}

    def game(self, full: Game, step: int, update: int, number: Numbers | None = None) -> Game:
        """The game at a generator step, for the `update`-th update of a player. `number` is that of `State`."""
        number = number or numbers_at(step)
        now = number(itself)
        if not self.timings:
            full.step = now
            return full
        if full is not self.full:  # a callback may have replaced it
            self.full, self.games = full, {}
        due = self.due(step, update)
        if due not in self.games:  # decided once for each combination
            self.games[due] = self._reduced(full, due)
        game = self.games[due]
        game.step = now
        game.objective = self._timing("objective").moved(full.objective, number)
        for name in game.constraints:
            game.constraints[name] = self._timing(f"penalty_{name}").moved(full.constraints[name], number)
        for name in game.terms:
            game.terms[name] = self._timing(f"term_{name}").moved(full.terms[name], number)
        return game

    def due(self, step: int, update: int) -> tuple[str, ...]:
        """The names of the timings that are due at a generator step, for the `update`-th update of a player."""
        return tuple(name for name, timing in self.timings.items() if timing.is_due(step, update))

    def constraints(self, full: Game, number: Numbers) -> Iterator[Constraint]:
        """All constraints as they are at a step: a projection is never left out."""
        for name, constraint in full.constraints.items():
            yield self._timing(f"penalty_{name}").moved(constraint, number) if self.timings else constraint

    def starts(self, step: int) -> bool:
        """Whether the objective acts at this step, and so D is trained."""
        return step >= self._timing("objective").start

    def _timing(self, name: str) -> Timing:
        return self.timings.get(name, ALWAYS)

    def _reduced(self, full: Game, due: tuple[str, ...]) -> Game:
        def acts(name: str) -> bool:
            return name not in self.timings or name in due

        return attrs.evolve(
            full,
            constraints={name: part for name, part in full.constraints.items() if acts(f"penalty_{name}")},
            terms={name: part for name, part in full.terms.items() if acts(f"term_{name}")},
            factors={name: timing.every for name, timing in self.timings.items() if timing.every > 1},
            started=acts("objective"),
        )


@attrs.define
class Player:
    """A network, the parts of terms that are trained with it, and their optimiser.

    `updates` counts the optimiser's steps. Gradients are clipped to the norm `max_norm`, if it is given.
    """

    network: nn.Module
    optimizer: Optimizer
    parts: list[nn.Module] = attrs.field(factory=list)
    max_norm: float | None = None
    updates: int = 0
    parameters: list[nn.Parameter] = attrs.field(init=False)

    def __attrs_post_init__(self) -> None:
        self.parameters = [p for module in self.modules for p in module.parameters() if p.requires_grad]

    @property
    def modules(self) -> list[nn.Module]:
        return [self.network, *self.parts]


@attrs.define
class State:
    """Training at one step. `G` and `D` hold the networks of `game` with their optimisers.

    `average` is None in a run of one process; `scaler` is None except in fp16. `labels` are the y of the last real
    batch; `latest` is what the last steps of D and G reported. Gradients are computed in `accumulate` parts of a batch.
    `step_buffers` are the buffers `training_step` of networks that look at the step. `moving_average` averages G's
    weights at the end of an iteration. With `share_fakes` G's step has the batch and the fakes of the `last` step of D,
    which are in `shared` meanwhile.

    `stand_in` is None, except while an iteration is recorded: see `number`.
    """

    game: Game
    G: Player
    D: Player
    batches: RealBatches
    latents: LatentBatches
    generator_batch_size: int
    device: torch.device
    scaler: torch.amp.GradScaler | None = None
    average: Average | None = None
    step: int = 0
    labels: Tensor | None = None
    latest: Logs = attrs.field(factory=dict)
    timetable: Timetable = attrs.field(factory=Timetable)
    accumulate: int = 1
    step_buffers: list[Tensor] = attrs.field(factory=list)
    moving_average: Callback | None = None
    share_fakes: bool = False
    last: bool = False
    shared: Batch | None = None
    stand_in: Numbers | None = None

    def number(self, of_step: Callable[[int], Any]) -> Any:
        """A number of this step, `of_step(step)`, or the tensor that stands for it while an iteration is recorded.

        Every number that changes from step to step and is computed with, not decided by, is asked for here. In a
        compiled iteration it would otherwise be the constant of one step.
        """
        return of_step(self.step) if self.stand_in is None else self.stand_in(of_step)


def itself(step: int) -> int:
    """The step as a number of the step, for `State.number`."""
    return step
