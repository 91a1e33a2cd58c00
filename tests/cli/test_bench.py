"""ganframe bench."""

import json

import pytest

from ganframe.analysis import flops


@pytest.fixture(autouse=True)
def small_products(monkeypatch):
    monkeypatch.setitem(flops.SIZE, "cpu", 256)


@pytest.fixture
def bench(call, tiny):
    """bench(*arguments, code=0): of the tiny recipe, with more steps."""

    def run(*arguments, code=0):
        return call("bench", tiny(), "--set", "train.steps=40", *arguments, code=code)

    return run


def test_bench_prints_speed_phases_arithmetic_and_memory(bench):
    said = bench("--steps", 4).stdout
    for heading in ("speed", "  data", "  fakes", "  D", "  G", "  optimiser", "  callbacks", "  together"):
        assert f"\n{heading} " in said, heading
    assert "\narithmetic " in said
    assert "\nmemory " in said
    assert "penalty" not in said  # the recipe has none
    assert "4 steps on cpu, threads" in said


def test_bench_json_has_all_that_was_measured(bench):
    found = json.loads(bench("--steps", 4, "--json").stdout)
    assert found["steps"] == 4
    assert found["phases"]["penalty"] == 0
    assert found.keys() >= {"milliseconds", "steps_per_second", "flops", "share_of_peak", "memory"}


def test_bench_compares_a_recipe_with_another(bench, tiny):
    other = tiny(name="other.toml")
    said = bench("--steps", 4, "--compare", other).stdout
    assert f"\n{other}: 4 steps" in said
    assert "\nratio " in said
    found = json.loads(bench("--steps", 4, "--compare", other, "--json").stdout)
    assert found["ratio"]["low"] <= found["ratio"]["median"] <= found["ratio"]["high"]
    assert found["second"]["recipe"] == str(other)


def test_bench_compares_a_recipe_with_itself_under_other_options(bench):
    found = json.loads(bench("--steps", 4, "--compare-set", "train.batch_size=16", "--json").stdout)
    assert found["second"]["flops"] == 2 * found["first"]["flops"]
    said = bench("--steps", 4, "--compare-set", "train.batch_size=16").stdout
    assert "tiny.toml with train.batch_size=16 / a step of " in " ".join(said.split())
    assert "tiny.toml with train.batch_size=16: 4 steps on cpu" in said


def test_bench_writes_no_run(bench, tmp_path):
    bench("--steps", 4)
    assert [path.name for path in tmp_path.iterdir()] == ["tiny.toml"]


def test_bench_measures_for_some_seconds(bench):
    assert json.loads(bench("--seconds", 0.01, "--json").stdout)["rounds"] >= 1


@pytest.mark.parametrize("wrong", [("--seconds", 1, "--steps", 4), ("--steps", 1), ("--seconds", 0)])
def test_bench_refuses_wrong_amounts(bench, wrong):
    assert "Error: " in bench(*wrong, code=2).stderr
