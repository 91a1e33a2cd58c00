"""Strict reading of recipes: every mistake with its place, settings from the command line, files."""

import codecs
import re

import pytest
import tomli

from ganframe import RecipeError, RequestError, component, load_recipe
from ganframe.plugins.registry import load
from ganframe.recipes.reading import structure


@pytest.fixture
def refused(tiny):
    """refused(*overrides): the problems of the tiny recipe with these overrides, without the file's name."""

    def problems(*overrides):
        file = tiny()
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
        # unknown tables and options
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
            "dataset.channels: must be an integer, not '3'",
        ),
        # unknown components and optimisers
        ("generator.use='mpl'", "generator.use: unknown generator 'mpl'; did you mean 'mlp'?"),
        ("generator.use='builtin:mpl'", "generator.use: unknown generator 'builtin:mpl'; did you mean 'mlp'?"),
        ("generator.use='others:mlp'", "generator.use: unknown generator 'others:mlp'"),
        ("generator.use='wgan'", "generator.use: unknown generator 'wgan'"),
        ("constraints=[{use='weight_cliping'}]", "constraints[0].use: unknown constraint 'weight_cliping'; did"),
        ("optimizer.generator.use='LBFGS'", "optimizer.generator.use: unknown class of torch.optim 'LBFGS'"),
    ],
)
def test_mistake_is_one_line_with_its_place(refused, override, problem):
    (line,) = refused(override)
    assert line.startswith(problem)


@pytest.mark.parametrize("value", ["{}", "{plugins=[]}", "3", "[]", "'builtin'"])
def test_recipe_cannot_set_the_registry(refused, value):
    assert refused(f"registry={value}") == ["registry: unknown table"]
    assert sorted(refused(f"registry={value}", "train.step=3", "seed=-1")) == [
        "registry: unknown table",
        "seed: must be >= 0, not -1",
        "train.step: unknown option; did you mean 'steps'?",
    ]
    (line,) = refused("registri={}")
    assert line.startswith("registri: unknown table; known: constraints, ")
    assert "registry" not in line


def test_recipe_file_cannot_set_the_registry(tiny):
    with pytest.raises(RecipeError, match=r"tiny\.toml: registry: unknown table$"):
        load_recipe(tiny("[registry]\nplugins = []\n"))


REQUIRED = ["dataset", "generator", "discriminator", "objective", "train"]  # the others have defaults


@pytest.mark.parametrize("place", [*REQUIRED, "train.steps"])
def test_missing_table_or_option_is_refused(tiny, place):
    document = tomli.loads(tiny().read_text())
    table, _, option = place.partition(".")
    del (document[table] if option else document)[option or table]
    with pytest.raises(RecipeError, match=rf"^here: {place}: missing$"):
        structure(document, "here", load())


def test_empty_recipe_lacks_every_required_table():
    with pytest.raises(RecipeError) as raised:
        structure({}, "x.toml", load())
    assert set(raised.value.problems) == {f"x.toml: {table}: missing" for table in REQUIRED}


