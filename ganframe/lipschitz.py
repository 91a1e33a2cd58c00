"""How steep a trained critic is: its slope where it was trained, the steepest slope found, and a bound on any.

The three do not agree, and that is what there is to see. A gradient penalty speaks of the slope between the samples,
clipping and spectral normalisation of the layers, and the product of the layers' norms can be far above every slope.
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

from ganframe import pictures, runfolder
from ganframe.bounds import Layer, NoBound, upper_bound
from ganframe.build import Session, prepare, seeds
from ganframe.errors import RequestError
from ganframe.feed import Latents, Share
from ganframe.recipe import load_recipe

QUANTILES = (0.0, 0.05, 0.25, 0.5, 0.75, 0.95, 1.0)
EDGE = 0.01  # of the largest weight: what lies within it is at the edge


@attrs.frozen
class Steepness:
    """What was found of one run's critic, in score per unit of distance between samples.

    `gradient_norms` has ‖∇D‖ (n,) at real samples, at fake ones and between the two, as the gradient penalty draws
    them. `largest_slope` is the greatest |D(x) - D(x')| / ‖x - x'‖ over all pairs of these points, so no Lipschitz
    constant is below it; `upper_bound` is the product of the layers' operator norms, so none is above it, or None
    where `no_bound` says why. `weights` are D's, as they act: under spectral normalisation the normalised ones.
    """

    run: Path
    step: int
    gradient_norms: dict[str, Tensor]
    largest_slope: float
    upper_bound: float | None
    no_bound: str | None
    layers: list[Layer]
    weights: Tensor

    @property
    def at_the_edge(self) -> float:
        """The share of weights whose size is within 1 % of the largest: where clipping piles them up."""
        size = self.weights.abs()
        return (size >= (1 - EDGE) * size.max()).double().mean().item()

    def quantiles(self, where: str) -> dict[float, float]:
        """The gradient norm's quantiles at "real", "fake" or "between"."""
        found = self.gradient_norms[where].quantile(torch.tensor(QUANTILES, dtype=torch.float64))
        return dict(zip(QUANTILES, found.tolist(), strict=True))


def examine(path: str | Path, samples: int = 500) -> Steepness:
    """Examines the critic of a run's newest checkpoint, at `samples` points of each kind, in evaluation and float64.

    The run's dataset and plugins must be at hand. Raises RequestError where the run or its checkpoint are missing.
    """
    session, step = _load(path)
    D = session.state.D.network.double()
    points, y = _points(session, samples)
    norms = {where: _gradient_norms(D, x, y) for where, x in points.items()}
    classes = torch.arange(session.spec.classes or 1, device=session.state.device)
    anywhere = points["real"][:1].expand(len(classes), *session.spec.shape)
    try:
        bound, layers = upper_bound(D, anywhere, classes)
        reason = None
    except NoBound as error:
        bound, layers, reason = None, [], str(error)
    slope = _largest_slope(D, torch.cat([*points.values()]), y.repeat(len(points)))
    found = max(slope, *(norm.max().item() for norm in norms.values()))
    if bound is not None and found > 1.001 * bound:  # of what could not be followed: vmap, a scripted function
        bound, layers, reason = None, [], f"a slope of {found:.4g} was found, and a bound of {bound:.4g}"
    return Steepness(
        run=Path(path),
        step=step,
        gradient_norms=norms,
        largest_slope=slope,
        upper_bound=bound,
        no_bound=reason,
        layers=layers,
        weights=torch.cat([weight.detach().flatten().cpu() for weight in effective_weights(D)]),
    )


def compare(paths: Sequence[str | Path], samples: int = 500) -> list[Steepness]:
    """Examines several runs alike, and leaves lipschitz.json in each and lipschitz.png in the first."""
    found = [examine(path, samples) for path in paths]
    for one in found:
        runfolder.write_text(one.run / "lipschitz.json", json.dumps(_report(one), indent=2) + "\n")
    names = short_names(found)
    norms = {name: torch.cat([*one.gradient_norms.values()]) for name, one in zip(names, found, strict=True)}
    weights = {name: one.weights for name, one in zip(names, found, strict=True)}
    pictures.draw_steepness(found[0].run / "lipschitz.png", norms, weights)
    return found


def short_names(found: Sequence[Steepness]) -> list[str]:
    """The runs' paths without what all of them begin with."""
    parts = [one.run.resolve().parts for one in found]
    shared = next((i for i, names in enumerate(zip(*parts, strict=False)) if len(set(names)) > 1), -2)
    return ["/".join(names[shared:]) for names in parts]


def _report(one: Steepness) -> dict[str, Any]:
    return {
        "step": one.step,
        "samples": len(one.gradient_norms["real"]),
        "gradient_norm": {
            where: {f"{q:.0%}": _finite(v) for q, v in one.quantiles(where).items()} for where in one.gradient_norms
        },
        "largest_slope": _finite(one.largest_slope),
        "upper_bound": one.upper_bound,
        "no_bound": one.no_bound,
        "layers": [attrs.asdict(layer) for layer in one.layers],
        "largest_weight": _finite(one.weights.abs().max().item()),
        "weights_at_the_edge": one.at_the_edge,
    }


def _finite(value: float) -> float | None:
    """JSON has no NaN."""
    return value if math.isfinite(value) else None


# --------------------------------------------------------------------------------------------------- critic and samples


def _load(path: str | Path) -> tuple[Session, int]:
    """The run's session with its newest weights, its networks in evaluation."""
    folder = runfolder.existing(path)
    saved = folder.checkpoints()
    if not saved:
        raise RequestError(f"{path}: this run has no checkpoint yet, and so no critic to examine")
    recipe = load_recipe(folder.recipe)
    # Neither the trackers nor the precision of the machine that it was trained on.
    log, train = attrs.evolve(recipe.log, trackers=()), attrs.evolve(recipe.train, precision="no")
    session = prepare(attrs.evolve(recipe, log=log, train=train))
    for name, network in session.networks.items():
        runfolder.load_weights(saved[-1] / f"{name}.safetensors", network)
        network.eval().requires_grad_(False)
    return session, runfolder.step_of(saved[-1])


@torch.no_grad()
def _points(session: Session, n: int) -> tuple[dict[str, Tensor], Tensor]:
    """n real samples, n fakes with their labels, and one point between each pair; and the labels (n,)."""
    seed, device = seeds(session.recipe.seed)[4], session.state.device
    batches = [session.feed() for _ in range(-(-n // session.recipe.train.batch_size))]
    real, y = (torch.cat(side)[:n] for side in zip(*batches, strict=True))
    latents = Latents(session.recipe.latent.dim, session.recipe.latent.distribution, seed, Share(device))
    parts = zip(latents(n).split(250), y.split(250), strict=True)
    real, fake = real.double(), torch.cat([session.sampled(*part) for part in parts]).double()
    epsilon = torch.rand(n, generator=torch.Generator().manual_seed(seed)).to(real).view(-1, *[1] * (real.ndim - 1))
    return {"real": real, "fake": fake, "between": torch.lerp(fake, real, epsilon)}, y


def _gradient_norms(D: nn.Module, x: Tensor, y: Tensor) -> Tensor:
    """‖∇D(x)‖ of each sample, (n,), on the CPU."""
    norms = []
    for points, labels in zip(x.split(250), y.split(250), strict=True):
        points = points.detach().requires_grad_()
        (gradient,) = torch.autograd.grad(D(points, labels).sum(), points)
        norms.append(torch.linalg.vector_norm(gradient.flatten(1), dim=1).cpu())
    return torch.cat(norms)


@torch.no_grad()
def _largest_slope(D: nn.Module, x: Tensor, y: Tensor) -> float:
    """The greatest |D(x) - D(x')| / ‖x - x'‖ over all pairs; of one label only, where D's score depends on labels."""
    scores = torch.cat([D(*part) for part in zip(x.split(250), y.split(250), strict=True)])
    others = torch.cat([D(*part) for part in zip(x[:250].split(250), y.roll(1)[:250].split(250), strict=True)])
    conditional = not torch.equal(scores[:250], others)
    largest = 0.0
    for rows in torch.arange(len(x), device=x.device).split(100):
        # Not by a product of matrices: it rounds away the distances between neighbours.
        distances = torch.cdist(x[rows].flatten(1), x.flatten(1), compute_mode="donot_use_mm_for_euclid_dist")
        differences = (scores[rows, None] - scores).abs()
        allowed = distances > 0
        if conditional:
            allowed &= y[rows, None] == y
        slopes = (differences / distances)[allowed]
        found = slopes.max().item() if len(slopes) else 0.0
        if not math.isfinite(found):
            return math.nan
        largest = max(largest, found)
    return largest


def effective_weights(network: nn.Module) -> Iterator[Tensor]:
    """Every parameter of a network, those under a parametrisation as they act: W / σ(W) for spectral normalisation."""
    for name, module in network.named_modules():
        if "parametrizations" in name.split("."):
            continue
        if parametrize.is_parametrized(module):
            yield from (getattr(module, parameter) for parameter in module.parametrizations)
        yield from module.parameters(recurse=False)
