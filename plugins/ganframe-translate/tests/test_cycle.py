"""The terms cycle and identity: values by hand, whom they reach, what they refuse, the network back of a run."""

import json
import os
import shutil
import subprocess
import sys
from pathlib import Path

import attrs
import pytest
import torch
from ganframe_translate import Cycle, Identity, classifier, load_back
from ganframe_translate.cycle import swapped
from safetensors.torch import load_file
from torch import nn
from torch.nn.functional import softplus

import ganframe
from ganframe import (
    DataSpec,
    Discriminator,
    Generator,
    Objective,
    RecipeError,
    RequestError,
    Scored,
    Turn,
    component,
    option,
)
from ganframe.testing import check_term

FOLDER = Path(__file__).parent.parent
ROWS = DataSpec((3,), condition=(2,))  # x has three numbers, y two
SAME = DataSpec((1, 8, 8), condition=(1, 8, 8))


@attrs.frozen
class Linear(Generator):
    """A linear layer on y; z is not heeded."""

    def build(self, data, latent_dim):
        return Mapped(data)


class Mapped(nn.Module):
    def __init__(self, data):
        super().__init__()
        self.shape = data.shape
        self.layer = nn.Linear(data.blank(1).numel(), torch.Size(data.shape).numel())

    def forward(self, z, y):
        return self.layer(y.flatten(1)).view(-1, *self.shape)


@attrs.frozen
class Sighted(Discriminator):
    """A linear layer on x, and on y too where it is not blind."""

    blind: bool = option(True, help="whether it sees x alone")
    patches: int = option(1, help="scores of a sample")

    def build(self, data):
        return Scores(data, self.blind, self.patches)


class Scores(nn.Module):
    gives_extras = True

    def __init__(self, data, blind, patches):
        super().__init__()
        self.blind, self.many_scores = blind, patches > 1
        size = torch.Size(data.shape).numel() + (0 if blind else torch.Size(data.condition).numel())
        self.layer = nn.Linear(size, patches)

    def forward(self, x, y, extras=None):
        seen = x.flatten(1) if self.blind else torch.cat([x.flatten(1), y.flatten(1)], 1)
        scores = self.layer(seen)
        if extras is not None:
            extras["features"] = seen
        return scores if self.many_scores else scores.squeeze(1)


@attrs.frozen
class Logistic(Objective):
    def discriminator_loss(self, real, fake):
        return softplus(-real).mean() + softplus(fake).mean()

    def generator_loss(self, fake, real=None):
        return softplus(-fake).mean()


@attrs.frozen
class Relative(Objective):
    compares_real = True

    def discriminator_loss(self, real, fake):
        return softplus(fake - real).mean()

    def generator_loss(self, fake, real=None):
        return softplus(real - fake).mean()


def cycle(**options):
    return Cycle(**{"back": Linear(), "critic": Sighted(), **options})


def turn_of(term, spec=ROWS, objective=None, n=4, started=True):
    """A generator turn on random numbers."""
    G, D = Linear().build(spec, 1), Sighted().build(spec)
    parts = term.prepare(G, D, spec)
    x, y, z = torch.randn(n, *spec.shape), torch.randn(n, *spec.condition), torch.randn(n, 1)
    fake = G(z, y)
    sides = Scored(x, y, None), Scored(fake, y, D(fake, y) if started else None, z)
    return Turn(G, D, *sides, objective or Logistic(), 0, parts)


# --------------------------------------------------------------------------------------------------------------- cycle


@pytest.mark.parametrize("objective", [Logistic(), Relative()], ids=["logistic", "relative"])
@pytest.mark.parametrize("patches", [1, 5])
def test_cycle_by_hand(objective, patches):
    term = cycle(weight=3.0, critic=Sighted(patches=patches))
    turn = turn_of(term, objective=objective)
    G, F, D_y = turn.G, turn.parts.generator.network, turn.parts.discriminator
    x, y, zero = turn.real.x, turn.real.y, torch.zeros(4, 1)
    there = (F(zero, G(zero, y)) - y).abs().mean()
    back = (G(zero, F(zero, x)) - x).abs().mean()
    real, fake = D_y(y, x), D_y(F(zero, x), x)
    torch.testing.assert_close(term.generator_term(turn), 3 * (there + back) + objective.generator_loss(fake, real))
    torch.testing.assert_close(term.discriminator_term(turn), objective.discriminator_loss(real, fake))


