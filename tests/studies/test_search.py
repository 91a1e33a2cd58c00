"""Searches: what their ranges may be, and trials that finish, fail, are pruned, interrupted and killed."""

import json
import signal
import subprocess
import sys
import tomllib
from pathlib import Path

import pytest

from ganframe.errors import RecipeError, RequestError
from ganframe.storage.run_folder import RunFolder
from ganframe.studies import search as searches
from ganframe.studies.plan import load_study
from ganframe.studies.report import write_report
from ganframe.studies.table import make_search_table
from ganframe.studies.texts import search_lines
from ganframe.studies.trials import check_search, trial_runs

optuna = pytest.importorskip("optuna")
pytestmark = pytest.mark.usefixtures("metric")

STUDY = """
base = "tiny.toml"
seeds = 1
[[metrics]]
use = "spread"
every = 2
[search]
metric = "spread"
trials = 3
[search.ranges]
"optimizer.generator.lr" = { low = 1e-4, high = 1e-2, log = true }
"objective.use" = ["vanilla", "non_saturating"]
"""


@pytest.fixture
def study(write_study):
    """study(old, new, …): the search, with parts of its file replaced; with checkpoints at every second step."""

    def load(*texts):
        text = STUDY
        for old, new in zip(texts[::2], texts[1::2], strict=True):
            text = text.replace(old, new)
        return load_study(write_study(study=text, base="[log]\ncheckpoint_every = 2\n"))

    return load


def read(study, folder):
    return searches.read_trials(study, folder)


def states(found):
    return [trial.state for trial in found.trials]


def test_a_search_finishes_its_trials_and_names_the_best_with_all_its_values(study, tmp_path):
    loaded = study("seeds = 1", "seeds = 2")
    searches.search(loaded, tmp_path)
    found = read(loaded, tmp_path)
    assert states(found) == ["finished"] * 3
    assert not found.left(loaded.file.search)
    for trial in found.trials:
        scores = [outcome.scores[0]["spread"] for outcome in trial.outcomes]
        assert len(scores) == 2
        assert trial.value == pytest.approx(sum(scores) / 2)
    assert found.best.value == max(trial.value for trial in found.trials)
    table = make_search_table(found, loaded.runs[0].recipe.registry)
    write_report(table, tmp_path, "s")
    text = (tmp_path / "study.md").read_text(encoding="utf-8")
    assert f"Best of 3 trials: trial {found.best.number} with" in text
    written = json.loads((tmp_path / "study.json").read_text(encoding="utf-8"))["search"]
    assert written["best"] == found.best.number
    values = written["trials"][found.best.number]["values"]
    recipe = tomllib.loads((found.best.outcomes[0].folder / "recipe.toml").read_text(encoding="utf-8"))
    assert recipe["optimizer"]["generator"]["lr"] == values["optimizer.generator.lr"]
    assert recipe["objective"]["use"] == f"builtin:{values['objective.use']}"


def test_a_search_that_is_done_is_left_alone_and_proposes_the_same_elsewhere(study, tmp_path):
    loaded = study()
    for name in ("a", "b"):
        (tmp_path / name).mkdir()
        searches.search(loaded, tmp_path / name)
    there = {path: path.stat().st_mtime_ns for path in (tmp_path / "a" / "runs").rglob("*")}
    searches.search(loaded, tmp_path / "a")
    assert {path: path.stat().st_mtime_ns for path in (tmp_path / "a" / "runs").rglob("*")} == there
    a, b = (read(loaded, tmp_path / name) for name in ("a", "b"))
    assert [(trial.values, trial.value) for trial in a.trials] == [(trial.values, trial.value) for trial in b.trials]


def test_more_trials_continue_a_search_and_other_ranges_begin_one(study, tmp_path):
    searches.search(study("trials = 3", "trials = 1"), tmp_path)
    more = study("trials = 3", "trials = 2")
    searches.search(more, tmp_path)
    assert [trial.number for trial in read(more, tmp_path).trials] == [0, 1]
    assert read(study('["vanilla", "non_saturating"]', '["vanilla", "wgan"]'), tmp_path).trials == ()


def test_a_trial_that_fails_stands_as_failed_and_does_not_stop_the_others(study, tmp_path):
    loaded = study("{ low = 1e-4, high = 1e-2, log = true }", "[1e-3, 1e30]")
    searches.search(loaded, tmp_path)
    found = read(loaded, tmp_path)
    assert sorted(set(states(found))) == ["failed", "finished"]
    failed = next(trial for trial in found.trials if trial.state == "failed")
    assert failed.values["optimizer.generator.lr"] == "1e+30"
    assert "is nan" in failed.message
    assert failed.outcomes[0].status == "failed"
    assert found.best.values["optimizer.generator.lr"] == "0.001"


