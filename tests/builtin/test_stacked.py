"""Stacks of labelled images as the channels of one: values, labels, names, sources of each form, exact resume."""

from __future__ import annotations

import attrs
import numpy as np
import pytest
import torch
from PIL import Image
from torch.utils.data import Dataset as TorchDataset
from torch.utils.data import TensorDataset

import ganframe
from ganframe import Dataset, DataSpec, Distribution
from ganframe.builtin.distributions import Ring
from ganframe.builtin.image_folder import ImageFolder
from ganframe.builtin.images import Digits, TorchvisionDataset
from ganframe.builtin.stacked import InMemory, Stacked
from ganframe.data.fingerprint import fingerprint
from ganframe.data.real import real_samples
from ganframe.storage.run_folder import RunFolder
from ganframe.testing import check_dataset

GREY = DataSpec((1, 2, 2), classes=3)
LEVELS = torch.tensor([0, 100, 255], dtype=torch.uint8)  # the image of a label is this grey everywhere
VALUES = LEVELS.float() / 127.5 - 1


def seeded(seed=0):
    return torch.Generator().manual_seed(seed)


class Draws(Distribution):
    def draw(self, n, generator):
        y = torch.randint(3, (n,), generator=generator, device=generator.device)
        return VALUES.to(generator.device)[y][:, None, None, None].expand(n, 1, 2, 2), y


class Lazy(TorchDataset):
    """Images that are read one by one: label of each, as a Python integer."""

    def __len__(self):
        return 9

    def __getitem__(self, index):
        return LEVELS[index % 3].expand(1, 2, 2), index % 3


def in_memory():
    y = torch.arange(9) % 3
    return TensorDataset(LEVELS[y][:, None, None, None].expand(9, 1, 2, 2).clone(), y)


def in_memory_as_floats():
    x, y = in_memory().tensors
    return TensorDataset(x.float() / 127.5 - 1, y)


FORMS = {"bytes": in_memory, "floats": in_memory_as_floats, "drawn": Draws, "lazy": Lazy}


@attrs.frozen
class Given(Dataset):
    """Data in one of these forms, by its name, or a function that returns data."""

    make: str = "bytes"
    spec: DataSpec = GREY

    def build(self):
        return FORMS[self.make]() if isinstance(self.make, str) else self.make()

    def held_out(self):
        return self.build()


@pytest.mark.parametrize("make", FORMS)
@pytest.mark.parametrize("channels", [1, 2, 3])
def test_labels_and_channels_of_each_stack_belong_together(make, channels):
    config = Stacked(Given(make), channels)
    spec, data = config.spec, config.build()
    assert spec == DataSpec((channels, 2, 2), classes=3**channels)
    x, y = real_samples(data, spec, 200, 0, torch.device("cpu"))
    assert x.dtype == torch.float32
    expected = VALUES[config.parts(y)][:, :, None, None].expand_as(x)
    torch.testing.assert_close(x, expected, rtol=0, atol=1e-6)
    assert torch.equal((config.parts(y) * 3 ** torch.arange(channels).flip(0)).sum(1), y)
    assert len(x) == (9 if make == "lazy" else 200)


@pytest.mark.parametrize("make", FORMS)
def test_stacks_pass_the_kit_in_each_form(make):
    check_dataset(Stacked(Given(make)))


def test_stacks_of_digits_are_uniform_over_pairs_of_scans():
    config = Stacked(Digits(), channels=2)
    x, y = config.build().draw(50_000, seeded())
    counts = torch.bincount(y, minlength=100).double()
    shares = torch.bincount(Digits().build().tensors[1]).double() / 1797
    expected = 50_000 * torch.outer(shares, shares).flatten()
    assert ((counts - expected).square() / expected).sum() < 150  # χ² with 99 degrees of freedom: p < 1e-3
    scans = (Digits().build().tensors[0].float() / 127.5 - 1).flatten(1)
    assert torch.cdist(x[:50].flatten(0, 1).flatten(1), scans).min(1).values.max() < 0.05


def test_draws_are_new_each_time_and_the_same_from_one_seed():
    data = Stacked(Digits()).build()
    generator = seeded()
    first, second = (data.draw(20, generator) for _ in range(2))
    assert not torch.equal(first[1], second[1])
    assert torch.equal(first[0], data.draw(20, seeded())[0])


def test_a_draw_keeps_the_images_in_their_type():
    data = Stacked(Given()).build()
    data.draw(4, seeded())
    assert data.here[0].dtype == torch.uint8
    assert data.here[0] is data.home[0]


def test_class_names_are_joined_and_left_out_where_they_would_be_the_same():
    assert Stacked(Digits()).spec.class_names[731] == "7/3/1"
    assert Stacked(Given()).spec.class_names is None
    same = attrs.evolve(GREY, classes=2, class_names=("a", "a/a"))  # a/a/a is the second of the first, and back
    assert Stacked(Given(spec=same), channels=2).spec.class_names is None


def test_held_out_images_are_stacked_apart_from_those_for_training():
    config = Stacked(Digits(split="train"))
    drawn, held_out = config.build().draw(300, seeded())[0], config.held_out().draw(300, seeded())[0]
    assert isinstance(config.held_out(), InMemory)
    test = (Digits(split="test").build().tensors[0].float() / 127.5 - 1).flatten(1)
    assert torch.cdist(held_out.flatten(0, 1).flatten(1), test).min(1).values.max() < 0.05
    assert torch.cdist(drawn.flatten(0, 1).flatten(1), test).min(1).values.min() > 0.1
    assert Stacked(Digits()).held_out() is None


