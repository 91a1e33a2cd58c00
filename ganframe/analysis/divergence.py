"""Divergences measured by a discriminator: trained between two fixed sides, it estimates the one of its objective.

Training a discriminator measures a divergence: D maximises -L_D, whose maximum is one. The two sides are two datasets,
or a dataset and the generator of a run. A part of each is held out to judge D.
"""

from __future__ import annotations

import json
import math
from collections.abc import Callable
from pathlib import Path
from typing import Any

import attrs
import torch
from torch import Tensor, nn
from torch.utils.data import Dataset as TorchDataset

from ganframe.analysis.exact import (
    Line,
    exact_value,
    is_difference_of_means,
    on_the_line,
    optimal_scores,
    transport_distance,
)
from ganframe.analysis.sides import Side, open_sides
from ganframe.components import Dataset, DataSpec, Generator, Objective
from ganframe.data.feed import Feed, Share, open_feed
from ganframe.data.real import real_samples
from ganframe.data.seeds import derive_seeds
from ganframe.declarations import group_size, mean_scores
from ganframe.engine.algorithm import discriminator_step
from ganframe.engine.timing import ALWAYS
from ganframe.errors import RequestError
from ganframe.recipes.tables import Comparison, Recipe
from ganframe.recipes.writing import to_toml
from ganframe.report import pictures
from ganframe.storage import run_folder
from ganframe.storage.files import write_text
from ganframe.training.accelerator import process_state_kept
from ganframe.training.callbacks import move_options
from ganframe.training.networks import evaluation
from ganframe.training.prepare import Trainer, prepare
from ganframe.training.progress import progress

JUDGED = 20_000, 50_000  # samples of a distribution for a point of the curve: at least so many, or so many numbers
JUDGED_LAST = 20_000, 2_000_000
TRANSPORTED = 2_000
GROUPS = 100  # of held-out samples, for the standard error


@attrs.frozen
class Measured:
    """A finished measurement, in nats where the objective is a divergence of densities.

    `value` is -L_D on held-out samples and `error` its standard error. `exact` is the maximum of -L_D by quadrature,
    where both densities on the line are known. `transport` is W1 between samples by optimal transport, where the
    objective is a difference of means, whose maximum is W1. `critic_error` is the mean of |σ(D(x)) - σ(D*(x))| over
    both sides, where the optimal discriminator D* is known on the line.
    """

    folder: Path
    value: float
    error: float
    exact: float | None
    transport: float | None
    critic_error: float | None
    history: list[dict[str, float]]


@process_state_kept()
def measure(comparison: Comparison, out: str | Path | None = None) -> Measured:
    """Trains D alone, for `train.steps` steps, and judges it on held-out samples.

    Writes comparison.toml, divergence.json and convergence.png to `out`, or the next runs/<name>/<number>/, and
    critic.png where the optimal discriminator is known on the line. Raises RequestError before anything is written
    where the sides do not fit together or a part cannot be built.
    """
    sides = open_sides(comparison)
    trainer = prepare(_as_recipe(comparison, *sides))
    if trainer.accelerator.num_processes > 1:
        raise RequestError("ganframe divergence runs in one process")
    folder = run_folder.create(comparison.name, out).path
    device, seed = trainer.state.device, derive_seeds(comparison.seed).judging
    held_out = _held_out(sides[0], trainer.spec, seed, device), _held_out(sides[1], trainer.spec, seed + 1, device)
    history: list[dict[str, float]] = []
    move = move_options(trainer.optimizers)
    with progress(comparison.train.steps, 0, [], shown=True) as bar:
        while trainer.state.step < comparison.train.steps:
            for buffer in trainer.state.step_buffers:
                buffer.fill_(trainer.state.step)
            discriminator_step(trainer.state)
            if "discriminator" in trainer.schedules:
                trainer.schedules["discriminator"].step()
            trainer.state.step += 1
            move(trainer.state)
            if trainer.state.step % comparison.log.every == 0:
                value, error = _judge(trainer, held_out, _count(trainer.spec, *JUDGED))
                history.append({"step": trainer.state.step, "value": value, "error": error})
            bar(trainer.state)
    value, error = _judge(trainer, held_out, _count(trainer.spec, *JUDGED_LAST))
    line = on_the_line(sides[0].data, sides[1].data, trainer.spec)
    measured = Measured(
        folder=folder,
        value=value,
        error=error,
        exact=None if line is None else exact_value(comparison.objective, line),
        transport=_transport(comparison.objective, held_out),
        critic_error=None if line is None else _distance_from_optimum(trainer, line, folder),
        history=history,
    )
    write_text(folder / "comparison.toml", to_toml(comparison))
    result = {key: item for key, item in attrs.asdict(measured).items() if key != "folder"}
    write_text(folder / "divergence.json", json.dumps(result, indent=2) + "\n")
    exact = measured.transport if measured.exact is None else measured.exact
    pictures.draw_convergence(folder / "convergence.png", history, exact)
    return measured