def test_a_trial_that_is_pruned_ends_early_and_is_never_the_best(study, tmp_path, monkeypatch):
    monkeypatch.setattr(optuna.pruners, "MedianPruner", lambda: optuna.pruners.ThresholdPruner(lower=1e6))
    loaded = study("trials = 3", "trials = 2\nprune = true")
    searches.search(loaded, tmp_path)
    found = read(loaded, tmp_path)
    assert states(found) == ["pruned", "pruned"]
    assert found.best is None
    for trial in found.trials:
        folder = RunFolder(trial.outcomes[0].folder)
        assert trial.outcomes[0].status == "pruned"
        assert not folder.checkpoint(6).exists()
    table = make_search_table(found, loaded.runs[0].recipe.registry)
    write_report(table, tmp_path, "s")
    assert "0 of 1, 1 pruned" in (tmp_path / "study.md").read_text(encoding="utf-8")


def test_steps_of_scores_are_counted_over_the_seeds(study, tmp_path, monkeypatch):
    reported = []
    report = optuna.trial.Trial.report
    monkeypatch.setattr(
        optuna.trial.Trial, "report", lambda trial, *of: (reported.append(of[1]), report(trial, *of))[1]
    )
    searches.search(study("seeds = 1", "seeds = 2", "trials = 3", "trials = 1\nprune = true"), tmp_path)
    assert reported == [2, 4, 8, 10]


@pytest.mark.parametrize("fault", [KeyboardInterrupt(), RequestError("the disk is full")])
def test_a_trial_that_is_interrupted_is_tried_again_with_the_same_values(study, tmp_path, monkeypatch, fault):
    loaded, work_on, begun = study(), searches.work_on, []

    def interrupted(run, *others):
        begun.append(run.name)
        if len(begun) == 2:
            raise fault
        return work_on(run, *others)

    monkeypatch.setattr(searches, "work_on", interrupted)
    with pytest.raises(type(fault)):
        searches.search(loaded, tmp_path)
    assert states(read(loaded, tmp_path)) == ["finished", "waiting"]
    searches.search(loaded, tmp_path)
    found = read(loaded, tmp_path)
    assert states(found) == ["finished"] * 3
    assert begun[1] == begun[2]
    assert len(list((tmp_path / "runs").iterdir())) == 3


def test_a_trial_whose_worker_was_killed_before_it_had_values_does_not_count(study, tmp_path):
    loaded = study("trials = 3", "trials = 1")
    searches._open(loaded, tmp_path).ask()  # it has no sign of life, so Optuna would let it run forever
    searches.search(loaded, tmp_path)
    assert [(trial.number, trial.state) for trial in read(loaded, tmp_path).trials] == [(1, "finished")]


def test_a_worker_that_was_taken_for_dead_leaves_its_trial_to_the_other(study, tmp_path, monkeypatch):
    loaded, work_on = study("trials = 3", "trials = 1"), searches.work_on

    def slept(*of):
        monkeypatch.setattr(searches, "work_on", work_on)
        trials = searches._open(loaded, tmp_path)
        trials.tell(0, state=optuna.trial.TrialState.FAIL)
        searches._retry()(trials, trials.get_trials()[0])
        return work_on(*of)

    monkeypatch.setattr(searches, "work_on", slept)
    searches.search(loaded, tmp_path)
    assert [(trial.number, trial.state) for trial in read(loaded, tmp_path).trials] == [(1, "finished")]
    assert len(list((tmp_path / "runs").iterdir())) == 1


def test_the_best_trial_is_shown_with_tables_among_its_values(study, tmp_path):
    choices = '"constraints" = [[], [{ use = "spectral_norm" }]]'
    loaded = study('"objective.use" = ["vanilla", "non_saturating"]', choices, "trials = 3", "trials = 1")
    searches.search(loaded, tmp_path)
    found = read(loaded, tmp_path)
    assert f"constraints = {found.best.values['constraints']}" in search_lines(found)[1]
    assert "\\" not in search_lines(found)[1]


def test_the_search_of_the_readme_is_sound(write_study):
    text = (Path(__file__).parents[2] / "recipes" / "studies" / "README.md").read_text(encoding="utf-8")
    blocks = [part.split("```")[0] for part in text.split("```toml\n")[1:]]
    block = next(block for block in blocks if "[search]" in block)
    recipe = Path(__file__).parents[2] / "recipes" / "wgan_gp_grid.toml"
    check_search(load_study(write_study(study=block.replace("../wgan_gp_grid.toml", str(recipe)))))


KILLED = """
import os, signal, sys
from pathlib import Path
from ganframe.studies import search as searches
from ganframe.studies.plan import load_study

searches.HEARTBEAT, searches.GRACE = 1, 2
work_on = searches.work_on

def die(state):
    if state.step == 5:
        os.kill(os.getpid(), signal.SIGKILL)

searches.work_on = lambda run, path, folder, callbacks: work_on(run, path, folder, [*callbacks, die])
searches.search(load_study(sys.argv[1]), Path(sys.argv[2]))
"""