# ------------------------------------------------------------------------------------------------------------ refusals


@pytest.mark.parametrize(
    ("dataset", "channels", "message"),
    [
        (Ring(), 3, r"no images but samples of shape \(2,\)"),
        (TorchvisionDataset("CIFAR10"), 3, r"one channel, and `dataset` has shape \(3, 32, 32\)"),
        (Given(spec=DataSpec((1, 2, 2))), 3, "with labels, and `dataset` has none"),
        (Given(spec=DataSpec((1, 2, 2), condition=(3,))), 3, "with labels, and `dataset` has none"),
        (Digits(), 6, "10 classes in 6 channels are 1,000,000 classes of stacks, more than 100,000; set fewer"),
    ],
)
def test_data_that_cannot_be_stacked_is_refused(dataset, channels, message):
    with pytest.raises(ValueError, match=message):
        _ = Stacked(dataset, channels).spec


def changed(x=lambda x: x, y=lambda y: y):
    return lambda: TensorDataset(x(in_memory_as_floats().tensors[0]), y(in_memory().tensors[1]))


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (changed(y=lambda y: y + 1), "must be 0 to 2; found 1 to 3"),
        (changed(y=lambda y: y - 1), "must be 0 to 2; found -1 to 1"),
        (changed(y=lambda y: y.int()), "must be int64, not torch.int32"),
        (changed(x=lambda x: x.expand(-1, 3, -1, -1)), "shape"),
        (changed(x=lambda x: x[:0], y=lambda y: y[:0]), "shape"),
        (changed(x=lambda x: x * 255), r"finite values in \[-1, 1\]"),
        (changed(x=lambda x: x / 0), r"finite values in \[-1, 1\]"),
    ],
)
def test_images_in_memory_that_are_not_what_their_spec_says_are_refused_when_opened(make, message):
    with pytest.raises(ValueError, match=message):
        Stacked(Given(make)).build()


def test_negative_label_of_an_item_is_refused_though_the_label_of_its_stack_would_do():
    class Wrong(Lazy):
        def __getitem__(self, index):
            return LEVELS[0].expand(1, 2, 2), -1 if index else 2

    with pytest.raises(ValueError, match="found -1"):
        _ = [Stacked(Given(Wrong)).build()[i] for i in range(9)]


def test_channels_below_1_are_refused(call, tiny):
    file = tiny()
    stacked = 'dataset={use="stacked",dataset={use="ring"},channels=0}'
    assert "dataset.channels: must be >= 1" in call("check", file, "--set", stacked, code=2).output
    assert "dataset: stacks are made of" in call("check", file, "--set", stacked.replace("0", "3"), code=2).output


# ------------------------------------------------------------------------------------------------------- same data


def test_fingerprint_follows_the_images_of_every_form_in_memory():
    def of(config):
        data = config.build()
        return fingerprint(config, config.spec, data)

    assert of(Stacked(Digits())) == of(Stacked(Digits()))
    others = [Stacked(Digits(split="train")), Stacked(Digits(), channels=2), Stacked(Given()), Stacked(Given("lazy"))]
    found = [of(config) for config in (Stacked(Digits()), *others)]
    assert all(a != b for i, a in enumerate(found) for b in found[:i])
    assert of(Stacked(Given(changed(y=lambda y: y.flip(0))))) != of(Stacked(Given("floats")))


def test_fingerprint_does_not_read_the_data_again():
    reads = []

    def make():
        reads.append(1)
        return in_memory()

    config = Stacked(Given(make))
    data = config.build()
    fingerprint(config, config.spec, data)
    assert len(reads) == 1


@pytest.mark.parametrize("workers", [0, 1])
def test_lazy_stacks_are_the_same_with_any_number_of_workers_and_after_a_break(tiny, tmp_path, workers):
    """Images on the disk, of which the second and the third are drawn at random for each item."""
    for label in "ab":
        for i in range(5):
            (tmp_path / "images" / label).mkdir(parents=True, exist_ok=True)
            pixels = np.random.default_rng(i).integers(0, 256, (4, 4), dtype=np.uint8)
            Image.fromarray(pixels).save(tmp_path / "images" / label / f"{i}.png")
    dataset = Stacked(ImageFolder(str(tmp_path / "images"), channels=1, memory=0.0))
    assert dataset.spec.class_names[3] == "a/b/b"
    check_dataset(dataset)
    weights = {trained(tiny, tmp_path, dataset, workers, broken) for broken in (False, True)}
    weights.add(trained(tiny, tmp_path, dataset, 0, False))
    assert len(weights) == 1


def test_stacks_in_memory_are_the_same_after_a_break(tiny, tmp_path):
    assert len({trained(tiny, tmp_path, Stacked(Digits()), 0, broken) for broken in (False, True)}) == 1


def trained(tiny, tmp_path, dataset, workers, broken):
    """The weights of a run of six steps, which was resumed from its third step if it was broken off."""
    out = tmp_path / f"run-{len(list(tmp_path.glob('run-*')))}"
    few = [f"train.workers={workers}", "log.checkpoint_every=3"]
    recipe = attrs.evolve(ganframe.load_recipe(tiny(), few), dataset=dataset)
    run = ganframe.run(recipe, out=out)
    if broken:
        for file in RunFolder(run.folder).checkpoints()[-1].iterdir():
            file.write_bytes(b"damaged")  # so the run is resumed from step 3
        run = ganframe.resume(run.folder)
    return (run.folder / "generator.safetensors").read_bytes()
