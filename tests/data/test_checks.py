"""Data that is no data is refused before training, by the same rules as by check_dataset, and named in training."""

import random
from pathlib import Path

import attrs
import numpy as np
import pytest
import torch
from torch.utils.data import Dataset as TorchDataset
from torch.utils.data import IterableDataset, TensorDataset

import ganframe
from ganframe import DataSpec, Distribution, RunError
from ganframe.data.checks import check_data
from ganframe.data.feed import Share, open_feed
from ganframe.testing import check_dataset

N = 900
X, Y = torch.randn(N, 2), torch.zeros(N, dtype=torch.long)
IMAGES = torch.rand(N, 1, 4, 4) * 2 - 1
POINTS, LABELLED, PAIRED = DataSpec((2,)), DataSpec((2,), classes=3), DataSpec((2,), condition=(2,))
PIXELS = DataSpec((1, 4, 4))
CLASSES = torch.arange(N) % 3


def changed(x, index, value):
    x = x.clone()
    x.view(len(x), -1)[index, 0] = value
    return x


class Items(TorchDataset):
    def __init__(self, item, length=N):
        self.item, self.length = item, length

    def __len__(self):
        return self.length

    def __getitem__(self, index):
        return self.item(index)


class Stream(IterableDataset):
    def __init__(self, *items):
        self.items = items

    def __iter__(self):
        return iter(self.items)


class Holed(Distribution):
    """One draw in a thousand is infinite."""

    def draw(self, n, generator):
        x = torch.randn(n, 2, generator=generator, device=generator.device)
        return x.where(torch.arange(n)[:, None] != 999, torch.inf), torch.zeros(n, dtype=torch.long)


WRONG = {
    "NaN in one row": (TensorDataset(changed(X, 850, torch.nan), Y), POINTS, "item 850 has nan"),
    "infinite": (TensorDataset(changed(X, 1, -torch.inf), Y), POINTS, "item 1 has -inf"),
    "float64 beyond float32": (TensorDataset(changed(X.double(), 1, 1e39), Y), POINTS, "too large for float32"),
    "NaN condition": (TensorDataset(X, changed(X, 7, torch.nan)), PAIRED, "conditions are non-finite: item 7 has nan"),
    "images in 0..255": (TensorDataset(IMAGES * 255, Y), PIXELS, r"images must have values in \[-1, 1\]"),
    "one image": (TensorDataset(changed(IMAGES, 850, 1.1), Y), PIXELS, r"images must have values in \[-1, 1\]"),
    "one-hot": (TensorDataset(X, torch.eye(3)[CLASSES]), LABELLED, r"y of item 0.* take y\.argmax\(1\)"),
    "a column": (TensorDataset(X, CLASSES[:, None]), LABELLED, r"y of item 0.* take y\[:, 0\]"),
    "32 bits": (TensorDataset(X, CLASSES.int()), LABELLED, r"labels must be int64.* y\.long\(\)"),
    "floats": (TensorDataset(X, CLASSES.float()), LABELLED, r"y of item 0.* y\.long\(\)"),
    "a label too high": (TensorDataset(X, CLASSES + 2 * (torch.arange(N) == 850)), LABELLED, "found 0 to 3"),
    "labels without classes": (TensorDataset(X, CLASSES), POINTS, "without classes every y must be 0"),
    "an empty stream": (Stream(), POINTS, "the stream must have samples; it is empty"),
    "a stream of x alone": (Stream((X[0], 0), X[1]), POINTS, "item 1 must be a pair"),
    "empty": (TensorDataset(X[:0], Y[:0]), POINTS, "it is empty"),
    "three": (Items(lambda i: (X[i], 0, i)), POINTS, "item 0 must be a pair"),
    "a dict": (Items(lambda i: {"x": X[i], "y": 0}), POINTS, "item 0 must be a pair"),
    "an array": (Items(lambda i: (X[i].numpy(), 0)), POINTS, "x of item 0 must be a tensor, not ndarray"),
    "an item that fails": (Items(lambda i: (X[i + 1], 0)), POINTS, "item 899 of 900 raised IndexError"),
    "three tensors": (TensorDataset(X, Y, Y), POINTS, "must hold x and y, not 3 tensors"),
    "integers": (TensorDataset(X.long(), Y), POINTS, "must have a float dtype"),
}
LABELS = [name for name, (_, spec, _) in WRONG.items() if spec is LABELLED]


