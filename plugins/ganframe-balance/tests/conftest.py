"""Fixtures shared by the tests."""

import pytest
import torch
from torch import nn

from ganframe import Objective, Parts, Scored, Turn


@pytest.fixture(autouse=True)
def seeded():
    """Seeds torch before every test."""
    torch.manual_seed(0)


@pytest.fixture
def turn():
    """turn(D, x, fake, term, parts): what a term sees of a step of D on samples x and fakes (N, …)."""

    def make(D, x, fake, parts=None):
        y = torch.zeros(len(x), dtype=torch.long)

        def side(samples):
            extras = {}
            scores = D(samples, y, extras) if getattr(D, "gives_extras", False) else D(samples, y)
            return Scored(samples, y, scores, None, extras)

        return Turn(nn.Identity(), D, side(x), side(fake), Objective(), 0, parts or Parts())

    return make


class Linear(nn.Module):
    """D(x) = w·x on points x."""

    def __init__(self, weight):
        super().__init__()
        self.weight = nn.Parameter(torch.tensor(weight))

    def forward(self, x, y):
        return x @ self.weight


@pytest.fixture
def linear():
    """linear(weight): the discriminator D(x) = w·x."""
    return Linear
