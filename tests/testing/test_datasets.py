"""Tests that check_dataset refuses wrong datasets with a message that names the cause, and accepts correct ones."""

from __future__ import annotations

import random
import time
from collections.abc import Callable

import attrs
import numpy as np
import pytest
import torch
from torch.utils.data import ConcatDataset, IterableDataset, Subset, TensorDataset
from torch.utils.data import Dataset as TorchDataset

from ganframe import Dataset, DataSpec, Distribution, option
from ganframe.testing import check_dataset

N = 200
POINT, IMAGE = (2,), (1, 4, 4)
Y0 = torch.zeros(N, dtype=torch.long)
Y3 = torch.arange(N) % 3


def points() -> torch.Tensor:
    return torch.randn(N, *POINT)


def images() -> torch.Tensor:
    return torch.rand(N, *IMAGE) * 2 - 1


def data(build: Callable, shape: tuple = POINT, classes: int | None = None) -> type[Dataset]:
    """A dataset that returns build()."""
    arguments = (shape, classes)

    @attrs.frozen
    class Data(Dataset):
        """Data."""

        @property
        def spec(self):
            return DataSpec(*arguments)

        def build(self):
            return build()

    return Data


class Items(TorchDataset):
    """A torch dataset of item(i) for i < length."""

    def __init__(self, item: Callable, length: int = N) -> None:
        self.item, self.length = item, length

    def __len__(self):
        return self.length

    def __getitem__(self, index):
        return self.item(index)


class Drawn(Distribution):
    """A Distribution whose draw is a function of n and the generator."""

    def __init__(self, draw: Callable) -> None:
        self.function = draw

    def draw(self, n, generator):
        return self.function(n, generator)


def drawn(x: Callable, y: Callable | None = None, classes: int | None = None) -> type[Dataset]:
    y = y or (lambda n, g: torch.zeros(n, dtype=torch.long, device=g.device))
    return data(lambda: Drawn(lambda n, g: (x(n, g), y(n, g))), classes=classes)


def normal(n: int, g: torch.Generator) -> torch.Tensor:
    return torch.randn(n, *POINT, generator=g, device=g.device)


def mixture(means: list, stds: list, weights: list, told: Callable = lambda *modes: modes) -> type[Dataset]:
    """A mixture in the plane that tells told(means, stds, weights) as its modes."""
    modes = torch.tensor(means), torch.tensor(stds), torch.tensor(weights)

    class Told(Drawn):
        def modes(self):
            return told(*modes)

    def draw(n, g):
        k = torch.multinomial(modes[2], n, replacement=True, generator=g)
        return modes[0][k] + modes[1][k, None] * normal(n, g), torch.zeros(n, dtype=torch.long, device=g.device)

    return data(lambda: Told(draw))


def critic(scores: Callable) -> type[Dataset]:
    """A distribution that takes `scores` for an optimal critic."""

    class Critic(Drawn):
        def optimal_critic(self, other):
            return scores

    return data(lambda: Critic(lambda n, g: (normal(n, g), torch.zeros(n, dtype=torch.long, device=g.device))))


TWO = ([[-1.0, 0.0], [1.0, 0.0]], [0.1, 0.2], [0.25, 0.75])


def changed(x: torch.Tensor, index: int, value: float) -> torch.Tensor:
    """Sets the first number of x[index] to value, in place, and returns x."""
    x.view(len(x), -1)[index, 0] = value
    return x


# --------------------------------------------------------------------------------------------------------------- wrong


@attrs.frozen
class SpecIsAMethod(Dataset):
    """@property is missing."""

    def spec(self):
        return DataSpec(POINT)

    def build(self):
        return TensorDataset(points(), Y0)


@attrs.frozen
class SpecIsAShape(Dataset):
    """Not a DataSpec."""

    @property
    def spec(self):
        return POINT

    def build(self):
        return TensorDataset(points(), Y0)


@attrs.frozen
class NoBuild(Dataset):
    """build is missing."""

    @property
    def spec(self):
        return DataSpec(POINT)


@attrs.define
class Mutable(Dataset):
    """A mutable option."""

    count: int = option(N, help="points")
    spec = property(lambda self: DataSpec(POINT))

    def build(self):
        return TensorDataset(points(), Y0)


@attrs.frozen
class WithoutHelp(Dataset):
    """An option without help."""

    count: int = N
    spec = property(lambda self: DataSpec(POINT))

    def build(self):
        return TensorDataset(points(), Y0)


class Stream(IterableDataset):
    def __iter__(self):
        yield points()[0], 0
        yield points()[1], 1


def reseeding(n: int, g: torch.Generator) -> torch.Tensor:
    return normal(n, torch.Generator(g.device).manual_seed(g.initial_seed()))


