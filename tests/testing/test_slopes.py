"""The steepest slope that is found, and declared Lipschitz constants that are too small."""

import attrs
import pytest
import torch
from torch import nn
from torch.nn import functional as F

from ganframe import Constraint, DataSpec, Discriminator
from ganframe.layers import GroupSort
from ganframe.testing import check_constraint, check_discriminator
from ganframe.testing.slopes import steepest_slope


def test_steepest_slope_of_a_linear_map_is_its_norm():
    torch.manual_seed(0)
    A = torch.randn(30, 20, dtype=torch.float64)
    found = steepest_slope(lambda x: x @ A.T, torch.randn(8, 20, dtype=torch.float64))
    assert found == pytest.approx(torch.linalg.matrix_norm(A, 2).item(), rel=1e-4)
    assert found <= torch.linalg.matrix_norm(A, 2) * (1 + 1e-9)


@pytest.mark.parametrize(
    ("function", "slope"),
    [
        (torch.tanh, 1.0),
        (lambda x: 3 * F.relu(x - 0.5), 3.0),
        (torch.sigmoid, 0.25),
        (GroupSort(2), 1.0),
        (lambda x: x.square().sum((1, 2)).add(1).sqrt(), 1.0),
        (lambda x: torch.ones(len(x), 1) * torch.ones(1, requires_grad=True), 0.0),
    ],
)
def test_steepest_slope_of_functions_is_found_by_ascent_and_not_exceeded(function, slope):
    torch.manual_seed(0)
    found = steepest_slope(function, torch.randn(4, 2, 3, dtype=torch.float64))
    assert slope * 0.99 <= found <= slope * (1 + 1e-9)


class Bounded(nn.Linear):
    """A linear layer that declares `factor` times its norm."""

    factor = 1.0

    def lipschitz_constant(self):
        """The largest singular value."""
        return self.factor * torch.linalg.matrix_norm(self.weight, 2).item() * (1 + 1e-12)


class TooSmall(Bounded):
    """Declares a little less than its norm."""

    factor = 0.99


class Stale(Bounded):
    """Declares the norm that its first weights have."""

    def __init__(self, *sizes):
        super().__init__(*sizes)
        self.first = super().lipschitz_constant()

    def lipschitz_constant(self):
        """For the weights as built."""
        return self.first


class Reciprocal(Bounded):
    """Declares an infinite number."""

    factor = float("inf")


class Words(Bounded):
    def lipschitz_constant(self):
        """No number."""
        return "one"


class Network(nn.Module):
    def __init__(self, layer):
        super().__init__()
        self.inner = layer(3, 6)
        self.last = nn.Linear(6, 1)

    def forward(self, x, y):
        return self.last(F.relu(self.inner(x.flatten(1)))).squeeze(1)


def discriminator(layer):
    @attrs.frozen
    class Built(Discriminator):
        """A discriminator."""

        def build(self, data):
            return Network(layer)

    return Built


def test_declared_constant_that_holds_is_accepted():
    check_discriminator(discriminator(Bounded), DataSpec((3,)))


@pytest.mark.parametrize(
    ("layer", "words"),
    [
        (TooSmall, r"TooSmall.lipschitz_constant\(\) of inner is .*, but two points were found .* slope is"),
        (Stale, r"Stale.lipschitz_constant\(\) of inner is .*for the present weights"),
        (Reciprocal, r"Reciprocal.lipschitz_constant\(\) returned inf; it must be finite"),
        (Words, r"Words.lipschitz_constant\(\) must return a number, not str"),
    ],
)
def test_declared_constant_below_a_slope_is_refused(layer, words):
    with pytest.raises(AssertionError, match=words):
        check_discriminator(discriminator(layer), DataSpec((3,)))


class OneLipschitz(nn.Module):
    """Claims that what it wraps has slopes of at most 1."""

    def __init__(self, D):
        super().__init__()
        self.D = D

    def forward(self, x, *args, **kwargs):
        return self.D(x, *args, **kwargs)

    def lipschitz_constant(self):
        """No theorem."""
        return 1.0


@attrs.frozen
class Claim(Constraint):
    """Wraps D in a claim."""

    def wrap(self, D):
        return OneLipschitz(D)


def test_constant_that_a_constraint_declares_is_checked():
    with pytest.raises(AssertionError, match=r"OneLipschitz.lipschitz_constant\(\) of D is 1, but two points"):
        check_constraint(Claim)
