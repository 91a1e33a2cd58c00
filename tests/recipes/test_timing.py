"""Timing in recipes: `every`, `start`, and options that move by a ramp."""

import attrs
import pytest
import tomli

import ganframe
from ganframe import RecipeError, RequestError, load_recipe
from ganframe.engine.timing import Ramp, Timing
from ganframe.recipes.reading import load_comparison
from ganframe.recipes.writing import to_toml

PLUGIN = """
    import attrs
    from attrs.validators import gt, lt, and_
    from ganframe import Constraint, Objective, Term, hookimpl, option

    @attrs.frozen
    class Between(Objective):
        low: float = option(0.0, help="low", scheduled=True)
        high: float = option(1.0, help="high", validator=and_(gt(0), lt(9)), scheduled=True)
        whole: int = option(1, help="an integer", scheduled=True)
        power: float = option(2.0, help="not scheduled")
        def __attrs_post_init__(self):
            if self.low >= self.high:
                raise ValueError("low must be < high")
        def discriminator_loss(self, real, fake):
            return fake.mean() - self.high * real.mean()
        def generator_loss(self, fake, real=None):
            return -fake.mean()

    @attrs.frozen
    class Pull(Constraint):
        weight: float = option(help="weight", validator=gt(0), scheduled=True)
        def penalty(self, D, real, fake):
            return self.weight * real.scores.square().mean()

    @attrs.frozen
    class OwnEvery(Pull):
        every: int = option(2, help="its own")

    @attrs.frozen
    class Mean(Term):
        weight: float = option(1.0, help="weight", scheduled=True)
        of: str = option("x", help="not a number", scheduled=True)
        def generator_term(self, turn):
            return self.weight * turn.fake.x.mean()

    @hookimpl
    def ganframe_objectives():
        return {"between": Between}

    @hookimpl
    def ganframe_constraints():
        return {"pull": Pull, "own_every": OwnEvery}

    @hookimpl
    def ganframe_terms():
        return {"mean": Mean}
"""
PARTS = """
[[constraints]]
use = "pull"
weight = 2
[[constraints]]
use = "weight_clipping"
[[terms]]
use = "mean"
"""
RAMP = "{from=1, to=3, steps=4}"


@pytest.fixture
def recipe(install, tiny):
    """recipe(*overrides): loads a recipe with an objective, constraints and terms of a plugin."""
    install("moving", PLUGIN)
    file = tiny(PARTS)
    return lambda *overrides: load_recipe(file, ["objective={use='between'}", *overrides])


@pytest.fixture
def mistakes(recipe):
    """mistakes(*overrides): the mistakes of a recipe, without the file's name."""

    def found(*overrides):
        with pytest.raises(RecipeError) as caught:
            recipe(*overrides)
        return [line.partition(".toml: ")[2] for line in caught.value.problems]

    return found


def test_recipe_without_timing_has_none(recipe, tiny):
    assert recipe().timing == {}
    assert [kind for kind, _ in recipe().components()][-3:] == ["constraint", "constraint", "term"]
    assert load_recipe(tiny()).terms == ()


def test_every_and_start_are_timing(recipe):
    found = recipe("constraints[0].every=4", "constraints[0].start=2", "terms[0].start=3", "objective.start=1")
    assert found.timing == {
        "objective": Timing(start=1),
        "constraints[0]": Timing(every=4, start=2),
        "terms[0]": Timing(start=3),
    }
    assert attrs.evolve(found, timing={}) == recipe()
    assert found != recipe()


def test_timing_that_changes_nothing_is_none(recipe):
    assert recipe("constraints[0].every=1", "constraints[0].start=0").timing == {}


def test_own_option_called_every_is_meant(recipe):
    found = recipe("constraints[0].use=own_every", "constraints[0].every=3", "constraints[0].start=1")
    assert found.constraints[0].every == 3
    assert found.timing == {"constraints[0]": Timing(start=1)}


def test_component_has_the_first_value_of_a_ramp(recipe):
    found = recipe(f"constraints[0].weight={RAMP}", "terms[0].weight={from=0, to=-1, steps=2, shape='cosine'}")
    assert found.constraints[0].weight == 1.0
    assert found.terms[0].weight == 0.0
    assert found.timing["constraints[0]"] == Timing(ramps={"weight": Ramp(1.0, 3.0, 4)})
    assert found.timing["terms[0]"].ramps == {"weight": Ramp(0.0, -1.0, 2, "cosine")}


def test_one_number_of_a_ramp_is_overridden(recipe):
    found = recipe(f"objective.high={RAMP}", "objective.high.to=2")
    assert found.timing["objective"].ramps["high"].to == 2.0


def test_timing_is_equal_when_read_again(recipe, reread):
    found = recipe(
        "objective={use='between', start=2, high={from=1, to=2, steps=3, shape='constant'}}",
        "constraints[0]={use='own_every', every=5, start=4, weight={from=1, to=2, steps=3}}",
        "terms[0]={use='mean', every=2}",
        "train.ema={from=0.5, to=0.9, steps=10}",
        "train.from='runs/earlier'",
        "train.freeze=['generator.blocks.0']",
    )
    assert reread(found) == found
    assert to_toml(reread(found)) == to_toml(found)
    document = tomli.loads(to_toml(found))
    assert document["constraints"][0]["weight"] == {"from": 1.0, "to": 2.0, "steps": 3, "shape": "linear"}
    assert document["terms"] == [{"use": "moving:mean", "weight": 1.0, "of": "x", "every": 2}]
    assert document["train"]["from"] == "runs/earlier"
    assert "timing" not in document


