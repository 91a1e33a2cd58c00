"""The table [search]: each mistake with its place."""

import pytest

from ganframe.studies.ranges import Choices, Range, read_search

SEARCH = {"metric": "modes", "trials": 3, "ranges": {"latent.dim": {"low": 1, "high": 8}}}


def test_ranges_and_choices():
    ranges = {
        "a": {"low": 1, "high": 5},
        "b": {"low": 1e-5, "high": 1, "log": True},
        "c": ["x", "y"],
        "d": [[], [{"use": "z"}], 1, True],
    }
    search, mistakes = read_search({**SEARCH, "ranges": ranges, "prune": True})
    assert not mistakes
    assert (search.metric, search.trials, search.prune) == ("modes", 3, True)
    assert search.ranges == {
        "a": Range(1, 5),
        "b": Range(1e-5, 1.0, True),
        "c": Choices({"x": "x", "y": "y"}),
        "d": Choices({"[]": [], '[{"use": "z"}]': [{"use": "z"}], "1": 1, "true": True}),
    }
    assert [type(end) for found in (search.ranges["a"], search.ranges["b"]) for end in (found.low, found.high)] == [
        *(int, int),
        *(float, float),
    ]


@pytest.mark.parametrize(
    ("changed", "place", "words"),
    [
        ({"trails": 3}, "search.trails", "unknown option; did you mean 'trials'?"),
        ({"trials": 0}, "search.trials", "must be >= 1, not 0"),
        ({"trials": 2.5}, "search.trials", "must be an integer"),
        ({"metric": 3}, "search.metric", "must be a text"),
        ({"prune": "yes"}, "search.prune", "must be true or false"),
        ({"ranges": {}}, "search.ranges", "is empty"),
        ({"ranges": 3}, "search.ranges", "must be a table"),
        ({"ranges": {"a": 3}}, 'search.ranges."a"', "must be { low"),
        ({"ranges": {"a": {"low": 3}}}, 'search.ranges."a"', "high is missing"),
        ({"ranges": {"a": {"low": 3, "hihg": 4}}}, 'search.ranges."a"', "unknown option 'hihg'; did you mean 'high'?"),
        ({"ranges": {"a": {"low": 3, "high": 3}}}, 'search.ranges."a"', "low must be below high"),
        ({"ranges": {"a": {"low": 0, "high": 3, "log": True}}}, 'search.ranges."a"', "low must be > 0"),
        ({"ranges": {"a": {"low": "b", "high": 3}}}, 'search.ranges."a"', "must be a number"),
        ({"ranges": {"a": {"low": 0.0, "high": float("inf")}}}, 'search.ranges."a"', "must be a finite number"),
        ({"ranges": {"a": ["b"]}}, 'search.ranges."a"', "two values or more"),
        ({"ranges": {"a": ["b", "b"]}}, 'search.ranges."a"', "all different"),
    ],
)
def test_a_mistake_has_its_place(changed, place, words):
    search, mistakes = read_search({**SEARCH, **changed})
    assert search is None
    assert [found for found, _ in mistakes] == [place]
    assert words in mistakes[0][1]


@pytest.mark.parametrize("value", [3, {}, {"metric": "modes"}])
def test_what_is_missing_is_named(value):
    search, mistakes = read_search(value)
    assert search is None
    assert mistakes[0][0].startswith("search")
    assert mistakes[0][1].startswith(("must be a table", "missing"))


def test_all_mistakes_are_found_at_once():
    _, mistakes = read_search({"metric": 1, "trials": 0, "ranges": {"a": 1, "b": 2}})
    assert len(mistakes) == 4
