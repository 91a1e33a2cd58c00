"""A proof, with a confidence, that two distributions differ: a lower bound on their Wasserstein distance W1.

For a function D with a Lipschitz constant of at most L, W1(p, q) ≥ (E_p D - E_q D) / L (Kantorovich and Rubinstein
1958). So a critic whose L is proved from above, and whose means are bounded by samples that it has never seen, proves a
distance. Scores are clamped to an interval, which keeps L, so that the empirical Bernstein bound holds whatever the
data is. It proves that two sides differ, and never that they are equal.
"""

from __future__ import annotations

import functools
import hashlib
import math
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any

import attrs
import tomli
import torch
from torch import Tensor, nn

from ganframe.analysis import critics
from ganframe.analysis.bernstein import Mean, can_differ, clamp, samples_needed
from ganframe.analysis.certificate import ASSUMES, COVERS, CRITICS, FILE, Certificate, Critic, Finding, Part
from ganframe.analysis.critics import Nearest, constant, scores, train
from ganframe.analysis.sources import Source, of_a_run_and_its_data, open_pair, with_features
from ganframe.components import DataSpec
from ganframe.data.seeds import Seeds, derive_seeds
from ganframe.errors import RequestError, counted, note, warn
from ganframe.plugins.registry import load
from ganframe.recipes.reading import load_critic
from ganframe.recipes.tables import CriticRecipe
from ganframe.recipes.writing import to_toml
from ganframe.storage import provenance, run_folder
from ganframe.storage.files import checksum, write_atomically, write_text
from ganframe.storage.weights import save_weights
from ganframe.training.accelerator import process_state_kept, single_device
from ganframe.training.describe import device_name

JUDGED = 10_000  # samples of each side that judge, at most
FEW = 500  # as many however large samples are
NUMBERS = 2**24  # that these have together at most: 64 MiB
POINTS = 10_000  # that a critic stores, at most
TO_TRAIN = 16  # samples without which there is no critic
APART = 2**32 - 1  # in the place of a process, and of none in a run
PAIRS = 2_000  # of samples, for the spread
COPIES = 0.01  # of the judged samples that may be those of the other side's critics by chance


@attrs.frozen(eq=False)
class SideSamples:
    """The samples of one side: those that judge (n, *shape), and the others (m, *shape), which critics may see.

    `training` (k, *shape) are samples that a dataset trains with, where it has some, which critics may see too.
    """

    judged: Tensor
    other: Tensor
    training: Tensor | None = None

    def part(self) -> Part:
        stored = 0 if self.training is None else len(self.training)
        return Part(len(self.judged), len(self.other), hash_of(self.judged), stored)


def seeds_of(seed: int) -> Seeds:
    """The seeds of a certificate: none is a seed of a run, whose generator has seen what those have drawn."""
    return derive_seeds(seed, APART)


def hash_of(x: Tensor) -> str:
    return hashlib.sha256(x.contiguous().numpy().tobytes()).hexdigest()


def divided(sequence: Tensor, judged: int, training: Tensor | None = None) -> SideSamples:
    """A sequence of samples (n, *shape) as a side: the first `judged` of them judge."""
    return SideSamples(sequence[:judged], sequence[judged:], training)