@pytest.mark.parametrize(
    ("override", "mistake"),
    [
        ("constraints[0].every=0", "constraints[0].every: must be >= 1, not 0"),
        ("constraints[0].every=1.5", "constraints[0].every: must be an integer, not 1.5"),
        (f"constraints[0].every={RAMP}", "constraints[0].every: must be an integer, not a table"),
        ("terms[0].start=-1", "terms[0].start: must be >= 0, not -1"),
        ("objective.start=true", "objective.start: must be an integer, not true"),
        ("objective.every=2", "objective.every: an objective acts at each update; it takes start, not every"),
        ("constraints[1].every=2", "constraints[1].every: this constraint has no penalty that could act only at"),
        ("constraints[1].start=2", "constraints[1].start: this constraint has no penalty"),
        ("generator.every=2", "generator.every: a generator takes no every; only terms and constraints with"),
        ("dataset.start=2", "dataset.start: a dataset takes no start; only objectives, terms and constraints"),
        (f"dataset.std={RAMP}", "dataset.std: options of a dataset cannot move, only those of objectives, const"),
        (f"objective.power={RAMP}", "objective.power: this option cannot move; of this objective low and high and"),
        (f"constraints[1].limit={RAMP}", "constraints[1].limit: this option cannot move; of this constraint none can"),
        (f"objective.whole={RAMP}", "objective.whole.from: must be an integer, not 1.0"),
        (f"terms[0].of={RAMP}", "terms[0].of.from: must be a text, not 1.0"),
        ("constraints[0].weight={from=1, to=0, steps=4}", "constraints[0].weight.to: must be > 0, not 0.0"),
        ("constraints[0].weight={from=-1, to=1, steps=4}", "constraints[0].weight.from: must be > 0, not -1.0"),
        ("constraints[0].weight={from='a', to=1, steps=4}", "constraints[0].weight.from: must be a number, not 'a'"),
        ("constraints[0].weight={from=nan, to=1, steps=4}", "constraints[0].weight.from: must be a finite number"),
        ("constraints[0].weight={to=1, steps=4}", "constraints[0].weight.from: missing"),
        ("constraints[0].weight={from=1, steps=4}", "constraints[0].weight.to: missing"),
        ("constraints[0].weight={from=1, to=2}", "constraints[0].weight.steps: missing"),
        ("constraints[0].weight={from=1, to=2, steps=0}", "constraints[0].weight.steps: must be >= 1, not 0"),
        (
            "constraints[0].weight={from=1, to=2, step=3, steps=4}",
            "constraints[0].weight.step: unknown option; did you mean 'steps'?",
        ),
        (
            "constraints[0].weight={from=1, to=2, steps=4, shape='cosin'}",
            "constraints[0].weight.shape: must be one of 'constant', 'linear', 'cosine', not 'cosin'; did you mean",
        ),
        ("constraints[0].weight={steps=4}", "constraints[0].weight: must be a number, not a table"),
        (f"constraints[0].weigth={RAMP}", "constraints[0].weigth: unknown option; did you mean 'weight'?"),
        ("objective.low={from=0, to=5, steps=4}", "objective: at step 2: low must be < high"),
        ("train.ema={from=0.5, to=1, steps=4}", "train.ema: to must be < 1, not 1.0"),
        ("train.ema={from=0, to=0.5, steps=4}", "train.ema: from must be > 0, not 0.0"),
        ("train.ema={from=0.5, steps=4}", "train.ema.to: missing"),
        ("train.ema='x'", "train.ema: must be a number, not 'x'"),
        ("train.from=3", "train.from: must be a text, not 3"),
        ("train.form='x'", "train.form: unknown option; did you mean 'from'?"),
        ("train.from_='x'", "train.from_: unknown option; did you mean 'from'?"),
        ("train.accumulate=0", "train.accumulate: must be >= 1, not 0"),
        ("timing={objective={start=3}}", "timing: unknown table"),
    ],
)
def test_mistake_in_timing_is_one_line_with_its_place(mistakes, override, mistake):
    (line,) = mistakes(override, *(["constraints[0].weight=1"] if override.startswith("constraints[0].weigth") else []))
    assert line.startswith(mistake)


def test_all_mistakes_are_reported_together(mistakes):
    lines = mistakes("constraints[0].weight={from=1, to=2, stesp=3}", "train.steps=0", "terms[0].every=0")
    assert [line.partition(": ")[0] for line in lines] == [
        "train.steps",
        "constraints[0].weight.steps",
        "constraints[0].weight.stesp",
        "terms[0].every",
    ]


def test_comparison_has_timing(install, tiny):
    install("moving", PLUGIN)
    file = tiny("[against]\nuse = 'swiss_roll'\n")
    overrides = ["objective={use='between'}", f"objective.high={RAMP}", "constraints=[{use='pull', weight=1, every=2}]"]
    found = load_comparison(file, overrides)
    assert found.timing == {"objective": Timing(ramps={"high": Ramp(1.0, 3.0, 4)}), "constraints[0]": Timing(every=2)}
    with pytest.raises(RecipeError, match=r"against\.std: options of a dataset cannot move|against\.noise"):
        load_comparison(file, [f"against.noise={RAMP}"])


def test_describe_marks_the_options_that_may_move(install, call):
    install("moving", PLUGIN)
    rows = call("describe", "objective", "between").stdout.splitlines()
    types = {line.split()[0]: line for line in rows if line.startswith((" high", " power", "high", "power"))}
    assert "number | ramp" in types["high"]
    assert "ramp" not in types["power"]


def test_resume_keeps_timing(recipe, tmp_path):
    run = ganframe.run(recipe(), tmp_path / "run")
    with pytest.raises(RequestError, match=r"constraints\[0\]\.every was .* terms\[0\]\.start was .*; only"):
        ganframe.resume(run.folder, ["constraints[0].every=2", "terms[0].start=1", "train.steps=9"])
