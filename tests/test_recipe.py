from __future__ import annotations

import re
from pathlib import Path

import attrs
import pytest
import tomli

from ganframe import RecipeError, RequestError, load_recipe, plugins
from ganframe.recipe import Recipe, structure, to_toml

RECIPES = sorted((Path(__file__).parent.parent / "recipes").glob("*.toml"))


@pytest.fixture
def refused(tiny):
    """refused(*overrides): the problems of the tiny recipe so changed, without the file's name before them."""

    def problems(*overrides, more=""):
        file = tiny(more)
        with pytest.raises(RecipeError) as raised:
            load_recipe(file, overrides)
        assert str(raised.value).splitlines() == list(raised.value.problems)
        assert all(line.startswith(f"{file}: ") for line in raised.value.problems)
        return [line.removeprefix(f"{file}: ") for line in raised.value.problems]

    return problems


# ----------------------------------------------------------------------------------------------------------- strictness


@pytest.mark.parametrize(
    ("override", "problem"),
    [
        # tables and options that are not there
        ("trian.steps=3", "trian: unknown table; did you mean 'train'?"),
        ("sed=1", "sed: unknown table; did you mean 'seed'?"),
        ("train.step=3", "train.step: unknown option; did you mean 'steps'?"),
        ("dataset.nodes=3", "dataset.nodes: unknown option; did you mean 'modes'?"),
        ("latent.zzz=3", "latent.zzz: unknown option; known: dim, distribution"),
        ("objective.margin=1", "objective.margin: unknown option"),
        ("optimizer.critic={use='Adam'}", "optimizer.critic: unknown option; known: discriminator, generator"),
        ("generator={}", "generator.use: missing; name a generator: "),
        ("dataset.use=3", "dataset.use: missing; name a dataset: "),
        ("dataset={use='image_folder'}", "dataset.root: missing"),
        # wrong types
        ("train.steps=1.5", "train.steps: must be an integer, not 1.5"),
        ("train.steps=6.0", "train.steps: must be an integer, not 6.0"),
        ("train.steps=true", "train.steps: must be an integer, not true"),
        ("train.steps='6'", "train.steps: must be an integer, not '6'"),
        ("train.ema=true", "train.ema: must be a number, not true"),
        ("train.ema='0.9'", "train.ema: must be a number, not '0.9'"),
        ("train.generator_batch_size=8.5", "train.generator_batch_size: must be an integer, not 8.5"),
        ("seed=1.0", "seed: must be an integer, not 1.0"),
        ("dataset.radius=true", "dataset.radius: must be a number, not true"),
        ("generator.batch_norm='false'", "generator.batch_norm: must be true or false, not 'false'"),
        ("generator.batch_norm=0", "generator.batch_norm: must be true or false, not 0"),
        ("generator.hidden=8", "generator.hidden: must be a list, not 8"),
        ("generator.hidden=[8, 2.5]", "generator.hidden[1]: must be an integer, not 2.5"),
        ("log.trackers='tensorboard'", "log.trackers: must be a list, not 'tensorboard'"),
        ("log.trackers=[1]", "log.trackers[0]: must be a text, not 1"),
        ("constraints={use='spectral_norm'}", "constraints: must be a list, not a table"),
        ("constraints=['spectral_norm']", "constraints[0]: must be a table, not 'spectral_norm'"),
        ("dataset='ring'", "dataset: must be a table, not 'ring'"),
        ("optimizer=3", "optimizer: must be a table, not 3"),
        ("optimizer.generator='Adam'", "optimizer.generator: must be a table, not 'Adam'"),
        ("name=3", "name: must be a text, not 3"),
        # values out of range
        ("train.steps=0", "train.steps: must be >= 1, not 0"),
        ("train.batch_size=0", "train.batch_size: must be >= 1, not 0"),
        ("train.critic_steps=-1", "train.critic_steps: must be >= 1, not -1"),
        ("train.ema=1", "train.ema: must be < 1, not 1.0"),
        ("train.ema=nan", "train.ema: must be "),
        ("train.workers=-1", "train.workers: must be >= 0, not -1"),
        ("seed=-1", "seed: must be >= 0, not -1"),
        ("log.keep=0", "log.keep: must be >= 1, not 0"),
        ("latent.dim=0", "latent.dim: must be >= 1, not 0"),
        ("discriminator.dropout=1", "discriminator.dropout: must be < 1, not 1.0"),
        ("generator.hidden=[8, 0]", "generator.hidden: must be >= 1, not 0"),
        ("optimizer.generator.lr=-1", "optimizer.generator: Invalid learning rate: -1.0"),
        # not one of the choices
        ("train.precision='bf61'", "train.precision: must be one of 'no', 'bf16', 'fp16', not 'bf61'; did you"),
        ("train.precision=16", "train.precision: must be one of 'no', 'bf16', 'fp16', not 16"),
        ("train.precision=false", "train.precision: must be one of 'no', 'bf16', 'fp16', not false"),
        ("latent.distribution='cauchy'", "latent.distribution: must be one of 'normal', 'uniform', not 'cauchy'"),
        (
            "dataset={use='image_folder', root='x', channels='3'}",
            "dataset.channels: must be one of 1, 3, not '3'",
        ),
        # components and optimisers that are not there
        ("generator.use='mpl'", "generator.use: unknown generator 'mpl'; did you mean 'mlp'?"),
        ("generator.use='builtin:mpl'", "generator.use: unknown generator 'builtin:mpl'; did you mean 'mlp'?"),
        ("generator.use='others:mlp'", "generator.use: unknown generator 'others:mlp'"),
        ("generator.use='wgan'", "generator.use: unknown generator 'wgan'"),
        ("constraints=[{use='weight_cliping'}]", "constraints[0].use: unknown constraint 'weight_cliping'; did"),
        ("optimizer.generator.use='LBFGS'", "optimizer.generator.use: unknown class of torch.optim 'LBFGS'"),
    ],
)
def test_a_mistake_is_one_line_with_its_place(refused, override, problem):
    (line,) = refused(override)
    assert line.startswith(problem)


