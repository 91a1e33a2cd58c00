"""Conditions y (N, *condition): scaled alike by all feeds, checked, kept for judging; and groups in a shared batch."""

import attrs
import pytest
import torch
from torch.utils.data import Dataset, TensorDataset

import ganframe
from ganframe import DataSpec, Distribution
from ganframe.data.feed import Share, as_float, open_feed
from ganframe.data.latents import LatentFeed, fixed_latents
from ganframe.data.real import conditions, judging_data, real_samples
from ganframe.recipes.tables import Prior

CPU = torch.device("cpu")
COUNT = 6
X = torch.randint(256, (COUNT, 3, 8, 8), dtype=torch.uint8, generator=torch.Generator().manual_seed(0))
Y = {
    "images in uint8": X[:, :1],
    "images in floats": X[:, :1] / 127.5 - 1,
    "vectors": torch.linspace(-9, 9, 5 * COUNT).view(COUNT, 5),
    "vectors in float64": torch.linspace(-9, 9, 5 * COUNT, dtype=torch.float64).view(COUNT, 5),
}


class Items(Dataset):
    """Read one by one."""

    def __init__(self, x, y):
        self.x, self.y = x, y

    def __len__(self):
        return len(self.x)

    def __getitem__(self, index):
        return self.x[index], self.y[index]


class Drawn(Distribution):
    """A random choice of the rows."""

    def __init__(self, x, y):
        self.x, self.y = x, y

    def draw(self, n, generator):
        rows = torch.randint(len(self.x), (n,), generator=generator)
        return self.x[rows], self.y[rows]


SOURCES = {"tensors": TensorDataset, "items": Items, "distribution": Drawn}


def spec_of(y):
    return DataSpec((3, 8, 8), condition=tuple(y.shape[1:]))


@pytest.mark.parametrize("source", SOURCES)
@pytest.mark.parametrize("kind", Y)
def test_every_feed_scales_samples_and_conditions_alike(kind, source):
    """And keeps each sample's own: both sides are found in the set in the same row."""
    y = Y[kind]
    data, spec, before = SOURCES[source](X, y), spec_of(y), y.clone()
    drawn = open_feed(data, spec, 4, 0, Share(CPU))()
    judged = real_samples(data, spec, 4, 0, CPU)
    wanted_x, wanted_y = X.float() / 127.5 - 1, y.float() / 127.5 - 1 if y.dtype == torch.uint8 else y.float()
    for got_x, got_y in (drawn, judged):
        assert got_x.dtype == got_y.dtype == torch.float32
        assert got_y.shape == (4, *spec.condition)
        for one_x, one_y in zip(got_x, got_y, strict=True):
            row = (wanted_x - one_x).flatten(1).abs().sum(1).argmin()
            torch.testing.assert_close(one_x, wanted_x[row])
            torch.testing.assert_close(one_y, wanted_y[row])
    assert torch.equal(y, before)  # the data itself is unchanged


@pytest.mark.parametrize("source", SOURCES)
def test_conditions_are_those_of_the_real_samples_unscaled(source):
    y = Y["images in uint8"]
    data = SOURCES[source](X, y)
    kept = conditions(data, spec_of(y), 4, 3, CPU)
    assert kept.dtype == torch.uint8
    assert torch.equal(as_float(kept), real_samples(data, spec_of(y), 4, 3, CPU)[1])


@pytest.mark.parametrize("source", SOURCES)
@pytest.mark.parametrize(
    ("y", "condition", "message"),
    [
        (Y["vectors"], (4,), r"y of (shape|item).* not (\(5,\)|\(\d+, 5\))"),
        (torch.arange(COUNT), (1,), r"y of (shape|item).* not (\(\)|\(\d+,\))"),
        (torch.ones(COUNT, 5, dtype=torch.long), (5,), "conditions must have a float dtype, .* not torch.int64"),
        (torch.ones(COUNT, 5, dtype=torch.uint8), (5,), "conditions must have a float dtype, .* not torch.uint8"),
    ],
)
def test_conditions_of_another_shape_or_type_are_refused(source, y, condition, message):
    data, spec = SOURCES[source](X, y), DataSpec((3, 8, 8), condition=condition)
    for look in (lambda: open_feed(data, spec, 4, 0, Share(CPU)), lambda: real_samples(data, spec, 4, 0, CPU)):
        with pytest.raises(ValueError, match=message):
            look()


