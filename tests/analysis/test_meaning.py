"""What values of -L_D mean, found from the losses of objectives whose divergence is known."""

from __future__ import annotations

import importlib.util
import math
from pathlib import Path

import attrs
import pytest
import torch
from torch.nn.functional import softplus

import ganframe
from ganframe import Objective
from ganframe.analysis.meaning import Scale, scale_of

PLUGINS = Path(__file__).parents[2] / "plugins"


def hinge():
    spec = importlib.util.spec_from_file_location("hinge", PLUGINS / "ganframe-hinge" / "ganframe_hinge.py")
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module.Hinge


@attrs.frozen
class Relativistic(Objective):
    """Relativistic pairing: it depends on differences of scores, and has no optimal score of its own."""

    def discriminator_loss(self, real, fake):
        return softplus(fake - real).mean()


@attrs.frozen
class KL(Objective):
    """KL(p‖q), which has no maximum."""

    def discriminator_loss(self, real, fake):
        return (fake - 1).exp().mean() - real.mean()

    def optimal_score(self, log_ratio):
        return 1 + log_ratio


@attrs.frozen
class TwiceJSD(Objective):
    """The minimax game and a constant."""

    def discriminator_loss(self, real, fake):
        return softplus(-real).mean() + softplus(fake).mean() - math.log(4)

    def optimal_score(self, log_ratio):
        return log_ratio


@attrs.frozen
class OfVectors(Objective):
    scores_are_vectors = True

    def discriminator_loss(self, real, fake):
        if real.ndim == 1:
            raise ValueError("compares vectors (N, F)")
        return (real.mean(0) - fake.mean(0)).square().sum()


@attrs.frozen
class Nothing(Objective):
    def discriminator_loss(self, real, fake):
        return 0 * real.mean()


@pytest.mark.parametrize(
    ("objective", "low", "high", "is_jsd"),
    [
        (ganframe.component("objective", "vanilla")(), -math.log(4), 0.0, True),
        (ganframe.component("objective", "non_saturating")(), -math.log(4), 0.0, True),
        (ganframe.component("objective", "wgan")(), 0.0, None, False),
        (hinge()(), -2.0, 0.0, False),
        (hinge()(margin=3.0), -6.0, 0.0, False),
        (Relativistic(), -math.log(2), 0.0, False),
        (TwiceJSD(), 0.0, math.log(4), True),
        (KL(), 0.0, None, False),
        (OfVectors(), None, None, False),
        (Nothing(), None, None, False),
    ],
)
def test_ends_of_each_objective(objective, low, high, is_jsd):
    scale = scale_of(objective)
    assert scale.indistinguishable == (None if low is None else pytest.approx(low, abs=1e-9))
    assert scale.separable == (None if high is None else pytest.approx(high, abs=1e-9))
    assert scale.is_jsd == is_jsd


@pytest.mark.parametrize(
    ("value", "jsd"), [(-math.log(4), 0.0), (0.0, math.log(2)), (-1.1634514, 0.1114215), (-1.39, 0)]
)
def test_jsd_of_a_value(value, jsd):
    scale = scale_of(ganframe.component("objective", "vanilla")())
    assert scale.jsd(value) == pytest.approx(jsd, abs=1e-6)
    assert scale_of(hinge()()).jsd(value) is None


@pytest.mark.parametrize(
    ("value", "error", "verdict"),
    [
        (-0.00016, 1e-5, "fully separable"),
        (-0.02, 1e-5, None),
        (-1.386, 1e-3, "indistinguishable by this discriminator"),
        (-1.39, 1e-3, "indistinguishable by this discriminator"),
        (-1.5, 1e-3, "worse than a constant discriminator: not trained enough, overfitted, or diverged"),
        (-1.3, 1e-3, None),
        (-1.4, math.nan, None),
    ],
)
def test_verdict_at_either_end(value, error, verdict):
    assert Scale(-math.log(4), 0.0, True).verdict(value, error) == verdict
    assert Scale(None, None, False).verdict(value, error) is None


def test_scale_leaves_the_random_state():
    before = torch.get_rng_state()
    scale_of(KL())
    assert torch.equal(torch.get_rng_state(), before)


def test_value_below_that_of_equal_sides_says_nothing_of_the_sides():
    """A constant discriminator reaches it."""
    scale = scale_of(ganframe.component("objective", "vanilla")())
    assert scale.jsd(-155.6) is None
    assert "worse than a constant discriminator" in scale.verdict(-155.6, 0.5)
    assert "indistinguishable" in scale.verdict(scale.indistinguishable - 1e-3, 1e-3)
    assert scale.verdict(scale.indistinguishable, math.nan) is None
