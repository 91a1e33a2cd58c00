"""The number of a score that shows how good a generator is, and the best of a run by it."""

from __future__ import annotations

from collections.abc import Iterable, Mapping

import attrs

from ganframe.components import Metric
from ganframe.judging.protocol import Score, called, numbers
from ganframe.recipes.problems import Problems
from ganframe.recipes.tables import Evaluation, Recipe


@attrs.frozen
class Best:
    """The score by which the best checkpoint is chosen: a number of a metric, and its direction."""

    metric: str
    number: str
    higher: bool

    def value(self, score: Score) -> float | None:
        """The number, larger where it is better; None for other scores."""
        found = score.get(self.number) if score["metric"] == self.metric else None
        return None if found is None else found if self.higher else -found

    def step(self, scores: Iterable[Score]) -> int | None:
        """The step of the best of a run's own scores; the first of equal ones. None without any."""
        found = [(self.value(score), -score["judged"]["step"]) for score in scores if _is_own(score)]
        values = [(value, step) for value, step in found if value is not None]
        return -max(values)[1] if values else None


def named_number(text: str, evaluations: Mapping[str, Evaluation]) -> Best:
    """The number that "metric" or "metric.number" names. Raises ValueError where there is none, or no direction."""
    metric, _, number = text.partition(".")
    if metric not in evaluations:
        known = ", ".join(evaluations) or "there is no [[metrics]]"
        raise ValueError(f"no metric '{metric}' in [[metrics]]: {known}")
    better = evaluations[metric].metric.better
    number = number or next(iter(better), "")
    if number not in better:
        raise ValueError(f"'{number}' of {metric} has no direction; known: {', '.join(better)}")
    return Best(metric, number, better[number] == "higher")


def best_of(recipe: Recipe, evaluations: Mapping[str, Evaluation], problems: Problems) -> Best | None:
    """What `log.keep_best` names. Adds a problem where it names nothing that is judged during training."""
    if recipe.log.keep_best is None:
        return None
    try:
        best = named_number(recipe.log.keep_best, evaluations)
    except ValueError as error:
        problems.add(f"log.keep_best: {error}")
        return None
    if evaluations[best.metric].every is None:
        place = list(evaluations).index(best.metric)
        problems.add(f"log.keep_best: {best.metric} is judged at the end only; set metrics[{place}].every")
        return None
    return best


def headline(metric: Metric, score: Score) -> str:
    """A score in a few characters: its first number."""
    found = numbers(score)
    name = headline_number(metric, score)
    shown = score["metric"] if name == score["metric"] else f"{score['metric']} {name}"
    return f"{shown} {found[name]:.4g}" if found else f"{score['metric']} failed"


def headline_number(metric: Metric, score: Score) -> str:
    """The name of a score's first number: that of the metric's first direction. "" where there is none."""
    found = numbers(score)
    return next((name for name in metric.better if name in found), next(iter(found), ""))


def score_curves(
    scores: Iterable[Score], evaluations: Mapping[str, Evaluation]
) -> dict[str, list[tuple[float, float]]]:
    """(step, value) of each metric's first number, as a run's own training found it, by what people call it."""
    found: dict[str, list[tuple[float, float]]] = {}
    for score in filter(_is_own, scores):
        if score["metric"] in evaluations and (name := headline_number(evaluations[score["metric"]].metric, score)):
            shown = called(score, name)
            title = shown if name == score["metric"] else f"{score['metric']}: {shown}"
            found.setdefault(title, []).append((score["judged"]["step"], numbers(score)[name]))
    return found


def _is_own(score: Score) -> bool:
    """Whether a score is one that the run's own training found, of its last weights at that step."""
    return score["judged"].get("by") == "run" and score["protocol"].get("chosen_by") is None