def test_identity_of_the_cycle_by_hand():
    turn = turn_of(cycle(identity=2.0), SAME)
    F, x, y = turn.parts.generator, turn.real.x, turn.real.y
    more = 2 * ((turn.G(None, x) - x).abs().mean() + (F(y) - y).abs().mean())
    found = cycle(identity=2.0).generator_term(turn) - cycle().generator_term(turn)
    torch.testing.assert_close(found, more)


def test_game_of_the_discriminator_does_not_reach_the_generators():
    term = cycle()
    turn = turn_of(term)
    term.discriminator_term(turn).backward()
    assert all(p.grad is None for module in (turn.G, turn.parts.generator) for p in module.parameters())
    assert all(p.grad is not None for p in turn.parts.discriminator.parameters())


def test_before_the_objective_starts_there_are_cycles_alone():
    term = cycle(weight=1.0)
    turn = turn_of(term, started=False)
    F, x, y = turn.parts.generator, turn.real.x, turn.real.y
    expected = (F(turn.fake.x) - y).abs().mean() + (turn.G(None, F(x)) - x).abs().mean()
    torch.testing.assert_close(term.generator_term(turn), expected)


def test_back_sees_the_swapped_data_and_latents_of_zeros():
    assert swapped(DataSpec((3, 4, 4), condition=(1, 8, 8))) == DataSpec((1, 8, 8), condition=(3, 4, 4))

    class Seen(nn.Module):
        def forward(self, z, y):
            assert z.shape == (5, 1)
            assert not z.any()
            return y

    from ganframe_translate.cycle import Back

    assert Back(Seen())(torch.ones(5, 2)).shape == (5, 2)


@pytest.mark.parametrize("spec", [ROWS, SAME, DataSpec((2, 4, 4), condition=(1, 6, 6))], ids=["rows", "same", "sizes"])
@pytest.mark.parametrize("patches", [1, 3])
def test_cycle_passes_the_kit(spec, patches):
    check_term(cycle(critic=Sighted(patches=patches)), spec, discriminator=Sighted(patches=patches))


@pytest.mark.parametrize("name", ["spectral_norm", "gradient_penalty"])
def test_cycle_with_a_constraint_of_the_critic_passes_the_kit(name):
    check_term(cycle(constraints=(component("constraint", name)(),)), SAME, discriminator=Sighted())


def test_constraints_of_the_critic_by_hand():
    penalty, norm = component("constraint", "gradient_penalty")(weight=2.0), component("constraint", "spectral_norm")()
    term = cycle(constraints=(norm, penalty))
    turn = turn_of(term)
    turn.parts.discriminator.eval()  # no power iteration
    slope = turn.parts.discriminator.layer.weight.norm()  # of a linear critic, at all points
    game = attrs.evolve(term, constraints=(norm,)).discriminator_term(turn)
    torch.testing.assert_close(term.discriminator_term(turn), game + 2 * (slope - 1).square())


def test_clipping_the_weights_of_the_critic_is_refused():
    clipping = component("constraint", "weight_clipping")()
    with pytest.raises(ValueError, match=r"constraints: WeightClipping moves weights after each step"):
        turn_of(cycle(constraints=(clipping,)))


def test_cycle_with_identity_passes_the_kit():
    check_term(cycle(identity=5.0), SAME, discriminator=Sighted())


@pytest.mark.parametrize(
    ("term", "spec", "D", "cause"),
    [
        (cycle(), DataSpec((2,)), Sighted(), "this data has no conditions; choose a dataset of two sets"),
        (cycle(), ROWS, Sighted(blind=False), "discriminator: it sees both images.*condition = 'none'"),
        (cycle(critic=Sighted(blind=False)), ROWS, Sighted(), "critic: it sees both images"),
        (cycle(identity=1.0), ROWS, Sighted(), r"x has shape \(3,\), y \(2,\); set identity = 0"),
    ],
)
def test_what_does_not_fit_is_refused(term, spec, D, cause):
    with pytest.raises(ValueError, match=cause):
        term.prepare(Linear().build(spec if spec.condition else ROWS, 1), D.build(spec), spec)