# ------------------------------------------------------------------------------------------------------------ two sides


@attrs.frozen
class _TrainingPart(Dataset):
    """The training part of a side, as the dataset of a recipe."""

    side: Side

    @property
    def spec(self) -> DataSpec:
        return self.side.spec

    def build(self) -> TorchDataset[Any]:
        return self.side.part(held_out=False)


@attrs.frozen
class _SideAsGenerator(Generator):
    """A side as the generator of a recipe: its samples take the place of fakes."""

    side: Side
    batch_size: int

    def build(self, data: DataSpec, latent_dim: int) -> nn.Module:
        part = self.side.part(held_out=False)
        return _Fakes(lambda share: open_feed(part, data, self.batch_size, self.side.seed, share))


class _Fakes(nn.Module):
    """forward(z, y) -> as many samples of a feed as there are labels, on z's device."""

    def __init__(self, opened: Callable[[Share], Feed]) -> None:
        super().__init__()
        self.opened = opened
        self.feed: Feed | None = None
        self.empty = nn.Parameter(torch.zeros(0))  # optimizers need at least one parameter

    def forward(self, z: Tensor, y: Tensor) -> Tensor:
        if self.feed is None:
            self.feed = self.opened(Share(z.device))
        return self.feed()[0][: len(y)]


def _as_recipe(comparison: Comparison, p: Side, q: Side) -> Recipe:
    """A recipe with the comparison's discriminator; one side is its dataset, the other takes its generator's place."""
    shared = {a.name: getattr(comparison, a.name) for a in attrs.fields(Comparison) if a.name != "against"}
    generator = _SideAsGenerator(q, comparison.train.batch_size)
    return Recipe(**{**shared, "dataset": _TrainingPart(p), "generator": generator})


# ------------------------------------------------------------------------------------------------------------- judging


def _count(spec: DataSpec, samples: int, numbers: int) -> int:
    return max(samples, numbers // math.prod(spec.shape))


HeldOut = Callable[[int], Tensor]
"""At most so many held-out samples of a side, x (n, *shape), always the same first ones."""


def _held_out(side: Side, spec: DataSpec, seed: int, device: torch.device) -> HeldOut:
    data = side.part(held_out=True)
    return lambda count: real_samples(data, spec, count, seed, device)[0]


@torch.no_grad()
def _scores(D: nn.Module, x: Tensor, part: int = 1_000) -> Tensor:
    """D's scores (n,) in float64, without labels; the mean of each sample where D gives several.

    Where D mixes groups of samples, those that fill no group are left out.
    """
    size = group_size(D)
    x, part = x[: len(x) // size * size], max(1, part // size) * size
    labels = torch.zeros(len(x), dtype=torch.long, device=x.device)
    return torch.cat(
        [mean_scores(D(*pair)).cpu().double() for pair in zip(x.split(part), labels.split(part), strict=True)]
    )


@torch.no_grad()
def _judge(trainer: Trainer, held_out: tuple[HeldOut, HeldOut], count: int) -> tuple[float, float]:
    """-L_D on held-out samples, and its standard error from the scatter between groups of them."""
    D, timing = trainer.state.D.network, trainer.recipe.timing.get("objective", ALWAYS)
    objective = timing.moved(trainer.state.game.objective, trainer.state.step)
    with evaluation(D):
        a, b = (_scores(D, samples(count)) for samples in held_out)
    n = min(len(a), len(b))
    a, b = a[:n], b[:n]
    groups = min(GROUPS, n)
    losses = torch.stack(
        [objective.discriminator_loss(*part) for part in zip(a.chunk(groups), b.chunk(groups), strict=True)]
    )
    error = losses.std().item() / math.sqrt(len(losses)) if len(losses) > 1 else math.nan
    return -objective.discriminator_loss(a, b).item(), error


def _transport(objective: Objective, held_out: tuple[HeldOut, HeldOut]) -> float | None:
    """W1 between held-out samples, for an objective that estimates it."""
    if not is_difference_of_means(objective):
        return None
    x, y = (samples(TRANSPORTED) for samples in held_out)
    n = min(len(x), len(y))
    return transport_distance(x[:n], y[:n])


@torch.no_grad()
def _distance_from_optimum(trainer: Trainer, line: Line, folder: Path) -> float | None:
    """Draws D beside the optimal discriminator, and returns their mean distance as probabilities."""
    best = optimal_scores(trainer.recipe.objective, line)
    if best is None:
        return None
    D = trainer.state.D.network.eval()
    scores = _scores(D, line.x.float().to(trainer.state.device)[:, None], 10_000).cpu()
    p, q = line.log_p.exp(), line.log_q.exp()
    pictures.draw_discriminator(folder / "critic.png", line.x, p, q, scores.sigmoid(), best.sigmoid())
    distance = (scores.sigmoid() - best.sigmoid()).abs()
    return torch.trapezoid((p + q) / 2 * distance, line.x).item()
