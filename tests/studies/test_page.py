"""The page of a study: its means as a heat map, the pages of its runs, differences, and runs that failed."""

import json
import re

import pytest

import ganframe
from ganframe.studies.page import write_study_page
from ganframe.studies.study import status

ENTER = "\ue007"  # keys, by their codes in WebDriver
BAD = "</script><img src=x onerror=document.title='run'>"
STUDY = f"""
base = "tiny.toml"
seeds = 2
baseline = {{ steps = "four" }}

[[metrics]]
use = "modes"
samples = 50

[[axes.steps]]
name = "four"
set = ["train.steps=4"]

[[axes.steps]]
name = "six"
set = ["optimizer.generator.lr=0.3"]

[[axes.steps]]
name = {json.dumps(BAD)}
set = ["objective.use=wgan", "optimizer.generator={{use='SGD', lr=1e30}}"]
"""


@pytest.fixture
def study(write_study, in_process, monkeypatch, tmp_path):
    """study(text=STUDY): the folder of a study that was worked on."""
    monkeypatch.chdir(tmp_path)

    def make(text=STUDY):
        return ganframe.study(write_study(study=text), out="made").folder

    return make


def write(folder):
    return write_study_page(status(folder / "study.toml", folder))


def test_cells_open_the_pages_of_their_runs(study, open_page, accessibility):
    folder = study()
    browser = open_page(write(folder), width=390)
    cells = browser.find_elements("css selector", "td details")
    assert len(cells) == 9  # three choices, three numbers of `modes`
    cells[0].find_element("tag name", "summary").send_keys(ENTER)
    first = cells[0].find_elements("tag name", "a")
    assert [re.sub(r": .*", "", seed.text) for seed in first] == ["seed 0", "seed 1"]
    assert accessibility() == {}
    first[0].click()
    assert browser.title.startswith("Run ")
    browser.find_element("link text", "The study of this run").click()
    assert browser.title == "Study study"
    browser = open_page(folder / "report.html", dark=True)
    assert accessibility() == {}
    assert browser.execute_script("return document.documentElement.scrollWidth <= innerWidth")


def test_the_better_a_mean_the_stronger_its_colour(study):
    folder = study()
    text = write(folder).read_text()
    made = status(folder / "study.toml", folder).table()
    shares = [float(share) for share in re.findall(r'data-share="([\d.]+)"', text)]
    there = [row for row in made.rows if row.estimates[made.columns[0]] is not None]
    expected = []
    for row in there:
        for column in made.columns:
            means = [other.estimates[column].mean for other in there]
            if max(means) > min(means):
                best = max if column.better == "higher" else min
                expected.append(1.0 if row.estimates[column].mean == best(means) else 0.0)
    assert len(shares) >= 2
    assert shares == expected  # of two finished rows, so the best and the worst


def test_differences_and_failed_runs_are_shown(study):
    folder = study()
    text = write(folder).read_text()
    assert "4 finished, 2 failed" in text
    assert "Difference from steps four" in text
    assert text.count("is nan") + text.count("not finite") >= 2
    assert len(list(folder.glob("runs/*/report.html"))) == 6


def test_study_without_axes_or_metrics_has_a_page(study):
    text = write(study('base = "tiny.toml"\nseeds = 1\n')).read_text()
    assert "seed 0: finished" in text
    assert "Differences" not in text


def test_study_that_has_only_begun_has_a_page(study):
    folder = study('base = "tiny.toml"\nseeds = 2\n')
    for run in (folder / "runs").iterdir():
        for path in sorted(run.rglob("*"), reverse=True):
            path.rmdir() if path.is_dir() else path.unlink()
        run.rmdir()
    assert "2 waiting" in write(folder).read_text()
