"""What `check` measures."""

import sys
from types import SimpleNamespace

import pytest
import torch

from ganframe import training
from ganframe.errors import RunError
from ganframe.report import pictures
from ganframe.training import check


def test_a_picture_counts_in_the_memory_that_check_measures(make_recipe, monkeypatch):
    events = []
    monkeypatch.setattr(pictures, "draw", lambda file, *others, **more: events.append(file))
    monkeypatch.setattr(check, "_largest_memory", lambda: events.append("measured"))
    check.check(make_recipe())
    file, measured = events
    assert measured == "measured"
    assert not file.parent.exists()


def test_memory_is_unknown_where_python_has_no_module_resource(monkeypatch, call, tiny):
    """As on Windows."""
    monkeypatch.setitem(sys.modules, "resource", None)
    monkeypatch.delitem(sys.modules, "ganframe.training.check")  # so that it is imported anew
    monkeypatch.delattr(training, "check")
    assert "memory         unknown on this system, on cpu" in call("check", tiny()).stdout


@pytest.mark.parametrize(("platform", "factor"), [("darwin", 1), ("linux", 1024)])
def test_memory_is_in_bytes_on_every_system(monkeypatch, platform, factor):
    resource = pytest.importorskip("resource")
    monkeypatch.setattr(sys, "platform", platform)
    monkeypatch.setattr(resource, "getrusage", lambda who: SimpleNamespace(ru_maxrss=5))
    assert check._largest_memory() == 5 * factor


@pytest.mark.parametrize(("batch_size", "advice"), [(1, "smaller networks"), (8, "a smaller train.batch_size or")])
def test_smaller_batch_is_advised_only_where_there_is_one(make_recipe, monkeypatch, batch_size, advice):
    def fail(*arguments, **more):
        raise MemoryError

    monkeypatch.setattr(pictures, "draw", fail)
    with pytest.raises(RunError, match=f"not enough memory to train this; use {advice}"):
        check.check(make_recipe(train={"steps": 1, "batch_size": batch_size}))


@pytest.mark.parametrize(("steps", "last"), [(7, 6), (6, 4)])
def test_networks_that_grow_are_tried_as_large_as_they_grow(make_recipe, monkeypatch, steps, last):
    """In the last step of their growth that the run reaches, and so is the picture."""
    drawn = []
    monkeypatch.setattr(check, "growth", lambda network: (4, 6))
    monkeypatch.setattr(check, "draw_pictures", lambda trainer, file: lambda state: drawn.append(state.step))
    check.check(make_recipe(train={"steps": steps}))
    assert drawn == [last + 1]


@pytest.fixture
def two_threads():
    before = torch.get_num_threads()
    torch.set_num_threads(2)
    yield
    torch.set_num_threads(before)


def test_one_thread_is_compared_with_all_by_turns(two_threads):
    seen = []

    def steps(count):
        seen.append((count, torch.get_num_threads()))
        return count * (0.002 if torch.get_num_threads() == 1 else 0.004)

    assert check.one_thread_share(steps, 0.01) == 0.5
    assert seen == [(5, 1), (5, 2)] * 5
    assert check.one_thread_share(steps, 1.0) is None  # large networks
    assert torch.get_num_threads() == 2


def test_number_of_threads_is_restored_where_a_step_fails(two_threads):
    def steps(count):
        raise RuntimeError

    with pytest.raises(RuntimeError):
        check.one_thread_share(steps, 0.01)
    assert torch.get_num_threads() == 2


@pytest.mark.parametrize(("share", "said"), [(0.5, True), (0.95, False), (None, False)])
def test_one_thread_is_advised_where_it_is_faster(call, tiny, monkeypatch, share, said):
    monkeypatch.setattr(check, "one_thread_share", lambda steps, each: share)
    shown = call("check", tiny()).stdout
    assert ("threads        one takes 0.50 of the time" in shown) == said
    assert ("OMP_NUM_THREADS=1" in shown) == said
