"""Feeds: what a batch holds, its order over epochs, exact resume, and sharing between processes."""

import pytest
import torch
from PIL import Image
from torch.utils.data import Dataset, TensorDataset

from ganframe import DataSpec, RunError
from ganframe.builtin.distributions import Ring
from ganframe.builtin.images import ImageFolder
from ganframe.data import feed as feed_module
from ganframe.data.feed import DrawnFeed, IndexedFeed, LoadedFeed, Share, narrowed, open_feed

CPU = torch.device("cpu")
ALONE = Share(CPU)
COUNT = 11


class Numbers(Dataset):
    """Item i is the point (i, -i) with label i modulo 3: read through a DataLoader."""

    def __len__(self):
        return COUNT

    def __getitem__(self, index):
        return torch.tensor([index, -index], dtype=torch.float32), index % 3


def in_memory():
    items = [Numbers()[i] for i in range(COUNT)]
    return TensorDataset(torch.stack([x for x, _ in items]), torch.tensor([y for _, y in items]))


POINTS = DataSpec((2,), classes=3)
KINDS = {
    "drawn": lambda share=ALONE, batch=4, seed=5: open_feed(Ring(modes=3).build(), POINTS, batch, seed, share),
    "indexed": lambda share=ALONE, batch=4, seed=5: open_feed(in_memory(), POINTS, batch, seed, share),
    "loaded": lambda share=ALONE, batch=4, seed=5: open_feed(Numbers(), POINTS, batch, seed, share),
    "loaded by workers": lambda share=ALONE, batch=4, seed=5: open_feed(Numbers(), POINTS, batch, seed, share, 2),
}
FINITE = [name for name in KINDS if name != "drawn"]


def same(first, second):
    return all(torch.equal(a, b) for a, b in zip(first, second, strict=True))


def test_kind_of_data_decides_the_feed():
    for name, kind in zip(KINDS, (DrawnFeed, IndexedFeed, LoadedFeed, LoadedFeed), strict=True):
        assert isinstance(KINDS[name](), kind)


@pytest.mark.parametrize("kind", KINDS)
def test_batch_has_float_samples_and_integer_labels(kind):
    x, y = KINDS[kind]()()
    assert x.shape == (4, 2)
    assert x.dtype == torch.float32
    assert y.shape == (4,)
    assert y.dtype == torch.long


@pytest.mark.parametrize("kind", FINITE)
def test_samples_keep_their_labels(kind):
    feed = KINDS[kind]()
    for _ in range(6):
        x, y = feed()
        assert torch.equal(x[:, 0].long() % 3, y)
        assert torch.equal(x[:, 1], -x[:, 0])


