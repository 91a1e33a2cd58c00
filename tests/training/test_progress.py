"""Progress on standard error."""

import pytest

from ganframe.engine.algorithm import train
from ganframe.training.log import LogMeans, write_line
from ganframe.training.progress import progress


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
    assert lines[-1].endswith("0 s left")


def test_on_a_terminal_progress_is_a_bar_with_losses(train_with_progress, monkeypatch, capsys):
    monkeypatch.setattr("sys.stderr.isatty", lambda: True, raising=False)
    monkeypatch.setenv("COLUMNS", "200")
    records = train_with_progress()
    error = capsys.readouterr().err
    assert "5/5" in error
    assert f"loss G {records[-1]['loss_generator']:+.3f}" in error


def test_other_processes_show_nothing(train_with_progress, capsys):
    train_with_progress(shown=False)
    captured = capsys.readouterr()
    assert captured.out == captured.err == ""


def test_loss_that_is_not_finite_is_shown_as_such(state, capsys):
    with progress(1, 0, [{"step": 1, "loss_discriminator": 0.25, "loss_generator": None}], shown=True) as bar:
        train(state, 1, 1, [bar])
    assert "loss D +0.250  loss G not finite" in capsys.readouterr().err
