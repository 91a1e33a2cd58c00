"""Lipschitz diagnostics of trained discriminators: gradient norms, the steepest slope found, a certified upper bound.

The three differ. A gradient penalty acts on the slope between samples, clipping and spectral normalisation on the norm
of each layer, and the product of the layers' norms can be far above every slope.
"""

from __future__ import annotations

import json
import math
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import attrs
import torch
from torch import Tensor, nn
from torch.nn.utils import parametrize

from ganframe.analysis.bounds import Bound, NoBound, certified_bound
from ganframe.analysis.sides import open_sides
from ganframe.analysis.trained import TrainedGenerator, load_networks, newest_checkpoint
from ganframe.components import DataSpec
from ganframe.data.latents import sample_prior
from ganframe.data.real import judging_data, real_samples
from ganframe.data.seeds import derive_seeds
from ganframe.declarations import group_size, has_many_scores, mean_scores
from ganframe.errors import RequestError, counted, note
from ganframe.plugins.registry import Registry, load
from ganframe.recipes.problems import Problems
from ganframe.recipes.reading import load_comparison, load_recipe
from ganframe.report import pictures
from ganframe.storage import run_folder
from ganframe.storage.files import write_text
from ganframe.storage.weights import load_weights
from ganframe.training.accelerator import process_state_kept, single_device
from ganframe.training.changes import refuse_edits
from ganframe.training.networks import build_discriminator

QUANTILES = (0.0, 0.05, 0.25, 0.5, 0.75, 0.95, 1.0)
EDGE = 0.01  # of the largest weight: weights within this distance of it count as clipped
CHUNK = 250  # samples differentiated at a time


@attrs.frozen
class LipschitzReport:
    """What was found of one run's discriminator D, in score per unit of distance between samples.

    `gradient_norms` has ‖∇D‖ (n,) at "real" samples, at "fake" ones and "between" the two, as the gradient penalty
    draws them. `largest_slope` is the largest |D(x) - D(x')| / ‖x - x'‖ over all pairs of these points: a lower bound
    on the Lipschitz constant. `bound` is an upper bound from the norms of the layers, proved from above, or None where
    `no_bound` says why. `weights` are D's effective weights: under spectral normalisation the normalised ones.
    """

    run: Path
    step: int
    gradient_norms: dict[str, Tensor]
    largest_slope: float
    bound: Bound | None
    no_bound: str | None
    weights: Tensor

    @property
    def upper_bound(self) -> float | None:
        """The value of the bound."""
        return None if self.bound is None else self.bound.value

    @property
    def at_the_edge(self) -> float:
        """The share of weights with an absolute value within 1 % of the largest: high under weight clipping."""
        size = self.weights.abs()
        return (size >= (1 - EDGE) * size.max()).double().mean().item()

    def quantiles(self, where: str) -> dict[float, float]:
        """The quantiles of the gradient norm at "real", "fake" or "between"."""
        found = self.gradient_norms[where].quantile(torch.tensor(QUANTILES, dtype=torch.float64))
        return dict(zip(QUANTILES, found.tolist(), strict=True))


@process_state_kept()
def examine(path: str | Path, samples: int = 500, registry: Registry | None = None) -> LipschitzReport:
    """Examines the discriminator of a run's newest checkpoint, at `samples` points of each kind, in float64.

    Of a discriminator that gives many scores, the mean of each sample is examined. The run's dataset and plugins must
    be installed. Raises RequestError where the run, its checkpoint or its data are missing, and where the discriminator
    mixes the samples of a group.

    `path` may also be a folder of `ganframe divergence`: its critic is examined at held-out samples of the dataset
    ("real"), of the other side ("fake") and between them.
    """
    folder = Path(path)
    if run_folder.is_measurement(folder):
        return _examined(folder, *_measured(folder, samples, registry))
    return _examined(folder, *_trained(folder, samples, registry))


def _trained(
    path: Path, samples: int, registry: Registry | None
) -> tuple[int, DataSpec, nn.Module, dict[str, Tensor], Tensor]:
    """The step, the data's spec, D, its points and their y, of a run."""
    checkpoint = newest_checkpoint(path)
    folder = run_folder.existing(path)
    recipe, device = load_recipe(folder.recipe, registry=registry), single_device()
    refuse_edits(folder, recipe)
    seed, problems = derive_seeds(recipe.seed).judging, Problems(str(path))
    spec = problems.attempt("its dataset is needed", lambda: recipe.dataset.spec)
    problems.raise_any()
    G, D = load_networks(checkpoint, recipe, spec, device)
    _refuse_groups(path, D)
    dataset = recipe.dataset
    data = problems.attempt("its dataset is needed", lambda: judging_data(dataset, spec, dataset.build()))
    problems.raise_any()
    opened = problems.attempt("its dataset is needed", lambda: real_samples(data, spec, samples, seed, device))
    problems.raise_any()
    real, y = opened
    return run_folder.step_of(checkpoint), spec, D, _points(real, _fakes(G, y, seed), seed), y


