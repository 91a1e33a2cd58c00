"""The conformance kit for objectives on vectors: it accepts the energy distance and refuses what is near it."""

import attrs
import pytest
import torch
from torch import Tensor

from ganframe import Objective
from ganframe.testing import check_objective


def distances(a: Tensor, b: Tensor) -> Tensor:
    if a.ndim != 2:
        raise ValueError("compares vectors; use a discriminator that returns them")
    return torch.cdist(a, b, compute_mode="donot_use_mm_for_euclid_dist")


@attrs.frozen
class Energy(Objective):
    """L_D = -energy distance, L_G = energy distance."""

    compares_real = True
    scores_are_vectors = True

    def discriminator_loss(self, real, fake):
        return -self.generator_loss(fake, real)

    def generator_loss(self, fake, real=None):
        within = distances(real, real).mean() + distances(fake, fake).mean()
        return 2 * distances(real, fake).mean() - within


def test_energy_distance_passes():
    check_objective(Energy)


@attrs.frozen
class Swapped(Energy):
    def discriminator_loss(self, real, fake):
        return self.generator_loss(fake, real)


@attrs.frozen
class SwappedGenerator(Energy):
    def discriminator_loss(self, real, fake):
        return -super().generator_loss(fake, real)

    def generator_loss(self, fake, real=None):
        return -super().generator_loss(fake, real)


@attrs.frozen
class Summed(Energy):
    def generator_loss(self, fake, real=None):
        return len(fake) * super().generator_loss(fake, real)


@attrs.frozen
class Paired(Energy):
    """Compares the i-th real with the i-th fake sample."""

    def generator_loss(self, fake, real=None):
        distances(real, fake)
        return torch.linalg.vector_norm(real - fake, dim=1).mean()


@attrs.frozen
class InfiniteSlope(Energy):
    """The derivative of a root at 0 is infinite."""

    def generator_loss(self, fake, real=None):
        distances(real, fake)
        squares = (real[:, None] - fake).square().sum(2)
        return squares.sqrt().mean()


@attrs.frozen
class OfScalars(Energy):
    def generator_loss(self, fake, real=None):
        return (real.mean() - fake.mean()).square() if fake.ndim == 1 else super().generator_loss(fake, real)


@attrs.frozen
class PerSample(Energy):
    def generator_loss(self, fake, real=None):
        return distances(real, fake).mean(0)


@pytest.mark.parametrize(
    ("objective", "message"),
    [
        (Swapped, "must move the vectors of real and fake samples apart"),
        (SwappedGenerator, "towards the real ones"),
        (Summed, "is a sum taken"),
        (Paired, "order of the batch"),
        (InfiniteSlope, "not finite"),
        (OfScalars, r"must raise ValueError for scores of shape \(4,\)"),
        (PerSample, "must be a scalar"),
    ],
    ids=lambda value: getattr(value, "__name__", None),
)
def test_faulty_objective_on_vectors_is_refused(objective, message):
    with pytest.raises(AssertionError, match=message):
        check_objective(objective)
