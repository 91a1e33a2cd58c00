"""What `bench` measures. Times themselves are not tested."""

from __future__ import annotations

import random

import attrs
import pytest
import torch

import ganframe
from ganframe.analysis import bench as benchmarks
from ganframe.analysis import flops, phases
from ganframe.analysis.bench import Spread, bench, compare
from ganframe.engine.algorithm import training_iteration
from ganframe.engine.recording import NotCompilable
from ganframe.errors import RequestError, RunError
from ganframe.training import check, checkpoint

STEP = 512 + 768 + 768 + 256 + 512 + 384 + 384 + 512 + 256
"""Operations of a step of the tiny recipe by hand: fakes; D, its weights, its hidden layer; G, D on 8 samples, their
gradients."""


@pytest.fixture(autouse=True)
def small_products(monkeypatch):
    monkeypatch.setitem(flops.SIZE, "cpu", 256)


@pytest.fixture
def recipe(tiny):
    """recipe(more="", **overrides): the tiny recipe, with more steps."""

    def load(more="", *overrides):
        return ganframe.load_recipe(tiny(more), ["train.steps=40", *overrides])

    return load


@pytest.fixture
def seconds(monkeypatch):
    """Makes each step of a recipe with a batch of n take n milliseconds."""
    taken = [0.0]
    train = benchmarks.train

    def slow(state, steps, *others):
        taken[0] += (steps - state.step) * state.generator_batch_size / 1e3
        train(state, steps, *others)

    monkeypatch.setattr(benchmarks, "train", slow)
    monkeypatch.setattr(benchmarks, "moment", lambda device: taken[0])


def test_bench_reports_speed_phases_and_operations(recipe, seconds):
    found = bench(recipe("critic_steps = 2\nema = 0.9"), steps=6)
    assert found.recipe.endswith("tiny.toml")
    assert (found.device, found.threads, found.precision) == ("cpu", torch.get_num_threads(), "no")
    assert (found.steps, found.rounds) == (6, 3)
    assert attrs.astuple(found.milliseconds) == pytest.approx((8, 8, 8))
    assert found.steps_per_second == pytest.approx(125)
    assert found.samples_per_second == pytest.approx(2 * 8 * 125)
    assert found.flops == STEP + 512 + 768 + 768 + 256
    assert found.flops_per_second == pytest.approx(125 * found.flops)
    assert found.share_of_peak == pytest.approx(found.flops_per_second / found.peak_flops)
    assert found.phases is not None
    assert found.phases.keys() == {*phases.PHASES}
    for phase, taken in found.phases.items():
        assert (taken > 0) == (phase not in ("penalty", "terms")), phase
    assert found.memory is not None


def test_penalty_that_is_not_always_due_counts_as_its_mean(recipe):
    penalty = """
        [[constraints]]
        use = "gradient_penalty"
    """
    none, each, third = (bench(recipe(more), steps=2).flops for more in ("", penalty, penalty + "        every = 3\n"))
    assert none == STEP
    assert none < third < each
    assert third == none + (each - none) / 3


def test_parts_that_start_later_are_measured(recipe):
    found = bench(
        recipe(
            """
            [[constraints]]
            use = "gradient_penalty"
            start = 20
            """
        ),
        steps=2,
    )
    assert found.phases is not None
    assert found.phases["penalty"] > 0


def test_bench_does_what_a_run_does_between_steps_and_leaves_nothing(recipe, tmp_path, monkeypatch):
    saved = []
    save = checkpoint.save

    def note(trainer, folder, *others):
        save(trainer, folder, *others)
        saved.append(folder)

    monkeypatch.setattr(checkpoint, "save", note)
    monkeypatch.chdir(tmp_path)
    loaded = recipe("[log]\ncheckpoint_every = 3\nsamples_every = 3\n")
    before = sorted(tmp_path.rglob("*"))
    bench(loaded, steps=8)
    assert saved
    assert not any(folder.path.exists() for folder in saved)
    assert sorted(tmp_path.rglob("*")) == before


