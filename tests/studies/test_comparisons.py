"""Studies of comparisons: each cell and seed measures a divergence in its folder, once, whoever dies."""

import json
import re

import pytest

import ganframe
from ganframe import RecipeError, RequestError
from ganframe.analysis import divergence, optimum
from ganframe.storage import run_folder
from ganframe.storage.log import append_record, read_log
from ganframe.studies import comparisons
from ganframe.studies import work as works
from ganframe.studies.outcomes import read_outcomes, run_folder_of
from ganframe.studies.plan import load_study
from ganframe.studies.progress import Watched
from ganframe.studies.study import check
from ganframe.studies.table import make_table
from ganframe.studies.work import forget_failures, work

BASE = """
[dataset]
use = "funnels_moved"
[against]
use = "funnels"
[discriminator]
use = "mlp"
hidden = [8]
[objective]
use = "wgan"
[train]
steps = 3
batch_size = 8
[log]
every = 3
"""
STUDY = """
base = "pair.toml"
seeds = 2
[[axes.critic]]
name = "clipping"
constraints = [{ use = "weight_clipping" }]
[[axes.critic]]
name = "penalty"
constraints = [{ use = "gradient_penalty" }]
"""


@pytest.fixture(autouse=True)
def fewer_samples(monkeypatch):
    monkeypatch.setattr(divergence, "JUDGED_LAST", (1_000, 1_000))
    monkeypatch.setattr(divergence, "JUDGED", (1_000, 1_000))
    monkeypatch.setattr(divergence, "GRADIENTS", (100, 200))
    monkeypatch.setattr(divergence, "TRANSPORTED", 20)
    monkeypatch.setattr(optimum, "SAMPLES", 2_000)


@pytest.fixture
def write(tmp_path):
    """write(more="", study=STUDY, base=BASE): the file of a study of two critics and two seeds."""

    def save(more="", study=STUDY, base=BASE):
        (tmp_path / "pair.toml").write_text(base)
        (tmp_path / "study.toml").write_text(study + more)
        return tmp_path / "study.toml"

    return save


@pytest.fixture
def measured(monkeypatch):
    """The folders in which a measurement began, in order."""
    found = []

    def counted(folder, comparison, measure_in=works.measure_in):
        found.append(folder.name)
        return measure_in(folder, comparison)

    monkeypatch.setattr(works, "measure_in", counted)
    return found


@pytest.fixture
def out(tmp_path):
    return tmp_path / "out"


def statuses(study, out):
    return [outcome.status for outcome in read_outcomes(study, out)]


def numbers(study, out):
    """divergence.json and the critic's weights of each run, without the times."""
    folders = [run_folder_of(out, run).path for run in study.runs]
    reports = [json.loads((folder / "divergence.json").read_text()) for folder in folders]
    weights = [(folder / "discriminator.safetensors").read_bytes() for folder in folders]
    return [{**report, "seconds": None} for report in reports], weights


def test_all_comparisons_are_measured_once(write, out, measured):
    study = load_study(write())
    assert statuses(study, out) == ["waiting"] * 4
    work(study, out)
    assert measured == [run.name for run in study.runs]
    outcomes = read_outcomes(study, out)
    assert [(o.cell["critic"], o.seed, o.status) for o in outcomes] == [
        *(("clipping", 0, "finished"), ("penalty", 0, "finished")),
        *(("clipping", 1, "finished"), ("penalty", 1, "finished")),
    ]
    for outcome in outcomes:
        report = json.loads((outcome.folder / "divergence.json").read_text())
        (score,) = outcome.scores
        assert [score[name] for name in ("gradient_cosine", "gradient_l2", "share", "value")] == [
            report[name] for name in ("gradient_cosine", "gradient_l2", "share", "value")
        ]
        assert outcome.seconds == report["seconds"] > 0
    assert len({o.scores[0]["gradient_cosine"] for o in outcomes}) == 4
    times = {path: path.stat().st_mtime_ns for path in out.rglob("*") if path.is_file()}
    assert work(study, out).runs == 0
    assert times == {path: path.stat().st_mtime_ns for path in out.rglob("*") if path.is_file()}


