"""The dataset `coloured`: equal luminance, random hues, labels that stay."""

import attrs
import pytest
import torch
from ganframe_translate.coloured import Coloured, colours
from ganframe_translate.derived import Derived, luminance
from torch.utils.data import Subset

import ganframe
from ganframe import Dataset, DataSpec, Distribution
from ganframe.testing import check_dataset

DIGITS = ganframe.component("dataset", "digits")


@attrs.frozen
class Lazy(Dataset):
    """Digits that are read one by one."""

    @property
    def spec(self):
        return DIGITS().spec

    def build(self):
        return Subset(DIGITS().build(), range(30))


@attrs.frozen
class Drawn(Dataset):
    """Grey images of one value, which are drawn."""

    @property
    def spec(self):
        return DataSpec((1, 4, 5))

    def build(self):
        return _Plain()


class _Plain(Distribution):
    def draw(self, n, generator):
        value = torch.rand(n, 1, 1, 1, generator=generator, device=generator.device)
        return value.expand(n, 1, 4, 5) * 2 - 1, torch.zeros(n, dtype=torch.long, device=generator.device)


@pytest.mark.parametrize("of", [DIGITS(split="train"), Lazy(), Drawn()], ids=["memory", "items", "drawn"])
def test_conformance(of):
    check_dataset(Coloured(of=of))


def test_conformance_of_pairs_from_grey_to_colour():
    pairs = Derived(of=Coloured(of=DIGITS(split="train")), condition="grey")
    check_dataset(pairs)
    assert pairs.spec.shape == (3, 8, 8)
    assert pairs.spec.condition == (1, 8, 8)


@pytest.mark.parametrize("brightness", [0.2, 0.5, 0.9])
def test_colours_have_luminance_one_and_leave_no_gamut(brightness):
    found = colours(torch.linspace(0, 6.28, 100), brightness)
    torch.testing.assert_close(luminance(found[:, :, None, None]).flatten(), torch.ones(100))
    white = brightness * found
    assert white.min() >= -1e-5
    assert white.max() <= 1 + 1e-5
    full = (white.amin(1) < 1e-5) | (white.amax(1) > 1 - 1e-5)
    assert full.all()  # none could be more saturated


def test_luminance_is_that_of_the_grey_image_whatever_the_hue():
    data = Coloured(of=DIGITS(split="train")).build()
    assert isinstance(data, Distribution)
    grey = data.home[0][:1].expand(64, -1, -1, -1)
    x, _ = data.change(grey, torch.zeros(64, dtype=torch.long), torch.Generator().manual_seed(0))
    torch.testing.assert_close(luminance(x), grey / 255 - 1, atol=1e-5, rtol=0)
    assert (x[:, 0] - x[:, 2]).flatten(1).sum(1).std() > 1  # red or blue


def test_labels_stay_and_held_out_images_have_one_colour_each():
    dataset = Coloured(of=DIGITS(split="train"))
    held_out = dataset.held_out()
    assert dataset.spec.classes == 10
    assert torch.equal(held_out.tensors[1], DIGITS(split="test").build().tensors[1])
    assert torch.equal(held_out.tensors[0], dataset.held_out().tensors[0])
    pairs = Derived(of=dataset, condition="grey").held_out()
    assert torch.equal(pairs.tensors[0], held_out.tensors[0])


def test_as_a_finite_dataset_it_has_each_image_once_with_its_label():
    data, grey = Coloured(of=DIGITS()).build(), DIGITS().build()
    assert len(data) == len(grey)
    assert int(data[17][1]) == int(grey[17][1])
    assert torch.equal(data[17][0], data[17][0])


def test_colour_images_raise_value_error():
    with pytest.raises(ValueError, match=r"images of one channel, .* \(3, 8, 8\)"):
        assert Coloured(of=Coloured(of=DIGITS())).spec
