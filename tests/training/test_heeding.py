"""Which players heed y, and that labels or conditions which reach one of them alone are refused."""

from __future__ import annotations

import attrs
import pytest
import torch
from torch import nn

import ganframe
from ganframe import DataSpec, Term
from ganframe.training.heeding import heeding, heeds
from ganframe.training.prepare import prepare

LABELS = DataSpec((3,), classes=4)
VECTORS = DataSpec((3,), condition=(2,))
MEANT = "train.one_sided_labels=true"


class Zeros(nn.Module):
    """h + gate · layer(h, y), with layers and gate that are zero at the start, as in deep residual networks."""

    def __init__(self, behind):
        super().__init__()
        self.first = nn.Linear(3, 3)
        self.embedding = nn.Embedding(4, 3)
        self.last = nn.Linear(3, 3, bias=False)
        self.gate = nn.Parameter(torch.zeros(()))
        nn.init.zeros_(self.embedding.weight)
        if behind:
            nn.init.zeros_(self.last.weight)
        self.behind = behind

    def forward(self, z, y):
        h = self.first(z) + self.embedding(y)
        return self.last(h) if self.behind == "last" else z + self.gate * self.last(h)


class Deaf(nn.Module):
    """Has weights, dropout, noise and a buffer that counts; takes y and looks at its length only."""

    def __init__(self):
        super().__init__()
        self.layers = nn.Sequential(nn.Linear(3, 8), nn.Dropout(0.5), nn.BatchNorm1d(8), nn.Linear(8, 3))
        self.register_buffer("calls", torch.zeros(()))

    def forward(self, x, y):
        self.calls += 1
        return self.layers(x)[: len(y)] + 0.1 * torch.randn(3) + self.calls


@pytest.mark.parametrize(("network", "heeded"), [(Zeros(""), True), (Zeros("last"), True), (Deaf(), False)])
def test_network_that_heeds_labels_only_after_its_first_steps_is_recognised(network, heeded):
    before = {name: value.clone() for name, value in network.state_dict().items()}
    torch.manual_seed(7)
    state = torch.get_rng_state()
    assert heeds(network.train(), torch.randn(4, 3, generator=torch.Generator()), LABELS) is heeded
    assert torch.equal(torch.get_rng_state(), state)
    assert network.training
    assert all(p.grad is None for p in network.parameters())
    assert all(torch.equal(value, before[name]) for name, value in network.state_dict().items())


@pytest.mark.parametrize("spec", [LABELS, VECTORS, DataSpec((1, 8, 8), classes=3), DataSpec((1, 8, 8), condition=(5,))])
@pytest.mark.parametrize(("name", "player"), [(n, p) for n in ("mlp", "dcgan") for p in ("generator", "discriminator")])
def test_builtin_networks_heed_y_as_their_condition_says(spec, name, player):
    if name == "dcgan" and not spec.is_image:
        pytest.skip("dcgan is for images")
    of_player = ("concat", "batch_norm") if player == "generator" else ("concat", "projection")
    for condition in ("none", *of_player):
        options = {"batch_norm": True} if name == "mlp" and player == "generator" else {}
        options = {"width": 4} if name == "dcgan" else options
        config = ganframe.component(player, name)(condition=condition, **options)
        network = config.build(spec, 6) if player == "generator" else config.build(spec)
        inputs = torch.randn(4, 6) if player == "generator" else torch.randn(4, *spec.shape)
        assert heeds(network, inputs, spec) is (condition != "none")


SIDES = [
    ("none", "none", None),
    ("concat", "projection", None),
    ("concat", "none", "discriminator: labels or conditions reach the generator alone"),
    ("none", "concat", "generator: labels or conditions reach the discriminator alone"),
]


