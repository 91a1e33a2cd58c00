"""Divergences measured by a discriminator: trained between two fixed sides, it estimates the one of its objective.

Training a discriminator measures a divergence: D maximises -L_D, whose maximum is one. The two sides are two datasets,
or a dataset and the generator of a run. A part of each is held out to judge D.
"""

from __future__ import annotations

import json
import math
import time
from collections.abc import Callable
from pathlib import Path

import torch
from torch import Tensor, nn

from ganframe.analysis.alone import train_alone
from ganframe.analysis.bounds import NoBound, certified_bound
from ganframe.analysis.exact import (
    Line,
    distances,
    exact_value,
    is_difference_of_means,
    on_the_line,
    optimal_cost,
    optimal_critic,
    optimal_scores,
    steepest_pair,
    transport_distance,
)
from ganframe.analysis.meaning import scale_of
from ganframe.analysis.measured import Measured, Transport, log_record, report
from ganframe.analysis.optimum import Agreement, Optimum, agreement, known_optimum
from ganframe.analysis.sides import Side, as_recipe, open_sides
from ganframe.components import DataSpec, Objective
from ganframe.data.real import real_samples
from ganframe.data.seeds import derive_seeds
from ganframe.declarations import group_size, mean_scores
from ganframe.engine.timing import ALWAYS
from ganframe.errors import RequestError, RunError, counted, note, warn
from ganframe.recipes.tables import Comparison
from ganframe.recipes.writing import to_toml
from ganframe.report import pictures
from ganframe.storage import run_folder
from ganframe.storage.files import write_atomically, write_text
from ganframe.storage.log import append_record, write_log
from ganframe.storage.run_folder import RunFolder
from ganframe.storage.weights import save_weights
from ganframe.training.accelerator import process_state_kept
from ganframe.training.describe import device_name, parameters
from ganframe.training.networks import evaluation
from ganframe.training.prepare import prepare
from ganframe.training.trainer import Trainer

RESULT = "divergence.json"
JUDGED = 20_000, 50_000  # samples of a distribution for a point of the curve: at least so many, or so many numbers
JUDGED_LAST = 20_000, 2_000_000
TRANSPORTED = 2_000
GRADIENTS = 4_096, 20_000  # samples at which gradients are compared: at least, at most
GROUPS = 100  # of held-out samples, for the standard error
OF_VECTORS = 1_000  # samples in a group at most, where the objective compares all pairs of vectors


@process_state_kept()
def measure(comparison: Comparison, out: str | Path | None = None) -> Measured:
    """Trains D alone, for `train.steps` steps, and judges it on held-out samples.

    Writes log.jsonl as it goes, then comparison.toml, discriminator.safetensors, convergence.png and divergence.json to
    `out`, or the next divergences/<name>/<number>/, and critic.png where both densities are known on the line. Raises
    RequestError before anything is written where the sides do not fit together or a part cannot be built, and RunError,
    with nothing left in the folder, where D diverges.
    """
    sides, trainer = prepare_sides(comparison)
    folder = run_folder.create_measurement(comparison.name, out)
    with run_folder.removed_without(RESULT, folder):
        return _measured(comparison, sides, trainer, folder)


@process_state_kept()
def measure_in(folder: Path, comparison: Comparison) -> Measured:
    """As `measure`, in a folder that is there: what an interrupted measurement has left in it is written anew."""
    return _measured(comparison, *prepare_sides(comparison), folder)


def prepare_sides(comparison: Comparison) -> tuple[tuple[Side, Side], Trainer]:
    """Both sides, and D with all that trains it. Raises RequestError where something is wrong with them."""
    if comparison.train.compile is True:
        warn(f"{comparison.title}: train.compile is ignored: only runs are compiled")
    sides = open_sides(comparison)
    trainer = prepare(as_recipe(comparison, *sides))
    if trainer.accelerator.num_processes > 1:
        raise RequestError("ganframe divergence runs in one process")
    return sides, trainer


