"""Fixtures that the tests of training share."""

from __future__ import annotations

import json

import pytest
import torch

import ganframe
from ganframe.builtin.distributions import Ring
from ganframe.builtin.mlp import MLPDiscriminator, MLPGenerator
from ganframe.builtin.objectives import NonSaturating
from ganframe.data.feed import Share, open_feed
from ganframe.data.latents import LatentFeed
from ganframe.engine.state import Game, Player, State
from ganframe.plugins import registry
from ganframe.recipes.reading import structure
from ganframe.recipes.tables import Prior
from ganframe.training.prepare import prepare


@pytest.fixture
def make_recipe():
    """make_recipe(**tables): a recipe of one step on the digits, with these tables in place of its own."""

    def make(**tables):
        document = {
            "dataset": {"use": "digits"},
            "generator": {"use": "mlp", "hidden": [8]},
            "discriminator": {"use": "mlp", "hidden": [8]},
            "objective": {"use": "wgan"},
            "train": {"steps": 1},
            "name": "built",
            **tables,
        }
        return structure(document, "built.toml", registry.load())

    return make


@pytest.fixture
def refused():
    """refused(recipe): the problems for which `prepare` refuses a recipe."""

    def problems(recipe):
        with pytest.raises(ganframe.RecipeError) as caught:
            prepare(recipe)
        return list(caught.value.problems)

    return problems


@pytest.fixture
def state():
    """A game on the ring of two small networks with BatchNorm."""
    torch.manual_seed(0)
    data, share = Ring(), Share(torch.device("cpu"))
    G = MLPGenerator(hidden=(6,), batch_norm=True).build(data.spec, 3)
    D = MLPDiscriminator(hidden=(6,), norm="batch").build(data.spec)
    return State(
        game=Game(G, D, NonSaturating()),
        G=Player(G, torch.optim.SGD(G.parameters(), lr=0.5)),
        D=Player(D, torch.optim.SGD(D.parameters(), lr=0.5)),
        batches=open_feed(data.build(), data.spec, 8, 0, share),
        latents=LatentFeed(Prior(3), 0, share),
        generator_batch_size=8,
        device=share.device,
    )


@pytest.fixture
def read_records():
    """read_records(folder): the records of a run's log.jsonl without their seconds. Refuses NaN, which is not JSON."""

    def refuse(name):
        raise AssertionError(f"{name} is not JSON")

    def read(folder):
        lines = (folder / "log.jsonl").read_text(encoding="utf-8").splitlines()
        records = [json.loads(line, parse_constant=refuse) for line in lines]
        return [{name: value for name, value in record.items() if name != "seconds"} for record in records]

    return read
