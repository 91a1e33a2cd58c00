"""The dataset `derived`: what its conditions are, where they are computed, and what it refuses."""

import attrs
import pytest
import torch
from ganframe_translate.derived import Derived, edges, luminance, masked
from torch.utils.data import Dataset as TorchDataset
from torch.utils.data import TensorDataset

import ganframe
from ganframe import Dataset, DataSpec, Distribution
from ganframe.testing import check_dataset

DIGITS = ganframe.component("dataset", "digits")
RING = ganframe.component("dataset", "ring")()
CONDITIONS = ["grey", "edges", "downsample", "mask", "noise"]


def pictures(n, shape):
    return torch.randint(0, 256, (n, *shape), generator=torch.Generator().manual_seed(n), dtype=torch.uint8)


@attrs.frozen
class Pictures(Dataset):
    """Random colour images of 8×12: in memory, read one by one, or drawn."""

    kind: str = ganframe.option("memory", help="where they are")
    channels: int = ganframe.option(3, help="of the images")
    floats: bool = ganframe.option(False, help="whether they are floats in [-1, 1]")

    @property
    def spec(self):
        return DataSpec((self.channels, 8, 12), classes=2)

    def build(self, n=20):
        x = pictures(n, self.spec.shape)
        data = TensorDataset(x / 127.5 - 1 if self.floats else x, torch.arange(n) % 2)
        return {"memory": data, "items": _Items(data), "drawn": _Random(self.channels)}[self.kind]

    def held_out(self):
        return self.build(5)


class _Items(TorchDataset):
    def __init__(self, data):
        self.data = data

    def __len__(self):
        return len(self.data)

    def __getitem__(self, index):
        return self.data[index]


class _Random(Distribution):
    def __init__(self, channels):
        self.channels = channels

    def draw(self, n, generator):
        x = torch.rand(n, self.channels, 8, 12, generator=generator, device=generator.device) * 2 - 1
        return x, torch.zeros(n, dtype=torch.long, device=generator.device)


@pytest.mark.parametrize("condition", CONDITIONS)
@pytest.mark.parametrize("kind", ["memory", "items", "drawn"])
@pytest.mark.parametrize("floats", [False, True])
def test_conformance(condition, kind, floats):
    check_dataset(Derived(of=Pictures(kind, floats=floats), condition=condition))


@pytest.mark.parametrize("condition", CONDITIONS[1:])
def test_digits_become_pairs_without_labels(condition):
    dataset = Derived(of=DIGITS(split="train"), condition=condition)
    assert dataset.spec.classes is None
    check_dataset(dataset)


@pytest.mark.parametrize("condition", ["grey", "edges", "downsample"])
def test_computed_conditions_of_data_in_memory_stay_there_as_bytes(condition):
    data = Derived(of=Pictures(), condition=condition).build()
    x, y = data.tensors
    assert x.dtype == y.dtype == torch.uint8
    assert torch.equal(x, pictures(20, (3, 8, 12)))


def test_more_samples_than_are_changed_at_a_time_keep_their_order():
    x = pictures(700, (3, 8, 12))
    y = Derived(of=Pictures(), condition="grey")._pairs(x, x, None)[1]

    @attrs.frozen
    class Many(Pictures):
        def build(self, n=700):
            return super().build(n)

    data = Derived(of=Many(), condition="grey").build()
    assert torch.equal(data.tensors[0], x)
    assert torch.equal(data.tensors[1], y)


@pytest.mark.parametrize("condition", ["mask", "noise"])
def test_random_conditions_are_new_in_each_batch_and_fixed_where_held_out(condition):
    dataset = Derived(of=Pictures(), condition=condition)
    data = dataset.build()
    assert isinstance(data, Distribution)
    draws = [data.draw(200, torch.Generator().manual_seed(0)) for _ in range(2)]
    assert all(torch.equal(*pair) for pair in zip(*draws, strict=True))
    x, y = draws[0]
    same = y[(x == x[0]).flatten(1).all(1)]
    assert len(same) > 1
    assert not (same == same[:1]).all()
    assert torch.equal(dataset.held_out().tensors[1], dataset.held_out().tensors[1])
    items = attrs.evolve(dataset, of=Pictures("items"))
    training, apart = items.build(), items.held_out()
    assert not torch.equal(training[0][1], training[0][1])
    assert torch.equal(apart[0][1], apart[0][1])


def test_grey_is_the_luminance_of_colours_and_the_mean_of_other_channels():
    x = torch.tensor([1.0, 0.0, -1.0]).view(1, 3, 1, 1).expand(1, 3, 8, 12)
    torch.testing.assert_close(luminance(x), torch.full((1, 1, 8, 12), 0.299 - 0.114))
    assert Derived(of=Pictures(channels=4), condition="grey").spec.condition == (1, 8, 12)
    four = torch.randn(2, 4, 8, 12)
    torch.testing.assert_close(luminance(four), four.mean(1, keepdim=True))


