"""The folder of a run is named by all that decides its weights, and by nothing else."""

import shutil

import pytest

import ganframe
from ganframe.studies.plan import load_study

ONE = 'base = "tiny.toml"\nseeds = 1\n'


@pytest.fixture
def name_of(write_study):
    """name_of(*overrides): the folder's name of the one run of a study."""
    return lambda *overrides, more="": load_study(write_study(more, study=ONE), overrides).runs[0].name


@pytest.mark.parametrize(
    "override",
    [
        *("name=other", "log.every=1", "log.checkpoint_every=2", "log.keep=1", "train.workers=2", "threads=2"),
        *("metrics=[{use='spread', every=2}]", "generator.use=builtin:mlp"),
    ],
)
def test_name_stays_where_the_weights_stay(name_of, override, metric):
    assert name_of(override) == name_of()


@pytest.mark.parametrize(
    "override",
    ["train.steps=7", "seeds=[1]", "optimizer.generator.lr=3e-4", "generator.hidden=[9]", "train.ema=0.9"],
)
def test_name_changes_with_the_weights(name_of, override):
    assert name_of(override) != name_of()


def test_metrics_and_log_count_where_they_choose_the_weights(name_of, metric):
    best = "log.keep_best=spread"
    names = {
        name_of("metrics=[{use='spread', every=2}]"),
        name_of("metrics=[{use='spread', every=2}]", best),
        name_of("metrics=[{use='spread', every=3}]", best),
        name_of("train.on_nonfinite=rollback"),
        name_of("train.on_nonfinite=rollback", "log.checkpoint_every=2"),
    }
    assert len(names) == 5


def test_version_of_a_plugin_counts(name_of, install, site, monkeypatch):
    source = """
    import attrs
    from ganframe import Objective, hookimpl

    @attrs.frozen
    class Plain(Objective):
        "Differences of scores."
        def discriminator_loss(self, real, fake):
            return fake.mean() - real.mean()
        def generator_loss(self, fake, real=None):
            return -fake.mean()

    @hookimpl
    def ganframe_objectives():
        return {"plain": Plain}
    """
    install("ganframe-plain", source, plugin="plain")
    before = name_of("objective.use=plain")
    assert name_of("objective.use=plain") == before
    shutil.rmtree(site / "ganframe_plain-1.0.dist-info")
    install("ganframe-plain", source, plugin="plain", version="1.1")
    assert name_of("objective.use=plain") != before


def test_weights_that_a_run_starts_from_count_and_not_where_they_lie(name_of, tiny, tmp_path):
    first = ganframe.run(ganframe.load_recipe(tiny(name="x.toml")), tmp_path / "first").folder
    shutil.copytree(first, tmp_path / "copy")
    other = ganframe.run(ganframe.load_recipe(tiny(name="x.toml"), ["seed=5"]), tmp_path / "other").folder
    names = [name_of(f"train.from={path}") for path in (first, tmp_path / "copy", other)]
    assert names[0] == names[1] != names[2]
    assert name_of() not in names
    assert name_of("train.from=nowhere") not in names


def test_order_of_runs_is_all_cells_for_a_seed_and_then_the_next(write_study):
    study = load_study(write_study())
    assert [(run.cell["objective"], run.seed) for run in study.runs] == [
        ("vanilla", 0),
        ("saturating not", 0),
        ("vanilla", 1),
        ("saturating not", 1),
    ]
    assert study.cells() == [{"objective": "vanilla"}, {"objective": "saturating not"}]
