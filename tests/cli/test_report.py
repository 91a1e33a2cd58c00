"""`ganframe report`: what it writes, and what it refuses in one line."""

import shutil
import webbrowser

import pytest


@pytest.fixture
def opened(monkeypatch):
    """The addresses that a browser was asked to open."""
    asked = []
    monkeypatch.setattr(webbrowser, "open", lambda address: bool(asked.append(address)) or True)
    return asked


@pytest.fixture
def copied(finished, tmp_path):
    shutil.copytree(finished, tmp_path / "copy")
    return tmp_path / "copy"


def test_report_writes_the_page_of_a_run_and_says_where(call, copied, opened):
    result = call("report", copied)
    assert result.stdout == f"{copied / 'report.html'}\n"
    assert "<title>Run x</title>" in (copied / "report.html").read_text()
    assert opened == []


def test_report_opens_the_page(call, copied, opened):
    call("report", "copy", "--open")
    assert opened == [(copied / "report.html").as_uri()]


def test_report_without_a_browser_says_so(call, copied, monkeypatch):
    monkeypatch.setattr(webbrowser, "open", lambda address: False)
    result = call("report", copied, "--open", code=2)
    assert "no browser could be opened" in result.stderr


def test_report_of_a_study_writes_its_page_and_those_of_its_runs(call, recipe, tmp_path):
    (tmp_path / "study.toml").write_text('base = "x.toml"\nseeds = 2\nset = ["train.steps=2"]\n')
    call("study", "study.toml", "--out", "made")
    result = call("report", "made")
    assert result.stdout.splitlines() == ["made/report.html"]
    assert len(list(tmp_path.glob("made/runs/*/report.html"))) == 2
    call("study", "study.toml", "--out", "made")  # goes on where it has a page


@pytest.mark.parametrize(
    ("name", "said"),
    [
        ("nowhere", "nowhere: there is no such folder"),
        ("x.toml", "x.toml: is a file, not the folder of a run or a study"),
        ("empty", "empty: not the folder of a run, and nothing of one is in it"),
        ("parent", "parent: not the folder of a run; runs below it: parent/a/1, parent/a/2, parent/b/1, …"),
        ("measured", "measured: the folder of a measurement, which has no page; give that of a run or a study"),
    ],
)
def test_report_refuses_what_is_no_run_in_one_line(call, recipe, tmp_path, name, said):
    (tmp_path / "empty").mkdir()
    for run in ("a/1", "a/2", "b/1", "b/2"):
        (tmp_path / "parent" / run).mkdir(parents=True)
        (tmp_path / "parent" / run / "recipe.toml").touch()
    (tmp_path / "measured").mkdir()
    (tmp_path / "measured" / "comparison.toml").touch()
    assert call("report", name, code=2).stderr == f"{said}\n"


def test_report_of_a_folder_that_cannot_be_written(call, copied):
    (copied / "report.html").mkdir()
    assert "report.html" in call("report", copied, code=2).stderr
