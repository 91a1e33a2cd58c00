"""The kit on what networks, objectives and datasets declare: scores (N, …), extras, groups, growth, conditions."""

from __future__ import annotations

import attrs
import pytest
import torch
from torch import nn
from torch.nn.functional import relu
from torch.utils.data import TensorDataset

from ganframe import Dataset, DataSpec, Discriminator, Distribution, Generator, Objective, option
from ganframe.testing import check_dataset, check_discriminator, check_generator, check_objective

POINTS, CONDITIONED = DataSpec((3,)), DataSpec((3,), condition=(4,))


class Net(nn.Module):
    """A perceptron D(x, y) -> (N,) that subclasses change in one place."""

    def __init__(self, inputs=3):
        super().__init__()
        self.hidden, self.last = nn.Linear(inputs, 8), nn.Linear(8, 1)

    def features(self, x, y):
        return torch.tanh(self.hidden(x))

    def forward(self, x, y):
        return self.last(self.features(x, y)).squeeze(1)


def discriminator(network, *arguments):
    @attrs.frozen
    class Built(Discriminator):
        def build(self, data):
            return network(*arguments)

    return Built


def generator(network):
    @attrs.frozen
    class Built(Generator):
        def build(self, data, latent_dim):
            return network(latent_dim)

    return Built


class Patches(Net):
    many_scores = True

    def forward(self, x, y):
        return super().forward(x, y)[:, None] + self.features(x, y)


class UndeclaredPatches(Patches):
    many_scores = False


class Extras(Net):
    gives_extras = True

    def forward(self, x, y, extras=None):
        if extras is not None:
            extras["features"] = self.features(x, y)
        return super().forward(x, y)


class NoExtras(Net):
    gives_extras = True

    def forward(self, x, y, extras=None):
        return super().forward(x, y)


class NoThirdArgument(Net):
    gives_extras = True


class MeanFeatures(Net):
    gives_extras = True

    def forward(self, x, y, extras=None):
        if extras is not None:
            extras["features"] = self.features(x, y).mean(0)
        return super().forward(x, y)


class OtherScores(Extras):
    def forward(self, x, y, extras=None):
        return super().forward(x, y, extras) + (extras is not None)


