"""Workers make each run of a study once, whoever dies: the same bytes as without a break."""

import re
import threading
import time

import pytest
import torch

import ganframe
from ganframe import RequestError, RunError
from ganframe.storage import run_folder
from ganframe.storage.run_folder import RunFolder
from ganframe.studies import work as works
from ganframe.studies.outcomes import final_scores, read_outcomes, run_folder_of
from ganframe.studies.plan import load_study
from ganframe.studies.work import forget_failures, work
from ganframe.training import run as runs
from ganframe.training.scores import Scores

ONE = 'base = "tiny.toml"\nseeds = 1\n'
SAVING = "[log]\nevery = 1\nsamples_every = 1_000_000\ncheckpoint_every = 1"


@pytest.fixture
def out(tmp_path):
    return tmp_path / "out"


def bytes_of(study, out):
    return {
        run.name: (run_folder_of(out, run).generator.read_bytes(), run_folder_of(out, run).evaluations.exists())
        for run in study.runs
    }


def statuses(study, out):
    return [outcome.status for outcome in read_outcomes(study, out)]


@pytest.fixture
def trained(monkeypatch):
    """The folders in which training began or was resumed, in order."""
    found = []

    def counted(trainer, folder, *others, train=runs._train):
        found.append(folder.path.name)
        return train(trainer, folder, *others)

    monkeypatch.setattr(runs, "_train", counted)
    return found


def test_all_runs_are_made_once_and_finished_ones_are_not_touched(write_study, out, trained, metric):
    study = load_study(write_study('[[metrics]]\nuse = "spread"\n'))
    assert statuses(study, out) == ["waiting"] * 4
    work(study, out)
    assert trained == [run.name for run in study.runs]
    outcomes = read_outcomes(study, out)
    assert [(o.cell["objective"], o.seed, o.status) for o in outcomes] == [
        ("vanilla", 0, "finished"),
        ("saturating not", 0, "finished"),
        ("vanilla", 1, "finished"),
        ("saturating not", 1, "finished"),
    ]
    assert [[score["metric"] for score in o.scores] for o in outcomes] == [["spread"]] * 4
    assert len({o.scores[0]["spread"] for o in outcomes}) == 4
    assert all(o.seconds is not None for o in outcomes)
    times = {path: path.stat().st_mtime_ns for path in out.rglob("*") if path.is_file()}
    assert work(study, out).runs == 0
    assert times == {path: path.stat().st_mtime_ns for path in out.rglob("*") if path.is_file()}


def test_run_that_another_worker_holds_is_passed_by_and_taken_over(write_study, out, trained, monkeypatch):
    monkeypatch.setattr(works, "PAUSE", 0.05)
    study = load_study(write_study())
    held = run_folder_of(out, study.runs[0])
    held.path.mkdir(parents=True)
    with run_folder.locked(held):
        work(study, out, wait=False)
        assert trained == [run.name for run in study.runs[1:]]
        assert statuses(study, out) == ["running", "finished", "finished", "finished"]
        waiting = threading.Thread(target=work, args=(study, out))
        waiting.start()
        time.sleep(0.3)
        assert waiting.is_alive()
        assert len(trained) == 3
    waiting.join(timeout=60)
    assert statuses(study, out) == ["finished"] * 4


def killed(study, out, at, monkeypatch):
    """Leaves the folder of the first run as a worker leaves it that is killed in the middle of `at`."""
    path = run_folder_of(out, study.runs[0])

    class Killed(BaseException):
        pass

    def die(*_, **__):
        raise Killed

    def die_at_step(state):
        if state.step == 4:
            raise Killed

    with monkeypatch.context() as patched:
        if at == "lock":
            patched.setattr(works, "train", die)
        elif at == "recipe":
            patched.setattr(runs, "describe_run", die)
        elif at == "first step":
            patched.setattr(runs, "_train", die)
        elif at == "log":
            patched.setattr(runs, "standard_callbacks", lambda *a, **k: [die_at_step])
        else:
            train = runs.standard_callbacks
            patched.setattr(runs, "standard_callbacks", lambda *a, **k: [*train(*a, **k), die_at_step])
        with pytest.raises(Killed):
            work(study, out)
    return path


@pytest.mark.parametrize("at", ["lock", "recipe", "first step", "log", "checkpoint"])
def test_run_of_a_dead_worker_ends_with_the_same_bytes(write_study, out, tmp_path, monkeypatch, at, metric):
    study = load_study(write_study('[[metrics]]\nuse = "spread"\n', study=ONE, base=SAVING))
    killed(study, out, at, monkeypatch)
    assert statuses(study, out) == ["waiting"]
    work(study, out)
    work(study, tmp_path / "undisturbed")
    assert bytes_of(study, out) == bytes_of(study, tmp_path / "undisturbed")
    scores = [read_outcomes(study, folder)[0].scores for folder in (out, tmp_path / "undisturbed")]
    assert scores[0] == scores[1]
    assert [score["judged"]["step"] for score in scores[0]] == [6]


def test_scores_that_a_killed_run_did_not_write_are_found_again(write_study, out, trained, metric):
    study = load_study(write_study('[[metrics]]\nuse = "spread"\n[[metrics]]\nuse = "spread"\npower = 2\n', study=ONE))
    work(study, out)
    (before,) = read_outcomes(study, out)
    run_folder_of(out, study.runs[0]).evaluations.unlink()
    assert statuses(study, out) == ["waiting"]
    work(study, out)
    (after,) = read_outcomes(study, out)
    assert len(trained) == 1
    assert [s["metric"] for s in after.scores] == [s["metric"] for s in before.scores] == ["spread", "spread_2"]
    assert [s["spread"] for s in after.scores] == [s["spread"] for s in before.scores]
    assert [s["protocol"] for s in after.scores] == [s["protocol"] for s in before.scores]


