"""The table of a study, and the files that it is written to."""

import json
from pathlib import Path
from typing import ClassVar

import attrs
import pytest

from ganframe.components import Metric
from ganframe.errors import RequestError
from ganframe.studies.outcomes import Outcome
from ganframe.studies.report import escaped, markdown, write_report
from ganframe.studies.table import best, make_table
from ganframe.studies.texts import difference_texts, main_texts, notes, shown_runs

PROTOCOL = {
    "version": "1",
    "options": {"k": 5},
    "features": {},
    "against": "test",
    "counts": {},
    "data": "abc",
    "samples": 100,
}


class Closeness(Metric):
    better: ClassVar = {"closeness": "higher", "gap": "lower"}


class Plugins:
    """A registry that knows one metric."""

    def find(self, kind, name):
        if (kind, name) != ("metric", "closeness"):
            raise RequestError(f"no {kind} {name}")
        return Closeness


def score(metric="closeness", protocol=(), **values):
    return {"metric": metric, **values, "protocol": {"metric": metric, **PROTOCOL, **dict(protocol)}, "judged": {}}


def run(cell, seed, *scores, status="finished", seconds=None, message=""):
    return Outcome(cell, seed, Path(f"/s/runs/{seed}"), status, scores, seconds, message)


def table(outcomes, baseline=None):
    return make_table(outcomes, baseline, Plugins())


def cells(texts):
    """The rows of a table's texts by heading."""
    headings, rows = texts
    return [dict(zip(headings, row, strict=True)) for row in rows]


A, B, C = {"objective": "vanilla"}, {"objective": "hinge"}, {"objective": "wgan"}


@pytest.fixture
def outcomes():
    """Three cells of three seeds: one whole, one with a run that failed, one of failures alone."""
    found = [run(A, s, score(closeness=0.5 + s / 10, gap=3.0), seconds=10.0 * s) for s in (1, 2, 3)]
    found += [run(B, s, score(closeness=0.6 + s / 8, gap=1.0 * s), seconds=30.0) for s in (1, 3)]
    found += [run(B, 2, status="failed", seconds=1.0, message="loss is\nnot | finite")]
    return [*found, *(run(C, s, status="failed", message="no memory") for s in (1, 2, 3))]


def test_means_runs_and_time_of_each_cell(outcomes):
    a, b, c = cells(main_texts(table(outcomes)))
    assert a == {
        "objective": "vanilla",
        "runs": "3",
        "time": "20 s",
        "closeness ↑": "0.70 ± 0.25",
        "gap ↓": "3 ± 0",
    }
    assert b["runs"] == "2 of 3, 1 failed"
    assert b["time"] == "30 s"  # of those that finished
    assert list(c.values()) == ["wgan", "0 of 3, 3 failed", "–", "failed", "failed"]


def test_differences_are_paired_by_seed_and_corrected_over_the_cells(outcomes):
    found = table(outcomes, A)
    b, c = cells(difference_texts(found))
    assert b["closeness ↑"] == "+0.15 ± 0.32, p = 0.11 (2 pairs)"
    assert c["closeness ↑"] == "–"
    more = table([*outcomes, *(run({"objective": "x"}, s, score(closeness=s / 9.9)) for s in (1, 2, 3))], A)
    p = [row.differences[more.columns[0]] for row in more.rows[1:]]
    assert [p[0].adjusted, p[1], p[2].adjusted] == [p[0].p, None, 2 * p[2].p]
    assert not found.rows[0].differences


@pytest.mark.parametrize(
    ("values", "text", "difference"),
    [
        ([0.25], "0.25 (1 seed)", "-0.25 (1 pair)"),
        ([0.25, 0.25, 0.25], "0.25 ± 0", "-0.25 ± 0, no test"),
        ([0.5, 0.5, 0.5], "0.5 ± 0", "+0 ± 0, p = 1"),
        ([0.25, None, 0.5], "0.4 ± 1.6 (2 seeds)", "-0.1 ± 1.6, p = 0.5 (2 pairs)"),
        ([None, None, None], "–", "–"),
    ],
    ids=["one seed", "the same difference", "no difference", "a number of some seeds", "no number"],
)
def test_degenerate_cells(values, text, difference):
    base = [run(A, s, score(closeness=0.5, gap=1.0)) for s in range(3)]
    other = [run(B, s, score(gap=1.0, **({} if v is None else {"closeness": v}))) for s, v in enumerate(values)]
    found = table([*base, *other], A)
    assert cells(main_texts(found))[1]["closeness ↑"] == text
    assert cells(difference_texts(found))[0]["closeness ↑"] == difference
    json.dumps(found.rows[1].values[found.columns[0]], allow_nan=False)