class Packed(Net):
    """PacGAN: two samples are one input, and share its score."""

    mixes_groups_of = 2

    def forward(self, x, y):
        return super().forward(x.reshape(len(x) // 2, -1), y).repeat_interleave(2)


class PackedByFour(Packed):
    """Declares groups smaller than those it mixes."""

    def forward(self, x, y):
        return super().forward(x, y).unflatten(0, (-1, 4)).mean(1).repeat_interleave(4)


class Growing(Net):
    """The last layer is faded in after 100 steps."""

    def __init__(self):
        super().__init__()
        self.late = nn.Linear(8, 1)
        self.register_buffer("training_step", torch.zeros((), dtype=torch.long))

    def forward(self, x, y):
        scores = super().forward(x, y)
        if int(self.training_step) > 100:
            scores = scores + self.late(self.features(x, y)).squeeze(1)
        return scores


class NeverGrown(Growing):
    def forward(self, x, y):
        return Net.forward(self, x, y)


class UsesConditions(Net):
    def __init__(self):
        super().__init__(7)

    def features(self, x, y):
        return torch.tanh(self.hidden(torch.cat([x, y], 1)))


class Forgets(Net):
    """Counts its calls in training mode outside its state."""

    calls = 0

    def forward(self, x, y):
        self.calls += self.training
        return super().forward(x, y) * (1 + 0.1 * self.calls * self.training)


class Remembers(Net):
    def __init__(self):
        super().__init__()
        self.register_buffer("calls", torch.zeros(()))

    def forward(self, x, y):
        if self.training:
            self.calls += 1
        return super().forward(x, y) * (1 + 0.1 * self.calls.detach().clone() * self.training)


@pytest.mark.parametrize("network", [Patches, Extras, Growing, Remembers], ids=lambda network: network.__name__)
def test_declared_discriminators_are_accepted(network):
    check_discriminator(discriminator(network), POINTS)


def test_discriminator_of_groups_is_accepted():
    check_discriminator(discriminator(Packed, 6), POINTS)


def test_conditions_are_given_in_their_form():
    check_discriminator(discriminator(UsesConditions), CONDITIONED)
    check_discriminator(discriminator(UsesConditions))  # one of those that are tried


@pytest.mark.parametrize(
    ("network", "arguments", "message"),
    [
        (UndeclaredPatches, (), r"must return the shape \(4,\)"),
        (NoExtras, (), "leaves the dict empty"),
        (NoThirdArgument, (), r"D\(x, y, extras\), as gives_extras = True declares, raised TypeError"),
        (MeanFeatures, (), r"extras\['features'\] must be a tensor whose first size is that of the batch, not \(8,\)"),
        (OtherScores, (), "the same scores with and without extras"),
        (PackedByFour, (6,), "raised|must not depend on|different groups of 2"),
        (NeverGrown, (), r"parameters that get no gradient: late\.weight, late\.bias"),
        (Forgets, (), "saved after 3 steps and restored in a new network, D's next outputs differ"),
    ],
)
def test_wrong_declarations_are_refused(network, arguments, message):
    with pytest.raises(AssertionError, match=message):
        check_discriminator(discriminator(network, *arguments), POINTS)


class GrowingGenerator(nn.Module):
    def __init__(self, latent_dim):
        super().__init__()
        self.first, self.late = nn.Linear(latent_dim, 3), nn.Linear(latent_dim, 3)
        self.register_buffer("training_step", torch.zeros((), dtype=torch.long))

    def forward(self, z, y):
        return self.first(z) + (self.late(z) if int(self.training_step) >= 1000 else 0)


def test_growing_generator_is_accepted():
    check_generator(generator(GrowingGenerator), POINTS)


class BrieflyGrowing(GrowingGenerator):
    """Uses its late layer at steps 300 to 309 alone, which none of the usual steps is."""

    def forward(self, z, y):
        return self.first(z) + (self.late(z) if 300 <= int(self.training_step) < 310 else 0)


class DeclaredGrowth(BrieflyGrowing):
    grows_at = (300, 310)


def test_growing_network_is_tried_at_the_steps_that_it_declares():
    check_generator(generator(DeclaredGrowth), POINTS)
    with pytest.raises(AssertionError, match="parameters that get no gradient: late"):
        check_generator(generator(BrieflyGrowing), POINTS)


# ---------------------------------------------------------------------------------------------------- objectives


@attrs.frozen
class Hinge(Objective):
    def discriminator_loss(self, real, fake):
        return relu(1 - real).mean() + relu(1 + fake).mean()

    def generator_loss(self, fake, real=None):
        return -fake.mean()


@attrs.frozen
class OnlyDiscriminator(Hinge):
    def generator_loss(self, fake, real=None):
        return 0 * fake.mean()


@attrs.frozen
class Idle(OnlyDiscriminator):
    def discriminator_loss(self, real, fake):
        return torch.zeros((), dtype=real.dtype, device=real.device)


@attrs.frozen
class OnlyGenerator(Hinge):
    def discriminator_loss(self, real, fake):
        return 0 * real.mean()


@attrs.frozen
class SumOfMany(Hinge):
    def generator_loss(self, fake, real=None):
        return -fake.sum() / len(fake)


@attrs.frozen
class NeedsOne(Hinge):
    def generator_loss(self, fake, real=None):
        if fake.ndim > 1:
            raise ValueError("needs scores (N,)")
        return -fake.mean()


@attrs.frozen
class Moving(Hinge):
    margin: float = option(1.0, help="of both", scheduled=True)

    def discriminator_loss(self, real, fake):
        return relu(self.margin - real).mean() + relu(self.margin + fake).mean()


@attrs.frozen
class NotMoving(Hinge):
    margin: float = option(1.0, help="of nothing", scheduled=True)


@pytest.mark.parametrize("objective", [OnlyDiscriminator, Idle, NeedsOne, Moving])
def test_right_objectives_are_accepted(objective):
    check_objective(objective)


@pytest.mark.parametrize(
    ("objective", "message"),
    [
        (OnlyGenerator, "descending L_D must raise real scores"),
        (SumOfMany, r"L_G of scores \(4, 3\) must be that of all 12 scores"),
        (NotMoving, "margin is scheduled, but neither loss changes"),
    ],
)
def test_wrong_objectives_are_refused(objective, message):
    with pytest.raises(AssertionError, match=message):
        check_objective(objective)


# ------------------------------------------------------------------------------------------------------ datasets


def dataset(x, y, held_out=None, decode=None, **spec):
    @attrs.frozen
    class Data(Dataset):
        @property
        def spec(self):
            return DataSpec(tuple(x.shape[1:]), **spec)

        def build(self):
            return TensorDataset(x, y)

    Data.held_out = lambda self: held_out
    if decode is not None:
        Data.decode = lambda self, x: decode(x)
    return Data


class Conditioned(Distribution):
    def __init__(self, size=4):
        self.size = size

    def draw(self, n, generator):
        shape = {"generator": generator, "device": generator.device}
        return torch.randn(n, 3, **shape), torch.randn(n, self.size, **shape)


def drawn(size):
    @attrs.frozen
    class Data(Dataset):
        spec = property(lambda self: CONDITIONED)

        def build(self):
            return Conditioned(size)

    return Data


X, Y, V, PIXELS = torch.randn(20, 3), torch.zeros(20, dtype=torch.long), torch.randn(20, 4), torch.ones(20, 1, 4, 4)
ROWS = torch.cat([X[:, :1], nn.functional.one_hot(torch.arange(20) % 3, 3)], 1)


@pytest.mark.parametrize(
    "right",
    [
        dataset(X, V, condition=(4,)),
        dataset(X, PIXELS, condition=(1, 4, 4)),
        dataset(X, PIXELS.byte(), condition=(1, 4, 4)),
        dataset(ROWS, Y, columns=(1, 3)),
        dataset(X, Y, held_out=TensorDataset(X, Y), decode=lambda x: x.tolist()),
        drawn(4),
    ],
)
def test_right_datasets_are_accepted(right):
    check_dataset(right)


@pytest.mark.parametrize(
    ("wrong", "message"),
    [
        (dataset(X, Y, condition=(4,)), r"must be a tensor of spec\.condition, \(4,\), not \(\)"),
        (dataset(X, V, condition=(3,)), r"must be a tensor of spec\.condition, \(3,\), not \(4,\)"),
        (dataset(X, V.long(), condition=(4,)), "conditions must have a float dtype"),
        (dataset(X, V.byte(), condition=(4,)), "conditions must have a float dtype"),
        (dataset(X, V / 0, condition=(4,)), "some conditions are non-finite"),
        (dataset(ROWS / 2, Y, columns=(1, 3)), "a category in one-hot form, but one of width 3 has other values"),
        (dataset(X, Y, held_out=[X]), "held_out must return a torch dataset or None, not list"),
        (dataset(X, Y, held_out=TensorDataset(V, Y)), r"held_out: item 0 has the shape \(4,\)"),
        (dataset(X, Y, held_out=TensorDataset(X[:0], Y[:0])), "held_out must have samples"),
        (dataset(X, Y, decode=lambda x: x.no_such), r"decode\(x\), x of shape \(4, 3\), raised AttributeError"),
        (dataset(X.clone(), Y, decode=lambda x: x.mul_(2)), "decode changes samples in place"),
        (drawn(3), r"must return y of shape \(1, 4\), float, not \(1, 3\)"),
    ],
)
def test_wrong_datasets_are_refused(wrong, message):
    with pytest.raises(AssertionError, match=message):
        check_dataset(wrong)