@pytest.mark.parametrize("name", WRONG)
def test_data_that_is_no_data_is_refused_by_training_and_by_the_kit_alike(name):
    data, spec, message = WRONG[name]
    given = spec

    @attrs.frozen
    class Given(ganframe.Dataset):
        """Data."""

        spec = given

        def build(self):
            return data

    with pytest.raises(ValueError, match=message) as caught:
        open_feed(data, spec, 4, 0, Share(torch.device("cpu")))
    with pytest.raises(AssertionError) as refused:
        check_dataset(Given())
    assert str(refused.value).endswith(f"Given: {caught.value}")
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16, torch.float64])
def test_floats_of_any_width_and_constant_images_are_data(dtype):
    check_data(TensorDataset(X.to(dtype), Y), POINTS)
    check_data(TensorDataset(torch.zeros(N, 1, 4, 4, dtype=dtype), Y), PIXELS)


def test_looking_at_items_leaves_all_random_states():
    def noisy(i):
        return X[i] + torch.rand(2) + random.random() + np.random.rand(), 0

    before = torch.get_rng_state(), random.getstate(), np.random.get_state()[1].tolist()
    check_data(Items(noisy), POINTS)
    assert torch.equal(torch.get_rng_state(), before[0])
    assert (random.getstate(), np.random.get_state()[1].tolist()) == before[1:]


# ------------------------------------------------------------------- what only training meets, between checked items

HIDDEN = 555  # no multiple of 899 / 63


@pytest.mark.parametrize(
    ("item", "message"),
    [
        (lambda i: (torch.zeros(3), 0), r"one item has the shape \(3,\), but spec\.shape is \(2,\)"),
        (lambda i: (X[i], 0, 0), "one item must be a pair"),
        (lambda i: (X[i], 3), "with 3 classes y must be 0 to 2"),
        (lambda i: (X[i], "cat"), "y of one item, its label, must be one integer, not str cat"),
        (lambda i: {}[i], "reading a batch raised KeyError: 555"),
        (lambda i: Path("no such file").read_bytes(), r"\[Errno 2\] No such file or directory"),
    ],
)
def test_a_batch_that_cannot_be_read_is_one_line_that_names_the_dataset(item, message):
    data = Items(lambda i: item(i) if i == HIDDEN else (X[i], 0))
    feed = open_feed(data, LABELLED, N, 0, Share(torch.device("cpu")))
    with pytest.raises(RunError, match=f"^dataset: {message}") as caught:
        feed()
    assert "\n" not in str(caught.value)


def test_a_feed_finds_a_value_that_is_not_finite_again():
    data = Items(lambda i: (X[i] * (torch.nan if i == HIDDEN else 1), 0))
    feed = open_feed(data, POINTS, N // 3, 0, Share(torch.device("cpu")))
    batches = [feed()[0] for _ in range(3)]
    first = next(i for i, x in enumerate(batches) if x.isnan().any())
    assert feed.fault(3).startswith("some samples are non-finite: item 555 has nan")
    assert (feed.fault(1) is None) == (first != 2)
    holed = open_feed(Holed(), POINTS, 8, 0, Share(torch.device("cpu")))
    before = holed.state_dict()["generator"]
    assert holed.fault(1).startswith("some samples are non-finite: item 999 has inf")
    assert torch.equal(holed.state_dict()["generator"], before)


@pytest.mark.parametrize("length", [None, lambda self: len(None)])
def test_data_without_a_usable_length_is_told_to_have_one(length):
    data = type("Endless", (TorchDataset,), {"__len__": length, "__getitem__": lambda self, i: 0})()
    with pytest.raises(ValueError, match="must have a length"):
        check_data(data, POINTS)


@pytest.mark.parametrize("y", [None, 0.5, "cat"])
def test_label_that_is_no_integer_is_not_taken_for_a_column(y):
    with pytest.raises(ValueError, match="must be one integer") as raised:
        check_data(Items(lambda i: (X[i], y)), POINTS)
    assert "column" not in str(raised.value)