def _measured(
    path: Path, samples: int, registry: Registry | None
) -> tuple[int, DataSpec, nn.Module, dict[str, Tensor], Tensor]:
    """The step, the data's spec, D, its points and their y, of a measured divergence."""
    comparison, device = load_comparison(path / "comparison.toml", registry=registry), single_device()
    sides, seed, problems = open_sides(comparison), derive_seeds(comparison.seed).judging, Problems(str(path))
    spec = sides[0].spec
    D = build_discriminator(comparison, spec, device)
    load_weights(path / "discriminator.safetensors", D)
    _refuse_groups(path, D)
    opened = problems.attempt(
        "its samples are needed",
        lambda: [
            real_samples(side.part(held_out=True), spec, samples, seed + index, device)[0]
            for index, side in enumerate(sides)
        ],
    )
    problems.raise_any()
    n = min(map(len, opened))
    real, fake = (side[:n] for side in opened)
    D = D.eval().requires_grad_(False)
    return comparison.train.steps, spec, D, _points(real, fake, seed), spec.blank(n, device)


def _refuse_groups(path: Path, D: nn.Module) -> None:
    if group_size(D) > 1:
        raise RequestError(
            f"{path}: its discriminator mixes groups of {group_size(D)} samples, so one sample has no slope of its own"
        )


def _examined(
    path: Path, step: int, spec: DataSpec, D: nn.Module, points: dict[str, Tensor], y: Tensor
) -> LipschitzReport:
    """The report of D in evaluation mode, whose points have the same y in each place."""
    device = y.device
    note(f"{path}: examining the discriminator of step {step} at {counted(3 * len(y), 'point')}, on {device}")
    D = (_MeanScore(D).eval() if has_many_scores(D) else D).double()
    y = y if spec.condition is None else y.double()
    norms = {where: _gradient_norms(D, x, y) for where, x in points.items()}
    each = torch.arange(spec.classes or 1, device=device) if spec.condition is None else y
    anywhere = points["real"][:1].expand(len(each), *spec.shape)
    slope = _largest_slope(D, torch.cat([*points.values()]), torch.cat([y] * len(points)))
    bound, reason = _bound(D, anywhere, each, max(slope, *(norm.max().item() for norm in norms.values())))
    return LipschitzReport(
        run=path,
        step=step,
        gradient_norms=norms,
        largest_slope=slope,
        bound=bound,
        no_bound=reason,
        weights=torch.cat([weight.detach().flatten().cpu() for weight in effective_weights(D)]),
    )


def _bound(D: nn.Module, x: Tensor, y: Tensor, found: float) -> tuple[Bound | None, str | None]:
    """The bound of D, or why there is none. `found` is the largest slope that was found."""
    try:
        bound = certified_bound(D, x, y)
    except NoBound as error:
        return None, str(error)
    # Slopes between close points have the rounding of scores; a part that could not be traced is steeper by more.
    if found > 1.001 * bound.value:
        return None, f"a slope of {found:.4g} was found, and a bound of {bound.value:.4g}"
    return bound, None


def compare(paths: Sequence[str | Path], samples: int = 500) -> list[LipschitzReport]:
    """Examines runs or measured divergences, and writes lipschitz.json in each and lipschitz.png in the first."""
    for path in paths:
        if not run_folder.is_measurement(Path(path)):
            newest_checkpoint(path)  # a wrong name is refused before the others take their time
    registry = load()
    found = [examine(path, samples, registry) for path in paths]
    for one in found:
        write_text(one.run / "lipschitz.json", json.dumps(_report(one), indent=2) + "\n")
    names = short_names(found)
    norms = {name: torch.cat([*one.gradient_norms.values()]) for name, one in zip(names, found, strict=True)}
    weights = {name: one.weights for name, one in zip(names, found, strict=True)}
    pictures.draw_steepness(found[0].run / "lipschitz.png", norms, weights)
    return found