def _measured(comparison: Comparison, sides: tuple[Side, Side], trainer: Trainer, folder: Path) -> Measured:
    device, seed = trainer.state.device, derive_seeds(comparison.seed).judging
    held_out = _samples(sides[0], trainer.spec, seed, device), _samples(sides[1], trainer.spec, seed + 1, device)
    history: list[dict[str, float]] = []
    size = counted(parameters(trainer.state.D.network), "parameter")
    note(f"{folder}: on {device_name(device)}; D {size}; it is trained alone, and judged on held-out samples")
    write_log(RunFolder(folder), [])  # without the lines of an interrupted measurement
    begun = time.perf_counter()
    for step in train_alone(trainer):
        if step % comparison.log.every == 0:
            value, error = _judge(trainer, held_out, _count(trainer.spec, *JUDGED))
            history.append({"step": step, "value": value, "error": error})
            append_record(RunFolder(folder), log_record(history[-1], time.perf_counter() - begun))
    seconds = time.perf_counter() - begun
    note("judging D on held-out samples")
    value, error = _judge(trainer, held_out, _count(trainer.spec, *JUDGED_LAST))
    line = on_the_line(sides[0].data, sides[1].data, trainer.spec)
    objective = _objective(trainer)
    optimum = _optimum(trainer, sides, line)
    exact = None if line is None else exact_value(objective, line)
    lipschitz, no_bound = _lipschitz(trainer)
    others = _samples(sides[0], trainer.spec, seed + 2, device, held_out=False)
    transported = _transport(trainer, held_out, others)
    measured = Measured(
        folder=folder,
        value=value,
        error=error,
        scale=scale_of(objective),
        exact=exact if optimum is None else optimum.w1,
        exact_error=None if optimum is None or optimum.samples is None else optimum.error,
        agreement=_agreement(trainer, optimum, held_out[0]),
        lipschitz=lipschitz,
        no_bound=no_bound,
        transported=transported,
        critic_error=None if line is None else _distance_from_optimum(trainer, line, folder),
        history=history,
        seconds=seconds,
    )
    write_text(folder / "comparison.toml", to_toml(comparison))
    D = trainer.state.D.network
    write_atomically(folder / "discriminator.safetensors", lambda partial: save_weights(D, partial))
    if optimum is not None:
        source = "W1, of an optimal critic" if optimum.samples is not None else "W1, by quadrature"
    elif measured.exact is not None:
        source = "the largest value, by quadrature"
    else:
        source = "" if transported is None else f"W1 of {transported.samples:,} held-out samples, by optimal transport"
    known = measured.transport if measured.exact is None else measured.exact
    pictures.draw_convergence(folder / "convergence.png", history, known, source)
    write_text(folder / RESULT, json.dumps(report(measured), indent=2) + "\n")  # last: where it is, all is there
    return measured


# ------------------------------------------------------------------------------------------------------------- judging