def seeding_all(n: int, g: torch.Generator) -> torch.Tensor:
    torch.manual_seed(g.initial_seed())
    return torch.randn(n, *POINT)


def labels_of(dtype: torch.dtype) -> type[Dataset]:
    return data(lambda: TensorDataset(points(), Y3.to(dtype)), classes=3)


WRONG = {
    # spec
    "spec is a method": (SpecIsAMethod, "must be a property"),
    "spec is a shape": (SpecIsAShape, "must be a ganframe.DataSpec, not tuple"),
    "a list for a shape": (data(lambda: TensorDataset(points(), Y0), [2]), "must be a tuple of sizes"),
    "a number for a shape": (data(lambda: TensorDataset(points(), Y0), 2), "must be a tuple of sizes"),
    "an empty shape": (data(lambda: TensorDataset(points(), Y0), ()), "must be a tuple of sizes"),
    "a size of 0": (data(lambda: TensorDataset(torch.zeros(N, 0), Y0), (0,)), "must be a tuple of sizes"),
    "the batch in the shape": (data(lambda: TensorDataset(points(), Y0), (N, 2)), r"has the shape \(2,\)"),
    "channels last": (data(lambda: TensorDataset(images().movedim(1, 3), Y0), IMAGE), r"has the shape \(4, 4, 1\)"),
    "images without a channel": (data(lambda: TensorDataset(images()[:, 0], Y0), IMAGE), r"has the shape \(4, 4\)"),
    "names for classes": (data(lambda: TensorDataset(points(), Y3), classes=["a", "b", "c"]), "number of classes"),
    "0 classes": (data(lambda: TensorDataset(points(), Y0), classes=0), "number of classes"),
    # result of build
    "no build": (NoBuild, "has no build"),
    "a list": (data(lambda: [(torch.zeros(2), 0)]), "must return a torch dataset, not list"),
    "a pair of tensors": (data(lambda: (points(), Y0)), "must return a torch dataset, not tuple"),
    "a loader": (data(lambda: torch.utils.data.DataLoader(TensorDataset(points(), Y0))), "must return a torch dataset"),
    "nothing": (data(lambda: None), "must return a torch dataset, not NoneType"),
    "a stream": (data(Stream), "without classes every y must be 0"),
    "empty": (
        data(lambda: TensorDataset(torch.zeros(0, 2), torch.zeros(0, dtype=torch.long))),
        "length greater than 0",
    ),
    "one too long": (data(lambda: Items(lambda i: TensorDataset(points(), Y0)[i], N + 1)), "item 200|length"),
    # items
    "x alone in a TensorDataset": (data(lambda: TensorDataset(points())), "must hold x and y"),
    "x alone": (data(lambda: Items(lambda i: torch.zeros(2))), "must be a pair"),
    "x, y and more": (data(lambda: Items(lambda i: (torch.zeros(2), 0, i))), "must be a pair"),
    "a dict": (data(lambda: Items(lambda i: {"x": torch.zeros(2), "y": 0})), "must be a pair"),
    "numpy": (data(lambda: Items(lambda i: (np.zeros(2), 0))), "must be a tensor, not ndarray"),
    "a wrong shape": (data(lambda: TensorDataset(torch.randn(N, 3), Y0)), r"has the shape \(3,\)"),
    "a wrong shape at the end": (
        data(lambda: Items(lambda i: (torch.zeros(2 + (i > 150)), 0))),
        r"has the shape \(3,\)",
    ),
    "integers": (data(lambda: TensorDataset(points().long(), Y0)), "must have a float dtype"),
    "uint8 points": (data(lambda: TensorDataset(points().byte(), Y0)), "uint8 for images"),
    "NaN": (data(lambda: TensorDataset(changed(points(), 0, float("nan")), Y0)), "non-finite"),
    "NaN somewhere": (data(lambda: TensorDataset(changed(points(), 2, float("nan")), Y0)), "non-finite"),
    "floats in 0..255": (data(lambda: TensorDataset(images() * 127.5 + 127.5, Y0), IMAGE), r"values in \[-1, 1\]"),
    "one image out of range": (
        data(lambda: TensorDataset(changed(images(), 2, 9.0), Y0), IMAGE),
        r"values in \[-1, 1\]",
    ),
    "standardised images": (data(lambda: TensorDataset(torch.randn(N, *IMAGE), Y0), IMAGE), r"values in \[-1, 1\]"),
    # labels
    "labels from 1": (data(lambda: TensorDataset(points(), Y3 + 1), classes=3), "y must be 0 to 2"),
    "negative labels": (data(lambda: TensorDataset(points(), Y3 - 1), classes=3), "y must be 0 to 2"),
    "one label out of range": (
        data(lambda: TensorDataset(points(), changed(Y3.clone(), 2, 3)), classes=3),
        "y must be 0 to 2",
    ),
    "labels that spec hides": (data(lambda: TensorDataset(points(), Y3)), "every y must be 0"),
    "float labels": (labels_of(torch.float32), "one integer"),
    "bool labels": (data(lambda: TensorDataset(points(), Y3 > 0), classes=2), "one integer"),
    "int32 labels": (labels_of(torch.int32), "long|int64"),
    "uint8 labels": (labels_of(torch.uint8), "long|int64"),
    "one-hot labels": (data(lambda: TensorDataset(points(), torch.eye(3)[Y3].long()), classes=3), "one integer"),
    "labels (N, 1)": (data(lambda: TensorDataset(points(), Y3[:, None]), classes=3), "one integer"),
    "names for labels": (data(lambda: Items(lambda i: (torch.zeros(2), "cat")), classes=3), "one integer"),
    "None for labels": (data(lambda: Items(lambda i: (torch.zeros(2), None))), "one integer"),
    # randomness
    "numpy at build": (data(lambda: TensorDataset(torch.from_numpy(np.random.randn(N, 2)), Y0)), "from one seed"),
    "Python's random at build": (
        data(lambda: TensorDataset(points()[random.sample(range(N), N)], Y0)),
        "from one seed",
    ),
    "numpy in each item": (data(lambda: Items(lambda i: (torch.from_numpy(np.random.randn(2)), 0))), "from one seed"),
    "random labels": (
        data(lambda: Items(lambda i: (torch.zeros(2), random.randrange(1000))), classes=1000),
        "from one seed",
    ),
    "values from the clock": (
        data(lambda: Items(lambda i: (torch.full((2,), time.perf_counter() % 1, dtype=torch.float64), 0))),
        "from one seed",
    ),
    # distributions
    "draws from torch's default generator": (drawn(lambda n, g: torch.randn(n, 2)), "use only the generator"),
    "draws from numpy": (drawn(lambda n, g: torch.from_numpy(np.random.randn(n, 2))), "use only the generator"),
    "draws from the clock": (
        drawn(lambda n, g: normal(n, g) * (1 + time.perf_counter_ns() % 997)),
        "use only the generator",
    ),
    "labels from torch's default generator": (
        drawn(normal, lambda n, g: torch.randint(3, (n,)), classes=3),
        "use only the generator",
    ),
    "draws from a fixed seed": (
        drawn(lambda n, g: normal(n, torch.Generator().manual_seed(0))),
        "the same samples for every seed",
    ),
    "reseeds a generator in each draw": (drawn(reseeding), "the same samples again"),
    "reseeds torch in each draw": (drawn(seeding_all), "the generator|the same"),
    "draws another number": (drawn(lambda n, g: normal(2 * n, g)), "must return x of shape"),
    "always draws 64": (drawn(lambda n, g: normal(64, g)), "must return x of shape"),
    "squeezes one sample": (drawn(lambda n, g: normal(n, g).squeeze()), "must return x of shape"),
    "float64 labels": (drawn(normal, lambda n, g: torch.zeros(n, dtype=torch.float64)), "int64"),
    "int32 labels drawn": (drawn(normal, lambda n, g: torch.zeros(n, dtype=torch.int32)), "int64"),
    "labels drawn (n, 1)": (drawn(normal, lambda n, g: torch.zeros(n, 1, dtype=torch.long)), "of shape"),
    "no labels drawn": (drawn(normal, lambda n, g: None), "must return labels y"),
    "labels out of range": (
        drawn(normal, lambda n, g: torch.randint(5, (n,), generator=g), classes=3),
        "y must be 0 to 2",
    ),
    "draws x alone": (data(lambda: Drawn(normal)), "must return a pair"),
    "draws nothing": (data(lambda: Drawn(lambda n, g: None)), "must return a pair"),
    "draws infinities": (drawn(lambda n, g: 1 / (normal(n, g) * 0)), "non-finite"),
    "draws integers": (drawn(lambda n, g: torch.randint(9, (n, 2), generator=g)), "float dtype"),
    # modes
    "modes without weights": (mixture(*TWO, lambda m, s, w: (m, s)), "must return .means, standard deviations"),
    "one deviation for all modes": (mixture(*TWO, lambda m, s, w: (m, s[0], w)), "must return tensors of shapes"),
    "covariances": (mixture(*TWO, lambda m, s, w: (m, s[:, None, None] * torch.eye(2), w)), "tensors of shapes"),
    "weights in another scale": (mixture(*TWO, lambda m, s, w: (m, s, 4 * w)), "must have the sum 1, not 4"),
    "a deviation of 0": (mixture(*TWO, lambda m, s, w: (m, 0 * s, w)), "deviations > 0"),
    "modes elsewhere": (mixture(*TWO, lambda m, s, w: (m + 1, s, w)), "standard errors away"),
    "modes in another order than the weights": (mixture(*TWO, lambda m, s, w: (m.flip(0), s, w)), "errors away"),
    # optimal critics
    "a critic of slope 1.01": (critic(lambda x: 1.01 * x.flatten(1)[:, 0]), "must be 1-Lipschitz"),
    "a critic (n, 1)": (critic(lambda x: x.flatten(1)[:, :1]), r"scores \(n,\)"),
    "a critic without a gradient": (critic(lambda x: x.detach().flatten(1)[:, 0]), "can be differentiated"),
    # options
    "a mutable option": (Mutable, "is mutable"),
    "no help": (WithoutHelp, "no help"),
    "not a dataset": (TensorDataset, r"subclass of ganframe\.Dataset"),
}