def test_a_network_back_of_another_shape_is_refused():
    @attrs.frozen
    class Same(Generator):
        def build(self, data, latent_dim):
            return lambda_module(lambda z, y: y)

    with pytest.raises(ValueError, match=r"back: it gives images of shape \(3,\), and y has \(2,\)"):
        cycle(back=Same()).prepare(Linear().build(ROWS, 1), Sighted().build(ROWS), ROWS)


def lambda_module(function):
    module = nn.Module()
    module.forward = function
    return module


# ------------------------------------------------------------------------------------------------------------ identity


def test_identity_by_hand():
    term = Identity(weight=2.0)
    turn = turn_of(cycle(), SAME)
    x = turn.real.x
    torch.testing.assert_close(term.generator_term(turn), 2 * (turn.G(None, x) - x).abs().mean())


def test_identity_passes_the_kit():
    check_term(Identity, SAME)


def test_identity_of_two_shapes_is_refused():
    with pytest.raises(ValueError, match="leave the term identity out, or choose images of one shape"):
        Identity().prepare(None, None, ROWS)


# -------------------------------------------------------------------------------------------------------------- a run

RECIPE = """
[dataset]
use = "unpaired_digits"
size = 8
[latent]
dim = 1
[generator]
use = "mlp"
hidden = [16]
condition = "concat"
[discriminator]
use = "mlp"
hidden = [16]
condition = "none"
[objective]
use = "non_saturating"
[[terms]]
use = "cycle"
back = { use = "mlp", hidden = [16], condition = "concat" }
critic = { use = "mlp", hidden = [16], condition = "none" }
[optimizer.generator]
use = "SGD"
lr = 0.05
[optimizer.discriminator]
use = "SGD"
lr = 0.05
[train]
steps = 4
batch_size = 8
[log]
every = 1
checkpoint_every = 2
samples_every = 4
"""
VARIANTS = {
    "plain": [],
    "constraints": ["constraints=[{use='spectral_norm'},{use='gradient_penalty'}]"],
    "constraints of both": [
        "constraints=[{use='spectral_norm'}]",
        "terms[0].constraints=[{use='spectral_norm'},{use='gradient_penalty'}]",
    ],
    "ramps": ["terms[0].weight={from=10.0,to=1.0,steps=4}"],
    "lazy": ["terms[0].every=2"],
    "late": ["objective.start=2"],
    "accumulated": ["train.accumulate=2"],
}


def test_the_recipe_trains_and_is_judged(tmp_path, monkeypatch):
    pytest.importorskip("ganframe_losses")
    monkeypatch.setattr(classifier, "STEPS", (12, 12))
    few = ["train.steps=2", "log.samples_every=2", "metrics[0].samples=40", "metrics[1].samples=40"]
    run = ganframe.run(ganframe.load_recipe(FOLDER / "cycle_digits.toml", few), out=tmp_path / "run")
    scores = [json.loads(line) for line in (run.folder / "evaluations.jsonl").read_text().splitlines()]
    assert [score["metric"] for score in scores] == ["paired", "kept_class"]
    assert scores[0]["identity_l1"] > 1  # a scan and its negative
    assert load_back(run.folder)(torch.zeros(2, 1, 16, 16)).shape == (2, 1, 16, 16)


@pytest.fixture
def recipe(tmp_path):
    file = tmp_path / "recipe.toml"
    file.write_text(RECIPE)
    return file


