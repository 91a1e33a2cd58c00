"""Fixtures of the tests of built-in components."""

from __future__ import annotations

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
