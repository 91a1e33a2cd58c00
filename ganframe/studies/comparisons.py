"""Comparisons as the runs of a study: what `ganframe divergence` finds of each critic stands in the table."""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any, Literal

from ganframe.analysis.divergence import RESULT
from ganframe.judging.protocol import Score
from ganframe.recipes.tables import Comparison
from ganframe.recipes.writing import to_table
from ganframe.storage.run_folder import RunFolder

METRIC = "divergence"  # a metric of a plugin has its plugin's name before its own, so none is called so
BETTER: Mapping[str, Literal["lower", "higher"] | None] = {
    "gradient_cosine": "higher",
    "gradient_l2": "lower",
    "share": None,
    "certified_share": "higher",
    "value": None,
    "jsd": None,
    "critic_error": "lower",
}
"""The numbers of divergence.json that the table has, with the direction in which a critic is better."""


def protocol(comparison: Comparison) -> dict[str, Any]:
    """What must be the same in comparisons of one table: the objective, whose divergence it is.

    The two sides may differ, as each critic is compared with the optimal one of its own sides.
    """
    return {
        "metric": METRIC,
        "about": "a critic trained alone; -L_D on held-out samples of both sides, gradients at those of the dataset",
        "objective": to_table(comparison.objective, comparison.registry),
    }


def result(folder: RunFolder) -> Mapping[str, Any] | None:
    """divergence.json, which is written last; None where it is not there or is damaged."""
    try:
        found = json.loads((folder.path / RESULT).read_text(encoding="utf-8"))
    except (OSError, ValueError, RecursionError):
        return None
    return found if isinstance(found, dict) else None


def scores(folder: RunFolder, comparison: Comparison) -> tuple[Score, ...] | None:
    """The score of a comparison that was measured in this folder; None where it was not, or not to its end."""
    found = result(folder)
    if found is None:
        return None
    numbers = {name: found[name] for name in BETTER if isinstance(found.get(name), (int, float))}
    return (
        {"metric": METRIC, **numbers, "protocol": protocol(comparison), "judged": {"step": comparison.train.steps}},
    )
