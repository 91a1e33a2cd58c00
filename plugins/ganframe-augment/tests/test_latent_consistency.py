"""zcr: both terms by hand, whom their gradients reach, conformance."""

import pytest
import torch
from ganframe_augment import LatentConsistency
from torch import nn

import ganframe
from ganframe import Objective, Parts, Scored, Turn
from ganframe.testing import check_term


class Linear(nn.Module):
    """A network that multiplies by its weight: G(z) = a z, D(x) = b · the sum of x."""

    def __init__(self, weight, scores=False):
        super().__init__()
        self.weight, self.scores = nn.Parameter(torch.tensor(weight)), scores

    def forward(self, x, y):
        return self.weight * (x.sum(1) if self.scores else x)


def turn(a=3.0, b=2.0, n=4):
    """Of a generator step, with two latent dimensions."""
    G, D, z, y = Linear(a), Linear(b, scores=True), torch.randn(n, 2), torch.zeros(n, dtype=torch.long)
    x = G(z, y)
    return Turn(G, D, None, Scored(x, y, D(x, y), z), Objective(), 0, Parts())


@pytest.fixture(autouse=True)
def constant_noise(monkeypatch):
    """δ = std in each coordinate."""
    monkeypatch.setattr(torch, "randn_like", torch.ones_like)


def test_terms_by_hand():
    """G moves each coordinate by a · std = 0.3, and D's score by 2 · b · 0.3 = 1.2."""
    term = LatentConsistency(weight=7.0, generator_weight=0.5, std=0.1)
    assert term.discriminator_term(turn()).item() == pytest.approx(7 * 1.2**2, rel=1e-4)
    assert term.generator_term(turn()).item() == pytest.approx(-0.5 * 0.3**2, rel=1e-4)


def test_discriminator_term_does_not_reach_the_generator():
    given = turn()
    given.fake.x = given.fake.x.detach()
    given.fake.scores = given.D(given.fake.x, given.fake.y)
    LatentConsistency().discriminator_term(given).backward()
    assert given.G.weight.grad is None
    assert given.D.weight.grad is not None


def test_generator_term_reaches_both_samples():
    given = turn()
    term = LatentConsistency(generator_weight=1.0, std=0.1)
    term.generator_term(given).backward()
    assert given.G.weight.grad.item() == pytest.approx(-2 * 3 * 0.1**2, rel=1e-4)  # -(a std)² is quadratic in a


def test_component_is_registered():
    assert ganframe.component("term", "zcr") is LatentConsistency


def test_conformance(monkeypatch):
    monkeypatch.undo()
    check_term(LatentConsistency())
    check_term(LatentConsistency(generator_weight=0.0))
