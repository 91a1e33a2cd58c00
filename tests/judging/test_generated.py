"""The samples that metrics judge do not depend on how many others are made."""

from __future__ import annotations

import math

import pytest
import torch

from ganframe.builtin.distributions import Ring
from ganframe.builtin.images import Digits
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


def test_images_are_clipped_to_their_range_and_points_are_not():
    digits, ring = Digits(), Ring()
    for dataset in (digits, ring):
        data = JudgedData(dataset, dataset.spec, dataset.build(), None)
        judge = Judge({}, data, load(), torch.device("cpu"), "test")

        def decode(z, y, shape=dataset.spec.shape):
            x = 3 * z[:, :1].expand(len(z), math.prod(shape)).unflatten(1, shape).clone()
            x.view(len(x), -1)[0, :2] = torch.tensor([math.nan, math.inf])
            return x

        x, _ = generate(judge, Prior(1), decode, 50, False)
        assert torch.equal(x[1:].abs().max() > 1, torch.tensor(dataset is ring))
        first = x[0].flatten()[:2]
        assert first[0].isnan()  # a network that diverges is still found out
        assert first[1].isinf()
