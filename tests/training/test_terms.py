"""Terms, their parts and their timing from a recipe to the engine's state, and what is refused."""

from __future__ import annotations

import pytest
import torch
from safetensors.torch import load_file

import ganframe
from ganframe.errors import RecipeError, RunError
from ganframe.training.check import check
from ganframe.training.checkpoint import restore
from ganframe.training.prepare import prepare

PLUGIN = '''
import attrs, torch
from torch import nn
from ganframe import Constraint, Discriminator, Objective, Parts, Term, hookimpl, option, score_gradients

class Memory(nn.Module):
    def __init__(self, late=False):
        super().__init__()
        self.layer = nn.Linear(1, 1)
        if not late:
            self.register_buffer("mean", torch.zeros(()))

@attrs.frozen
class Remembers(Term):
    """Adds the scores' running mean, through a weight of its own."""
    weight: float = option(0.1, help="weight", scheduled=True)
    late: bool = option(False, help="creates its buffer in the first call")
    def prepare(self, G, D, data):
        frozen = nn.Linear(1, 1)
        return Parts(Memory(), Memory(self.late), frozen)
    def discriminator_term(self, turn):
        memory = turn.parts.discriminator
        if not hasattr(memory, "mean"):
            memory.register_buffer("mean", torch.zeros(()))
        memory.mean.lerp_(turn.real.scores.detach().mean(), 0.1)
        return self.weight * memory.layer(turn.real.scores[:, None] - memory.mean).square().mean()
    def generator_term(self, turn):
        return self.weight * turn.parts.generator.layer(turn.fake.scores[:, None]).square().mean()

@attrs.frozen
class Wrong(Term):
    how: str = option("reads", help="what is wrong")
    def prepare(self, G, D, data):
        if self.how == "refuses":
            raise ValueError("it needs a table with columns")
        if self.how == "list":
            return [nn.Linear(1, 1)]
        if self.how == "holds G":
            return Parts(generator=G)
        if self.how == "no module":
            return Parts(generator=3)
    def generator_term(self, turn):
        if self.how == "reads":
            return turn.real.x.mean()
        if self.how == "vector":
            return turn.fake.scores
        return turn.fake.x.mean()

@attrs.frozen
class NeedsExtras(Term):
    needs_extras = ("flux",)
    needs_real = "scores"
    def generator_term(self, turn):
        return (turn.real.extras["flux"] - turn.fake.extras["flux"]).square().mean()

class NoExtras(nn.Module):
    def __init__(self, shape):
        super().__init__()
        self.layer = nn.Linear(shape[0] * shape[1] * shape[2], 1)
    def forward(self, x, y):
        return self.layer(x.flatten(1)).squeeze(1)

@attrs.frozen
class Plain(Discriminator):
    def build(self, data):
        return NoExtras(data.shape)

@attrs.frozen
class LazyR1(Constraint):
    """Registers its counter in `penalty`."""
    input_gradients = True
    def penalty(self, D, real, fake):
        if not hasattr(D, "counter"):
            D.register_buffer("counter", torch.zeros((), dtype=torch.long))
        D.counter += 1
        return score_gradients(D, real.scores, real.x).square().sum(1).mean()

class Scaled(nn.Module):
    def __init__(self, D, by):
        super().__init__()
        self.D, self.by = D, by
    def forward(self, x, *args, **kwargs):
        return self.by * self.D(x, *args, **kwargs)

@attrs.frozen
class Captures(Constraint):
    by: float = option(1.0, help="scale", scheduled=True)
    weight: float = option(1.0, help="weight", scheduled=True)
    def wrap(self, D):
        return Scaled(D, self.by)
    def penalty(self, D, real, fake):
        return self.weight * real.scores.square().mean()

class PacksOfTwo(nn.Module):
    mixes_groups_of = 2
    def __init__(self, shape):
        super().__init__()
        self.layer = nn.Linear(2 * shape[0] * shape[1] * shape[2], 1)
    def forward(self, x, y):
        return self.layer(x.flatten(1).unflatten(0, (-1, 2)).flatten(1)).expand(-1, 2).flatten()

@attrs.frozen
class Packs(Discriminator):
    def build(self, data):
        return PacksOfTwo(data.shape)

@hookimpl
def ganframe_terms():
    return {"remembers": Remembers, "wrong": Wrong, "needs_extras": NeedsExtras}

@attrs.frozen
class Idle(Objective):
    """Both losses are a constant 0."""
    graph: bool = option(True, help="losses have a gradient, of 0")
    def discriminator_loss(self, real, fake):
        return 0 * real.mean() if self.graph else torch.zeros(())
    def generator_loss(self, fake, real=None):
        return 0 * fake.mean() if self.graph else torch.zeros(())

@hookimpl
def ganframe_objectives():
    return {"idle": Idle}

@hookimpl
def ganframe_constraints():
    return {"lazy_r1": LazyR1, "captures": Captures}

@hookimpl
def ganframe_discriminators():
    return {"plain": Plain, "packs": Packs}
'''


