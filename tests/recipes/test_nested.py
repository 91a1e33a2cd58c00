"""Components that are options of other components: read, written, trained, resumed and sampled as all options are."""

from __future__ import annotations

import json

import pytest
import tomli
import torch

import ganframe
from ganframe.recipes.writing import to_toml
from ganframe.storage import run_folder

SOURCE = """
import attrs
from ganframe import Constraint, Discriminator, Generator, Objective, Term, hookimpl, option

@attrs.frozen
class Outlines(Generator):
    width: int = option(4, help="of the hidden layer")
    def build(self, data, latent_dim):
        import torch
        class Net(torch.nn.Module):
            def __init__(self, inner):
                super().__init__()
                self.inner = inner
            def forward(self, z, y):
                return self.inner(z)
        hidden = torch.nn.Linear(latent_dim, self.width)
        return Net(torch.nn.Sequential(hidden, torch.nn.Linear(self.width, *data.shape)))

@attrs.frozen
class Finer(Outlines):
    depth: int = option(1, help="more")

@attrs.frozen
class Hidden(Objective):
    weight: float = option(1.0, help="offered by no hook")

@attrs.frozen
class Both(Generator):
    rest: Generator = option(help="any generator")
    outlines: Outlines = option(Outlines(), help="a class of the plugin's own")
    def build(self, data, latent_dim):
        import torch
        class Net(torch.nn.Module):
            def __init__(self, one, two):
                super().__init__()
                self.one, self.two = one, two
            def forward(self, z, y):
                return self.one(z, y) + self.two(z, y)
        return Net(self.outlines.build(data, latent_dim), self.rest.build(data, latent_dim))

@attrs.frozen
class Sum(Objective):
    parts: tuple[Objective, ...] = option((), help="games to add")
    hidden: tuple[Hidden, ...] = option((), help="of a class without a name")
    maybe: Hidden | None = option(None, help="if any")
    def discriminator_loss(self, real, fake):
        return sum(part.discriminator_loss(real, fake) for part in self.parts)
    def generator_loss(self, fake, real=None):
        return sum(part.generator_loss(fake, real) for part in self.parts)

@hookimpl
def ganframe_generators():
    return {"outlines": Outlines, "finer": Finer, "both": Both}

@hookimpl
def ganframe_objectives():
    return {"sum": Sum}
"""

ASIDE = """
import attrs
from ganframe import Objective, hookimpl, option

@attrs.frozen
class Linear(Objective):
    margin: float = option(1.0, help="of nothing")
    def discriminator_loss(self, real, fake):
        return fake.mean() - real.mean()
    def generator_loss(self, fake, real=None):
        return -fake.mean()

@hookimpl
def ganframe_objectives():
    return {"linear": Linear}
"""

GENERATOR = 'use = "both"\nrest = { use = "mlp", hidden = [8] }\noutlines = { width = 3 }\n'
OBJECTIVE = 'use = "sum"\nparts = [{ use = "vanilla" }, { use = "aside:linear", margin = 2.0 }]\n'


@pytest.fixture
def nested(tiny, install):
    """nested(generator, objective): a recipe of the ring in which these parts have parts."""
    install("outer", SOURCE)
    install("aside", ASIDE)

    def write(generator=GENERATOR, objective=OBJECTIVE):
        file = tiny()
        text = file.read_text(encoding="utf-8")
        text = text.replace('[generator]\nuse = "mlp"\nhidden = [8]\n', f"[generator]\n{generator}")
        file.write_text(text.replace('use = "vanilla"\n', objective), encoding="utf-8")
        return file

    return write


def test_options_that_are_components_are_read_and_written(nested, reread):
    recipe = ganframe.load_recipe(nested())
    assert (recipe.generator.outlines.width, recipe.generator.rest.hidden) == (3, (8,))
    assert recipe.objective.parts[1].margin == 2.0
    assert reread(recipe) == recipe
    written = tomli.loads(to_toml(recipe))
    assert written["generator"]["outlines"] == {"use": "outer:outlines", "width": 3}
    assert written["generator"]["rest"]["use"] == "builtin:mlp"
    assert [part["use"] for part in written["objective"]["parts"]] == ["builtin:vanilla", "aside:linear"]


def test_components_of_a_recipe_include_options(nested):
    recipe = ganframe.load_recipe(nested())
    found = [(kind, type(part).__name__) for kind, part in recipe.components()]
    assert found[1:4] == [("generator", "Both"), ("generator", "MLPGenerator"), ("generator", "Outlines")]
    assert ("objective", "Linear") in found


def test_class_that_no_hook_offers_is_written_without_a_name(nested, reread):
    objective = 'use = "sum"\nhidden = [{ weight = 2.0 }, {}]\nmaybe = { weight = 3.0 }\n'
    recipe = ganframe.load_recipe(nested(objective=objective))
    assert tomli.loads(to_toml(recipe))["objective"]["hidden"] == [{"weight": 2.0}, {"weight": 1.0}]
    assert reread(recipe) == recipe


def test_concrete_class_may_be_replaced_by_its_subclass(nested, reread):
    recipe = ganframe.load_recipe(nested(GENERATOR.replace("{ width = 3 }", '{ use = "finer", depth = 2 }')))
    assert (type(recipe.generator.outlines).__name__, recipe.generator.outlines.depth) == ("Finer", 2)
    assert reread(recipe) == recipe


@pytest.mark.parametrize(
    ("generator", "problem"),
    [
        (GENERATOR.replace('use = "mlp", ', ""), "generator.rest.use: missing; name a generator: "),
        (GENERATOR.replace('"mlp"', '"mlq"'), "generator.rest.use: unknown generator 'mlq'; did you mean 'mlp'?"),
        (GENERATOR.replace("hidden", "hiden"), "generator.rest.hiden: unknown option; did you mean 'hidden'?"),
        (
            GENERATOR.replace("{ width", '{ use = "mlp", width'),
            "generator.outlines.use: must name 'outer:outlines'",
        ),
        (GENERATOR.replace("{ width", '{ use = "wgan", width'), "generator.outlines.use: unknown generator 'wgan'"),
        (GENERATOR.replace("{ width = 3 }", "3"), "generator.outlines: must be a table, not 3"),
        ('use = "both"\n', "generator.rest: missing"),
    ],
)
def test_mistakes_in_nested_options_have_their_place(nested, generator, problem):
    with pytest.raises(ganframe.RecipeError) as caught:
        ganframe.load_recipe(nested(generator))
    assert [p for p in caught.value.problems if problem in p], caught.value.problems


def test_run_with_nested_components_resumes_and_samples(nested, tmp_path):
    whole = ganframe.run(ganframe.load_recipe(nested()), out=tmp_path / "whole")
    environment = json.loads((whole.folder / "environment.json").read_text())
    assert set(environment["plugins"]) == {"builtin", "outer", "aside"}  # aside is used by an option only
    samples = ganframe.load_generator(whole.folder).sample(4)
    assert samples.isfinite().all()

    first = ganframe.run(ganframe.load_recipe(nested(), ["log.checkpoint_every=3"]), out=tmp_path / "part")
    for file in run_folder.RunFolder(first.folder).checkpoints()[-1].iterdir():
        file.write_bytes(b"damaged")  # so the run is resumed from step 3
    resumed = ganframe.resume(first.folder)
    assert torch.equal(ganframe.load_generator(resumed.folder).sample(4), samples)