def test_bench_keeps_the_random_state(recipe):
    torch.manual_seed(3)
    random.seed(3)
    expected = (torch.rand(1), random.random())
    torch.manual_seed(3)
    random.seed(3)
    bench(recipe(), steps=2)
    assert (torch.rand(1), random.random()) == expected


@pytest.mark.parametrize("steps", [1, 4])
def test_recipe_of_too_few_steps_is_refused(recipe, steps):
    with pytest.raises(RequestError, match=f"train.steps: {steps} are too few to measure; --set train.steps="):
        bench(recipe("", f"train.steps={steps}"), steps=2)


def test_measured_steps_stay_within_those_of_the_recipe(recipe):
    """A schedule may end at the last of them."""
    loaded = recipe(
        """
        [optimizer.generator]
        use = "Adam"
        schedule = { use = "OneCycleLR", max_lr = 1e-3, total_steps = 40 }
        """
    )
    assert bench(loaded, steps=1_000).steps <= 37


class Graph:
    """Takes the place of an iteration as a compiled one does."""

    def __init__(self, fault=None):
        self.graphs, self.called, self.fault = {"all parts": "a graph"}, 0, fault

    def __call__(self, state, critic_steps):
        self.called += 1
        if self.fault is not None:
            raise self.fault
        training_iteration(state, critic_steps)


def test_compiled_step_is_measured_whole(recipe, monkeypatch):
    graph = Graph()
    monkeypatch.setattr(benchmarks, "compiled_iteration", lambda trainer, folder: graph)
    found = bench(recipe(), steps=8)
    assert found.compiled
    assert found.phases is None
    assert found.steps <= graph.called
    assert found.flops == STEP  # of the step as it is without


def test_iteration_that_was_not_compiled_after_all_has_phases(recipe, monkeypatch):
    graph = Graph()
    graph.graphs = {"all parts": None}
    monkeypatch.setattr(benchmarks, "compiled_iteration", lambda trainer, folder: graph)
    found = bench(recipe(), steps=8)
    assert not found.compiled
    assert found.phases is not None


def test_step_that_cannot_be_compiled_is_refused_as_by_run(recipe, monkeypatch):
    graph = Graph(NotCompilable("generator: it has no graph"))
    monkeypatch.setattr(benchmarks, "compiled_iteration", lambda trainer, folder: graph)
    with pytest.raises(RequestError, match=r"tiny\.toml: train\.compile: generator: it has no graph"):
        bench(recipe(), steps=8)


def test_several_processes_are_refused(recipe, monkeypatch):
    monkeypatch.setenv("WORLD_SIZE", "2")
    with pytest.raises(RequestError, match="one process"):
        bench(recipe())


def test_values_that_are_not_finite_end_with_one_line(recipe):
    with pytest.raises(RunError, match=r"tiny\.toml: step \d+: loss_discriminator is"):
        bench(recipe("[optimizer.generator]\nuse = 'SGD'\nlr = 1e38\n[log]\nevery = 1\n"), steps=20)


def test_compare_interleaves_rounds_and_gives_the_ratio(recipe, seconds, monkeypatch):
    order = []
    plain = benchmarks._Contestant.round

    def note(contestant):
        order.append(contestant.trainer.recipe.train.batch_size)
        plain(contestant)

    monkeypatch.setattr(benchmarks._Contestant, "round", note)
    both = compare(recipe(), recipe("", "train.batch_size=16"), steps=8)
    assert order == [8, 16, 16, 8, 8, 16, 16, 8]
    assert attrs.astuple(both.ratio) == pytest.approx((2, 2, 2))
    assert both.first.steps_per_second == pytest.approx(2 * both.second.steps_per_second)
    assert both.first.memory is both.second.memory is None  # of one process


def test_memory_is_the_largest_of_the_process(recipe, monkeypatch):
    monkeypatch.setattr(check, "_largest_memory", lambda: 5)
    assert bench(recipe(), steps=2).memory == 5


def test_spread_has_median_and_quartiles():
    assert attrs.astuple(Spread.of([4.0])) == (4.0, 4.0, 4.0)
    assert attrs.astuple(Spread.of([5.0, 1.0, 4.0, 2.0, 3.0])) == (2.0, 3.0, 4.0)
