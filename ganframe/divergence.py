"""What a critic measures: trained between two fixed sides, it estimates the divergence that belongs to its objective.

"Training a discriminator measures a divergence": -L_D is what D maximises, and its greatest value is one. Two sides
are two datasets, or a dataset and a run's generator; a part of each is held out to judge the critic.
"""

from __future__ import annotations

import functools
import json
import math
from collections.abc import Callable
from pathlib import Path
from typing import Any

import attrs
import torch
from torch import Tensor, nn
from torch.utils.data import Dataset as TorchDataset
from torch.utils.data import Subset, TensorDataset

from ganframe import callbacks, pictures, runfolder
from ganframe.build import Session, prepare, seeds
from ganframe.components import Dataset, DataSpec, Distribution, Generator, Objective
from ganframe.engine import discriminator_step
from ganframe.errors import RecipeError, RequestError
from ganframe.exact import Line, best_score, exact_value, is_difference_of_means, on_the_line, transport
from ganframe.feed import Feed, Share, latents, open_feed
from ganframe.recipe import Comparison, FromRun, Recipe, to_toml
from ganframe.sampling import TrainedGenerator, load_generator

HELD_OUT = 0.2  # of a finite set
JUDGED = 20_000, 50_000  # of a distribution, for each point of the curve: samples at the least, numbers at the most
JUDGED_LAST = 20_000, 2_000_000
TRANSPORTED = 2_000
GROUPS = 100  # of held-out samples, whose losses scatter as the standard error says


@attrs.frozen
class Measured:
    """A finished measurement, in nats where the objective is a divergence of densities.

    `value` is -L_D on held-out samples and `error` its standard error. `exact` is the greatest value of -L_D by
    quadrature, where both densities on the line are known; `transport` is W1 by exact transport between samples,
    where the objective is the difference of means that W1 is the greatest value of. `critic_error` is the mean of
    |σ(D(x)) - σ(D*(x))| over both sides, where the best critic D* is known on the line.
    """

    folder: Path
    value: float
    error: float
    exact: float | None
    transport: float | None
    critic_error: float | None
    history: list[dict[str, float]]


def measure(comparison: Comparison, out: str | Path | None = None) -> Measured:
    """Trains the critic alone, for `train.steps` steps, and judges it on held-out samples.

    Leaves comparison.toml, divergence.json and convergence.png in `out`, or the next runs/<name>/<number>/, and
    critic.png where the best critic is known on the line. Raises RequestError before anything is written where the
    sides do not fit together or a part cannot be built.
    """
    sides = _sides(comparison)
    session = prepare(_as_recipe(comparison, *sides))
    if session.accelerator.num_processes > 1:
        raise RequestError("ganframe divergence runs in one process")
    folder = runfolder.create(comparison.name, out).path
    share, seed = Share(session.state.device), seeds(comparison.seed)[4]
    held_out = _judges(sides[0], session.spec, seed, share), _judges(sides[1], session.spec, seed + 1, share)
    history: list[dict[str, float]] = []
    with callbacks.progress(comparison.train.steps, 0, [], shown=True) as bar:
        while session.state.step < comparison.train.steps:
            discriminator_step(session.state)
            for schedule in session.schedules:
                schedule.step()
            session.state.step += 1
            if session.state.step % comparison.log.every == 0:
                value, error = _judge(session, held_out, _count(session.spec, *JUDGED))
                history.append({"step": session.state.step, "value": value, "error": error})
            bar(session.state)
    value, error = _judge(session, held_out, _count(session.spec, *JUDGED_LAST))
    line = on_the_line(sides[0].data, sides[1].data, session.spec)
    measured = Measured(
        folder=folder,
        value=value,
        error=error,
        exact=None if line is None else exact_value(comparison.objective, line),
        transport=_transport(comparison.objective, held_out),
        critic_error=None if line is None else _compare_with_best(session, line, folder),
        history=history,
    )
    runfolder.write_text(folder / "comparison.toml", to_toml(comparison, session.registry))
    report = {key: item for key, item in attrs.asdict(measured).items() if key != "folder"}
    runfolder.write_text(folder / "divergence.json", json.dumps(report, indent=2) + "\n")
    exact = measured.transport if measured.exact is None else measured.exact
    pictures.draw_convergence(folder / "convergence.png", history, exact)
    return measured


# ------------------------------------------------------------------------------------------------------------ two sides


@attrs.frozen
class Side:
    """One side of a comparison: a dataset without its labels, whole or the part that is trained on or held out."""

    source: Dataset | TrainedGenerator
    seed: int

    @property
    def spec(self) -> DataSpec:
        spec = self.source.spec
        return DataSpec(spec.shape, is_image=spec.is_image)

    @functools.cached_property
    def data(self) -> Any:
        """Built once: what is held out and what is trained on are parts of one set."""
        return _Made(self.source) if isinstance(self.source, TrainedGenerator) else self.source.build()

    def part(self, held_out: bool) -> Any:
        """All of a distribution, which never runs out; a random part of a finite set."""
        data = self.data
        if isinstance(data, Distribution):
            return data
        order = torch.randperm(len(data), generator=torch.Generator().manual_seed(self.seed))
        count = max(1, round(HELD_OUT * len(data)))
        rows = order[:count] if held_out else order[count:]
        return _rows(data, rows)


def _rows(data: TorchDataset[Any], rows: Tensor) -> TorchDataset[Any]:
    if isinstance(data, TensorDataset):
        return TensorDataset(*(tensor[rows] for tensor in data.tensors))
    return Subset(data, rows.tolist())