@pytest.mark.parametrize("name", VARIANTS)
def test_a_run_resumes_exactly(name, recipe, tmp_path):
    run = ganframe.run(ganframe.load_recipe(recipe, VARIANTS[name]), out=tmp_path / "run")
    shutil.copytree(run.folder, tmp_path / "killed")
    shutil.rmtree(tmp_path / "killed/checkpoints/step-000004")
    ganframe.resume(tmp_path / "killed")
    one, other = (tmp_path / folder / "checkpoints/step-000004" for folder in ("run", "killed"))
    files = {file.name for file in one.glob("*.safetensors")}
    assert {"term.cycle.generator.safetensors", "term.cycle.discriminator.safetensors"} <= files
    for file in files:
        assert (one / file).read_bytes() == (other / file).read_bytes(), file


def test_load_back_gives_the_trained_network(recipe, tmp_path, monkeypatch):
    run = ganframe.run(ganframe.load_recipe(recipe), out=tmp_path / "run")
    F = load_back(run.folder)
    assert not F.training
    file = run.folder / "checkpoints/step-000004/term.cycle.generator.safetensors"
    assert all(torch.equal(value, F.state_dict()[key]) for key, value in load_file(file).items())
    assert F(torch.zeros(3, 1, 8, 8)).shape == (3, 1, 8, 8)
    with monkeypatch.context() as gone:
        gone.setattr(
            type(ganframe.load_recipe(recipe).dataset),
            "spec",
            property(lambda _: pytest.fail("the dataset is not needed")),
        )
        assert load_back(run.folder)(torch.zeros(3, 1, 8, 8)).shape == (3, 1, 8, 8)
    latest = shutil.copytree(file.parent, file.parent.with_name("step-1000000")) / file.name
    latest.write_bytes(b"no weights")
    with pytest.raises(RequestError, match=r"step-1000000.*cannot be loaded"):
        load_back(run.folder)
    shutil.rmtree(latest.parent)
    file.write_bytes(b"no weights")
    with pytest.raises(RequestError, match=r"term\.cycle\.generator\.safetensors: cannot be loaded"):
        load_back(run.folder)
    shutil.rmtree(run.folder / "checkpoints")
    with pytest.raises(RequestError, match="no checkpoint"):
        load_back(run.folder)


def test_load_back_of_a_run_without_a_cycle_is_refused(recipe, tmp_path):
    more = ["terms=[]", "discriminator.condition='concat'"]
    run = ganframe.run(ganframe.load_recipe(recipe, more), out=tmp_path / "run")
    with pytest.raises(RequestError, match="no term cycle"):
        load_back(run.folder)


def test_without_the_cycle_a_discriminator_that_does_not_see_y_is_refused(recipe, tmp_path):
    with pytest.raises(RecipeError, match="labels or conditions reach the generator alone"):
        ganframe.run(ganframe.load_recipe(recipe, ["terms=[]"]), out=tmp_path / "run")
    assert not (tmp_path / "run").exists()


def test_a_discriminator_that_sees_y_is_refused_before_anything_is_written(recipe, tmp_path):
    with pytest.raises(RecipeError, match=r"terms\[0\]: discriminator: it sees both images"):
        ganframe.run(ganframe.load_recipe(recipe, ["discriminator.condition='concat'"]), out=tmp_path / "run")
    assert not (tmp_path / "run").exists()


@pytest.mark.slow
def test_two_processes_equal_one(recipe, tmp_path):
    alone = [sys.executable, "-m", "ganframe"]
    together = [
        sys.executable,
        "-m",
        "torch.distributed.run",
        "--standalone",
        "--nproc_per_node",
        "2",
        "-m",
        "ganframe",
    ]
    environment = {**os.environ, "ACCELERATE_USE_CPU": "true", "OMP_NUM_THREADS": "1"}
    for folder, command in (("one", alone), ("two", together)):
        arguments = ["run", str(recipe), "--out", str(tmp_path / folder)]
        subprocess.run([*command, *arguments], check=True, env=environment, capture_output=True, timeout=300)
    one, two = (tmp_path / folder / "checkpoints/step-000004" for folder in ("one", "two"))
    files = sorted(file.name for file in one.glob("*.safetensors"))
    assert len(files) >= 4
    for file in files:
        weights = load_file(two / file)
        for key, expected in load_file(one / file).items():
            torch.testing.assert_close(weights[key], expected, rtol=1e-5, atol=1e-6)