def test_runs_that_are_not_done_are_no_failures():
    found = table([run(A, 1, status="running"), run(A, 2, status="waiting"), run(A, 3, status="failed")])
    assert shown_runs(found.rows[0]) == "0 of 3, 1 failed, 1 running, 1 waiting"
    pending = table([run(A, 1, score(closeness=1.0)), run(B, 1, status="waiting")])
    assert cells(main_texts(pending))[1]["closeness ↑"] == "–"


@pytest.mark.parametrize("outcomes", [[], [run({}, 1, score(closeness=1.0))], [run(A, 1)]])
def test_studies_without_comparisons(outcomes, tmp_path):
    found = table(outcomes, A)
    assert difference_texts(found) is None
    write_report(found, tmp_path, "tiny")
    assert (tmp_path / "heat_map.png").exists() == any(outcome.scores for outcome in outcomes)


@pytest.mark.parametrize(
    ("changed", "words"),
    [
        ({"samples": 200}, ["samples is 100", "200"]),
        ({"options": {"k": 3}}, ["options.k is 5", "3"]),
        ({"features": {"pixels": {"hash": "f"}}}, ["features.pixels.hash"]),
        ({"data": "xyz"}, ["data is abc", "xyz"]),
    ],
)
def test_scores_of_unlike_protocols_are_refused_with_what_differs(changed, words):
    alike = [run(A, s, score(closeness=1.0), score("other", n=2)) for s in (1, 2)]
    unlike = run(B, 2, score("other", n=2), score(protocol=changed, closeness=1.0))
    table(alike)
    with pytest.raises(RequestError) as error:
        table([*alike, unlike])
    message = str(error.value)
    assert "\n" not in message
    for word in ("closeness of objective vanilla, seed 1", "objective hinge, seed 2", *words):
        assert word in message


def test_no_best_seed_unless_asked_for_and_then_named_so(outcomes):
    assert not any("best" in heading for heading in main_texts(table(outcomes))[0])
    a, b, c = cells(main_texts(table(outcomes), with_best=True))
    assert a["closeness: best of n seeds"] == "0.8 (n = 3)"
    assert b["closeness: best of n seeds"] == "0.975 (n = 2)"
    assert c["closeness: best of n seeds"] == "–"
    found = table(outcomes)
    assert best(found.rows[1], found.columns[1]) == 1.0  # lower is better


def test_numbers_of_one_name_are_told_apart_and_unknown_metrics_have_no_direction():
    found = table([run(A, 1, score("frechet", frechet=1.0, n=1), score("frechet_2", frechet=2.0), score("mmd", n=3))])
    assert [column.label for column in found.columns] == ["frechet", "frechet.n", "frechet_2", "mmd.n"]
    assert {column.better for column in found.columns} == {None}
    assert best(found.rows[0], found.columns[0]) is None


def test_markdown_shows_names_and_failures_letter_by_letter(outcomes):
    odd = {"objective": "a|b*_c"}
    text = markdown(table([attrs.evolve(o, cell=odd) if o.cell == B else o for o in outcomes], A), "my_study")
    assert text.startswith("# my\\_study\n")
    assert "| a\\|b\\*\\_c | 2 of 3, 1 failed |" in text
    assert "seed 2: loss is not \\| finite" in text
    assert "## Difference from objective vanilla" in text
    assert "- closeness: 100 generated samples; metric closeness, version 1, options.k 5, data abc" in text
    widths = {line.replace("\\|", "").count("|") for line in text.split("\n\n")[1].splitlines()}
    assert widths == {6}


@pytest.mark.parametrize("text", ["a|b", "*x*", "`x`", "[x](y)", "<b>", "a\nb", "a_b_", "$x$", "&amp;", "~~x~~", "\\"])
def test_escaped_leaves_no_mark_of_markdown(text):
    bare = escaped(text)
    assert "\n" not in bare
    for mark in "|*`[]<>_$&~":
        assert bare.count(mark) == bare.count(f"\\{mark}")


