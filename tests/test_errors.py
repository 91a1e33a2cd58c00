import pytest

from ganframe.errors import RecipeError, RequestError, did_you_mean, warn


@pytest.mark.parametrize(
    ("name", "known", "hint"),
    [
        ("weigth", ["target", "weight"], "; did you mean 'weight'?"),
        ("zzz", ["b", "a"], "; known: a, b"),
        ("zzz", [], ""),
        ("wgn", iter(["wgan", "vanilla"]), "; did you mean 'wgan'?"),
    ],
)
def test_did_you_mean(name, known, hint):
    assert did_you_mean(name, known) == hint


def test_a_recipe_error_is_a_request_error_with_one_line_for_each_problem():
    error = RecipeError(text for text in ("a: wrong", "b: missing"))
    assert isinstance(error, RequestError)
    assert error.problems == ("a: wrong", "b: missing")
    assert str(error) == "a: wrong\nb: missing"


def test_warn_prints_to_standard_error(capsys):
    warn("the disk is slow")
    assert capsys.readouterr() == ("", "warning: the disk is slow\n")