def short_names(found: Sequence[LipschitzReport]) -> list[str]:
    """The runs' paths without their common prefix."""
    return run_folder.short_names([one.run for one in found])


def _report(one: LipschitzReport) -> dict[str, Any]:
    return {
        "step": one.step,
        "samples": len(one.gradient_norms["real"]),
        "gradient_norm": {
            where: {f"{q:.0%}": _finite(v) for q, v in one.quantiles(where).items()} for where in one.gradient_norms
        },
        "largest_slope": _finite(one.largest_slope),
        "upper_bound": one.upper_bound,
        "no_bound": one.no_bound,
        "covers": None if one.bound is None else one.bound.covers,
        "layers": [] if one.bound is None else [attrs.asdict(layer) for layer in one.bound.layers],
        "largest_weight": _finite(one.weights.abs().max().item()),
        "weights_at_the_edge": one.at_the_edge,
    }


def _finite(value: float) -> float | None:
    """JSON has no NaN."""
    return value if math.isfinite(value) else None


# -------------------------------------------------------------------------------------------------------------- points


class _MeanScore(nn.Module):
    """The discriminator's mean score of each sample, (N,)."""

    def __init__(self, D: nn.Module) -> None:
        super().__init__()
        self.D = D

    def forward(self, x: Tensor, y: Tensor) -> Tensor:
        return mean_scores(self.D(x, y))


def _fakes(G: TrainedGenerator, y: Tensor, seed: int) -> Tensor:
    """A fake for each y."""
    z = sample_prior(G.prior, len(y), torch.Generator(y.device).manual_seed(seed))
    given = y if G.heeds_y else G.spec.blank(len(y), y.device)  # what is asked of a G that heeds none is refused
    return G.decode(z, given).to(y.device)


def _points(real: Tensor, fake: Tensor, seed: int) -> dict[str, Tensor]:
    """Real samples, as many fakes, and one point between each pair, in float64."""
    n, real, fake = len(real), real.double(), fake.double()
    epsilon = torch.rand(n, generator=torch.Generator().manual_seed(seed)).to(real).view(-1, *[1] * (real.ndim - 1))
    return {"real": real, "fake": fake, "between": torch.lerp(fake, real, epsilon)}


def _gradient_norms(D: nn.Module, x: Tensor, y: Tensor) -> Tensor:
    """‖∇D(x)‖ of each sample, (n,), on the CPU."""
    norms = []
    for points, labels in zip(x.split(CHUNK), y.split(CHUNK), strict=True):
        points = points.detach().requires_grad_()
        (gradient,) = torch.autograd.grad(D(points, labels).sum(), points)
        norms.append(torch.linalg.vector_norm(gradient.flatten(1), dim=1).cpu())
    return torch.cat(norms)


@torch.no_grad()
def _largest_slope(D: nn.Module, x: Tensor, y: Tensor) -> float:
    """The largest |D(x) - D(x')| / ‖x - x'‖ over all pairs, of equal y where D's score depends on y."""
    scores = torch.cat([D(*part) for part in zip(x.split(CHUNK), y.split(CHUNK), strict=True)])
    others = torch.cat([D(*part) for part in [(x[:CHUNK], y.roll(1, 0)[:CHUNK])]])
    conditional = not torch.equal(scores[:CHUNK], others)
    kinds = y if y.ndim == 1 else y.flatten(1).unique(dim=0, return_inverse=True)[1]
    largest = 0.0
    for rows in torch.arange(len(x), device=x.device).split(100):
        # Not by matrix products, which lose small distances to rounding.
        distances = torch.cdist(x[rows].flatten(1), x.flatten(1), compute_mode="donot_use_mm_for_euclid_dist")
        differences = (scores[rows, None] - scores).abs()
        allowed = distances > 0
        if conditional:
            allowed &= kinds[rows, None] == kinds
        slopes = (differences / distances)[allowed]
        found = slopes.max().item() if len(slopes) else 0.0
        if not math.isfinite(found):
            return math.nan
        largest = max(largest, found)
    return largest


def effective_weights(network: nn.Module) -> Iterator[Tensor]:
    """All parameters of a network; the effective ones, as W / σ(W) under spectral normalisation."""
    for name, module in network.named_modules():
        if "parametrizations" in name.split("."):
            continue
        if parametrize.is_parametrized(module):
            yield from (getattr(module, parameter) for parameter in module.parametrizations)
        yield from module.parameters(recurse=False)