def test_json_has_every_run_and_statistic(outcomes, tmp_path):
    outcomes = [attrs.evolve(outcome, folder=tmp_path / "runs" / outcome.folder.name) for outcome in outcomes]
    files = write_report(table(outcomes, A), tmp_path, "s")
    assert sorted(p.name for p in files) == ["heat_map.png", "study.json", "study.md"]
    found = json.loads((tmp_path / "study.json").read_text())
    assert found["baseline"] == A
    assert len(found["runs"]) == 9
    assert found["runs"][0]["folder"] == "runs/1"
    assert found["runs"][0]["scores"][0]["closeness"] == 0.6
    b = found["cells"][1]
    assert b["runs"] == {"finished": 2, "failed": 1, "pruned": 0, "running": 0, "waiting": 0}
    assert b["metrics"]["closeness"]["closeness"]["values"] == {"1": 0.725, "3": 0.975}
    assert b["metrics"]["closeness"]["closeness"]["difference"]["n"] == 2
    assert found["protocols"]["closeness"]["samples"] == 100
    assert not [p for p in tmp_path.iterdir() if "partial" in p.name]


def test_the_heat_map_is_rows_by_columns_whatever_the_axes(outcomes, tmp_path):
    axes = [("loss $x$", "数"), ("c", "d"), ("e", "f")]
    for n in range(4):
        cell = dict(axes[:n])
        other = {name: f"{choice}2" for name, choice in axes[:n]}
        found = [run(cell, 1, score(closeness=1.0)), run(other, 1, score(closeness=1e-6), status="finished")]
        write_report(table(found), tmp_path, "s")
        assert (tmp_path / "heat_map.png").read_bytes().startswith(b"\x89PNG")


def test_a_finished_run_without_a_score_is_named():
    fault = {**score(), "error": "too few samples"}
    found = table([run(A, 1, score(closeness=1.0)), run(A, 2, fault)])
    assert cells(main_texts(found))[0]["closeness ↑"] == "1 (1 seed)"
    assert notes(found)[-1] == "  objective vanilla, seed 2: closeness: too few samples"
    lines = markdown(found, "s").splitlines()
    at = lines.index("- objective vanilla, seed 2: closeness: too few samples")
    assert lines[at - 1].endswith("no score by a metric:")
    assert lines[at - 2] == ""


def test_notes_say_why_runs_failed(outcomes):
    lines = notes(table(outcomes, A))
    assert "  objective hinge, seed 2: loss is not | finite" in lines
    assert any("Holm" in line for line in lines)
    assert not any("Holm" in line for line in notes(table(outcomes)))


def test_study_prints_and_writes_its_table(call, write_study, metric, tmp_path):
    study = 'base = "tiny.toml"\nseeds = 2\n[[metrics]]\nuse = "spread"\n'
    axis = '[[axes.rate]]\nname = "a|b"\n[[axes.rate]]\nname = "mad"\nset = ["optimizer.generator.lr=1e30"]\n'
    result = call("study", write_study(study=study + axis, base="[log]\nevery = 1\n"), "--best")
    for words in ("spread ↑", "0 of 2, 2 failed", "Difference from rate a|b", "spread: best of n seeds", "t-interval"):
        assert words in result.stdout
    folder = tmp_path / "studies" / "study"
    assert sorted(path.name for path in folder.iterdir() if not path.name.startswith(".")) == [
        *("heat_map.png", "runs", "study.json", "study.md", "study.toml"),
    ]
    assert "| a\\|b | 2 |" in (folder / "study.md").read_text(encoding="utf-8")
    runs = json.loads((folder / "study.json").read_text(encoding="utf-8"))["runs"]
    assert [(folder / run["folder"]).is_dir() for run in runs] == [True] * 4


@pytest.mark.parametrize(
    ("choice", "words"),
    [
        ('dataset = { use = "grid" }', "data is"),
        ('set = ["log.keep_best=spread"]', "chosen_by is None in one and spread"),
    ],
)
def test_cells_that_would_not_be_judged_alike_are_refused_before_anything_is_written(
    call, write_study, metric, tmp_path, choice, words
):
    study = 'base = "tiny.toml"\nseeds = 2\n[[metrics]]\nuse = "spread"\nevery = 2\n'
    file = write_study(study=f'{study}[[axes.a]]\nname = "one"\n[[axes.a]]\nname = "two"\n{choice}\n')
    result = call("study", file, code=2)
    assert result.stderr.splitlines()[-1].startswith("spread of a one, seed 0 (one) and of a two, seed 0 (another)")
    assert words in result.stderr
    assert not (tmp_path / "studies").exists()