@pytest.mark.slow
@pytest.mark.skipif(not hasattr(signal, "SIGKILL"), reason="kills a process")
def test_a_trial_whose_worker_is_killed_is_tried_again_and_ends_with_the_same_bytes(study, site, tmp_path, monkeypatch):
    monkeypatch.setattr(searches, "HEARTBEAT", 1)
    monkeypatch.setattr(searches, "GRACE", 2)
    monkeypatch.setenv("PYTHONPATH", f"{site}:", prepend=":")
    loaded = study("trials = 3", "trials = 2")
    folder, calm = tmp_path / "killed", tmp_path / "calm"
    folder.mkdir()
    calm.mkdir()
    killed = subprocess.run([sys.executable, "-c", KILLED, loaded.file.title, folder], capture_output=True, check=False)
    assert killed.returncode == -signal.SIGKILL, killed.stderr.decode()
    assert states(read(loaded, folder)) == ["running"]
    searches.search(loaded, folder)
    searches.search(loaded, calm)
    found = read(loaded, folder)
    assert states(found) == ["finished"] * 2
    again, first = found.trials[-1], read(loaded, calm).trials[0]
    name = first.outcomes[0].folder.name
    assert (again.values, again.value, again.outcomes[0].folder.name) == (first.values, first.value, name)
    weights = [(where / "runs" / name / "generator.safetensors").read_bytes() for where in (folder, calm)]
    assert weights[0] == weights[1]


def test_two_trials_with_the_same_values_are_one_run(study):
    values = {"optimizer.generator.lr": 0.001, "objective.use": "vanilla"}
    first, second = (trial_runs(study(), number, values)[0] for number in (1, 2))
    assert first.name == second.name


@pytest.mark.slow
def test_study_that_searches_with_two_workers_and_says_how_far_it_is(call, write_study, tmp_path):
    file = write_study(study=STUDY.replace("trials = 3", "trials = 4"))
    result = call("study", file, "--jobs", 2)
    assert result.stdout.startswith("Search for the highest spread: 4 finished.\nBest of 4 trials: trial ")
    assert result.stdout.endswith("done: studies/study/ has 4 trials: 4 finished\n")
    assert "4/4 done, the best is" in result.stderr
    assert len(list((tmp_path / "studies" / "study" / "runs").iterdir())) == 4
    assert call("study", file, "--status").stdout.endswith("so far: studies/study/ has 4 trials: 4 finished\n")
    assert "--retry" in call("study", file, "--retry", code=2).stderr


@pytest.mark.parametrize(
    ("old", "new", "words"),
    [
        ('metric = "spread"', 'metric = "frechet"', "search.metric: no metric 'frechet' in [[metrics]]: spread"),
        ('metric = "spread"', 'metric = "spread.x"', "search.metric: 'x' of spread has no direction; known: spread"),
        ("every = 2\n[search]", "[search]\nprune = true", "search.prune: spread is judged at the end only"),
        ("generator.lr", "generator.lrx", 'search.ranges."optimizer.generator.lrx": optimizer.generator.lrx: unknown'),
        ('"non_saturating"', '"hinges"', 'search.ranges."objective.use": objective.use: unknown objective'),
        ('"objective.use"', '"seed"', 'search.ranges."seed": the seeds are those of the study'),
        ('"objective.use"', '"dataset.modes"', 'search.ranges."dataset.modes": all trials are judged by the same data'),
        ('"objective.use"', '"constraints[0].weight"', "no element 0 in a list of 0"),
        ("[search]", "[[axes.a]]\nname = 'b'\n[search]", "search: a study has axes or a search, not both"),
        ("trials = 3", "trials = 3\ntrails = 4", "search.trails: unknown option; did you mean 'trials'?"),
    ],
)
def test_a_wrong_range_is_named_with_its_place(write_study, old, new, words):
    base = "constraints = []\n" if "constraints" in new else ""
    file = write_study(study=STUDY.replace(old, new))
    tiny = file.with_name("tiny.toml")
    tiny.write_text(base + tiny.read_text())
    with pytest.raises(RecipeError) as error:
        check_search(load_study(file))
    assert words in str(error.value)
    assert all("\n" not in problem for problem in error.value.problems)


def test_without_optuna_the_command_that_installs_it_is_named(call, write_study, monkeypatch):
    monkeypatch.setitem(sys.modules, "optuna", None)
    file = write_study(study=STUDY)
    result = call("study", file, "--out", "x", code=2)
    assert "pip install 'ganframe[search]'" in result.output
    assert not file.with_name("x").exists()