@pytest.mark.parametrize(
    "table", ["dataset", "generator", "discriminator", "objective", "train"]
)  # the others have defaults
def test_a_missing_table(tiny, table):
    document = tomli.loads(tiny().read_text())
    del document[table]
    with pytest.raises(RecipeError, match=rf"^here: {table}: missing$"):
        structure(document, "here", plugins.load())


def test_a_missing_option(tiny):
    document = tomli.loads(tiny().read_text())
    del document["train"]["steps"]
    with pytest.raises(RecipeError, match=r"^here: train\.steps: missing$"):
        structure(document, "here", plugins.load())


def test_an_empty_recipe_lacks_every_required_table(tmp_path):
    (tmp_path / "x.toml").write_text("")
    with pytest.raises(RecipeError) as raised:
        load_recipe(tmp_path / "x.toml")
    missing = {line.removeprefix(f"{tmp_path}/") for line in raised.value.problems}
    assert missing == {
        f"x.toml: {table}: missing" for table in ("dataset", "generator", "discriminator", "objective", "train")
    }


def test_all_mistakes_are_reported_at_once(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    Path("x.toml").write_text(
        """
        sed = 1
        [dataset]
        use = "ring"
        modes = 2.5
        [generator]
        use = "mpl"
        [discriminator]
        use = "mlp"
        dropout = 1.5
        batch_norm = "false"
        [objective]
        use = "wgan"
        [[constraints]]
        use = "gradient_penalty"
        weigth = 1
        [[constraints]]
        limit = 1
        [optimizer.discriminator]
        use = "Adam"
        lr = -1
        [train]
        ema = 2
        """
    )
    with pytest.raises(RecipeError) as raised:
        load_recipe("x.toml")
    assert set(raised.value.problems) >= {
        "x.toml: sed: unknown table; did you mean 'seed'?",
        "x.toml: dataset.modes: must be an integer, not 2.5",
        "x.toml: generator.use: unknown generator 'mpl'; did you mean 'mlp'?",
        "x.toml: discriminator.dropout: must be < 1, not 1.5",
        "x.toml: constraints[0].weigth: unknown option; did you mean 'weight'?",
        "x.toml: optimizer.discriminator: Invalid learning rate: -1.0",
        "x.toml: train.steps: missing",
        "x.toml: train.ema: must be < 1, not 2.0",
    }
    places = sorted(line.split(": ")[1] for line in raised.value.problems)
    assert places == [
        "constraints[0].weigth",
        "constraints[1].use",
        "dataset.modes",
        "discriminator.batch_norm",
        "discriminator.dropout",
        "generator.use",
        "optimizer.discriminator",
        "sed",
        "train.ema",
        "train.steps",
    ]


def test_a_component_that_weighs_its_options_together_is_heard(refused):
    assert refused("dataset={use='gaussian_1d', means=[0, 1], stds=[1]}") == [
        "dataset: means, stds and weights must have the same length"
    ]


@pytest.mark.parametrize("name", ["a/b", "../a", "..", ".", "a\\\\b", "", " ", "/a", "a\\nb", "-a"])
def test_a_name_is_one_folder(refused, name):
    (line,) = refused(f'name="{name}"')
    assert line.startswith("name: must ")


def test_integers_stand_for_floats(tiny):
    recipe = load_recipe(
        tiny(),
        [
            "dataset.radius=2",
            "dataset.std=1",
            "optimizer.generator.betas=[0, 0.9]",
            "optimizer.generator.lr=1",
            "constraints=[{use='gradient_penalty', weight=10}]",
        ],
    )
    assert recipe.dataset.radius == 2.0
    assert recipe.optimizer.generator.options["betas"] == (0.0, 0.9)
    values = [
        recipe.dataset.radius,
        recipe.constraints[0].weight,
        recipe.optimizer.generator.options["lr"],
        recipe.optimizer.generator.options["betas"][0],
    ]
    assert [type(value) for value in values] == [float] * 4


def test_defaults_and_the_name(tiny):
    recipe = load_recipe(tiny(name="my try-2.toml"))
    assert recipe.name == "my try-2"
    assert recipe.constraints == ()
    assert recipe.train.critic_steps == 1
    assert recipe.log.every == 50
    assert recipe.latent.distribution == "normal"
    assert [kind for kind, _ in recipe.components()] == ["dataset", "generator", "discriminator", "objective"]
    assert load_recipe(tiny(), ["name=other"]).name == "other"


@pytest.mark.parametrize("stem", ["..x", "-x", "a:b", "é", "%", "a?b*"])
def test_any_file_name_gives_a_name(tiny, stem):
    assert re.fullmatch(r"\w[\w .+-]*", load_recipe(tiny(name=f"{stem}.toml")).name)


def test_every_option_has_help():
    def fields(cls):
        for field in attrs.fields(cls):
            yield f"{cls.__name__}.{field.name}", field

    from ganframe.recipe import Latent, Log, Train

    listed = dict(field for cls in (Latent, Train, Log) for field in fields(cls))
    assert len(listed) > 10
    assert [name for name, field in listed.items() if not field.metadata.get("help")] == []


# --------------------------------------------------------------------------------------------------------------- --set


@pytest.mark.parametrize(
    ("override", "get", "value"),
    [
        ("train.steps=10", lambda r: r.train.steps, 10),
        (" train.steps = 10 ", lambda r: r.train.steps, 10),
        ("seed=3", lambda r: r.seed, 3),
        ("train.ema=0.5", lambda r: r.train.ema, 0.5),
        ("train.steps=10_000", lambda r: r.train.steps, 10_000),
        ("generator.batch_norm=true", lambda r: r.generator.batch_norm, True),
        ("generator.hidden=[4, 5]", lambda r: r.generator.hidden, (4, 5)),
        ("generator.hidden[0]=4", lambda r: r.generator.hidden, (4,)),
        ("generator.activation='tanh'", lambda r: r.generator.activation, "tanh"),
        ("generator.activation=tanh", lambda r: r.generator.activation, "tanh"),
        ("generator.use=builtin:mlp", lambda r: r.generator.hidden, (8,)),
        ("constraints[0].power_iterations=3", lambda r: r.constraints[0].power_iterations, 3),
        ("constraints[1].limit=0.5", lambda r: r.constraints[1].limit, 0.5),
        ("constraints=[]", lambda r: r.constraints, ()),
        ("optimizer.generator.lr=1e-1", lambda r: r.optimizer.generator.options["lr"], 0.1),
        ("optimizer.generator.schedule.gamma=0.5", lambda r: r.optimizer.generator.schedule.options["gamma"], 0.5),
        ("optimizer.discriminator.use=SGD", lambda r: r.optimizer.discriminator.use, "SGD"),
        ("log={every=3}", lambda r: r.log.every, 3),
    ],
)
def test_set(tiny, override, get, value):
    more = """
    [[constraints]]
    use = "spectral_norm"
    [[constraints]]
    use = "weight_clipping"
    [optimizer.generator]
    use = "Adam"
    [optimizer.generator.schedule]
    use = "ExponentialLR"
    gamma = 0.9
    """
    assert get(load_recipe(tiny(more))) != value or override.startswith("generator.use")
    assert get(load_recipe(tiny(more), [override])) == value


def test_the_last_of_two_settings_holds(tiny):
    assert load_recipe(tiny(), ["train.steps=10", "train.steps=20"]).train.steps == 20


@pytest.mark.parametrize(
    ("override", "message"),
    [
        ("train.steps", "write it as table.option=value"),
        ("=3", "write it as table.option=value"),
        ("", "write it as table.option=value"),
        ("train.steps=", "no TOML value"),
        ("train.steps=[1,", "no TOML value"),
        ("train.steps=two words", "no TOML value"),
        ("train.steps.x=3", "x lies in something that is no table"),
        ("generator.hidden[1]=3", "no element 1 in a list of 1"),
        ("generator.hidden.x=3", "no element x in a list of 1"),
        ("generator.hidden[-1]=3", "no element -1 in a list of 1"),
        ("generator.hidden[²]=3", "no element ² in a list of 1"),
    ],
)
def test_a_setting_that_cannot_be_made(tiny, override, message):
    with pytest.raises(RequestError, match=re.escape(f"--set {override}: ")) as raised:
        load_recipe(tiny(), [override])
    assert message in str(raised.value)


def test_a_setting_is_one_value(tiny):
    with pytest.raises(RequestError, match="--set"):
        load_recipe(tiny(), ["seed=1\nname='stowaway'"])


def test_a_setting_does_not_outlive_its_load(tiny):
    file = tiny()
    load_recipe(file, ["train.steps=10"])
    assert load_recipe(file).train.steps == 6


# --------------------------------------------------------------------------------------------------------------- files


def test_a_file_that_is_no_toml(tiny):
    file = tiny("steps = = 3\n")
    with pytest.raises(RecipeError, match=r"tiny\.toml: not valid TOML: .*line \d+") as raised:
        load_recipe(file)
    assert len(str(raised.value).splitlines()) == 1


def test_a_file_that_is_not_there(tmp_path):
    with pytest.raises(RequestError, match=r"none\.toml: no such file"):
        load_recipe(tmp_path / "none.toml")


@pytest.mark.parametrize("make", [lambda p: p.mkdir(), lambda p: p.write_bytes(b"name = '\xff\xfe'")])
def test_what_cannot_be_read(tmp_path, make):
    make(tmp_path / "x.toml")
    with pytest.raises(RequestError, match=r"x\.toml: cannot be read: "):
        load_recipe(tmp_path / "x.toml")


def test_a_path_below_a_file_cannot_be_read(tiny):
    with pytest.raises(RequestError, match="cannot be read"):
        load_recipe(tiny() / "x.toml")


def test_line_ends_of_windows(tiny):
    file = tiny()
    expected = load_recipe(file)
    file.write_bytes(file.read_bytes().replace(b"\n", b"\r\n"))
    assert load_recipe(file) == expected


# ---------------------------------------------------------------------------------------------------- resolved recipes


@pytest.mark.parametrize("path", RECIPES, ids=lambda path: path.stem)
def test_a_recipe_survives_being_resolved(path, tmp_path):
    recipe = load_recipe(path)
    text = to_toml(recipe, plugins.load())
    (tmp_path / "recipe.toml").write_text(text, encoding="utf-8")
    again = load_recipe(tmp_path / "recipe.toml")
    assert again == recipe
    assert again.name == path.stem
    assert to_toml(again, plugins.load()) == text


def test_there_are_recipes():
    assert RECIPES


def test_a_resolved_recipe_has_every_option_and_full_names(tiny):
    more = """
    [[constraints]]
    use = "weight_clipping"
    [optimizer.generator]
    use = "Adam"
    schedule = { use = "StepLR", step_size = 3 }
    """
    document = tomli.loads(to_toml(load_recipe(tiny(more), ["train.ema=0.5"]), plugins.load()))
    assert document["dataset"] == {"use": "builtin:ring", "modes": 8, "radius": 1.0, "std": 0.01}
    assert document["generator"]["use"] == "builtin:mlp"
    assert document["discriminator"]["use"] == "builtin:mlp"
    assert document["objective"] == {"use": "builtin:vanilla"}
    assert document["constraints"] == [{"use": "builtin:weight_clipping", "limit": 0.01}]
    assert document["optimizer"]["generator"]["schedule"]["step_size"] == 3
    assert document["optimizer"]["discriminator"]["betas"] == [0.0, 0.9]  # the default, written out
    assert document["train"]["ema"] == 0.5
    assert document["name"] == "tiny"
    assert set(document) == {field.name for field in attrs.fields(Recipe)}
    assert set(document["log"]) == {"every", "samples_every", "checkpoint_every", "keep", "trackers"}


def test_texts_survive_being_written(tiny, tmp_path):
    odd = 'a "quoted" \\ back\\slash, ünï'
    recipe = load_recipe(tiny(f"[log]\ntrackers = ['{odd}']\n"))
    (tmp_path / "recipe.toml").write_text(to_toml(recipe, plugins.load()), encoding="utf-8")
    assert load_recipe(tmp_path / "recipe.toml").log.trackers == (odd,)


def test_a_resolved_recipe_names_the_plugin_among_rivals(install, tiny):
    install("rival", PLUGIN)
    recipe = load_recipe(tiny(), ["objective.use=rival:vanilla"])
    text = to_toml(recipe, plugins.load())
    assert tomli.loads(text)["objective"] == {"use": "rival:vanilla", "margin": 1.0}
    (again := tiny().with_name("again.toml")).write_text(text, encoding="utf-8")
    assert load_recipe(again) == recipe
    with pytest.raises(RecipeError, match=r"objective\.use: objective 'vanilla' is offered by 2 plugins; choose"):
        load_recipe(tiny())


PLUGIN = """
import attrs
from ganframe import Objective, hookimpl, option

@attrs.frozen
class Rival(Objective):
    margin: float = option(1.0, help="of error")

@hookimpl
def ganframe_objectives():
    return {"vanilla": Rival}
"""


def test_options_of_a_plugin_are_as_strict_as_any(install, refused):
    install("rival", PLUGIN)
    assert refused("objective={use='rival:vanilla', margin=true, margn=2}") == [
        "objective.margin: must be a number, not true",
        "objective.margn: unknown option; did you mean 'margin'?",
    ]


def test_a_failed_plugin_is_named_on_one_line_when_its_component_is_asked_for(install, refused):
    install("broken", "raise ImportError('no hinge here:\\ninstall it first')")
    (line,) = refused("objective.use=fakehinge")
    assert line.startswith("objective.use: unknown objective 'fakehinge'")
    assert "plugin broken (broken 1.0) failed: ImportError: no hinge here:" in line
    assert "\n" not in line


def test_a_blocked_plugin_is_named_when_its_component_is_asked_for(install, tiny, monkeypatch):
    install("rival", PLUGIN)
    monkeypatch.setenv("GANFRAME_BLOCK", "rival")
    with pytest.raises(RecipeError, match=r"plugin rival \(rival 1\.0\) blocked"):
        load_recipe(tiny(), ["objective.use=rival:vanilla"])
    assert load_recipe(tiny()).objective == plugins.component("objective", "builtin:vanilla")()
