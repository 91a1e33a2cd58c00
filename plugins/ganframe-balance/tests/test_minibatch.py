"""Minibatch standard deviation: values by hand, groups, and a discriminator that sees a collapsed generator."""

import pytest
import torch
from ganframe_balance import MinibatchStddev
from ganframe_balance.minibatch import GroupDeviation

from ganframe import DataSpec, group_size, mixes_samples

SPEC = DataSpec((2,))


def test_feature_is_the_mean_deviation_of_the_group():
    h = torch.tensor([[0.0, 0.0], [2.0, 0.0], [1.0, 1.0], [1.0, 7.0]])
    out = GroupDeviation(2)(h)
    torch.testing.assert_close(out[:, :2], h)
    # Deviations of the groups: (1, 0) and (0, 3).
    torch.testing.assert_close(out[:, 2], torch.tensor([0.5, 0.5, 1.5, 1.5]), atol=1e-3, rtol=0)


def test_remainder_of_the_batch_is_a_smaller_group():
    h = torch.randn(7, 3)
    out = GroupDeviation(4)(h)
    torch.testing.assert_close(out[:4], GroupDeviation(4)(h[:4]))
    torch.testing.assert_close(out[4:], GroupDeviation(3)(h[4:]))
    assert GroupDeviation(4)(h[:1])[0, 3].item() == pytest.approx(0, abs=1e-3)


def test_gradient_is_finite_where_all_samples_of_a_group_are_equal():
    h = torch.ones(4, 3, requires_grad=True)
    GroupDeviation(4)(h).sum().backward()
    assert h.grad.isfinite().all()


@pytest.mark.parametrize("m", [2, 4])
def test_only_samples_of_one_group_are_mixed(m):
    D = MinibatchStddev(group=m).build(SPEC)
    assert group_size(D) == m
    assert not mixes_samples(D)
    x = torch.randn(2 * m, 2, requires_grad=True)
    (slope,) = torch.autograd.grad(D(x, SPEC.blank(2 * m))[0], x)
    assert (slope[:m].abs().sum(1) > 0).all()
    assert not slope[m:].any()


def test_real_and_fake_in_one_call_have_the_scores_of_two_calls():
    D, x, fake = MinibatchStddev().build(SPEC), torch.randn(8, 2), torch.randn(8, 2)
    y = SPEC.blank(8)
    both = D(torch.cat([x, fake]), torch.cat([y, y]))
    torch.testing.assert_close(both, torch.cat([D(x, y), D(fake, y)]))


def test_extras_are_the_features_before_the_score():
    D, extras = MinibatchStddev(hidden=(8, 6)).build(SPEC), {}
    scores = D(torch.randn(4, 2), SPEC.blank(4), extras)
    torch.testing.assert_close(D.last(extras["features"]).squeeze(1), scores)
    assert extras["features"].shape == (4, 6)


@pytest.mark.parametrize("options", [{"hidden": ()}, {"group": 1}])
def test_options_out_of_range_raise_value_error(options):
    with pytest.raises(ValueError, match=next(iter(options))):
        MinibatchStddev(**options)
