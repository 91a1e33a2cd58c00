"""What Algorithm 1 reads and changes: the networks and their losses, the optimisers, the sources of batches."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import AbstractContextManager, nullcontext
from typing import NamedTuple

import attrs
import torch
from torch import Tensor, nn
from torch.optim import Optimizer

from ganframe.components import Constraint, Objective
from ganframe.engine.scoring import Scoring

RealBatches = Callable[[], tuple[Tensor, Tensor]]
"""Draws a real batch: x (N, *shape) and y (N,), on the device."""

LatentBatches = Callable[[int], Tensor]
"""Draws this process's share of a batch of latents: n -> z (n, latent_dim), on the device."""

Average = Callable[[list[Tensor]], None]
"""Replaces tensors by their averages over all processes, in place."""

Logs = dict[str, Tensor]
"""What a step reports: losses and penalties, scalars, and scores (N,). Detached, on the device."""


class Batch(NamedTuple):
    """Real samples x (N, *shape), or None where a loss needs none; labels y (N,); latents z (N, latent_dim)."""

    x: Tensor | None
    y: Tensor
    z: Tensor


@attrs.define
class Game:
    """The two networks and the rules: all that a loss depends on besides the batch.

    `scoring` is decided here, from D and its constraints. Replace a constraint by `attrs.evolve`, which decides anew.
    """

    G: nn.Module
    D: nn.Module
    objective: Objective
    constraints: dict[str, Constraint] = attrs.field(factory=dict)
    autocast: Callable[[], AbstractContextManager[None]] = nullcontext
    scoring: Scoring = attrs.field(init=False)

    def __attrs_post_init__(self) -> None:
        self.scoring = Scoring.decide(self.D, self.constraints.values(), self.autocast)


@attrs.define
class Player:
    """A network and the optimiser that trains it."""

    network: nn.Module
    optimizer: Optimizer
    parameters: list[nn.Parameter] = attrs.field(init=False)

    def __attrs_post_init__(self) -> None:
        self.parameters = [p for p in self.network.parameters() if p.requires_grad]


@attrs.define
class State:
    """Training at one step. `G` and `D` hold the networks of `game` with their optimisers.

    `average` is None in a run of one process; `scaler` is None except in fp16. `labels` are those of the last real
    batch; `latest` is what the last steps of D and G reported.
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


Callback = Callable[[State], None]
"""A function called after each generator step."""