@pytest.fixture(autouse=True)
def plugin(install, tmp_path, monkeypatch):
    install("ganframe-terms-test", PLUGIN)
    monkeypatch.chdir(tmp_path)


def test_two_terms_of_one_kind_keep_two_memories(make_recipe):
    terms = [{"use": "remembers"}, {"use": "remembers", "weight": 1.0}]
    trainer = prepare(make_recipe(terms=terms))
    parts = trainer.state.game.parts
    assert parts.keys() == {"remembers", "remembers_2"}
    assert parts["remembers"].generator is not parts["remembers_2"].generator
    assert trainer.networks.keys() == {
        *("generator", "discriminator"),
        *(f"term.{name}.{player}" for name in parts for player in ("generator", "discriminator")),
    }


def test_parts_are_trained_with_their_player_and_frozen_ones_are_not(make_recipe):
    trainer = prepare(make_recipe(terms=[{"use": "remembers"}]))
    parts, state = trainer.state.game.parts["remembers"], trainer.state
    for player, module in ((state.G, parts.generator), (state.D, parts.discriminator)):
        inside = {id(p) for group in player.optimizer.param_groups for p in group["params"]}
        assert {id(p) for p in module.parameters()} <= inside
        assert module.training
    assert not any(p.requires_grad for p in parts.frozen.parameters())
    assert not parts.frozen.training


def test_parts_are_saved_restored_and_left_out_of_the_generator(make_recipe):
    recipe = make_recipe(terms=[{"use": "remembers"}], train={"steps": 3, "batch_size": 8})
    run = ganframe.run(recipe, "run")
    checkpoint = run.folder / "checkpoints" / "step-000003"
    saved = load_file(checkpoint / "term.remembers.discriminator.safetensors")
    assert saved.keys() == {"layer.weight", "layer.bias", "mean"}
    assert saved["mean"] != 0
    trainer = prepare(recipe)
    restore(trainer, checkpoint)
    for key, value in trainer.state.game.parts["remembers"].discriminator.state_dict().items():
        assert torch.equal(value, saved[key])
    assert trainer.state.D.updates == trainer.state.G.updates == 3
    assert not any("mean" in key for key in load_file(run.folder / "generator.safetensors"))
    assert ganframe.load_generator("run").sample(2).shape == (2, 1, 8, 8)


@pytest.mark.parametrize("every", [1, 2])
def test_resume_restores_memory_of_terms_exactly(make_recipe, every):
    def recipe(steps):
        terms = [{"use": "remembers", "every": every, "weight": {"from": 1.0, "to": 0.1, "steps": 5}}]
        train = {"steps": steps, "batch_size": 8, "critic_steps": 3, "accumulate": 2}
        return make_recipe(terms=terms, train=train, log={"checkpoint_every": 3})

    whole = ganframe.run(recipe(7), "whole")
    ganframe.run(recipe(3), "parts")
    parts = ganframe.resume("parts", ["train.steps=7"])
    files = [
        {p.name: p.read_bytes() for p in (r.folder / "checkpoints/step-000007").glob("*.safetensors")}
        for r in (whole, parts)
    ]
    assert len(files[0]) == 4
    assert files[0] == files[1]


