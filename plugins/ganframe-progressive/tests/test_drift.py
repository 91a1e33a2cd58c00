"""The drift term."""

import pytest
import torch
from ganframe_progressive import Drift

from ganframe import Parts, Scored, Turn


def turn(real):
    """A discriminator step with these scores of real samples; fakes have the score 100."""
    x, y = torch.zeros(len(real), 2), torch.zeros(len(real), dtype=torch.long)
    return Turn(None, None, Scored(x, y, real), Scored(x, y, torch.full((len(real),), 100.0)), None, 0, Parts())


def test_drift_is_the_mean_square_of_real_scores():
    real = torch.tensor([1.0, -2.0, 3.0, 0.0], requires_grad=True)
    value = Drift(weight=0.5).discriminator_term(turn(real))
    assert value.item() == pytest.approx(0.5 * (1 + 4 + 9) / 4)
    value.backward()
    torch.testing.assert_close(real.grad, 0.5 * 2 * real.detach() / 4)


def test_drift_of_many_scores_counts_the_mean_of_each_sample():
    real = torch.tensor([[1.0, -1.0], [2.0, 4.0]])
    assert Drift(weight=1.0).discriminator_term(turn(real)).item() == pytest.approx((0 + 9) / 2)


def test_drift_has_the_weight_of_the_paper_and_leaves_the_generator_alone():
    assert Drift().weight == 1e-3
    assert Drift().generator_term(turn(torch.ones(2))) is None