@pytest.mark.parametrize("at", ["training", "weights", "picture", "result"])
def test_comparison_of_a_dead_worker_is_measured_again_with_the_same_numbers(write, out, tmp_path, monkeypatch, at):
    class Killed(BaseException):
        pass

    def die(*_, **__):
        raise Killed

    study = load_study(write())
    place = {
        "training": (divergence, "_judge"),
        "weights": (divergence, "save_weights"),
        "picture": (divergence.pictures, "draw_convergence"),
        "result": (divergence, "report"),
    }[at]
    with monkeypatch.context() as patched:
        patched.setattr(*place, die)
        with pytest.raises(Killed):
            work(study, out)
    assert statuses(study, out) == ["waiting"] * 4
    work(study, out)
    work(study, tmp_path / "undisturbed")
    assert statuses(study, out) == ["finished"] * 4
    assert numbers(study, out) == numbers(study, tmp_path / "undisturbed")


def test_comparison_that_another_worker_holds_is_passed_by(write, out, measured):
    study = load_study(write())
    held = run_folder_of(out, study.runs[0])
    held.path.mkdir(parents=True)
    watched = Watched(study, out)
    with run_folder.locked(held):
        work(study, out, wait=False)
        assert statuses(study, out) == ["running", *["finished"] * 3]
        watched.look()
        assert watched.text().startswith("3/4 runs done")
        assert [step for _, step in watched.running().values()] == [0]
        append_record(held, {"step": 2, "value": 0.1, "error": None, "seconds": 1.0})
        assert [step for _, step in watched.running().values()] == [2]
    assert held.path.name not in measured
    work(study, out)
    assert statuses(study, out) == ["finished"] * 4
    assert [record["step"] for record in read_log(held)] == [3]


def test_critic_that_diverges_is_recorded_and_does_not_stop_the_others(write, out, measured):
    mad = '[[axes.critic]]\nname = "mad"\nset = ["optimizer.discriminator.lr=1e30"]\n'
    study = load_study(write(mad))
    work(study, out)
    assert statuses(study, out) == ["finished", "finished", "failed"] * 2
    failed = read_outcomes(study, out)[2]
    assert re.search("-L_D is not a number|is (nan|inf)", failed.message)
    assert (len(measured), forget_failures(study, out)) == (6, 2)
    work(study, out)
    assert len(measured) == 8


def test_folder_is_named_by_all_that_decides_the_critic(write, tiny, tmp_path):
    names = [{run.name for run in load_study(write()).runs}]
    for base in (BASE.replace("every = 3", "every = 1"), 'name = "other"\n' + BASE):
        assert {run.name for run in load_study(write(base=base)).runs} == names[0]
    for base in (BASE.replace("hidden = [8]", "hidden = [9]"), BASE.replace('"funnels"', '"funnels"\nseed = 1')):
        assert not {run.name for run in load_study(write(base=base)).runs} & names[0]


def test_generator_of_a_run_as_a_side_is_known_by_its_weights(write, tiny, tmp_path):
    for name in ("a", "b"):
        ganframe.run(ganframe.load_recipe(tiny(), [f"seed={int(name == 'b')}"]), out=tmp_path / name)

    def names(run):
        base = BASE.replace('use = "funnels"', f"run = '{tmp_path / run}'").replace("funnels_moved", "ring")
        return {run.name for run in load_study(write(base=base)).runs}

    before, other = names("a"), names("b")
    assert before.isdisjoint(other)
    (tmp_path / "a").rename(tmp_path / "moved")
    assert names("moved") == before


def test_table_has_the_numbers_of_the_critics(call, write, tmp_path, in_process):
    result = call("study", write())
    assert result.stdout.endswith("\ndone: studies/study/ has 4 runs: 4 finished\n")
    text = (tmp_path / "studies" / "study" / "study.md").read_text()
    heading = next(line for line in text.splitlines() if line.startswith("| critic"))
    assert re.search(r"gradient\\_cosine ↑ \| gradient\\_l2 ↓ \| share \|.* value \|", heading), heading
    assert "- divergence: a critic trained alone; -L\\_D on held-out samples of both sides" in text
    assert (tmp_path / "studies" / "study" / "heat_map.png").stat().st_size > 1000
    found = json.loads((tmp_path / "studies" / "study" / "study.json").read_text())
    assert found["cells"][1]["metrics"]["divergence"]["gradient_cosine"]["difference"]["n"] == 2
    assert call("study", "study.toml").stdout == result.stdout