class _Made(Distribution):
    """What a trained generator makes, as a distribution."""

    def __init__(self, generator: TrainedGenerator) -> None:
        self.generator = generator

    @torch.no_grad()
    def draw(self, n: int, generator: torch.Generator) -> tuple[Tensor, Tensor]:
        z = latents(n, self.generator.latent.dim, self.generator.latent.distribution, generator)
        y = torch.randint(self.generator.spec.classes or 1, (n,), generator=generator, device=generator.device)
        network = self.generator.to(generator.device)
        return torch.cat([network(*part) for part in zip(z.split(256), y.split(256), strict=True)]), y


def _sides(comparison: Comparison) -> tuple[Side, Side]:
    seed = seeds(comparison.seed)[1]
    against = comparison.against
    other = load_generator(against.run) if isinstance(against, FromRun) else against
    try:
        sides = Side(comparison.dataset, seed), Side(other, seed + 1)
        shapes = [side.spec.shape for side in sides]
    except (ValueError, OSError) as error:
        raise RecipeError([f"{comparison.name}: {error}"]) from None
    if shapes[0] != shapes[1]:
        problem = f"against: its samples have shape {shapes[1]}, and the dataset's {shapes[0]}"
        raise RecipeError([f"{comparison.name}: {problem}"])
    return sides


@attrs.frozen
class _Training(Dataset):
    """The part of a side that is trained on, in the place of a recipe's dataset."""

    side: Side

    @property
    def spec(self) -> DataSpec:
        return self.side.spec

    def build(self) -> TorchDataset[Any]:
        return self.side.part(held_out=False)


@attrs.frozen
class _Drawing(Generator):
    """A side in the place of a recipe's generator: it has no weights, and needs no latents."""

    side: Side
    batch_size: int

    def build(self, data: DataSpec, latent_dim: int) -> nn.Module:
        part = self.side.part(held_out=False)
        return _Drawn(lambda share: open_feed(part, data, self.batch_size, self.side.seed, share))


class _Drawn(nn.Module):
    """forward(z, y) -> as many samples of its feed as there are labels, on z's device."""

    def __init__(self, opened: Callable[[Share], Feed]) -> None:
        super().__init__()
        self.opened = opened
        self.feed: Feed | None = None

    def forward(self, z: Tensor, y: Tensor) -> Tensor:
        if self.feed is None:
            self.feed = self.opened(Share(z.device))
        return self.feed()[0][: len(y)]


def _as_recipe(comparison: Comparison, p: Side, q: Side) -> Recipe:
    """A recipe whose critic is the comparison's, its dataset one side and its generator the other."""
    shared = {a.name: getattr(comparison, a.name) for a in attrs.fields(Comparison) if a.name != "against"}
    return Recipe(**{**shared, "dataset": _Training(p), "generator": _Drawing(q, comparison.train.batch_size)})


# ------------------------------------------------------------------------------------------------------------- judging


def _count(spec: DataSpec, samples: int, numbers: int) -> int:
    return max(samples, numbers // math.prod(spec.shape))


Judges = Callable[[int], Tensor]
"""At most so many held-out samples of a side, x (n, *shape); of a distribution always the same first ones."""


def _judges(side: Side, spec: DataSpec, seed: int, share: Share) -> Judges:
    data = side.part(held_out=True)
    size = 1_000 if isinstance(data, Distribution) else min(1_000, len(data))

    def draw(count: int) -> Tensor:
        feed = open_feed(data, spec, size, seed, share)
        batches = -(-count // size) if isinstance(data, Distribution) else min(-(-count // size), len(data) // size)
        return torch.cat([feed()[0] for _ in range(batches)])

    return draw


@torch.no_grad()
def _judge(session: Session, held_out: tuple[Judges, Judges], count: int) -> tuple[float, float]:
    """-L_D on held-out samples, and its standard error from the scatter of groups of them."""
    D, objective = session.state.D.network.eval(), session.state.objective

    def scores(x: Tensor) -> Tensor:
        labels = torch.zeros(len(x), dtype=torch.long, device=x.device)
        return torch.cat([D(*part).double() for part in zip(x.split(1_000), labels.split(1_000), strict=True)])

    a, b = (scores(judges(count)) for judges in held_out)
    D.train()
    n = min(len(a), len(b))
    a, b = a[:n], b[:n]
    groups = min(GROUPS, n)
    losses = torch.stack(
        [objective.discriminator_loss(*part) for part in zip(a.chunk(groups), b.chunk(groups), strict=True)]
    )
    error = losses.std().item() / math.sqrt(len(losses)) if len(losses) > 1 else math.nan
    return -objective.discriminator_loss(a, b).item(), error


def _transport(objective: Objective, held_out: tuple[Judges, Judges]) -> float | None:
    """W1 between held-out samples, for an objective that is after it."""
    if not is_difference_of_means(objective):
        return None
    x, y = (judges(TRANSPORTED)[:TRANSPORTED] for judges in held_out)
    n = min(len(x), len(y))
    return transport(x[:n], y[:n])


@torch.no_grad()
def _compare_with_best(session: Session, line: Line, folder: Path) -> float | None:
    """Draws the critic beside the best one, and returns the mean distance of the two, as probabilities."""
    best = best_score(session.recipe.objective, line)
    if best is None:
        return None
    D = session.state.D.network.eval()
    parts = line.x.float().to(session.state.device)[:, None].split(10_000)
    scores = torch.cat([D(x, torch.zeros(len(x), dtype=torch.long, device=x.device)) for x in parts]).double().cpu()
    p, q = line.log_p.exp(), line.log_q.exp()
    pictures.draw_critic(folder / "critic.png", line.x, p, q, scores.sigmoid(), best.sigmoid())
    apart = (scores.sigmoid() - best.sigmoid()).abs()
    return torch.trapezoid((p + q) / 2 * apart, line.x).item()
