"""Strict structuring: every wrong value is found, at its place, and no value is converted to fit."""

from __future__ import annotations

from typing import Literal

import attrs
import pytest
from attrs.validators import gt

from ganframe import Constraint, component, option
from ganframe.plugins.registry import load
from ganframe.recipes.strict import Problem, as_leaf, as_table, join, make_converter, problems, shown, split_index


@attrs.frozen
class Inner:
    size: int = option(help="")
    share: float = option(0.5, help="", validator=gt(0))


@attrs.frozen
class Outer:
    inner: Inner
    pair: tuple[float, float] = (1.0, 2.0)
    many: tuple[int, ...] = ()
    table_list: list[Inner] = attrs.field(factory=list)
    either: int | str = 0
    maybe: int | None = None
    fixed: Literal[1, "one", True] = "one"
    flag: bool = False
    constraints: tuple[Constraint, ...] = ()
    lambda_: float = option(1.0, help="", validator=gt(0))
    number_or_table: float | Inner | None = None
    component_or_list: Constraint | tuple[int, ...] | None = None
    number_or_pair: int | tuple[int, int] | None = None

    def __attrs_post_init__(self) -> None:
        if self.maybe == 13:
            raise ValueError("13 is refused")


@pytest.fixture(scope="module")
def converter():
    return make_converter(load())


@pytest.fixture
def found(converter):
    """found(document): the problems of an Outer, as "place: text"."""

    def find(document):
        try:
            converter.structure(document, Outer)
        except Exception as error:
            return [f"{place}: {text}" for place, text in problems(error)]
        return []

    return find


def test_fields_of_every_kind_are_structured(converter):
    document = {
        "inner": {"size": 3, "share": 1},
        "pair": [3, 4.5],
        "many": [1, 2],
        "table_list": [{"size": 1}],
        "either": "x",
        "maybe": 4,
        "fixed": 1,
        "flag": True,
        "constraints": [{"use": "weight_clipping", "limit": 1}],
    }
    made = converter.structure(document, Outer)
    clipping = component("constraint", "weight_clipping")
    assert made == Outer(
        inner=Inner(3, 1.0),
        pair=(3.0, 4.5),
        many=(1, 2),
        table_list=[Inner(1)],
        either="x",
        maybe=4,
        fixed=1,
        flag=True,
        constraints=(clipping(limit=1.0),),
    )
    assert type(made.inner.share) is float
    assert type(made.pair[0]) is float
    assert document["constraints"] == [{"use": "weight_clipping", "limit": 1}]  # the input is unchanged


@pytest.mark.parametrize(
    ("change", "problem"),
    [
        ({"inner": {}}, "inner.size: missing"),
        ({"inner": 3}, "inner: must be a table, not 3"),
        ({"inner": [{"size": 1}]}, "inner: must be a table, not a list"),
        ({"inner": {"size": 1.0}}, "inner.size: must be an integer, not 1.0"),
        ({"inner": {"size": True}}, "inner.size: must be an integer, not true"),
        ({"inner": {"size": 1, "share": True}}, "inner.share: must be a number, not true"),
        ({"inner": {"size": 1, "share": "1"}}, "inner.share: must be a number, not '1'"),
        ({"inner": {"size": 1, "share": 0}}, "inner.share: must be > 0, not 0.0"),
        ({"inner": {"size": 1, "sahre": 1}}, "inner.sahre: unknown option; did you mean 'share'?"),
        ({"iner": {}}, "iner: unknown table; did you mean 'inner'?"),
        ({"pair": [1.0]}, "pair: must have 2 elements, not 1"),
        ({"pair": [1.0, "x"]}, "pair[1]: must be a number, not 'x'"),
        ({"pair": "ab"}, "pair: must be a list, not 'ab'"),
        ({"many": [1, 2.5]}, "many[1]: must be an integer, not 2.5"),
        ({"many": {"a": 1}}, "many: must be a list, not a table"),
        ({"table_list": [{"size": 1}, {"size": "2"}]}, "table_list[1].size: must be an integer, not '2'"),
        ({"maybe": "4"}, "maybe: must be an integer, not '4'"),
        ({"maybe": 13}, ": 13 is refused"),
        ({"fixed": 1.0}, "fixed: must be one of 1, 'one', True, not 1.0"),
        ({"fixed": False}, "fixed: must be one of 1, 'one', True, not false"),
        ({"fixed": "noe"}, "fixed: must be one of 1, 'one', True, not 'noe'; did you mean 'one'?"),
        ({"flag": "false"}, "flag: must be true or false, not 'false'"),
        ({"flag": 0}, "flag: must be true or false, not 0"),
        ({"constraints": [{"limit": 1}]}, "constraints[0].use: missing; name a constraint: "),
        ({"constraints": [{"use": "weight_clip"}]}, "constraints[0].use: unknown constraint 'weight_clip'; did you"),
        ({"constraints": ["weight_clipping"]}, "constraints[0]: must be a table, not 'weight_clipping'"),
        ({"constraints": [{"use": "weight_clipping", "limit": -1}]}, "constraints[0].limit: must be > 0, not -1.0"),
    ],
)
def test_mistake_is_one_problem_with_its_place(found, change, problem):
    (line,) = found({"inner": {"size": 1}, **change})
    assert line.startswith(problem)


