"""Progress on standard error."""

import re
import time

import click
import pytest

from ganframe.engine.algorithm import train
from ganframe.training.log import LogMeans, write_line
from ganframe.training.progress import _pace, progress


@pytest.fixture
def train_with_progress(state):
    """train_with_progress(shown=True): five steps with a record of each; returns the records."""

    def run(shown=True):
        means, records = LogMeans(), []
        write = write_line(means, records, lambda record: None, lambda values, step: None)
        with progress(5, 0, records, shown) as bar:
            train(state, 5, 1, [means, write, bar])
        return records

    return run


def test_without_a_terminal_progress_is_an_occasional_line(train_with_progress, capsys):
    records = train_with_progress()
    lines = capsys.readouterr().err.splitlines()
    assert len(lines) <= 3
    assert lines[-1].startswith("step 5/5  loss D ")
    assert f"loss G {records[-1]['loss_generator']:+.3f}" in lines[-1]
    assert re.search(r"  [\d.,]+ steps/s  0:0\d elapsed  0:00 left$", lines[-1])


def test_on_a_terminal_progress_is_a_bar_with_losses(train_with_progress, monkeypatch, capsys):
    monkeypatch.setattr("sys.stderr.isatty", lambda: True, raising=False)
    monkeypatch.setenv("COLUMNS", "200")
    records = train_with_progress()
    error = capsys.readouterr().err
    assert "5/5" in error
    assert re.search(r"[\d.,]+ steps/s  0:0\d elapsed  0:00 left", error)
    assert f"loss G {records[-1]['loss_generator']:+.3f}" in error


@pytest.mark.parametrize("columns", [40, 60, 80, 100])
def test_bar_stays_on_one_line_of_the_terminal(train_with_progress, monkeypatch, capsys, columns):
    monkeypatch.setattr("sys.stderr.isatty", lambda: True, raising=False)
    monkeypatch.setenv("COLUMNS", str(columns))
    train_with_progress()
    error = capsys.readouterr().err
    assert max(len(line) for line in re.split(r"[\r\n]", click.unstyle(error))) <= columns
    assert "5/5" in error


@pytest.mark.parametrize(
    ("seconds", "steps", "left", "shown"),
    [
        (10.0, 25, 50, "2.5 steps/s  0:10 elapsed  0:20 left"),
        (100.0, 1, 3, "100 s/step  1:40 elapsed  5:00 left"),
        (3723.0, 1_861_500, 0, "500 steps/s  1:02:03 elapsed  0:00 left"),
        (5.0, 0, 3, "0 steps/s  0:05 elapsed  0:15 left"),
        (1.0, 12_345, 12_345 * 200_000, "12,345 steps/s  0:01 elapsed  2 d 7:33:20 left"),
    ],
)
def test_pace_has_speed_and_times(seconds, steps, left, shown):
    assert _pace(seconds, steps, left) == shown


def test_speed_of_a_resumed_run_is_that_since_it_was_resumed(state, capsys):
    state.step = 995
    with progress(1000, 995, [], shown=True) as bar:
        time.sleep(0.05)
        train(state, 1000, 1, [bar])
    speed = re.search(r"step 1000/1000 .* ([\d.,]+) steps/s", capsys.readouterr().err)[1]
    assert float(speed.replace(",", "")) <= 100


def test_other_processes_show_nothing(train_with_progress, capsys):
    train_with_progress(shown=False)
    captured = capsys.readouterr()
    assert captured.out == captured.err == ""


def test_loss_that_is_not_finite_is_shown_as_such(state, capsys):
    with progress(1, 0, [{"step": 1, "loss_discriminator": 0.25, "loss_generator": None}], shown=True) as bar:
        train(state, 1, 1, [bar])
    assert "loss D +0.250  loss G not finite" in capsys.readouterr().err


def test_losses_before_their_start_are_left_out(state, capsys):
    with progress(1, 0, [{"step": 1, "term_l1": 0.5, "seconds": 1.0}], True) as bar:
        train(state, 1, 1, [bar])
    error = capsys.readouterr().err
    assert error.startswith("step 1/1  ")
    assert "loss" not in error
