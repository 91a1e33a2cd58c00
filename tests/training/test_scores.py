"""Runs that are judged while they train, and that keep their best checkpoint."""

import json
import shutil

import pytest
from safetensors.torch import load_file

import ganframe
from ganframe.judging.best import Best
from ganframe.judging.protocol import differences, numbers
from ganframe.storage.evaluations import read_evaluations
from ganframe.storage.run_folder import RunFolder, step_of
from ganframe.storage.weights import how_chosen
from ganframe.training.scores import Scores

METRICS = """
[log]
every = 2
checkpoint_every = 4
keep = 1
{log}
[[metrics]]
use = "modes"
every = {every}
samples = 50
[[metrics]]
use = "modes"
sigmas = 30.0
samples = 40
"""


@pytest.fixture
def judged(tiny, tmp_path, monkeypatch):
    """judged(log="", every=2, sets=[]): the folder of a finished run of twelve steps."""
    monkeypatch.chdir(tmp_path)

    def run(log="", every=2, out=None, sets=(), callbacks=()):
        recipe = ganframe.load_recipe(tiny(METRICS.format(log=log, every=every)), ["train.steps=12", *sets])
        return RunFolder(ganframe.run(recipe, out, callbacks).folder)

    return run


def found(folder, **wanted):
    scores = read_evaluations(folder)
    return [s for s in scores if all(s["judged"].get(k, s["protocol"].get(k)) == v for k, v in wanted.items())]


def test_each_metric_is_judged_at_its_own_steps_and_at_the_last(judged):
    folder = judged(every=5)
    assert [(s["metric"], s["judged"]["step"]) for s in found(folder)] == [
        *(("modes", 5), ("modes", 10), ("modes", 12), ("modes_2", 12)),
    ]
    score = found(folder)[0]
    assert set(numbers(score)) == {"modes", "high_quality", "kl"}
    assert score["protocol"]["samples"] == 50
    assert score["judged"] | {"by": "run", "seed": 1, "averaged": False} == score["judged"]


def test_judging_changes_no_weights(judged):
    with_metrics, without = judged(), judged(sets=["metrics=[]"])
    assert with_metrics.generator.read_bytes() == without.generator.read_bytes()
    assert not without.evaluations.exists()


@pytest.mark.parametrize("log", ["", 'keep_best = "modes.kl"'])
def test_resumed_run_has_the_scores_of_one_without_a_break(judged, tmp_path, log):
    class Killed(BaseException):
        pass

    def kill(state):
        if state.step == 7:
            raise Killed

    whole = judged(log)
    with pytest.raises(Killed):
        judged(log, out=tmp_path / "killed", callbacks=[kill])
    folder = RunFolder(tmp_path / "killed")
    assert found(folder, step=6)
    ganframe.resume(folder.path)
    assert folder.evaluations.read_text() == whole.evaluations.read_text()
    assert folder.generator.read_bytes() == whole.generator.read_bytes()
    assert [p.name for p in folder.checkpoints()] == [p.name for p in whole.checkpoints()]


@pytest.mark.parametrize("number", ["kl", "high_quality"])
def test_best_checkpoint_is_kept_and_its_generator_chosen(judged, number):
    folder = judged(f'keep_best = "modes.{number}"')
    own = [s for s in found(folder, by="run", chosen_by=None) if s["metric"] == "modes"]
    best = Best("modes", number, number == "high_quality").step(own)
    assert {step_of(path) for path in folder.checkpoints()} == {best, 12}
    assert how_chosen(folder.generator) == {"by": f"modes.{number}", "step": best}
    weights, kept = load_file(folder.generator), load_file(folder.checkpoint(best) / "generator.safetensors")
    assert all(weights[name].equal(kept[name]) for name in weights)
    chosen = found(folder, chosen_by=f"modes.{number}")
    assert [(s["metric"], s["judged"]["step"]) for s in chosen] == [("modes", best), ("modes_2", best)]
    (then,) = (s for s in own if s["judged"]["step"] == best)
    assert numbers(chosen[0]) == numbers(then)


def test_generator_of_a_run_without_keep_best_is_the_last(judged):
    folder = judged()
    assert how_chosen(folder.generator) is None
    assert [step_of(path) for path in folder.checkpoints()] == [12]
    assert found(folder, chosen_by=None) == found(folder)


def test_resumed_run_may_change_its_metrics(judged):
    folder = judged()
    ganframe.resume(folder.path, ["train.steps=14", "metrics=[]"])
    assert {s["judged"]["step"] for s in found(folder)} == {2, 4, 6, 8, 10, 12}


def test_metric_that_does_not_suit_is_refused_before_the_folder_is_made(tiny, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    recipe = ganframe.load_recipe(tiny('[[metrics]]\nuse = "modes"\n', "roll.toml"), ["dataset={use='swiss_roll'}"])
    with pytest.raises(ganframe.RecipeError, match=r"roll.toml: metrics\[0\]: it needs a mixture"):
        ganframe.run(recipe)
    assert not (tmp_path / "runs").exists()


def test_metric_that_finds_no_score_does_not_stop_the_run(tiny, tmp_path, monkeypatch, install, capsys):
    monkeypatch.chdir(tmp_path)
    install(
        "ganframe-choosy",
        """
        import attrs
        from ganframe import Metric, hookimpl

        @attrs.frozen
        class Choosy(Metric):
            better = {"choosy": "lower"}
            def build(self, judging):
                def measure(x, y):
                    raise ValueError("the samples are all the same")
                return measure

        @hookimpl
        def ganframe_metrics():
            return {"choosy": Choosy}
        """,
    )
    run = ganframe.run(ganframe.load_recipe(tiny('[[metrics]]\nuse = "choosy"\n')))
    (score,) = read_evaluations(RunFolder(run.folder))
    assert score["error"] == "the samples are all the same"
    assert "step 6: choosy: the samples are all the same" in capsys.readouterr().err


def test_last_scores_are_shown(judged, capsys):
    judged()
    assert "modes " in capsys.readouterr().err.splitlines()[-1]


def test_scores_after_a_rollback_are_forgotten(judged):
    folder = judged()
    shutil.copy(folder.evaluations, folder.path / "before")

    class Stub:
        main = True
        trainer = None
        folder = None
        scores: list

    stub = Stub()
    stub.folder = folder
    Scores.return_to(stub, 6)
    assert max(s["judged"]["step"] for s in stub.scores) == 6
    assert [json.loads(line)["judged"]["step"] for line in folder.evaluations.read_text().splitlines()][-1] == 6


@pytest.mark.parametrize(("split", "against"), [("all", "train"), ("train", "test")])
def test_a_run_is_judged_against_the_split_that_evaluate_takes(tmp_path, monkeypatch, tiny, split, against):
    """Data in memory that holds out nothing must not be called held-out data."""
    monkeypatch.chdir(tmp_path)
    metric = '[[metrics]]\nuse = "precision_recall"\nfeatures = "pixels"\nreal = 50\nsamples = 30\n'
    data = ["dataset.use=digits", f"dataset.split={split}"]
    run = ganframe.run(ganframe.load_recipe(tiny(metric), data))
    (score,) = found(RunFolder(run.folder), by="run")
    assert score["protocol"]["against"] == against
    (again,) = ganframe.evaluate(run.folder)
    assert differences([score, again]) == []
    assert numbers(score) == pytest.approx(numbers(again))