@pytest.mark.parametrize("name", WRONG)
def test_wrong_dataset_is_refused(name):
    dataset, cause = WRONG[name]
    with pytest.raises(AssertionError, match=cause):
        check_dataset(dataset)


# ------------------------------------------------------------------------------------------------------------- correct


@attrs.frozen
class Helix(Dataset):
    """Points on a helix (the example of ganframe_datasets)."""

    count: int = option(10_000, help="points")

    @property
    def spec(self):
        return DataSpec(shape=(3,))

    def build(self):
        t = torch.rand(self.count) * 12
        x = torch.stack([t.cos(), t.sin(), t / 6 - 1], dim=1)
        return TensorDataset(x, torch.zeros(self.count, dtype=torch.long))


def augmented(i: int):
    image = torch.full(IMAGE, i / N)
    return (image.flip(2) if torch.rand(()) < 0.5 else image) - 0.5 * torch.rand(()), i % 3


def derived(kind: Callable) -> type[Dataset]:
    return data(lambda: kind(TensorDataset(points(), Y0)))


RIGHT = {
    "the example": Helix,
    "an instance": Helix(count=3),
    "one sample": Helix(1),
    "tensors": data(lambda: TensorDataset(points(), Y3), classes=3),
    "more classes than labels": data(lambda: TensorDataset(points(), Y3), classes=10),
    "float64": data(lambda: TensorDataset(points().double(), Y0)),
    "float16": data(lambda: TensorDataset(points().half(), Y0)),
    "integer labels": data(lambda: Items(lambda i: (torch.full(POINT, float(i)), i % 3)), classes=3),
    "numpy labels": data(lambda: Items(lambda i: (torch.full(POINT, float(i)), np.int64(i % 3))), classes=3),
    "labels as tensors without dimensions": data(
        lambda: Items(lambda i: (torch.full(POINT, float(i)), Y3[i])), classes=3
    ),
    "pairs as lists": data(lambda: Items(lambda i: [torch.full(POINT, float(i)), 0])),
    "augmented by torch": data(lambda: Items(augmented), IMAGE, classes=3),
    "uint8 images": data(
        lambda: TensorDataset(torch.randint(256, (N, *IMAGE), dtype=torch.uint8), Y3), IMAGE, classes=3
    ),
    "images": data(lambda: TensorDataset(images(), Y0), IMAGE),
    "images of -1 and 1": data(lambda: TensorDataset(images().sign(), Y0), IMAGE),
    "images beyond 1 by rounding": data(lambda: TensorDataset(images().sign() * 1.0000001, Y0), IMAGE),
    "sequences": data(lambda: TensorDataset(torch.randn(N, 5, 7) * 9, Y0), (5, 7)),
    "voxels": data(lambda: TensorDataset(torch.rand(N, 1, 2, 2, 2), Y0), (1, 2, 2, 2)),
    "a torch.Size": data(lambda: TensorDataset(points(), Y0), torch.Size(POINT)),
    "a subset": derived(lambda full: Subset(full, range(10))),
    "a concatenation": derived(lambda full: ConcatDataset([full, full])),
    "a split by torch": derived(lambda full: torch.utils.data.random_split(full, [10, N - 10])[0]),
    "a fixed generator in build": data(
        lambda: TensorDataset(torch.randn(N, 2, generator=torch.Generator().manual_seed(7)), Y0)
    ),
    "a distribution": drawn(normal),
    "a distribution with classes": drawn(
        normal, lambda n, g: torch.randint(3, (n,), generator=g, device=g.device), classes=3
    ),
    "a mixture with modes": mixture(*TWO),
    "an optimal critic": critic(lambda x: x.flatten(1).norm(dim=1)),
    "a distribution on one point": drawn(lambda n, g: torch.zeros(n, *POINT, device=g.device)),
}


@pytest.mark.parametrize("name", RIGHT)
def test_correct_dataset_is_accepted(name):
    check_dataset(RIGHT[name])
