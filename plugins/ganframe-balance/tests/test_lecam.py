"""LeCam: values by hand, the moving means, and gradients."""

import pytest
import torch
from ganframe_balance import LeCam

from ganframe import Parts

X, FAKE = torch.tensor([[3.0], [1.0]]), torch.tensor([[-1.0], [0.5]])


def prepared(term, real=2.0, fake=-0.5):
    parts = term.prepare(None, None, None)
    parts.discriminator.real.fill_(real)
    parts.discriminator.fake.fill_(fake)
    return parts


def test_values_by_hand(turn, linear):
    term = LeCam(weight=0.1)
    # D(x) - α_F = 3.5, 1.5; α_R - D(G(z)) = 3, 1.5.
    expected = 0.1 * ((3.5**2 + 1.5**2) / 2 + (3**2 + 1.5**2) / 2)
    assert term.discriminator_term(turn(linear([1.0]), X, FAKE, prepared(term))).item() == pytest.approx(expected)


def test_one_sided_ignores_scores_on_the_right_side_of_the_other_mean(turn, linear):
    # Real scores below α_F and fake scores above α_R.
    term, both = LeCam(weight=1.0), LeCam(weight=1.0, one_sided=False)
    value = term.discriminator_term(turn(linear([1.0]), X, FAKE, prepared(term, real=-2.0, fake=4.0)))
    assert value.item() == 0
    value = both.discriminator_term(turn(linear([1.0]), X, FAKE, prepared(both, real=-2.0, fake=4.0)))
    assert value.item() == pytest.approx((1 + 9) / 2 + (1 + 2.5**2) / 2)


def test_means_follow_the_scores_after_the_step(turn, linear):
    term = LeCam(decay=0.9)
    parts = term.prepare(None, None, None)
    for _ in range(2):
        term.discriminator_term(turn(linear([1.0]), X, FAKE, parts))
    # From 0: mean · (1 - 0.9²), with means 2 and -0.25.
    assert parts.discriminator.real.item() == pytest.approx(2 * 0.19)
    assert parts.discriminator.fake.item() == pytest.approx(-0.25 * 0.19)


def test_means_are_linear_in_the_batch(turn, linear):
    """So that the average over processes is that of one process with the whole batch."""
    term, halves = LeCam(), []
    parts = prepared(term)
    term.discriminator_term(turn(linear([1.0]), X, FAKE, parts))
    for i in (0, 1):
        half = prepared(term)
        term.discriminator_term(turn(linear([1.0]), X[i : i + 1], FAKE[i : i + 1], half))
        halves.append(half.discriminator)
    for name in ("real", "fake"):
        mean = sum(getattr(half, name) for half in halves) / 2
        torch.testing.assert_close(mean, getattr(parts.discriminator, name))


def test_gradient_pulls_scores_together(turn, linear):
    D, term = linear([1.0]), LeCam(weight=1.0)
    term.discriminator_term(turn(D, X, FAKE, prepared(term))).backward()
    # d/dw of E(xw + .5)² + E(2 - fw)²: E 2x(x + .5) - E 2f(2 - f)
    expected = (2 * 3 * 3.5 + 2 * 1.5) / 2 - (2 * -1 * 3 + 2 * 0.5 * 1.5) / 2
    assert D.weight.grad.item() == pytest.approx(expected)


def test_memory_is_two_buffers_of_the_discriminators_parts():
    parts = LeCam().prepare(None, None, None)
    assert isinstance(parts, Parts)
    assert parts.generator is None
    assert set(parts.discriminator.state_dict()) == {"real", "fake"}
    assert not list(parts.discriminator.parameters())


@pytest.mark.parametrize("options", [{"weight": 0.0}, {"decay": 1.0}, {"decay": -0.1}])
def test_options_out_of_range_raise_value_error(options):
    with pytest.raises(ValueError, match=next(iter(options))):
        LeCam(**options)
