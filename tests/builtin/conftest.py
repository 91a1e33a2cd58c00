"""Fixtures of the tests of built-in components."""

from __future__ import annotations

import zlib

import pytest
import torch

from ganframe.errors import RecipeError
from ganframe.judging.judge import Judge, JudgedData, named
from ganframe.judging.protocol import numbers
from ganframe.plugins.registry import load
from ganframe.recipes.tables import Evaluation


@pytest.fixture(scope="session")
def judged():
    """judged(metric, dataset, x, y=None, score=False, samples=None): the numbers of samples x by a metric.

    They are those of `ganframe evaluate`. With `score=True` it is the whole score, with its protocol. `samples` is as
    in a recipe. What is refused raises ValueError with the message.
    """
    registry = load()

    def judge(metric, dataset, x, y=None, score=False, samples=None):
        try:
            data = JudgedData(dataset, dataset.spec, dataset.build(), dataset.held_out())
            evaluations = named([Evaluation(metric, samples=samples)], registry)
            judge = Judge(evaluations, data, registry, torch.device("cpu"), "test", None)
            (found,) = judge.scores(x, y)
        except RecipeError as refused:
            raise ValueError(str(refused)) from None
        if "error" in found:
            raise ValueError(found["error"])
        return found if score else numbers(found)

    return judge


@pytest.fixture(scope="session")
def weights_of():
    """weights_of(network): a hash of the names and shapes of its state, and a weighted sum of all values.

    The sum is compared to 1e-5: random numbers of a normal distribution differ in the last digit between processors.
    """

    def weights_of(network):
        state = network.state_dict()
        names = ", ".join(f"{name} {tuple(tensor.shape)}" for name, tensor in state.items())
        values = torch.cat([tensor.double().flatten() for tensor in state.values()])
        weights = torch.linspace(1, 2, len(values), dtype=torch.float64)
        return zlib.crc32(names.encode()), pytest.approx((weights * values).sum().item(), rel=1e-5, abs=1e-4)

    return weights_of
