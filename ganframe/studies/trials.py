"""The trials of a search: the runs of each, one of a seed, and what the ranges of [search] must be."""

from __future__ import annotations

import copy
from collections import Counter
from collections.abc import Iterator, Mapping
from typing import Any, get_args

import attrs

from ganframe.errors import RecipeError, RequestError, counted
from ganframe.judging.best import Best, named_number
from ganframe.judging.judge import named
from ganframe.recipes.reading import assign, structure
from ganframe.recipes.tables import Evaluation, Recipe
from ganframe.studies.outcomes import Outcome, Status
from ganframe.studies.plan import Planned, Study, folder_name
from ganframe.studies.ranges import Choices, Search

SHARED = {
    "seed": "the seeds are those of the study",
    "metrics": "all trials are judged alike",
    "dataset": "all trials are judged by the same data",
    "log": "it does not change what is trained",
    "name": "it does not change what is trained",
}
"""Tables that no range may be in, and why."""


@attrs.frozen
class Trial:
    """A trial of a search.

    `values` are exact, by their place; those of choices are their names. `value` is what was searched for, the mean
    over the seeds. `message` says why the trial failed. `outcomes` are of the runs that it began, and of one at least.
    """

    number: int
    state: Status
    values: Mapping[str, Any]
    value: float | None
    message: str
    outcomes: tuple[Outcome, ...]


@attrs.frozen
class Found:
    """What a search has found so far."""

    goal: Best
    trials: tuple[Trial, ...]

    @property
    def best(self) -> Trial | None:
        """The best of the trials that have finished; the first of equal ones."""
        finished = [trial for trial in self.trials if trial.state == "finished" and trial.value is not None]
        sign = -1 if self.goal.higher else 1
        return min(finished, key=lambda trial: (sign * (trial.value or 0.0), trial.number), default=None)

    @property
    def summary(self) -> str:
        """How many trials there are, and what became of them: "50 trials: 30 finished, 20 pruned"."""
        states = Counter(trial.state for trial in self.trials)
        each = [f"{states[state]} {state}" for state in get_args(Status) if states[state]]
        return f"{counted(len(self.trials), 'trial')}: {', '.join(each)}" if each else "0 trials"

    def left(self, search: Search) -> bool:
        """Whether there are trials left to do."""
        ended = sum(trial.state in ("finished", "failed", "pruned") for trial in self.trials)
        return ended < max(search.trials, len(self.trials))


def trial_runs(study: Study, number: int, values: Mapping[str, Any]) -> tuple[Planned, ...]:
    """The runs of a trial, by its values as Optuna has them: those of choices are their names.

    Raises RecipeError where they do not make a recipe.
    """
    title = f"{study.file.title}: trial {number}"
    recipe = _recipe(study, values, title)
    cell = {"trial": str(number), **shown_values(values)}
    seeded = [attrs.evolve(recipe, seed=seed) for seed in study.file.seeds]
    return tuple(Planned(cell, each.seed, each, folder_name(each)) for each in seeded)


def shown_values(values: Mapping[str, Any]) -> dict[str, str]:
    """The values of a trial in a table's words."""
    return {place: f"{value:.4g}" if isinstance(value, float) else str(value) for place, value in values.items()}


def goal(study: Study) -> Best:
    """The number that a search is for. Raises ValueError where the study has none of this name."""
    return named_number(searched(study).metric, _evaluations(study))


def interval(study: Study) -> int | None:
    """The number of steps between two scores by the metric that a search is for."""
    return _evaluations(study)[goal(study).metric].every


def _evaluations(study: Study) -> Mapping[str, Evaluation]:
    """What judges the trials, by name."""
    recipe = study.runs[0].recipe
    assert isinstance(recipe, Recipe)  # a search among comparisons is refused
    return named(recipe.metrics, recipe.registry)


def searched(study: Study) -> Search:
    """The table [search] of a study that has one."""
    assert study.file.search is not None
    return study.file.search


def check_search(study: Study) -> None:
    """Raises RecipeError, with each range, where one has no option, or its ends or choices are none for its option.

    The ends of a range are tried with the first values of the others.
    """
    search = searched(study)
    problems = [f"{place}: {text}" for place, text in _mistakes(study, search)]
    if problems:
        raise RecipeError([f"{study.file.title}: {problem}" for problem in dict.fromkeys(problems)])


def _mistakes(study: Study, search: Search) -> Iterator[tuple[str, str]]:
    try:
        goal(study)
        if search.prune and interval(study) is None:
            yield "search.prune", f"{search.metric} is judged at the end only; set `every` in its table of [[metrics]]"
    except ValueError as error:
        yield "search.metric", str(error)
    if study.file.axes:
        yield "search", "a study has axes or a search, not both; ranges may also be lists of values"
    ends = {
        place: list(found.values) if isinstance(found, Choices) else [found.low, found.high]
        for place, found in search.ranges.items()
    }
    first = {place: values[0] for place, values in ends.items()}
    for place, values in ends.items():
        where = f'search.ranges."{place}"'
        if (table := place.partition(".")[0].partition("[")[0].strip()) in SHARED:
            yield where, SHARED[table]
            continue
        for value in values:
            try:
                _recipe(study, {**first, place: value}, "")
            except RecipeError as error:
                yield from ((where, problem.removeprefix(": ")) for problem in error.problems)
            except RequestError as error:
                yield where, str(error).removeprefix(": ")


def _recipe(study: Study, values: Mapping[str, Any], title: str) -> Recipe:
    document = copy.deepcopy(dict(study.file.base))
    for place, value in values.items():
        found = searched(study).ranges[place]
        assign(document, place, copy.deepcopy(found.values[value]) if isinstance(found, Choices) else value, title)
    return structure(document, title, study.runs[0].recipe.registry)