def _count(spec: DataSpec, samples: int, numbers: int) -> int:
    return max(samples, numbers // math.prod(spec.shape))


HeldOut = Callable[[int], Tensor]
"""At most so many samples of a side, x (n, *shape), always the same first ones."""


def _samples(side: Side, spec: DataSpec, seed: int, device: torch.device, held_out: bool = True) -> HeldOut:
    data = side.part(held_out)

    def samples(count: int) -> Tensor:
        try:
            return real_samples(data, spec, count, seed, device)[0]
        except ValueError as error:  # of data that is read item by item only a part was checked before
            raise RunError(f"{'held-out ' if held_out else ''}samples: {error}") from None

    return samples


@torch.no_grad()
def _scores(D: nn.Module, x: Tensor, part: int = 1_000) -> Tensor:
    """D's scores (n,) or (n, …) in float64, without labels, as the objective receives them in training.

    Where D mixes groups of samples, those that fill no group are left out.
    """
    size = group_size(D)
    x, part = x[: len(x) // size * size], max(1, part // size) * size
    labels = torch.zeros(len(x), dtype=torch.long, device=x.device)
    return torch.cat([D(*pair).cpu().double() for pair in zip(x.split(part), labels.split(part), strict=True)])


def _objective(trainer: Trainer) -> Objective:
    """The objective with its options as they are at this step."""
    return trainer.recipe.timing.get("objective", ALWAYS).moved(trainer.state.game.objective, trainer.state.number)


@torch.no_grad()
def _judge(trainer: Trainer, held_out: tuple[HeldOut, HeldOut], count: int) -> tuple[float, float]:
    """-L_D on held-out samples, and its standard error from the scatter between groups of them.

    Raises RunError where it is not a number.
    """
    D, objective = trainer.state.D.network, _objective(trainer)
    with evaluation(D):
        a, b = (_scores(D, samples(count)) for samples in held_out)
    n = min(len(a), len(b))
    a, b = a[:n], b[:n]
    groups = min(GROUPS, n)
    if objective.scores_are_vectors:
        groups = max(groups, -(-n // OF_VECTORS))
    losses = torch.stack(
        [objective.discriminator_loss(*part) for part in zip(a.chunk(groups), b.chunk(groups), strict=True)]
    )
    error = losses.std().item() / math.sqrt(len(losses)) if len(losses) > 1 else math.nan
    value = -(losses.mean() if objective.scores_are_vectors else objective.discriminator_loss(a, b)).item()
    if math.isnan(value):
        raise RunError(
            f"{trainer.recipe.title}: -L_D is not a number after {trainer.state.step} steps: the discriminator has "
            "diverged; lower optimizer.discriminator.lr, or add a constraint"
        )
    return value, error


def _optimum(trainer: Trainer, sides: tuple[Side, Side], line: Line | None) -> Optimum | None:
    """W1 and an optimal critic, for an objective that estimates W1 between sides where one is known."""
    if not is_difference_of_means(_objective(trainer)):
        return None
    return known_optimum(sides[0].data, sides[1].data, line, trainer.state.device)


def _agreement(trainer: Trainer, optimum: Optimum | None, samples: HeldOut) -> Agreement | None:
    """How D's gradients agree with those of an optimal critic; None where D mixes samples, which have no slope then."""
    D = trainer.state.D.network
    if optimum is None or group_size(D) > 1:
        return None
    least, most = GRADIENTS
    with evaluation(D):
        return agreement(D, optimum.critic, samples(min(most, _count(trainer.spec, least, 2**21))))


def _lipschitz(trainer: Trainer) -> tuple[float | None, str | None]:
    """A certified upper bound on D's Lipschitz constant, for an objective that estimates W1, or why there is none.

    Of many scores, whose mean is the critic, it holds too: a mean is no steeper than all of them together.
    """
    D, spec = trainer.state.D.network, trainer.spec
    if not is_difference_of_means(_objective(trainer)):
        return None, None
    if group_size(D) > 1:
        return None, f"the discriminator mixes groups of {group_size(D)} samples"
    try:
        with evaluation(D):
            return certified_bound(D, torch.zeros(1, *spec.shape), torch.zeros(1, dtype=torch.long)).value, None
    except NoBound as error:
        return None, str(error)


@torch.no_grad()
def _transport(trainer: Trainer, held_out: tuple[HeldOut, HeldOut], others: HeldOut) -> Transport | None:
    """W1 between held-out samples, for an objective that estimates it; `others` are further samples of the dataset."""
    if not is_difference_of_means(_objective(trainer)):
        return None
    x, y, other = (samples(TRANSPORTED) for samples in (*held_out, others))
    n = min(len(x), len(y), len(other))
    x, y, other = x[:n], y[:n], other[:n]
    costs = distances(x, y)
    slope, D = None, trainer.state.D.network
    if group_size(D) == 1:
        with evaluation(D):
            a, b = (mean_scores(_scores(D, side)).cpu() for side in (x, y))
        slope = steepest_pair(costs, a, b)
    return Transport(n, optimal_cost(costs), transport_distance(x, other), slope)


@torch.no_grad()
def _distance_from_optimum(trainer: Trainer, line: Line, folder: Path) -> float | None:
    """Draws D beside the optimal discriminator, and returns their mean distance as probabilities.

    Where that is not known it draws D alone and returns None. The scores of a Wasserstein critic are drawn as they are,
    with a mean of 0 over both sides: they are no probabilities, and its optimum is known up to a constant.
    """
    D, objective = trainer.state.D.network.eval(), _objective(trainer)
    if group_size(D) > 1:
        return None
    scores = mean_scores(_scores(D, line.x.float().to(trainer.state.device)[:, None], 10_000)).cpu()
    p, q = line.log_p.exp(), line.log_q.exp()
    best = optimal_scores(objective, line)
    if best is not None:
        pictures.draw_discriminator(folder / "critic.png", line.x, p, q, scores.sigmoid(), best.sigmoid())
        distance = (scores.sigmoid() - best.sigmoid()).abs()
        return torch.trapezoid((p + q) / 2 * distance, line.x).item()

    def centred(scores: Tensor) -> Tensor:
        return scores - torch.trapezoid((p + q) / 2 * scores, line.x)

    critic = centred(optimal_critic(line)) if is_difference_of_means(objective) else None
    pictures.draw_discriminator(folder / "critic.png", line.x, p, q, centred(scores), critic, "score, centred")
    return None