def test_downsample_is_the_mean_of_squares():
    x, y = Derived(of=Pictures(floats=True), condition="downsample", factor=2).build().tensors
    torch.testing.assert_close(y[3, 1, 2, 5], x[3, 1, 4:6, 10:12].mean())
    x, y = Derived(of=Pictures(), condition="downsample", factor=2).build().tensors
    assert (y[3, 1, 2, 5] - x[3, 1, 4:6, 10:12].float().mean()).abs() <= 0.5


@pytest.mark.parametrize(("axis", "line"), [(3, (slice(None), 3)), (2, (3, slice(None)))], ids=["upright", "level"])
def test_edge_of_a_step_is_a_line_of_one_pixel(axis, line):
    x = torch.full((1, 1, 7, 7), -1.0)
    x.narrow(axis, 4, 3).fill_(0.0)
    expected = torch.full((7, 7), -1.0)
    expected[line] = 1
    assert torch.equal(edges(x, 0.2)[0, 0], expected)
    assert edges(x, 0.6).eq(-1).all()  # the step is of half of white


def test_sharp_diagonals_are_staircases_and_other_edges_one_pixel_wide():
    at = torch.arange(16)
    diagonal, steep = at[None] + at[:, None] > 15, 2 * at[None] + at[:, None] > 22
    found = edges(torch.stack([diagonal, steep])[:, None].float() * 2 - 1, 0.25).eq(1).sum(3)[:, 0, 2:-2]
    assert found[0].eq(2).all()
    assert found[1].eq(1).all()


def test_edges_turn_with_the_image():
    x = torch.nn.functional.avg_pool2d(torch.randn(1, 1, 30, 30), 3, stride=1).mul(3).clamp(-1, 1)
    found, turned = edges(x, 0.3), edges(x.rot90(2, (2, 3)), 0.3).rot90(2, (2, 3))
    assert found.gt(0).float().mean() > 0.05
    assert (found != turned).float().mean() < 0.01  # of two equal slopes the other one


@pytest.mark.parametrize("hidden", ["box", "pixels"])
def test_mask_hides_its_share_and_is_the_last_channel(hidden):
    x = torch.rand(500, 3, 20, 10) + 0.1
    y = masked(x, hidden, 0.25, torch.Generator().manual_seed(0))
    mask = y[:, 3:] > 0
    assert y[:, 3:].abs().eq(1).all()
    assert mask.float().mean().sub(0.25).abs() < 0.01
    assert torch.equal(y[:, :3], torch.where(mask, 0.0, x))
    if hidden == "box":
        rows, columns = mask.any(3).sum(2), mask.any(2).sum(2)
        assert rows.eq(10).all()
        assert columns.eq(5).all()
        assert mask.any(0).all()  # every place, the corners too


def test_noise_has_its_deviation_and_stays_an_image():
    dataset = Derived(of=Pictures(), condition="noise", std=0.1)
    x = torch.zeros(50, 3, 8, 12)
    y = dataset.condition_of(x)
    assert y.std().sub(0.1).abs() < 0.01
    assert dataset.condition_of(x + 1).max() == 1


def test_fingerprint_of_redrawn_images_tells_other_images():
    kinds = [Derived(of=Pictures(channels=n), condition="noise") for n in (3, 1)]
    hashes = [kind.fingerprint()["values of images"] for kind in kinds]
    assert hashes[0] != hashes[1]
    assert hashes[0] == kinds[0].fingerprint()["values of images"]


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: Derived(of=RING, condition="grey").spec, r"needs images, and its `of` has samples of shape \(2,\)"),
        (lambda: Derived(of=DIGITS(), condition="grey").spec, "grey already"),
        (
            lambda: Derived(of=DIGITS(size=33), condition="downsample").spec,
            "4 does not divide images of 33×33; take a size of 32 or 36, or a factor of 3, 11, 33",
        ),
        (lambda: Derived(of=DIGITS(), condition="mask", share=0.99).spec, "hides all of it; lower it"),
        (lambda: Derived(of=DIGITS(), condition="mask", factor=2), 'factor belongs to condition = "downsample"'),
        (lambda: Derived(of=DIGITS(), condition="mask", share=1.0), "share"),
    ],
    ids=["points", "grey", "size", "all", "option", "share"],
)
def test_dataset_that_does_not_fit_raises_value_error(make, message):
    with pytest.raises(ValueError, match=message):
        make()
