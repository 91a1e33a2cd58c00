"""Real samples for judging: reproducible, each of a finite set at most once, and apart from training."""

import pytest
import torch
from torch.utils.data import Dataset, TensorDataset

from ganframe import DataSpec
from ganframe.builtin.distributions import Ring
from ganframe.data.feed import Share, open_feed
from ganframe.data.real import PART, real_samples

CPU = torch.device("cpu")
POINTS = DataSpec((2,), classes=3)
COUNT = 50


class Lazy(Dataset):
    """Item i is the point (i, -i) with label i modulo 3, read one by one."""

    def __len__(self):
        return COUNT

    def __getitem__(self, index):
        if not 0 <= index < COUNT:
            raise IndexError(index)
        return torch.tensor([index, -index], dtype=torch.float32), index % 3


def in_memory():
    i = torch.arange(COUNT)
    return TensorDataset(torch.stack([i, -i], 1).float(), i % 3)


KINDS = {"distribution": lambda: Ring(modes=3).build(), "in memory": in_memory, "lazy": Lazy}
FINITE = ["in memory", "lazy"]


def drawn(kind, n=20, seed=5):
    return real_samples(KINDS[kind](), POINTS, n, seed, CPU)


@pytest.mark.parametrize("kind", KINDS)
def test_real_samples_depend_on_the_seed_alone(kind):
    x, y = drawn(kind)
    assert (x.shape, x.dtype, y.shape, y.dtype) == ((20, 2), torch.float32, (20,), torch.long)
    again, labels = drawn(kind)
    assert torch.equal(x, again)
    assert torch.equal(y, labels)
    assert not torch.equal(x, drawn(kind, seed=6)[0])


@pytest.mark.parametrize("kind", KINDS)
def test_fewer_real_samples_are_the_first_of_more(kind):
    assert torch.equal(drawn(kind, n=5)[0], drawn(kind, n=20)[0][:5])


@pytest.mark.parametrize("n", [1, PART, PART + 1, 2 * PART + 7])
def test_distribution_is_drawn_in_parts_that_all_differ(n):
    x, y = drawn("distribution", n)
    assert len(x) == len(y) == n
    assert len(x.unique(dim=0)) == n


@pytest.mark.parametrize("n", [20, COUNT, COUNT + 1])
@pytest.mark.parametrize("kind", FINITE)
def test_finite_set_is_sampled_without_replacement(kind, n):
    x, y = drawn(kind, n)
    assert len(x) == len(y) == min(n, COUNT)
    assert len(x.unique(dim=0)) == len(x)
    assert x[:, 0].tolist() != sorted(x[:, 0].tolist())  # in a random order
    assert torch.equal(x[:, 0].long() % 3, y)  # labels follow their samples
    assert torch.equal(x[:, 1], -x[:, 0])


def test_lazy_data_is_the_same_as_data_in_memory():
    for lazy, kept in zip(drawn("lazy"), drawn("in memory"), strict=True):
        assert torch.equal(lazy, kept)


@pytest.mark.parametrize("lazy", [False, True])
def test_uint8_is_scaled_to_minus_one_and_one(lazy):
    images = torch.arange(256, dtype=torch.uint8).view(4, 1, 8, 8)
    data = TensorDataset(images, torch.zeros(4, dtype=torch.long))
    x, _ = real_samples([data[i] for i in range(4)] if lazy else data, DataSpec((1, 8, 8)), 4, 0, CPU)
    torch.testing.assert_close(x.unique(), torch.linspace(-1, 1, 256))
    assert torch.equal(images.flatten(), torch.arange(256, dtype=torch.uint8))  # the data itself is unchanged


@pytest.mark.parametrize("kind", KINDS)
def test_feed_and_torch_random_state_are_unchanged(kind):
    data = KINDS[kind]()
    looked_at, alone = (open_feed(data, POINTS, 4, 0, Share(CPU)) for _ in range(2))
    before = torch.get_rng_state()
    for _ in range(3):
        expected = alone()
        real_samples(data, POINTS, 20, 0, CPU)[0].zero_()
        for got, wanted in zip(looked_at(), expected, strict=True):
            assert torch.equal(got, wanted)
    assert torch.equal(torch.get_rng_state(), before)


def test_items_drawn_with_torch_random_state_leave_it_unchanged():
    """Augmentation draws in __getitem__; a run that looks at real samples must still resume exactly."""

    class Noisy(Lazy):
        def __getitem__(self, index):
            x, y = super().__getitem__(index)
            return x + torch.rand(2), y

    before = torch.get_rng_state()
    first, second = (real_samples(Noisy(), POINTS, 10, 0, CPU)[0] for _ in range(2))
    assert torch.equal(torch.get_rng_state(), before)
    assert torch.equal(first, second)


@pytest.mark.parametrize("kind", KINDS)
def test_wrong_spec_is_refused(kind):
    with pytest.raises(ValueError, match=r"shape \(2,\), but spec.shape is \(3,\)|shape \(1000, 3\), not"):
        real_samples(KINDS[kind](), DataSpec((3,), classes=3), 5, 0, CPU)


def test_labels_outside_the_classes_are_refused():
    with pytest.raises(ValueError, match="with 2 classes y must be 0 to 1; found 0 to 2"):
        real_samples(in_memory(), DataSpec((2,), classes=2), 5, 0, CPU)
