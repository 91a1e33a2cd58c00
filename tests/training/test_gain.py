"""A warning where several processes on CPUs are slower than one would be."""

from types import SimpleNamespace

import pytest

from ganframe.training import gain


@pytest.mark.parametrize(
    ("processes", "averaging", "warned"), [(2, 0.6, True), (2, 0.4, False), (4, 0.6, False), (4, 0.8, True)]
)
def test_warning_where_averaging_takes_more_of_a_step_than_the_processes_save(
    monkeypatch, capsys, processes, averaging, warned
):
    clock = SimpleNamespace(now=0.0)
    monkeypatch.setattr(gain.time, "perf_counter", lambda: clock.now)

    def average(tensors):
        clock.now += averaging

    state = SimpleNamespace(average=average)
    callback = gain.warn_without_gain(state, processes)
    for step in range(30):
        clock.now += 0.0 if step else 1_000.0  # the first step is slow
        state.average([])
        clock.now += 1 - averaging
        callback(state)
    assert state.average is average
    found = capsys.readouterr().err
    assert found.count("warning: ") == warned
    if warned:
        assert f"over {processes} processes takes {averaging:.0%} of a step" in found