@pytest.mark.parametrize(
    ("tables", "problem"),
    [
        (
            {"terms": [{"use": "wrong"}]},
            "terms[0]: generator_term(turn) raised AttributeError: 'NoneType' object has no attribute 'x'; "
            "GANFRAME_STRICT=1 shows where; a term that reads turn.real declares needs_real = 'x' or 'scores'",
        ),
        ({"terms": [{"use": "wrong", "how": "refuses"}]}, "terms[0]: it needs a table with columns"),
        (
            {"terms": [{"use": "remembers"}, {"use": "wrong", "how": "list"}]},
            "terms[1]: prepare returned a list, not ganframe.Parts or None",
        ),
        (
            {"terms": [{"use": "wrong", "how": "holds G"}]},
            "terms[0]: Parts.generator holds weights of G or D, which are saved and trained already; "
            "they are in each turn",
        ),
        ({"terms": [{"use": "wrong", "how": "no module"}]}, "terms[0]: Parts.generator must be a module, not int"),
        (
            {"terms": [{"use": "wrong", "how": "vector"}]},
            "terms[0]: generator_term(turn) returns a tensor of shape (2,), not a scalar; is .mean() missing?",
        ),
        (
            {"terms": [{"use": "needs_extras"}], "discriminator": {"use": "plain"}},
            "terms[0]: reads flux of the discriminator, which does not declare gives_extras; use one that does "
            "(built-in: mlp, dcgan, resnet)",
        ),
        (
            {"terms": [{"use": "needs_extras"}]},
            "terms[0]: reads flux of the discriminator, which gives features",
        ),
        (
            {"terms": [{"use": "remembers", "late": True}]},
            "term 'remembers': its discriminator part: 'mean' appears in the first step, and a checkpoint with it "
            "could not be resumed; create it in build, wrap or prepare",
        ),
        (
            {"constraints": [{"use": "captures", "by": {"from": 1.0, "to": 2.0, "steps": 5}}]},
            "constraints[0].by: is read once, when the discriminator is wrapped, so it cannot move; write a number",
        ),
        (
            {"discriminator": {"use": "packs"}, "train": {"steps": 1, "batch_size": 7}},
            "train.batch_size: the discriminator mixes groups of 2 samples; it must be a multiple of 2, not 7",
        ),
        (
            {"train": {"steps": 1, "batch_size": 8, "accumulate": 3}},
            "train.accumulate: a batch of 8 in each process has no 3 equal parts",
        ),
        (
            {"terms": [{"use": "needs_extras"}], "train": {"steps": 1, "batch_size": 8, "generator_batch_size": 16}},
            "train.generator_batch_size: terms[0] compares each fake with a real sample; it must be batch_size, 8",
        ),
        (
            {"objective": {"use": "idle"}},
            "objective: both losses have no gradient, so nothing would be trained; add [[terms]] that train",
        ),
        (
            {"objective": {"use": "wgan", "start": 5}},
            "objective.start: until then only terms train the generator, and this recipe has no [[terms]]",
        ),
    ],
)
def test_what_does_not_fit_is_refused_with_its_place(make_recipe, refused, tables, problem):
    problems = refused(make_recipe(**tables))
    assert f"built.toml: {problem}" in problems


def test_moving_option_that_wrap_does_not_read_is_accepted(make_recipe):
    ramp = {"from": 1.0, "to": 2.0, "steps": 5}
    prepare(make_recipe(constraints=[{"use": "captures", "weight": ramp}]))


def test_check_refuses_a_penalty_that_creates_state(make_recipe):
    with pytest.raises(RecipeError, match="discriminator: 'counter' appears in the first step"):
        check(make_recipe(constraints=[{"use": "lazy_r1"}], train={"steps": 4, "batch_size": 8}))


def test_penalty_that_creates_state_is_refused_and_leaves_no_folder(make_recipe, tmp_path):
    with pytest.raises(RecipeError, match="discriminator: 'counter' appears in the first step"):
        ganframe.run(make_recipe(constraints=[{"use": "lazy_r1"}], train={"steps": 4, "batch_size": 8}))
    assert not (tmp_path / "runs").exists()


def test_penalty_that_creates_state_later_stops_the_run_before_a_checkpoint(make_recipe):
    recipe = make_recipe(constraints=[{"use": "lazy_r1", "start": 2}], train={"steps": 4, "batch_size": 8})
    with pytest.raises(RunError, match=r"step 4: discriminator: 'counter' appears"):
        ganframe.run(recipe, "run")


def test_processes_share_a_batch_by_groups(make_recipe):
    trainer = prepare(make_recipe(discriminator={"use": "packs"}, train={"steps": 1, "batch_size": 8}))
    assert trainer.state.batches.share.group == trainer.state.latents.share.group == 2


@pytest.mark.parametrize("graph", [True, False])
def test_objective_may_stand_idle_beside_a_term(make_recipe, graph):
    recipe = make_recipe(objective={"use": "idle", "graph": graph}, terms=[{"use": "remembers"}])
    before = {name: [p.clone() for p in n.parameters()] for name, n in prepare(recipe).networks.items()}
    run = ganframe.run(recipe, "run")
    for name in ("generator", "discriminator"):
        after = load_file(run.folder / "checkpoints/step-000001" / f"{name}.safetensors")
        assert any(not torch.equal(a, b) for a, b in zip(before[name], after.values(), strict=False)), name


def test_term_that_reads_scores_before_the_objective_starts_is_refused(make_recipe, refused):
    tables = {"objective": {"use": "wgan", "start": 5}, "train": {"steps": 1, "batch_size": 8}}
    (problem,) = refused(make_recipe(terms=[{"use": "remembers"}], **tables))
    assert "terms[0]: generator_term(turn) before the objective starts" in problem
    assert "terms[0].start = 5" in problem
    prepare(make_recipe(terms=[{"use": "remembers", "start": 5}], **tables))
