"""A small game to train, with the parts that the engine's tests need and that are not built in."""

from __future__ import annotations

import functools
from contextlib import nullcontext
from typing import ClassVar

import attrs
import pytest
import torch
from torch import nn
from torch.nn.functional import softplus

import ganframe
from ganframe import Constraint, DataSpec, Objective
from ganframe.engine.state import Game, Player, State

SGD = functools.partial(torch.optim.SGD, lr=0.1)


@attrs.frozen
class R1(Constraint):
    """γ/2 E|∇D(x)|² on real samples (Mescheder et al. 2018), by the graph of the scores."""

    gamma: float = 1.0
    input_gradients: ClassVar[bool] = True

    def penalty(self, D, real, fake):
        (gradient,) = torch.autograd.grad(real.scores.sum(), real.x, create_graph=True)
        return self.gamma / 2 * gradient.flatten(1).square().sum(1).mean()


@attrs.frozen
class Relativistic(Objective):
    compares_real: ClassVar[bool] = True

    def discriminator_loss(self, real, fake):
        return softplus(fake - real).mean()

    def generator_loss(self, fake, real=None):
        assert real.shape == fake.shape == (8,)
        return softplus(real - fake).mean()


class LinearDiscriminator(nn.Module):
    """D(x) = w·x with w = (3, 4), so |∇D| = 5."""

    def __init__(self) -> None:
        super().__init__()
        self.w = nn.Parameter(torch.tensor([3.0, 4.0]))

    def forward(self, x, y):
        return x @ self.w


OWN = {"r1": R1, "relativistic": Relativistic}


@pytest.fixture
def linear():
    """A linear discriminator, w = (3, 4)."""
    return LinearDiscriminator()


@pytest.fixture
def make():
    """make(kind, name, **options): a built-in component, or "r1" or "relativistic" of this file."""

    def build(kind, name, **options):
        return (OWN.get(name) or ganframe.component(kind, name))(**options)

    return build


@pytest.fixture
def make_state(make):
    """make_state(objective, constraints, G, D, …): a state whose parts are given by name, or as objects.

    `G` and `D` are options of the built-in MLPs; `D` may be a network.
    """

    def player(network, parts):
        return Player(network, SGD([p for m in (network, *parts) for p in m.parameters()]), parts)

    def component(kind, given):
        return make(kind, given) if isinstance(given, str) else given

    def build(
        objective="non_saturating",
        constraints=(),
        G=None,
        D=None,
        generator_batch=8,
        autocast=None,
        terms=None,
        parts=None,
        **options,
    ):
        torch.manual_seed(0)
        spec = DataSpec((2,), 3)
        G = make("generator", "mlp", hidden=(8,), **(G or {})).build(spec, 4)
        if not isinstance(D, nn.Module):
            D = make("discriminator", "mlp", hidden=(8,), **(D or {})).build(spec)
        constraints = [component("constraint", given) for given in constraints]
        for constraint in constraints:
            D = constraint.wrap(D)
        named = {str(i): constraint for i, constraint in enumerate(constraints)}
        source = torch.Generator().manual_seed(1)
        return State(
            game=Game(
                G, D, component("objective", objective), named, autocast or nullcontext, terms or {}, parts or {}
            ),
            G=player(G, [part.generator for part in (parts or {}).values()]),
            D=player(D, [part.discriminator for part in (parts or {}).values()]),
            batches=lambda: (torch.randn(8, 2, generator=source), torch.randint(3, (8,), generator=source)),
            latents=lambda n: torch.randn(n, 4, generator=source),
            generator_batch_size=generator_batch,
            device=torch.device("cpu"),
            **options,
        )

    return build
