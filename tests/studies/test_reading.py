"""STUDY.toml is read strictly: every mistake with its place, before anything is written."""

import pytest
import tomli
import tomli_w

from ganframe import RequestError
from ganframe.studies.plan import load_study
from ganframe.studies.reading import read_study


def problems(file, overrides=()):
    with pytest.raises(RequestError) as caught:
        load_study(file, overrides)
    return str(caught.value).replace(f"{file.parent}/", "")


TWO = '[[axes.rate]]\nname = "fast"\nset = ["optimizer.generator.lr=1e-3"]\n'


@pytest.mark.parametrize(
    ("more", "place"),
    [
        ("sedes = 2", "study.toml: sedes: unknown option; did you mean 'seeds'?"),
        ('name = "../x"', "study.toml: name: must be a name for a folder"),
        ("seeds = 0", "study.toml: seeds: must be >= 1, not 0"),
        ("seeds = [1, 1]", "study.toml: seeds: must be a number of seeds, or a list of different seeds >= 0, not a li"),
        ("seeds = [-1]", "study.toml: seeds: must be a number of seeds, or a list of different seeds >= 0"),
        ("seeds = true", "study.toml: seeds: must be an integer, not true"),
        ("threads = 0", "study.toml: threads: must be >= 1, not 0"),
        ("axes = 3", "study.toml: axes: must be a table, not 3"),
        ("axes.rate = []", "study.toml: axes.rate: must be a list of choices, [[axes.rate]], not a list"),
        ("axes.rate = [3]", "study.toml: axes.rate[0]: must be a table, not 3"),
        ('axes.rate = [{set = ["train.steps=3"]}]', "study.toml: axes.rate[0].name: missing"),
        ('axes.rate = [{name = "a", set = "train.steps=3"}]', "study.toml: axes.rate[0].set: must be a list of texts"),
        ('axes.rate = [{name = "a", set = ["train"]}]', "study.toml: axes.rate[0].set[0]: train: write it as"),
        ('axes.rate = [{name = "a"}, {name = "a"}]', "study.toml: axes.rate[1].name: another choice is called 'a'"),
        ('axes.rate = [{name = "a", seed = 3}]', "study.toml: axes.rate[0].seed: the seeds of a study"),
        ('axes.rate = [{name = "a", set = ["metrics=[]"]}]', "axes.rate[0].set[0]: metrics: all cells are"),
        (
            'baseline = { rates = "a" }\naxes.rate = [{name = "a"}]',
            "baseline.rates: unknown axis; did you mean '",
        ),
        (
            'baseline = { rate = "b" }\naxes.rate = [{name = "a"}]',
            "baseline.rate: no choice of this axis is ",
        ),
        ('set = ["constraints[0].weight=1"]', "study.toml: set[0]: constraints: must be a list, not a table"),
        ('set = ["train.setps=1"]', "study.toml: set[0]: train.setps: unknown option; did you mean 'steps'?"),
        ('metrics = [{use = "nothing"}]', "study.toml: metrics[0].use: unknown metric 'nothing'"),
        ('set = ["seed=1"]', "study.toml: seed: the seeds of a study are its option seeds"),
    ],
)
def test_mistakes_of_a_study_are_named_with_their_places(write_study, more, place):
    file = write_study(study=f'base = "tiny.toml"\n{more}\n')
    assert place in problems(file)


def test_all_mistakes_are_reported_at_once(write_study):
    said = problems(write_study(study='base = "tiny.toml"\nsedes = 2\nthreads = 0\naxes.a = []\n')).splitlines()
    assert [line.split(": ")[1] for line in said] == ["sedes", "axes.a", "threads"]


@pytest.mark.parametrize(
    ("more", "places"),
    [
        (
            '[[axes.rate]]\nname = "a"\nset = ["name=x", "optimizer.generator.rl=1"]\n[[axes.rate]]\nname = "b"\n',
            ["study.toml: axes.rate[0].set[1]: optimizer.generator.rl: unknown option of Adam"],
        ),
        (
            '[[axes.net]]\nname = "a"\ngenerator = { use = "mlp", widht = 3 }\n[[axes.net]]\nname = "b"\n',
            ["study.toml: axes.net[0]: generator.widht: unknown option"],
        ),
        (
            '[[axes.net]]\nname = "a"\ngenerators = { use = "mlp" }\n[[axes.net]]\nname = "b"\n',
            ["study.toml: axes.net[0]: generators: unknown table; did you mean 'generator'?"],
        ),
        (
            '[[axes.penalty]]\nname = "a"\nset = ["constraints=[{use=\\"x\\"}]", "objective.x=1"]',
            ["constraints[0].use"],
        ),
    ],
)
def test_mistakes_of_recipes_are_named_at_the_choice_that_makes_them(write_study, more, places):
    said = problems(write_study(more))
    assert all(place in said for place in places), said
    assert said.count(places[0]) == 1