@pytest.mark.parametrize("kind", FINITE)
def test_epoch_has_each_sample_once_and_drops_the_remainder(kind):
    feed = KINDS[kind](batch=3)
    epochs = [[int(i) for _ in range(COUNT // 3) for i in feed()[0][:, 0]] for _ in range(20)]
    for epoch in epochs:
        assert len(set(epoch)) == 9  # 11 samples, 3 batches of 3
    assert len({tuple(epoch) for epoch in epochs}) == 20  # a new permutation each time
    assert set(range(COUNT)) == {i for epoch in epochs for i in epoch}  # no sample is dropped in every epoch


@pytest.mark.parametrize("kind", FINITE)
def test_batch_as_large_as_the_data_is_a_permutation(kind):
    feed = KINDS[kind](batch=COUNT)
    for _ in range(2):
        assert sorted(feed()[0][:, 0].tolist()) == list(range(COUNT))


def test_order_is_the_same_for_indexed_and_loaded_data():
    feeds = [KINDS[kind]() for kind in FINITE]
    for _ in range(6):
        first, *others = (feed() for feed in feeds)
        assert all(same(first, other) for other in others)


@pytest.mark.parametrize("kind", KINDS)
def test_seed_decides_the_batches(kind):
    first, second, other = KINDS[kind](), KINDS[kind](), KINDS[kind](seed=6)
    batches = [first() for _ in range(3)]
    assert all(same(batch, second()) for batch in batches)
    assert not all(same(batch, other()) for batch in batches)


@pytest.mark.parametrize("drawn", [0, 1, 2, 3, 5])  # 2 batches an epoch: within it, at its end, later
@pytest.mark.parametrize("kind", KINDS)
def test_restored_feed_continues_exactly(kind, drawn):
    feed, fresh = KINDS[kind](), KINDS[kind]()
    for _ in range(drawn):
        feed()
    stored = feed.state_dict()
    expected = [feed() for _ in range(5)]
    fresh()  # restoring works after other batches were drawn
    fresh.load_state_dict(stored)
    assert all(same(batch, fresh()) for batch in expected)
    feed.load_state_dict(stored)
    assert all(same(batch, feed()) for batch in expected)


@pytest.mark.parametrize("kind", KINDS)
def test_state_can_be_loaded_with_weights_only(kind, tmp_path):
    feed = KINDS[kind]()
    feed()
    torch.save(feed.state_dict(), tmp_path / "state.pt")
    restored = KINDS[kind]()
    restored.load_state_dict(torch.load(tmp_path / "state.pt", weights_only=True))
    assert same(feed(), restored())


@pytest.mark.parametrize("kind", KINDS)
def test_torch_random_state_is_unchanged(kind):
    """A resumed run opens a new feed. A number drawn from torch's generator would change its dropout."""
    before = torch.get_rng_state()
    feed = KINDS[kind]()
    feed()
    feed.load_state_dict(feed.state_dict())
    feed()
    assert torch.equal(torch.get_rng_state(), before)


@pytest.mark.parametrize("kind", KINDS)
def test_two_processes_share_the_batches_of_one(kind):
    whole = KINDS[kind]()
    shares = [KINDS[kind](Share(CPU, processes=2, rank=rank)) for rank in (0, 1)]
    for _ in range(4):
        x, y = whole()
        parts = [share() for share in shares]
        assert [len(part[0]) for part in parts] == [2, 2]
        assert torch.equal(torch.stack([part[0] for part in parts], 1).flatten(0, 1), x)
        assert torch.equal(torch.stack([part[1] for part in parts], 1).flatten(), y)


# ------------------------------------------------------------------------------------------------------------- images


class Images(Dataset):
    def __init__(self, x):
        self.x = x

    def __len__(self):
        return len(self.x)

    def __getitem__(self, index):
        return self.x[index], 0


def image_feeds(x):
    labels = torch.zeros(len(x), dtype=torch.long)
    spec = DataSpec(tuple(x.shape[1:]))
    yield open_feed(TensorDataset(x, labels), spec, len(x), 0, ALONE)
    yield open_feed(Images(x), spec, len(x), 0, ALONE)


def test_uint8_is_scaled_to_minus_one_and_one_exactly():
    x = torch.arange(256, dtype=torch.uint8).repeat_interleave(3).view(4, 3, 8, 8)
    for feed in image_feeds(x):
        got, _ = feed()
        assert got.dtype == torch.float32
        assert got.min().item() == -1.0
        assert got.max().item() == 1.0
        values = torch.linspace(-1, 1, 256, dtype=torch.float64)
        torch.testing.assert_close(got.unique().double(), values, atol=1e-7, rtol=0)
        feed()
    assert torch.equal(x.flatten()[::3], torch.arange(256, dtype=torch.uint8))  # the data itself is unchanged


def test_floats_are_not_scaled():
    x = torch.rand(4, 3, 8, 8) / 2
    kept = x.clone()
    for feed in image_feeds(x):
        got, _ = feed()
        assert sorted(got.flatten().tolist()) == sorted(kept.flatten().tolist())
        got.zero_()
    assert torch.equal(x, kept)


@pytest.mark.parametrize("dtype", [torch.uint8, torch.float32])
def test_images_are_channels_last(dtype):
    for feed in image_feeds(torch.ones(4, 3, 8, 8, dtype=dtype)):
        x, _ = feed()
        assert x.shape == (4, 3, 8, 8)
        assert x.is_contiguous(memory_format=torch.channels_last)
        assert not x.is_contiguous()


# ------------------------------------------------------------------------------------------------------------ refusals


@pytest.mark.parametrize("data", [in_memory(), Numbers()])
def test_batch_larger_than_the_data_is_refused(data):
    with pytest.raises(ValueError, match="a batch of 12 is larger than the data, which has 11 samples"):
        open_feed(data, POINTS, 12, 0, ALONE)


@pytest.mark.parametrize("data", [in_memory(), Numbers(), Ring().build()])
def test_samples_of_another_shape_than_the_spec_are_refused(data):
    with pytest.raises(ValueError, match=r"shape \(2,\), but spec.shape is \(3,\)|shape \(1, 3\), not \(1, 2\)"):
        open_feed(data, DataSpec((3,), classes=8), 4, 0, ALONE)


@pytest.mark.parametrize(("labels", "shown"), [([0, 1, 3], "0 to 3"), ([-1, 0, 1], "-1 to 1")])
def test_labels_outside_the_classes_are_refused(labels, shown):
    data = TensorDataset(torch.zeros(3, 2), torch.tensor(labels))
    with pytest.raises(ValueError, match=f"with 3 classes y must be 0 to 2; found {shown}"):
        open_feed(data, POINTS, 2, 0, ALONE)


@pytest.mark.parametrize("workers", [0, 2])
def test_unreadable_image_in_training_is_named_in_one_message(tmp_path, workers):
    for i in range(4):
        Image.new("RGB", (8, 8)).save(tmp_path / f"{i}.png")
    config = ImageFolder(str(tmp_path), memory=0)
    feed = open_feed(config.build(), config.spec, 4, 0, ALONE, workers)
    feed()
    reading = feed.batches
    (tmp_path / "2.png").write_bytes(b"overwritten")
    with pytest.raises(RunError, match=r"2\.png: cannot be read as an image") as caught:
        [feed() for _ in range(10)]  # workers have read some batches ahead
    if workers:
        reading._shutdown_workers()  # the garbage collector would wait ten seconds for them
    assert "Traceback" not in str(caught.value)


@pytest.mark.parametrize(("device", "dtype"), [("mps", torch.float32), ("cpu", torch.float64), ("cuda", torch.float64)])
def test_float64_is_narrowed_where_the_device_has_none(device, dtype):
    """Apple's GPUs refuse float64, which numpy's arrays are by default."""
    assert narrowed(torch.zeros(2, dtype=torch.float64), torch.device(device)).dtype == dtype
    assert narrowed(torch.zeros(2, dtype=torch.uint8), torch.device(device)).dtype == torch.uint8


@pytest.mark.parametrize("few", [0, 2**24])
@pytest.mark.parametrize("laid_out", [lambda x: x, lambda x: x.permute(0, 3, 2, 1).contiguous().permute(0, 3, 2, 1)])
def test_images_in_uint8_are_the_same_batch_however_they_are_held(monkeypatch, few, laid_out):
    monkeypatch.setattr(feed_module, "FEW", few)
    x = torch.randint(0, 256, (10, 3, 4, 5), dtype=torch.uint8)
    data = TensorDataset(laid_out(x), torch.arange(10))
    feed = open_feed(data, DataSpec((3, 4, 5), classes=10), 4, 0, Share(torch.device("cpu")))
    batch, rows = feed()
    assert torch.equal(batch, x[rows].float().div_(127.5).sub_(1))
    assert batch.is_contiguous(memory_format=torch.channels_last)
    assert feed.data.tensors[0].dtype == torch.uint8