def test_all_mistakes_are_reported_at_once():
    document = tomli.loads(
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
        structure(document, "x.toml", load())
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


def test_component_may_refuse_options_that_do_not_fit_together(refused):
    assert refused("dataset={use='gaussian_1d', means=[0, 1], stds=[1]}") == [
        "dataset: means, stds and weights must have the same length"
    ]


@pytest.mark.parametrize("name", ["a/b", "../a", "..", ".", "a\\\\b", "", " ", "/a", "a\\nb", "-a"])
def test_name_is_one_folder(refused, name):
    (line,) = refused(f'name="{name}"')
    assert line.startswith("name: must ")


def test_integers_are_accepted_for_floats(tiny):
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
def test_override_sets_one_value(tiny, override, get, value):
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


@pytest.mark.parametrize(
    ("given", "root"),
    [
        ("my images", "my images"),
        ("  my images ", "my images"),
        ("Bilder (2), größere/été & more", "Bilder (2), größere/été & more"),
        ("C:\\my images\\new", "C:\\my images\\new"),
        ("it's mine", "it's mine"),
        ("a#b = c", "a#b = c"),
        ("2024-01-31", "2024-01-31"),
        ("07:32:00", "07:32:00"),
        ("~", "HOME"),
        ("~/my images", "HOME/my images"),
        ("a/~/b", "a/~/b"),
        ("'~/my images'", "~/my images"),
    ],
)
def test_override_is_a_text_where_it_is_not_toml(tiny, monkeypatch, given, root):
    """The home folder is that of the user: no shell expands ~ inside dataset.root=~/images."""
    monkeypatch.setenv("HOME", "HOME")
    monkeypatch.setenv("USERPROFILE", "HOME")
    recipe = load_recipe(tiny(), ["dataset={use='image_folder', root='x'}", f"dataset.root={given}"])
    assert recipe.dataset.root == root


@pytest.mark.parametrize("given", ["two words", "~", "1,5", "1 2", "2024-01-31"])
def test_text_in_the_place_of_a_number_is_a_mistake_of_the_recipe(refused, given):
    (line,) = refused(f"train.steps={given}")
    assert line.startswith("train.steps: must be ")


def test_last_of_two_overrides_wins(tiny):
    assert load_recipe(tiny(), ["train.steps=10", "train.steps=20"]).train.steps == 20


@pytest.mark.parametrize(
    ("override", "message"),
    [
        ("train.steps", "write it as table.option=value"),
        ("=3", "write it as table.option=value"),
        ("", "write it as table.option=value"),
        ("train.steps=", "is not a TOML value"),
        ("train.steps=[1,", "is not a TOML value"),
        ("constraints=[{use=spectral_norm}]", """as in --set 'constraints=[{use="spectral_norm"}]'"""),
        ("generator.activation='tanh", "is not a TOML value"),
        ('name="two" "values"', "is not a TOML value"),
        ("train.steps.x=3", "x is inside something that is not a table"),
        ("generator.hidden[1]=3", "no element 1 in a list of 1"),
        ("generator.hidden.x=3", "no element x in a list of 1"),
        ("generator.hidden[-1]=3", "no element -1 in a list of 1"),
        ("generator.hidden[²]=3", "no element ² in a list of 1"),
    ],
)
def test_impossible_override_is_refused(tiny, override, message):
    with pytest.raises(RequestError, match=re.escape(f"--set {override}: ")) as raised:
        load_recipe(tiny(), [override])
    assert message in str(raised.value)


def test_override_is_one_value(tiny):
    with pytest.raises(RequestError, match="--set"):
        load_recipe(tiny(), ["seed=1\nname='stowaway'"])


def test_override_does_not_change_later_loads(tiny):
    file = tiny()
    load_recipe(file, ["train.steps=10"])
    assert load_recipe(file).train.steps == 6


# --------------------------------------------------------------------------------------------------------------- files


def test_file_that_is_not_toml_is_refused(tiny):
    file = tiny("steps = = 3\n")
    with pytest.raises(RecipeError, match=r"tiny\.toml: not valid TOML: .*line \d+") as raised:
        load_recipe(file)
    assert len(str(raised.value).splitlines()) == 1


def test_missing_file_is_refused(tmp_path):
    with pytest.raises(RequestError, match=r"none\.toml: no such file"):
        load_recipe(tmp_path / "none.toml")


@pytest.mark.parametrize("make", [lambda p: p.mkdir(), lambda p: p.write_bytes(b"name = '\xff\xfe'")])
def test_unreadable_file_is_refused(tmp_path, make):
    make(tmp_path / "x.toml")
    with pytest.raises(RequestError, match=r"x\.toml: cannot be read: "):
        load_recipe(tmp_path / "x.toml")


def test_path_below_a_file_is_refused(tiny):
    with pytest.raises(RequestError, match="cannot be read"):
        load_recipe(tiny() / "x.toml")


def test_windows_line_ends_are_read(tiny):
    file = tiny()
    expected = load_recipe(file)
    file.write_bytes(file.read_bytes().replace(b"\n", b"\r\n"))
    assert load_recipe(file) == expected


@pytest.mark.parametrize("ends", [b"\n", b"\r\n"])
def test_byte_order_mark_of_utf_8_is_passed_by(tiny, ends):
    file = tiny()
    expected = load_recipe(file)
    file.write_bytes(codecs.BOM_UTF8 + file.read_bytes().replace(b"\n", ends))
    assert load_recipe(file) == expected


@pytest.mark.parametrize("encoding", ["utf-16", "utf-32", "latin-1"])
def test_other_encodings_are_refused_with_the_remedy(tiny, encoding):
    """UTF-16 is what a redirection writes in older versions of PowerShell."""
    file = tiny()
    file.write_bytes(("# für Bilder\n" + file.read_text()).encode(encoding))
    with pytest.raises(RequestError, match=r"tiny\.toml: cannot be read: it is not UTF-8 .*; save it in this encoding"):
        load_recipe(file)


@pytest.mark.usefixtures("rival")
def test_options_of_a_plugin_are_read_strictly(refused):
    assert refused("objective={use='rival:vanilla', margin=true, margn=2}") == [
        "objective.margin: must be a number, not true",
        "objective.margn: unknown option; did you mean 'margin'?",
    ]


def test_failed_plugin_is_named_in_one_line_when_its_component_is_missing(install, refused):
    install("broken", "raise ImportError('no hinge here:\\ninstall it first')")
    (line,) = refused("objective.use=fakehinge")
    assert line.startswith("objective.use: unknown objective 'fakehinge'")
    assert "plugin broken (broken 1.0) failed: ImportError: no hinge here:" in line
    assert "\n" not in line


@pytest.mark.usefixtures("rival")
def test_blocked_plugin_is_named_when_its_component_is_missing(tiny, monkeypatch):
    monkeypatch.setenv("GANFRAME_BLOCK", "rival")
    with pytest.raises(RecipeError, match=r"plugin rival \(rival 1\.0\) blocked"):
        load_recipe(tiny(), ["objective.use=rival:vanilla"])
    assert load_recipe(tiny()).objective == component("objective", "builtin:vanilla")()