def test_mistake_of_one_cell_alone_names_the_cell(write_study):
    file = write_study(
        """
        [[axes.margin]]
        name = "none"
        [[axes.margin]]
        name = "one"
        set = ["objective.margin=1.0"]
        """,
        study="""
base = "tiny.toml"
[[axes.objective]]
name = "vanilla"
[[axes.objective]]
name = "hinge"
objective = { use = "hinge" }
""",
    )
    said = problems(file)
    assert "study.toml: axes.objective[1]: objective.use: unknown objective 'hinge'" in said
    assert "study.toml: objective = vanilla, margin = one: objective.margin: unknown option" in said


def test_mistakes_of_the_base_recipe_are_named_once_in_its_file(write_study):
    assert problems(write_study(base="ema = 2.0")) == "tiny.toml: train.ema: must be < 1, not 2.0"


def test_missing_files_are_named(write_study, tmp_path):
    file = write_study(study='base = "other.toml"\n')
    assert problems(file) == "study.toml: base: other.toml: no such file"
    assert problems(tmp_path / "none.toml") == "none.toml: no such file"
    assert "study.toml: base: missing" in problems(write_study(study="seeds = 2\n"))
    assert "study.toml: base: must be a recipe's file or its tables" in problems(write_study(study="base = 2\n"))


def test_choices_that_change_nothing_are_refused(write_study):
    said = problems(write_study('[[axes.rate]]\nname = "a"\n[[axes.rate]]\nname = "b"\nset = ["train.steps=6"]\n'))
    assert "study.toml: objective = vanilla, rate = b: the same recipe as objective = vanilla, rate = a" in said


def test_overrides_are_of_the_study_or_of_all_recipes(write_study):
    study = load_study(write_study(TWO), ["seeds=[4]", "train.steps=3"])
    assert [run.seed for run in study.runs] == [4, 4]
    assert {run.recipe.train.steps for run in study.runs} == {3}
    assert problems(write_study(TWO), ["seeds=0"]) == "study.toml: seeds: must be >= 1, not 0"
    said = problems(write_study(TWO), ["train.setps=3"])
    assert said == "study.toml: --set train.setps=3: train.setps: unknown option; did you mean 'steps'?"


def test_later_axes_and_texts_come_after_tables(write_study):
    study = load_study(
        write_study(
            """
            set = ["train.batch_size=4"]
            [[axes.net]]
            name = "a"
            generator = { use = "mlp", hidden = [4] }
            set = ["generator.hidden=[6]", "train.batch_size=2"]
            """,
            study='base = "tiny.toml"\n',
        )
    )
    recipe = study.runs[0].recipe
    assert (recipe.generator.hidden, recipe.train.batch_size) == ((6,), 2)


def test_baseline_is_the_first_choice_of_each_axis_unless_named(write_study):
    assert load_study(write_study(TWO)).baseline == {"objective": "vanilla", "rate": "fast"}
    file = write_study(study=f'base = "tiny.toml"\nbaseline = {{ rate = "fast" }}\n[[axes.rate]]\nname = "slow"\n{TWO}')
    assert load_study(file).baseline == {"rate": "fast"}


def test_study_without_axes_has_one_cell(write_study):
    study = load_study(write_study(study='base = "tiny.toml"\n'))
    assert [(run.cell, run.seed) for run in study.runs] == [({}, seed) for seed in range(5)]


def test_kept_copy_is_the_same_study(write_study, tmp_path):
    file = write_study(TWO, study='base = "tiny.toml"\nset = ["train.steps=3"]\n[[metrics]]\nuse = "x"\n')
    read = read_study(file, ["seeds=2"])
    copy = tmp_path / "folder" / "study.toml"
    copy.parent.mkdir()
    copy.write_text(tomli_w.dumps(dict(read.document)))
    assert read_study(copy).document == read.document == tomli.loads(copy.read_text())