BEST = "\n[[metrics]]\nuse = 'spread'\nevery = 2\n[log]\nkeep_best = 'spread'\n"


def test_best_generator_that_a_killed_run_did_not_judge_is_judged(write_study, out, tmp_path, monkeypatch, metric):
    """The chosen generator is judged after the last checkpoint."""
    study = load_study(write_study(study=ONE, base=BEST))

    class Killed(BaseException):
        pass

    def die(_):
        raise Killed

    with monkeypatch.context() as patched:
        patched.setattr(Scores, "judge_chosen", die)
        with pytest.raises(Killed):
            work(study, out)
    assert statuses(study, out) == ["waiting"]
    work(study, out)
    work(study, tmp_path / "undisturbed")
    (after,), (straight,) = (read_outcomes(study, folder) for folder in (out, tmp_path / "undisturbed"))
    assert after.status == straight.status == "finished"
    for score, wanted in zip(after.scores, straight.scores, strict=True):
        assert (score["spread"], score["protocol"]) == (wanted["spread"], wanted["protocol"])
        assert score["judged"]["step"] == wanted["judged"]["step"]


def test_scores_of_a_later_evaluation_are_not_those_of_the_study(write_study, out, metric):
    study = load_study(write_study('[[metrics]]\nuse = "spread"\n', study=ONE))
    work(study, out)
    path = run_folder_of(out, study.runs[0])
    before = final_scores(path, study.runs[0].recipe)
    ganframe.evaluate(path.path, ["spread"], samples=10)
    assert final_scores(path, study.runs[0].recipe) == before


FAILING = """
[[axes.rate]]
name = "slow"
[[axes.rate]]
name = "mad"
set = ["optimizer.generator.lr=1e30"]
"""


def test_run_that_diverges_is_recorded_and_does_not_stop_the_others(write_study, out, trained):
    study = load_study(write_study(FAILING, study=ONE, base="[log]\nevery = 1\n"))
    work(study, out)
    slow, mad = read_outcomes(study, out)
    assert (slow.status, mad.status) == ("finished", "failed")
    assert re.search(r"step \d: .* is (nan|inf)", mad.message)
    assert mad.scores == ()
    assert work(study, out).runs == 0
    assert len(trained) == 2
    assert forget_failures(study, out) == 1
    work(study, out)
    assert len(trained) == 3
    assert statuses(study, out) == ["finished", "failed"]


def test_component_that_raises_fails_its_runs_alone(write_study, out, install):
    install(
        "ganframe-broken",
        """
        import attrs
        from ganframe import Objective, hookimpl, option

        @attrs.frozen
        class Broken(Objective):
            "Raises at its tenth call."
            calls = []
            def discriminator_loss(self, real, fake):
                self.calls.append(1)
                if len(self.calls) > 9:
                    raise LookupError("no such thing")
                return fake.mean() - real.mean()
            def generator_loss(self, fake, real=None):
                return -fake.mean()

        @hookimpl
        def ganframe_objectives():
            return {"broken": Broken}
        """,
    )
    study = load_study(
        write_study(
            '[[axes.loss]]\nname = "bad"\nset = ["objective.use=broken"]\n[[axes.loss]]\nname = "good"\n', study=ONE
        )
    )
    work(study, out)
    bad, good = read_outcomes(study, out)
    assert (bad.status, good.status) == ("failed", "finished")
    assert "LookupError: no such thing" in bad.message


def test_run_that_cannot_be_made_here_is_not_recorded_as_failed(write_study, out, tmp_path, capsys):
    study = load_study(write_study(study=ONE, base='from = "elsewhere"\n'))
    worked = work(study, out)
    assert "elsewhere: not the folder of a run" in next(iter(worked.refused.values()))
    assert statuses(study, out) == ["waiting"]


def test_full_disk_stops_the_worker_and_records_no_failure(write_study, out, monkeypatch):
    study = load_study(write_study())

    def full(*_):
        raise OSError(28, "No space left on device")

    with monkeypatch.context() as patched:
        patched.setattr(runs, "describe_run", full)
        with pytest.raises(RunError, match="No space left"):
            work(study, out)
    assert statuses(study, out) == ["waiting"] * 4
    work(study, out)
    assert statuses(study, out) == ["finished"] * 4


def test_number_of_threads_is_that_of_the_study_and_is_restored(write_study, out, monkeypatch):
    study = load_study(write_study(study=ONE + "threads = 2\n"))
    before, during = torch.get_num_threads(), []
    train = runs._train
    monkeypatch.setattr(runs, "_train", lambda *a: (during.append(torch.get_num_threads()), train(*a))[1])
    work(study, out)
    assert (during, torch.get_num_threads()) == ([2], before)


def test_folder_that_two_processes_were_given_is_trained_in_once(write_study, tmp_path, monkeypatch):
    """Of two plain runs with one --out, the second may find the folder free, and lock it when the first has ended."""
    study = load_study(write_study(study=ONE))
    recipe, folder = study.runs[0].recipe, tmp_path / "run"
    create = run_folder.create

    def slow(*arguments):
        found = create(*arguments)
        with monkeypatch.context() as patched:
            patched.setattr(run_folder, "create", create)
            ganframe.run(recipe, folder)
        return found

    monkeypatch.setattr(run_folder, "create", slow)
    with pytest.raises(RequestError, match="another process has trained in this folder"):
        ganframe.run(recipe, folder)
    assert RunFolder(folder).log.read_text().count("\n") == 1