def test_union_accepts_its_types_only(found):
    assert found({"inner": {"size": 1}, "either": 2}) == []
    (line,) = found({"inner": {"size": 1}, "either": 2.5})
    assert line.startswith("either: must be ")
    assert line.endswith("not 2.5")


def test_wrong_values_and_wrong_types_are_all_found(found):
    document = {
        "inner": {"size": "1", "share": -1, "sizes": 2},
        "pair": ["a", "b"],
        "flag": 1,
        "constraints": [{"use": "spectral_norm", "power_iterations": 0}, {"use": "nothing_like_it"}],
    }
    places = [line.partition(": ")[0] for line in found(document)]
    assert sorted(places) == [
        "constraints[0].power_iterations",
        "constraints[1].use",
        "flag",
        "inner.share",
        "inner.size",
        "inner.sizes",
        "pair[0]",
        "pair[1]",
    ]


@pytest.mark.parametrize(
    ("leaf", "value", "result"),
    [(int, 3, 3), (float, 3, 3.0), (float, 2.5, 2.5), (bool, False, False), (str, "3", "3")],
)
def test_as_leaf_returns_the_declared_type(leaf, value, result):
    made = as_leaf(value, leaf)
    assert made == result
    assert type(made) is leaf


@pytest.mark.parametrize(
    ("leaf", "value"), [(int, 3.0), (int, True), (float, True), (float, "3"), (bool, 1), (bool, "true"), (str, 3)]
)
def test_as_leaf_converts_no_other_type(leaf, value):
    with pytest.raises(ValueError, match=r"must be .*, not"):
        as_leaf(value, leaf)


@pytest.mark.parametrize(
    ("value", "text"), [(True, "true"), ({}, "a table"), ([1], "a list"), ("a", "'a'"), (1.5, "1.5"), (3, "3")]
)
def test_values_are_shown_as_in_toml(value, text):
    assert shown(value) == text


def test_join_of_places():
    assert join("a", "b") == "a.b"
    assert join("a[0].b", "c") == "a[0].b.c"
    assert join("", "b") == "b"
    assert join("a", "") == "a"


def test_as_table_returns_the_table_itself():
    table = {"a": 1}
    assert as_table(table) is table
    with pytest.raises(ValueError, match="must be a table, not 'x'"):
        as_table("x")


def test_problem_in_a_group_has_the_place_of_the_group():
    group = ExceptionGroup("", [Problem("use", "missing"), ExceptionGroup("", [ValueError("wrong")])])
    assert list(problems(group, "table")) == [("table.use", "missing"), ("table", "wrong")]


def test_name_in_toml_is_without_the_underscore_that_python_needs(converter, found):
    assert converter.structure({"inner": {"size": 3}, "lambda": 2}, Outer).lambda_ == 2.0
    assert found({"inner": {"size": 3}, "lambda": "x"}) == ["lambda: must be a number, not 'x'"]
    assert found({"inner": {"size": 3}, "lambda": 0}) == ["lambda: must be > 0, not 0.0"]
    assert found({"inner": {"size": 3}, "lambda_": 2}) == ["lambda_: unknown table; did you mean 'lambda'?"]


@pytest.mark.parametrize(
    ("name", "value", "problem"),
    [
        ("number_or_table", "x", "number_or_table: must be a number, not 'x'"),
        ("number_or_table", {"size": "x"}, "number_or_table.size: must be an integer, not 'x'"),
        ("component_or_list", {"use": "nope"}, "component_or_list.use: unknown constraint 'nope'"),
        ("component_or_list", [1, "x"], "component_or_list[1]: must be an integer, not 'x'"),
        ("number_or_pair", "x", "number_or_pair: must be an integer, not 'x'"),
        ("number_or_pair", [1, 2, 3], "number_or_pair: must have 2 elements, not 3"),
        ("number_or_pair", [1, "x"], "number_or_pair[1]: must be an integer, not 'x'"),
    ],
)
def test_mistake_in_a_union_is_that_of_the_member_which_was_meant(found, name, value, problem):
    (line,) = found({"inner": {"size": 3}, name: value})
    assert line.startswith(problem)


def test_place_has_a_name_and_perhaps_an_index():
    assert split_index("betas[1]") == ("betas", 1)
    assert split_index("lr") == ("lr", None)