def test_a_subclass_of_the_spec_is_refused():
    @attrs.frozen
    class Wider(DataSpec):
        colour: str = "red"

    with pytest.raises(ValueError, match="the spec is a Wider, whose generator could not be loaded"):
        open_feed(TensorDataset(X, torch.zeros(COUNT)), Wider((3, 8, 8)), 4, 0, Share(CPU))


@pytest.mark.parametrize("source", ["tensors", "items"])
def test_restored_feed_continues_exactly_with_conditions(source):
    y = Y["images in uint8"]
    feed = open_feed(SOURCES[source](X, y), spec_of(y), 2, 0, Share(CPU))
    feed()
    stored, expected = feed.state_dict(), [feed() for _ in range(5)]
    fresh = open_feed(SOURCES[source](X, y), spec_of(y), 2, 0, Share(CPU))
    fresh.load_state_dict(stored)
    for batch in expected:
        for got, wanted in zip(fresh(), batch, strict=True):
            assert torch.equal(got, wanted)


def test_fixed_latents_have_the_conditions_in_turn_or_blank_ones():
    spec, given = DataSpec((2,), condition=(5,)), Y["vectors"][:3]
    z, y = fixed_latents(Prior(4), spec, 7, 1, given)
    assert torch.equal(y, given[[0, 1, 2, 0, 1, 2, 0]])
    assert torch.equal(z, fixed_latents(Prior(4), DataSpec((2,)), 7, 1)[0])
    assert torch.equal(fixed_latents(Prior(4), spec, 7, 1)[1], spec.blank(7))


# ------------------------------------------------------------------------------------------------- groups, held out


@pytest.mark.parametrize("group", [1, 2, 3])
def test_processes_share_a_batch_by_whole_groups(group):
    batch = torch.arange(12)
    parts = [Share(CPU, 2, rank, group).of(batch) for rank in (0, 1)]
    for rank, part in enumerate(parts):
        groups = part.view(-1, group)
        assert torch.equal(groups, batch.view(-1, group)[rank::2])
    assert sorted(torch.cat(parts).tolist()) == batch.tolist()
    assert torch.equal(Share(CPU, 1, 0, group).of(batch), batch)


@pytest.mark.parametrize("source", SOURCES)
def test_share_may_be_replaced_before_the_first_batch(source):
    """The groups are known once the discriminator is built."""
    y = Y["vectors"]
    whole = open_feed(SOURCES[source](X, y), spec_of(y), 4, 0, Share(CPU))()
    z = LatentFeed(Prior(2), 0, Share(CPU))(8)
    for rank in (0, 1):
        share = Share(CPU, 2, rank, group=2)
        feed, latents = (
            open_feed(SOURCES[source](X, y), spec_of(y), 4, 0, Share(CPU, 2, rank)),
            LatentFeed(Prior(2), 0, Share(CPU, 2, rank)),
        )
        feed.share = latents.share = share
        for part, all_of_it in zip(feed(), whole, strict=True):
            assert torch.equal(part, all_of_it[2 * rank : 2 * rank + 2])
        assert torch.equal(latents(4), z.view(2, 2, 2, 2)[:, rank].flatten(0, 1))


def test_judging_data_is_what_a_dataset_holds_out_if_it_holds_out_any():
    train, test = (TensorDataset(X, torch.zeros(COUNT, dtype=torch.long)) for _ in range(2))

    class HoldsOut(ganframe.Dataset):
        def held_out(self):
            torch.rand(1)
            return test

    before, spec = torch.get_rng_state(), DataSpec((3, 8, 8))
    assert judging_data(HoldsOut(), spec, train) is test
    assert judging_data(ganframe.Dataset(), spec, train) is train
    assert torch.equal(torch.get_rng_state(), before)
    with pytest.raises(ValueError, match="item 0 has the shape"):
        judging_data(HoldsOut(), DataSpec((3, 4, 4)), train)
