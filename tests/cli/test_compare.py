"""ganframe compare on the command line."""

import json
import sys
from pathlib import Path


def test_table_has_a_column_for_each_run_and_says_how_numbers_were_found(call, tiny):
    for seed in (0, 1):
        call("run", tiny(), "--out", f"runs/{seed}", "--set", f"seed={seed}")
    told = call("compare", "runs/0", "runs/1", "--samples", 60)
    lines = told.stdout.splitlines()
    assert lines[0].split() == ["0", "1"]
    assert ["step", "6", "6"] in [line.split() for line in lines]
    assert ["seed", "0", "1"] in [line.split() for line in lines]
    assert "The recipes differ in no option of training." in lines
    (row,) = (line.split() for line in lines if line.strip().startswith("modes ↑"))
    assert len(row) == 4
    assert "modes: 60 generated samples" in told.stdout
    assert lines[-1] == "done: comparisons/tiny/1/ has compare.json, curves.png, report.html, samples.png"
    assert "runs/0: judging 60 samples" in told.stderr
    page = Path("comparisons/tiny/1/report.html").read_text(encoding="utf-8")
    assert "Comparison of 0, 1" in page
    assert "modes: 60 generated samples" in page
    assert page.count('class="chart"') >= 4
    again = call("compare", "runs/0", "runs/1", "--samples", 60, "--out", "again")
    assert "runs/0: its scores are in evaluations.jsonl already" in again.stderr
    assert again.stdout.splitlines()[:-1] == lines[:-1]


def test_json_has_each_run_with_its_scores(call, tiny):
    for seed in (0, 1):
        call("run", tiny(), "--out", f"runs/{seed}", "--set", f"seed={seed}")
    found = json.loads(call("compare", "runs/0", "runs/1", "--samples", 60, "--json").stdout)
    assert [(one["run"], one["step"]) for one in found] == [("runs/0", 6), ("runs/1", 6)]
    assert [score["protocol"]["samples"] for one in found for score in one["scores"]] == [60, 60]
    assert json.loads(Path("comparisons/tiny/1/compare.json").read_text()) == found


def test_table_has_the_options_that_differ_and_only_some_of_many(call, tiny, monkeypatch):
    call("run", tiny(), "--out", "runs/a")
    hidden = f"generator.hidden={[8] * 20}"
    call("run", tiny(), "--out", "runs/b", "--set", "train.batch_size=4", "--set", hidden)
    lines = call("compare", "runs/a", "runs/b", "--samples", 60).stdout.splitlines()
    rows = [line.split() for line in lines]
    assert ["what", "differs", "a", "b"] in rows
    assert ["train.batch_size", "8", "4"] in rows
    (cut,) = (line for line in lines if line.strip().startswith("generator.hidden"))
    assert cut.endswith("…")
    monkeypatch.setattr(sys.modules["ganframe.cli.compare"], "SHOWN", 1)
    again = call("compare", "runs/a", "runs/b", "--samples", 60).stdout.splitlines()
    assert "and 1 more, in report.html" in again
    assert len(again) == len(lines)  # one option less, and this line