@pytest.mark.parametrize(("of_G", "of_D", "fault"), SIDES)
@pytest.mark.parametrize("kind", ["labels", "conditions"])
def test_labels_that_reach_one_player_are_refused_unless_the_recipe_says_so(tiny, conditional, kind, of_G, of_D, fault):
    sides = [f"generator.condition='{of_G}'", f"discriminator.condition='{of_D}'"]
    recipe = tiny() if kind == "labels" else conditional("vectors")
    if fault is None:
        found = prepare(ganframe.load_recipe(recipe, sides)).heeding
        assert (found.generator, found.discriminator) == (of_G != "none", of_D != "none")
        return
    with pytest.raises(ganframe.RecipeError, match=f"{fault}.*train.one_sided_labels = true") as refused:
        prepare(ganframe.load_recipe(recipe, sides))
    assert len(refused.value.problems) == 1
    found = prepare(ganframe.load_recipe(recipe, [*sides, MEANT])).heeding
    assert (found.generator, found.discriminator) == (of_G != "none", of_D != "none")


def test_data_whose_samples_all_have_the_same_y_has_nothing_to_heed(tiny):
    for dataset in ("{use='swiss_roll'}", "{use='ring', modes=1}"):
        assert prepare(ganframe.load_recipe(tiny(), [f"dataset={dataset}"])).heeding is None
    recipe = ganframe.load_recipe(tiny(), ["dataset={use='ring', modes=1}", "generator.condition='concat'"])
    assert prepare(recipe).heeding is None


@attrs.frozen
class Loss(Term):
    """A term of one player's loss that reads y, or x beside the fakes, or a mean of both."""

    player: str
    reads: str

    @property
    def needs_real(self):
        return "x" if self.reads != "y" and self.player == "generator" else None

    def _value(self, turn):
        if self.reads == "y":
            return (turn.fake.x.sum(1) * turn.fake.y).mean()
        if self.reads == "pairs":
            return (turn.real.x - turn.fake.x).abs().mean()
        return (turn.real.x.mean(0) - turn.fake.x.mean(0)).abs().mean()

    def generator_term(self, turn):
        return self._value(turn) if self.player == "generator" else None

    def discriminator_term(self, turn):
        return self._value(turn) + 0 * turn.fake.scores.mean() if self.player == "discriminator" else None


TERMS = [
    ("concat", Loss("generator", "y"), None),
    ("concat", Loss("generator", "pairs"), None),
    ("concat", Loss("generator", "means"), "reach the generator alone"),
    ("concat", Loss("discriminator", "y"), "reach the generator alone"),
    ("none", Loss("generator", "y"), "reach a term of the generator's loss alone"),
    ("none", Loss("generator", "pairs"), None),
    ("none", Loss("discriminator", "y"), None),  # as a class head that makes D better, beside a G without classes
]


@pytest.mark.parametrize(("of_G", "term", "fault"), TERMS)
def test_term_that_heeds_y_may_stand_in_for_the_discriminator(tiny, of_G, term, fault):
    recipe = ganframe.load_recipe(tiny(), [f"generator.condition='{of_G}'", MEANT])
    trainer = prepare(recipe)
    game = attrs.evolve(trainer.state.game, terms={"loss": term})
    found = heeding(recipe, game, trainer.spec)
    assert not found.discriminator
    assert (found.fault is None) if fault is None else (fault in found.fault)


def test_check_says_which_player_heeds_labels(call, tiny):
    def line(*changes):
        words = [word for change in changes for word in ("--set", change)]
        return next(s for s in call("check", tiny(), *words).stdout.splitlines() if s.startswith("labels"))

    both = ["generator.condition=concat", "discriminator.condition=projection"]
    assert line(*both).endswith("the generator heeds them, the discriminator heeds them")
    assert "neither player heeds them" in line()
    assert line(both[0], MEANT).endswith("the generator heeds them, the discriminator does not heed them")
    refused = call("check", tiny(), "--set", both[1], code=2).stderr
    assert len(refused.splitlines()) == 1
    assert "generator: labels or conditions reach the discriminator alone" in refused


def test_run_that_has_begun_is_resumed_though_its_labels_reach_one_player(tiny):
    """Its recipe cannot change any more."""
    prepare(ganframe.load_recipe(tiny(), ["generator.condition='concat'"]), start=False)