def halves(sequence: Tensor, training: Tensor | None = None) -> tuple[SideSamples, SideSamples]:
    """Two sides of one sequence, which share no sample: for the comparison of the data with itself."""
    each = len(sequence) // 2
    one, other = sequence[:each], sequence[each : 2 * each]
    return divided(one, each // 2, training), divided(other, each // 2)


@process_state_kept()
def certify(
    run: str | Path | None = None,
    *,
    data: str | Path | None = None,
    against: str | Path | None = None,
    delta: float = 0.05,
    seed: int = 0,
    samples: int | None = None,
    features: str | None = None,
    overrides: Iterable[str] = (),
    out: str | Path | None = None,
) -> Certificate:
    """Bounds from below how far a run's generator is from its held-out data, with confidence 1 - `delta`.

    Or how far any two sides are, `data` and `against`, each a recipe, a run or an array file (.npy) of samples. The
    bound is on W1, the Wasserstein distance with ‖x - x'‖ between samples; of `features`, by the name of metrics', it
    is W1 of the features. Of datasets that hold out samples those are judged.

    Half of each side judges, `samples` at most; the other half makes three critics: one that is trained, by a recipe
    that `overrides` change ("train.steps=500", "discriminator.use=…"), and the distances to the nearest of stored
    samples of either side, whose constant is exactly 1. For those of the data a dataset's training samples are
    stored where it holds out others: a generator that repeats them is near to them, and held-out data is not. Each
    critic has a third of the risk, so that the largest bound holds with the whole confidence. An override that begins
    with "dataset." is of the recipe `data`.

    Writes certificate.json and the critics' weights to `out`, or the next certificates/<name>/<number>/. Raises
    RequestError, with nothing written, where the sides do not fit together, there are too few samples for the
    confidence, or the critic's constant cannot be proved.
    """
    if not 0 < delta < 1:
        raise RequestError(f"delta = {delta:g}: the risk must be between 0 and 1, as 0.05 for a confidence of 95 %")
    overrides, registry, device = tuple(overrides), load(), single_device()
    of_data = tuple(text for text in overrides if text.lstrip().startswith("dataset"))
    own = tuple(text for text in overrides if text not in of_data)
    recipe = load_critic(critics.DEFAULT, own, registry, "critic")
    if run is not None and (data is not None or against is not None):
        raise RequestError("give a run, or two sides by data and against, not both")
    if run is not None:
        if of_data:
            raise RequestError(f"--set {of_data[0]}: a run is judged by its own data; give other data with --data")
        pair = of_a_run_and_its_data(run, registry, device)
    elif data is None or against is None:
        raise RequestError("give a run, or two sides: --data X --against Y")
    else:
        pair = open_pair(data, against, registry, device, of_data)
    described: dict[str, Any] = {}
    if features is not None:
        *opened, described = with_features(pair, features, registry, device)
        pair = opened[0], opened[1]
    risk, spec = delta / len(CRITICS), pair[0].spec
    judged = [_judged(source, samples, risk) for source in pair]
    _refuse_too_few(pair, judged, delta, risk)
    critics.constant(critics.untrained(recipe, spec), spec)  # refused before samples are made
    seeds = seeds_of(seed)
    sequences = [
        _sequence(source, n, order) for source, n, order in zip(pair, judged, (seeds.data, seeds.latents), strict=True)
    ]
    refuse_other_range(pair, sequences)
    training = stored(pair[0], seeds.data)
    folder = run_folder.create_measurement(_name(run or data), out, "certificates")
    with run_folder.removed_without(FILE, folder):
        note(f"{folder}: on {device_name(device)}; {_counts(pair, judged, sequences)}")
        sides = divided(sequences[0], judged[0], training), divided(sequences[1], judged[1])
        _warn_of_copies(pair, sides)
        found = compare(*sides, recipe, spec, delta, seeds.torch, device, shown=True)
        note("the data against itself")
        null = compare(*halves(sequences[0], training), recipe, spec, delta, seeds.torch + 1, device, shown=True)
        spread = spread_of(sides[0].other)
        certificate = Certificate(
            folder=folder,
            says=sentence(found[0].certified, delta, described),
            certified=found[0].certified,
            confidence=1 - delta,
            null=_saved(*null, folder, "null_"),
            found=_saved(*found, folder, ""),
            spread=spread,
            share=found[0].certified / spread if spread > 0 else 0.0,
            delta=delta,
            seed=seed,
            shape=spec.shape,
            is_image=spec.is_image,
            identities={"data": pair[0].identity, "against": pair[1].identity},
            features=described,
            recipe=tomli.loads(to_toml(recipe)),
            assumes=ASSUMES,
            covers=COVERS,
            versions=provenance.versions(_components(recipe), registry),
        )
        write_text(folder / FILE, certificate.to_json())
    if certificate.null.certified > 0:
        warn(
            f"the data is {certificate.null.certified:.4g} from itself, which happens with a probability of at most "
            f"{delta:g}: its samples may not be independent"
        )
    return certificate


def compare(
    data: SideSamples,
    against: SideSamples,
    recipe: CriticRecipe,
    spec: DataSpec,
    delta: float,
    seed: int,
    device: torch.device,
    shown: bool = False,
) -> tuple[Finding, dict[str, nn.Module]]:
    """What each critic says of two sides, with confidence 1 - `delta` for all of them together, and the critics.

    What is returned names no files of weights yet.
    """
    risk = delta / len(CRITICS)
    counts = len(data.judged), len(against.judged)
    networks: dict[str, nn.Module] = {}
    judged: dict[str, Critic] = {}
    for name, critic, one, other in _critics(data, against, recipe, spec, seed, device, shown):
        low, high = clamp(scores(critic, one, spec, device), scores(critic, other, spec, device), counts, risk)
        means = means_of(critic, data.judged, against.judged, low, high, spec, device)
        proved = constant(critic, spec)
        layers = tuple(map(attrs.asdict, proved.layers))
        bare = Critic("", "", proved.value, layers, proved.covers, low, high, *means, 0.0)
        networks[name], judged[name] = critic, attrs.evolve(bare, certified=bare.recomputed(risk))
    best = max(judged, key=lambda name: judged[name].certified)
    return Finding(judged[best].certified, best, data.part(), against.part(), judged), networks


def _critics(
    data: SideSamples,
    against: SideSamples,
    recipe: CriticRecipe,
    spec: DataSpec,
    seed: int,
    device: torch.device,
    shown: bool,
) -> Iterator[tuple[str, nn.Module, Tensor, Tensor]]:
    """(name, critic, samples of the data, samples of the other side): samples that it has not stored nor judges."""
    yield "trained", train(recipe, data.other, against.other, spec, seed, shown), data.other, against.other
    points = points_of(data, against)
    own, others = points["nearest_data"], points["nearest_against"]
    one, other = data.other, against.other[len(others) :]
    yield "nearest_against", _signed(others, one, other, spec, device), one, other
    one, other = data.other if data.training is not None else data.other[len(own) :], against.other
    yield "nearest_data", _signed(own, one, other, spec, device), one, other


def points_of(data: SideSamples, against: SideSamples) -> dict[str, Tensor]:
    """What the critics "nearest_against" and "nearest_data" store: never a sample that judges.

    Of a side's other samples it is half at most: the rest chooses the sign and the interval.
    """

    def half(x: Tensor) -> Tensor:
        return x[: min(len(x) // 2, points_at_most(x[:1].numel()))]

    own = half(data.other) if data.training is None else data.training
    return {"nearest_against": half(against.other), "nearest_data": own}


def points_at_most(numbers: int) -> int:
    return max(1, min(POINTS, NUMBERS // numbers))


def _signed(points: Tensor, data: Tensor, against: Tensor, spec: DataSpec, device: torch.device) -> Nearest:
    """The distance to the nearest point, or its negative, so that it is larger at the data."""
    one, other = (scores(Nearest(points), x, spec, device) for x in (data, against))
    apart = one.mean() - other.mean()
    return Nearest(points, 1 if apart >= 0 else -1)


def means_of(
    critic: nn.Module, data: Tensor, against: Tensor, low: float, high: float, spec: DataSpec, device: torch.device
) -> tuple[Mean, Mean]:
    """The means and variances of the clamped scores of both sides."""
    one, other = (Mean.of(scores(critic, x, spec, device).clamp(low, high)) for x in (data, against))
    return one, other


def spread_of(x: Tensor) -> float:
    """The mean distance between two of the samples x (n, *shape), from pairs that share none."""
    pairs = min(PAIRS, len(x) // 2)
    x = x.flatten(1).double()
    return torch.linalg.vector_norm(x[:pairs] - x[pairs : 2 * pairs], dim=1).mean().item()


def _warn_of_copies(pair: tuple[Source, Source], sides: tuple[SideSamples, SideSamples]) -> None:
    """Warns where judged samples of one side are among those of the other that critics have seen, as in a copied file.

    Discrete data repeats its own samples too, which proves nothing; copies of continuous data do not.
    """
    for (source, side), (other, seen) in (
        ((pair[0], sides[0]), (pair[1], sides[1])),
        ((pair[1], sides[1]), (pair[0], sides[0])),
    ):
        across, own = shared(side.judged, seen.other), shared(side.judged, side.other)
        if across > COPIES and own < across / 10:
            warn(
                f"{source.title}: {across:.0%} of its judged samples are among those of {other.title} that make "
                "critics: samples that are copies are not independent, and then the bound does not hold"
            )


def shared(x: Tensor, others: Tensor) -> float:
    """The share of samples x (n, *shape) that equal one of the others (m, *shape) in each bit."""
    known = {row.tobytes() for row in others.numpy()}
    return sum(row.tobytes() in known for row in x.numpy()) / len(x)


# ----------------------------------------------------------------------------------------------------- how many samples


def _judged(source: Source, samples: int | None, risk: float) -> int:
    """How many samples of a source judge: half of a finite one, and at most JUDGED or `samples`."""
    most = samples or _at_most(source)
    if source.size is None:
        return most
    if samples is not None and samples > source.size - TO_TRAIN:
        raise RequestError(
            f"{source.title}: {samples:,} samples cannot be judged: it has {source.size:,}, of which at least "
            f"{TO_TRAIN} must be left to make critics"
        )
    return min(most, source.size // 2) if samples is None else samples


def _refuse_too_few(pair: tuple[Source, Source], judged: list[int], delta: float, risk: float) -> None:
    needed = samples_needed(risk)
    fewest = min(range(2), key=lambda index: judged[index])
    left = [TO_TRAIN if source.size is None else source.size - n for source, n in zip(pair, judged, strict=True)]
    if can_differ(judged[0], judged[1], risk) and min(left) >= TO_TRAIN:
        return
    raise RequestError(
        f"{pair[fewest].title}: {counted(judged[fewest], 'judged sample')} can never show a difference with "
        f"confidence {1 - delta:g}; judge at least {needed} of each side ({2 * needed} samples, as half of them make "
        "critics), or allow a larger delta"
    )


def _sequence(source: Source, judged: int, seed: int) -> Tensor:
    """The samples of a source: `judged` that judge, and others, as many as there are."""
    return source.draw(judged + _at_most(source), seed)


def _at_most(source: Source) -> int:
    return min(JUDGED, max(FEW, NUMBERS // math.prod(source.spec.shape)))


def stored(data: Source, seed: int, count: int | None = None) -> Tensor | None:
    """Training samples of the data, where it holds out others, to store: `count`, or as many as may be."""
    if data.training is None:
        return None
    return data.training(points_at_most(math.prod(data.spec.shape)) if count is None else count, seed)


def refuse_other_range(pair: tuple[Source, Source], sequences: list[Tensor]) -> None:
    """Raises RequestError where the images of a file are in [0, 1], and those of the other side in [-1, 1]."""
    for (source, other), (x, y) in (
        (pair, sequences),
        (pair[::-1], sequences[::-1]),
    ):
        if "file" in source.identity and source.spec.is_image and x.min() >= 0 and y.min() < -0.5:
            raise RequestError(
                f"{source.title}: its values are from {x.min():.3g} to {x.max():.3g}, and those of {other.title} from "
                "-1 to 1: give images in [-1, 1], or in uint8"
            )


# -------------------------------------------------------------------------------------------------------------- written


def _saved(finding: Finding, networks: dict[str, nn.Module], folder: Path, prefix: str) -> Finding:
    """The finding with the files of its critics' weights, which are written."""
    kept = {}
    for name, critic in finding.critics.items():
        file = folder / f"{prefix}{name}.safetensors"
        write_atomically(file, functools.partial(save_weights, networks[name]))
        kept[name] = attrs.evolve(critic, weights=file.name, sha256=checksum(file))
    return attrs.evolve(finding, critics=kept)


def _name(path: str | Path | None) -> str:
    """The name of a certificate's folder under certificates/: that of a recipe or file, or of a run and its number."""
    parts = Path(path or "").expanduser().resolve()
    return f"{parts.parent.name}-{parts.name}" if parts.name.isdecimal() else parts.stem


def _counts(pair: tuple[Source, Source], judged: list[int], sequences: list[Tensor]) -> str:
    found = (
        f"{source.title}: {counted(n, 'sample')} judge and {len(sequence) - n:,} make critics"
        for source, n, sequence in zip(pair, judged, sequences, strict=True)
    )
    return "; ".join(found)


def sentence(certified: float, delta: float, features: dict[str, Any]) -> str:
    of = f" of the features {features['name']}" if features else ""
    percent = f"{100 * (1 - delta):.6g}"
    confidence = f"{percent} % confidence" if percent != "100" else f"confidence 1 - {delta:g}"
    return f"with {confidence} W1{of} is at least {certified:.5g}"


def _components(recipe: CriticRecipe) -> list[tuple[str, Any]]:
    return [("", part) for part in (recipe.discriminator, recipe.objective, *recipe.constraints)]