def test_pairs_may_differ_and_objectives_may_not(write):
    pairs = '[[axes.pair]]\nname = "few"\n[[axes.pair]]\nname = "many"\nset = ["dataset.funnels=9"]\n'
    check(load_study(write(pairs)))
    losses = '[[axes.loss]]\nname = "w"\n[[axes.loss]]\nname = "v"\nset = ["objective.use=vanilla"]\n'
    with pytest.raises(RequestError, match=r"divergence of .* were not judged alike: objective"):
        check(load_study(write(losses)))


@pytest.mark.parametrize(
    ("more", "study", "said"),
    [
        ('[[metrics]]\nuse = "modes"\n', STUDY, "metrics: a comparison is judged by its critic alone"),
        ("", STUDY.replace("weight_clipping", "weigth_clipping"), r"axes\.critic\[0\]: constraints\[0\]\.use: unknown"),
        (
            '[search]\nmetric = "modes"\ntrials = 2\n[search.ranges]\n"train.batch_size" = { low = 1, high = 2 }\n',
            'base = "pair.toml"\n',
            "search: a search needs a generator",
        ),
        (
            '[[axes.pair]]\nname = "wrong"\nset = ["dataset.dimension=3"]\n',
            STUDY,
            r"against: its samples have shape \(2,\)",
        ),
        (
            '[[axes.pair]]\nname = "wrong"\nset = ["dataset.file=none.npz"]\n',
            STUDY,
            "dataset: file: none.npz: no such file",
        ),
    ],
)
def test_mistakes_are_reported_with_their_place(write, more, study, said):
    with pytest.raises(RecipeError, match=said):
        check(load_study(write(more, study)))


# ------------------------------------------------------------------------------- choices of packages that are not there

NEEDY = '[[axes.critic]]\nname = "theirs"\nrequires = ["ganframe-nowhere"]\nconstraints = [{ use = "nowhere" }]\n'


def test_choice_whose_package_is_missing_is_left_out_and_said(call, write, tmp_path, in_process):
    last = '[[axes.critic]]\nname = "last"\nset = ["train.setps=1"]\n'
    study = load_study(write(NEEDY))
    assert [cell["critic"] for cell in study.cells()] == ["clipping", "penalty"]
    with pytest.raises(RecipeError, match=r"axes\.critic\[3\]\.set\[0\]: train\.setps: unknown option"):
        load_study(write(NEEDY + last))
    result = call("study", write(NEEDY), "--out", "x", "--set", "seeds=1")
    assert "axes.critic[2]: theirs is left out; it needs: pip install ganframe-nowhere\n" in result.stderr
    assert result.stdout.endswith("done: x/ has 2 runs: 2 finished\n")
    assert [run.name for run in load_study(tmp_path / "x" / "study.toml").runs] == [run.name for run in study.runs[:2]]


def test_choice_whose_package_is_there_is_a_choice(write, install):
    install(
        "ganframe-nowhere",
        """
        import attrs
        from ganframe import Constraint, hookimpl

        @attrs.frozen
        class Nowhere(Constraint):
            "Constrains nothing."

        @hookimpl
        def ganframe_constraints():
            return {"nowhere": Nowhere}
        """,
    )
    for name in ("ganframe-nowhere", "Ganframe_Nowhere"):
        study = load_study(write(NEEDY.replace("ganframe-nowhere", name)))
        assert [cell["critic"] for cell in study.cells()] == ["clipping", "penalty", "theirs"]


@pytest.mark.parametrize(
    ("requires", "said"),
    [
        ('"ganframe-hinge"', r"axes\.critic\[2\]\.requires: must be a list of packages"),
        ("[3]", r"axes\.critic\[2\]\.requires: must be a text, not 3"),
    ],
)
def test_wrong_requirement_is_refused(write, requires, said):
    with pytest.raises(RecipeError, match=said):
        load_study(write(NEEDY.replace('["ganframe-nowhere"]', requires)))


def test_axis_without_a_choice_left_is_refused(write):
    with pytest.raises(RecipeError, match=r"axes\.critic: no choice is left"):
        load_study(write(study='base = "pair.toml"\n' + NEEDY))


def test_directions_of_the_numbers(write, out):
    study = load_study(write())
    work(study, out)
    table = make_table(read_outcomes(study, out), study.baseline, study.runs[0].recipe.registry)
    better = {column.number: column.better for column in table.columns}
    assert better["gradient_cosine"] == "higher"
    assert better["gradient_l2"] == "lower"
    assert better["share"] is None
    assert {*better} <= {*comparisons.BETTER}
    assert [column.number for column in table.columns if column.headline] == ["gradient_cosine"]
