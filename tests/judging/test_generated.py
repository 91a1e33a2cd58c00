"""The samples that metrics judge do not depend on how many others are made."""

from __future__ import annotations

import pytest
import torch

from ganframe.builtin.distributions import Ring
from ganframe.judging.generated import generate
from ganframe.judging.judge import Judge, JudgedData
from ganframe.plugins.registry import load
from ganframe.recipes.tables import Prior


@pytest.mark.parametrize("distribution", ["normal", "uniform"])
@pytest.mark.parametrize("dim", [1, 2, 5])
@pytest.mark.parametrize("n", [1, 9, 20, 2_500])
def test_samples_of_a_smaller_number_are_the_first_of_a_larger(distribution, dim, n):
    """torch.randn(2_500, 2) is not the start of torch.randn(10_000, 2): its last rows differ."""
    data = JudgedData(Ring(), Ring().spec, Ring().build(), None)
    judge = Judge({}, data, load(), torch.device("cpu"), "test")
    prior = Prior(dim, distribution)
    (few, its_y), (many, y) = (generate(judge, prior, lambda z, y: z, count, True) for count in (n, 4 * n))
    assert torch.equal(few, many[:n])
    assert torch.equal(its_y, y[:n])
