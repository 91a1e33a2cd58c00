"""Scores with their protocol: what must be the same before two numbers are set side by side."""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Mapping
from typing import Any

import attrs

from ganframe.recipes.tables import Recipe
from ganframe.recipes.writing import to_toml

Score = dict[str, Any]
"""{"metric": name, numbers by their names, "protocol": …, "judged": …}, in types that JSON has.

"protocol" is what must be the same in scores that are compared; "judged" says what was judged: the step, the recipe's
hash and seed, whether the weights are a moving average, versions. A score that failed has "error" and no numbers.
"""

OWN = ("metric", "error", "protocol", "judged")
"""Keys of a score that are not numbers of the metric."""


ALTERED = ("truncation", "standing_statistics", "precision")
"""Keys of a protocol, where the generator that was judged is not as it was trained."""


def numbers(score: Score) -> dict[str, float]:
    """The numbers of a score by name."""
    return {name: value for name, value in score.items() if name not in OWN}


def is_of_training(score: Score) -> bool:
    """Whether what was judged is the generator as it was trained: without truncation, standing statistics or bf16."""
    return all(score["protocol"].get(key) is None for key in ALTERED)


def recipe_hash(recipe: Recipe) -> str:
    """12 hexadecimal digits that identify what a recipe trains: all but its name, [log] and [[metrics]]."""
    bare = attrs.evolve(recipe, name="recipe", log=type(recipe.log)(), metrics=())
    return hashlib.sha256(to_toml(bare).encode()).hexdigest()[:12]


def described(protocol: Mapping[str, Any]) -> str:
    """A protocol in one line, for people: how many samples, of what, by which features."""
    counts = ", ".join(f"{count:,} {name.replace('_', '-')}" for name, count in protocol["counts"].items())
    split = "held-out" if protocol["against"] == "test" else "training"
    parts = [f"{protocol['samples']:,} generated samples"]
    parts += [f"against {split} data: {counts}"] if counts else []
    parts += [f"features {name} ({found['hash']})" for name, found in protocol["features"].items()]
    if protocol.get("chosen_by"):
        parts.append(f"the checkpoint chosen by {protocol['chosen_by']}")
    if protocol.get("truncation") is not None:
        parts.append(f"truncation {protocol['truncation']:g}")
    if standing := protocol.get("standing_statistics"):
        parts.append(f"standing statistics of {standing['batches']:,} batches of {standing['batch_size']}")
    if protocol.get("precision") is not None:
        parts.append(f"the generator in {protocol['precision']}")
    return "; ".join(parts)


def called(score: Score, number: str) -> str:
    """A number's name for people, with the one of the literature: a Fréchet distance is FID of Inception's features
    alone, and FD[name] of others. Features may say `names` of numbers in their `about`."""
    features = score["protocol"]["features"]
    known = {name: said for found in features.values() for name, said in found.get("names", {}).items()}
    if number == "frechet" and len(features) == 1:
        known.setdefault(number, f"FD[{next(iter(features))}]")
    return f"{number} ({known[number]})" if number in known else number


def differences(scores: Iterable[Score]) -> list[str]:
    """A line for each entry of the protocols in which some scores differ from the first. Empty where they may be
    compared."""
    first, *others = [flat(score["protocol"]) for score in scores]
    found: dict[str, str] = {}
    for other in others:
        for place in {**first, **other}:
            if first.get(place) != other.get(place):
                found.setdefault(place, f"{place} is {first.get(place)} in one and {other.get(place)} in another")
    return list(found.values())


def flat(protocol: Mapping[str, Any], place: str = "") -> dict[str, Any]:
    """A protocol as one level: {"features.classifier.hash": …}."""
    found: dict[str, Any] = {}
    for name, value in protocol.items():
        inner = f"{place}.{name}" if place else name
        found |= flat(value, inner) if isinstance(value, Mapping) else {inner: value}
    return found
