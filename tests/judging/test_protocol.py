"""Which scores may be compared, and what identifies a recipe."""

import pytest

from ganframe.judging.protocol import called, described, differences, numbers, recipe_hash
from ganframe.recipes.reading import load_recipe

PROTOCOL = {
    "metric": "builtin:frechet",
    "options": {"real": 100},
    "features": {"classifier": {"hash": "ab", "accuracy": 0.9}},
    "against": "test",
    "counts": {"real": 100},
    "samples": 50,
    "chosen_by": None,
}


def score(**changes):
    return {"metric": "frechet", "frechet": 2.0, "protocol": PROTOCOL | changes, "judged": {"step": 5}}


def test_scores_of_one_protocol_may_be_compared():
    assert differences([score(), score() | {"frechet": 3.0, "judged": {"step": 9}}]) == []


@pytest.mark.parametrize(
    ("changes", "place"),
    [
        ({"samples": 60}, "samples"),
        ({"against": "train"}, "against"),
        ({"chosen_by": "frechet"}, "chosen_by"),
        ({"options": {"real": 99}}, "options.real"),
        ({"counts": {"real": 99}}, "counts.real"),
        ({"features": {"classifier": {"hash": "cd", "accuracy": 0.9}}}, "features.classifier.hash"),
        ({"features": {"pixels": {"hash": "ab"}}}, "features.classifier.hash"),
        ({"data": "12"}, "data"),
    ],
)
def test_whatever_differs_in_the_protocol_is_named(changes, place):
    found = differences([score(), score(), score(**changes)])
    assert any(line.startswith(f"{place} is ") for line in found)


def test_numbers_are_what_the_metric_found():
    assert numbers(score()) == {"frechet": 2.0}
    assert numbers({"metric": "frechet", "error": "too few", "protocol": {}, "judged": {}}) == {}


def test_protocol_in_one_line():
    assert described(PROTOCOL) == "50 generated samples; against held-out data: 100 real; features classifier (ab)"
    assert described(PROTOCOL | {"chosen_by": "modes"}).endswith("the checkpoint chosen by modes")


@pytest.mark.parametrize(
    ("override", "same"),
    [
        ("log.every=3", True),
        ("log.keep_best=modes", True),
        ("name=other", True),
        ('metrics=[{use="modes"}]', True),
        ("seed=7", False),
        ("train.steps=7", False),
        ("optimizer.generator={use='Adam', lr=0.1}", False),
        ("constraints=[{use='spectral_norm'}]", False),
    ],
)
def test_recipe_hash_is_of_what_decides_the_weights(tiny, override, same):
    one, other = load_recipe(tiny()), load_recipe(tiny(), [override])
    assert (recipe_hash(one) == recipe_hash(other)) is same


@pytest.mark.parametrize(
    ("features", "number", "name"),
    [
        ({"inception": {"names": {"frechet": "FID"}}}, "frechet", "frechet (FID)"),
        ({"classifier": {}}, "frechet", "frechet (FD[classifier])"),
        ({"own:small": {"hash": "ab"}}, "frechet", "frechet (FD[own:small])"),
        ({"classifier": {}}, "precision", "precision"),
        ({}, "modes", "modes"),
    ],
    ids=lambda value: next(iter(value), "none") if isinstance(value, dict) else value,
)
def test_a_frechet_distance_is_called_fid_with_inception_alone(features, number, name):
    assert called(score(features=features), number) == name
