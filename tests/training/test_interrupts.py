"""Signals that stop a run between two steps."""

import signal
import threading

import pytest

from ganframe.engine.algorithm import train
from ganframe.training.interrupts import Interrupted, interrupts


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_signal_stops_between_two_steps_after_saving(state, number):
    handlers = [signal.getsignal(n) for n in (signal.SIGINT, signal.SIGTERM)]
    saved = []

    def press(state):
        if state.step == 2:
            signal.raise_signal(number)

    with (
        pytest.raises(Interrupted),
        interrupts(lambda asked: asked, lambda state: saved.append(state.step)) as stop,
    ):
        train(state, 5, 1, [press, stop])
    assert saved == [2]
    assert state.step == 2
    assert [signal.getsignal(n) for n in (signal.SIGINT, signal.SIGTERM)] == handlers


def test_without_a_signal_nothing_is_saved(state):
    handler = signal.getsignal(signal.SIGINT)
    with interrupts(lambda asked: asked, lambda state: pytest.fail("nobody asked")) as stop:
        assert signal.getsignal(signal.SIGINT) is not handler
        train(state, 2, 1, [stop])
    assert signal.getsignal(signal.SIGINT) is handler


def test_signal_of_another_process_stops_this_one(state):
    with pytest.raises(Interrupted), interrupts(lambda asked: True, lambda state: None) as stop:
        train(state, 5, 1, [stop])
    assert state.step == 1


def test_second_signal_ends_the_process_at_once(monkeypatch):
    before = signal.getsignal(signal.SIGTERM)
    with interrupts(lambda asked: asked, lambda state: None):
        signal.raise_signal(signal.SIGTERM)
        raised = []
        monkeypatch.setattr(signal, "raise_signal", lambda number: raised.append(signal.getsignal(number)))
        signal.getsignal(signal.SIGTERM)(signal.SIGTERM, None)
        assert raised == [signal.SIG_DFL]
    assert signal.getsignal(signal.SIGTERM) is before


def test_run_in_a_thread_leaves_signal_handlers_alone(state):
    done = []

    def work():
        with interrupts(lambda asked: asked, lambda state: None) as stop:
            train(state, 2, 1, [stop])
            done.append(state.step)

    handler = signal.getsignal(signal.SIGINT)
    thread = threading.Thread(target=work)
    thread.start()
    thread.join()
    assert done == [2]
    assert signal.getsignal(signal.SIGINT) is handler
