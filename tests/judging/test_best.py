"""The best checkpoint of a run, by a number of a metric."""

import pytest

from ganframe.judging.best import Best, best_of
from ganframe.judging.judge import named
from ganframe.recipes.problems import Problems
from ganframe.recipes.reading import load_recipe


def score(step, value, by="run", chosen_by=None, metric="modes"):
    return {
        "metric": metric,
        "modes": value,
        "protocol": {"chosen_by": chosen_by},
        "judged": {"step": step, "by": by},
    }


@pytest.mark.parametrize(("higher", "wanted"), [(True, 20), (False, 10)])
def test_best_step_is_that_of_the_best_number_and_the_first_of_equal_ones(higher, wanted):
    scores = [score(5, 3), score(10, 1), score(20, 7), score(25, 7), score(30, 1)]
    assert Best("modes", "modes", higher).step(scores) == wanted


def test_scores_of_others_do_not_choose():
    others = [score(9, 99, by="evaluate"), score(9, 99, chosen_by="modes"), score(9, 99, metric="modes_2")]
    failed = {"metric": "modes", "error": "none", "protocol": {}, "judged": {"step": 9, "by": "run"}}
    assert Best("modes", "modes", True).step([score(5, 1), *others, failed]) == 5
    assert Best("modes", "modes", True).step([*others, failed]) is None


@pytest.mark.parametrize(
    ("keep_best", "every", "wanted"),
    [
        ("modes", 2, Best("modes", "modes", True)),
        ("modes.kl", 2, Best("modes", "kl", False)),
        ("modes.high_quality", 2, Best("modes", "high_quality", True)),
    ],
)
def test_keep_best_names_a_metric_or_one_of_its_numbers(tiny, keep_best, every, wanted):
    assert _found(tiny, keep_best, every) == (wanted, [])


@pytest.mark.parametrize(
    ("keep_best", "every", "message"),
    [
        ("mode", 2, "log.keep_best: no metric 'mode' in [[metrics]]: modes"),
        ("modes.none", 2, "log.keep_best: 'none' of modes has no direction; known: "),
        ("modes", None, "log.keep_best: modes is judged at the end only; set metrics[0].every"),
    ],
)
def test_keep_best_that_names_nothing_is_refused(tiny, keep_best, every, message):
    best, problems = _found(tiny, keep_best, every)
    assert best is None
    assert len(problems) == 1
    assert message in problems[0]


def _found(tiny, keep_best, every):
    line = "" if every is None else f"every = {every}"
    recipe = load_recipe(tiny(f'[log]\nkeep_best = "{keep_best}"\n[[metrics]]\nuse = "modes"\n{line}\n'))
    problems = Problems("tiny.toml")
    return best_of(recipe, named(recipe.metrics, recipe.registry), problems), problems.found
