import time

import pytest

from ganframe.errors import RecipeError, RequestError, counted, did_you_mean, noted_if_slow, warn


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


@pytest.mark.parametrize(
    ("number", "said"), [(0, "0 samples"), (1, "1 sample"), (2, "2 samples"), (1797, "1,797 samples")]
)
def test_counted_nouns_are_singular_and_plural(number, said):
    assert counted(number, "sample") == said
    assert counted(number, "class", "classes") == said.replace("samples", "classes").replace("sample", "class")


def test_note_comes_only_where_something_is_slow(capsys):
    with noted_if_slow("reading"):
        pass
    assert capsys.readouterr().err == ""
    with noted_if_slow("reading", seconds=0.01):
        time.sleep(0.2)
    assert capsys.readouterr().err == "reading\n"
    with pytest.raises(ValueError, match="bad"), noted_if_slow("reading", seconds=60):
        raise ValueError("bad")
