"""Samples under several conditions, and images of any size that are cut into tiles and blended."""

import itertools

import pytest
import torch
from torch import nn

from ganframe import DataSpec
from ganframe.analysis.trained import TrainedGenerator
from ganframe.analysis.translation import in_tiles, refuse_untileable, sample_shape, samples_under, starts
from ganframe.recipes.tables import Prior

SPEC = DataSpec((2, 8, 8), condition=(1, 8, 8))
LARGER = DataSpec((1, 24, 16), condition=(1, 8, 8))


class Pointwise(nn.Module):
    """Each pixel of a sample depends on that pixel of y and on z."""

    def forward(self, z, y):
        z = z.view(len(z), 2, 1, 1)
        return (3 * y + z).sin() * z.tanh()


class Blurred(nn.Module):
    """Each pixel of a sample depends on 3×3 pixels of y, and at the edges on what is outside, taken as 0."""

    def forward(self, z, y):
        return nn.functional.avg_pool2d(y, 3, 1, 1).expand(-1, 2, -1, -1) + 0 * z.view(len(z), 2, 1, 1)


class Enlarged(nn.Module):
    def forward(self, z, y):
        return z[:, :1, None, None] * y.repeat_interleave(3, 2).repeat_interleave(2, 3)


def generator(network, spec=SPEC):
    return TrainedGenerator(network, spec, Prior(2))


SIZES = [(8, 8), (9, 8), (11, 13), (16, 16), (17, 31), (97, 8), (5, 7), (3, 40), (1, 1)]


@pytest.mark.parametrize("overlap", [None, 0, 1, 4])
@pytest.mark.parametrize("size", SIZES)
def test_a_function_of_single_pixels_is_the_same_in_tiles_to_the_last_bit(size, overlap):
    z, y = torch.randn(2), torch.randn(1, *size)
    whole = Pointwise()(z[None], y[None])[0]
    assert torch.equal(in_tiles(Pointwise(), SPEC, z, y, overlap), whole)


@pytest.mark.parametrize("size", SIZES)
def test_samples_that_are_larger_by_whole_factors_are_joined(size):
    z, y = torch.randn(2), torch.randn(1, *size)
    assert torch.equal(in_tiles(Enlarged(), LARGER, z, y), Enlarged()(z[None], y[None])[0])
    assert sample_shape(LARGER, (1, *size)) == (1, 3 * size[0], 2 * size[1])


@pytest.mark.parametrize("overlap", [0, 1, 3, 4])
def test_tiles_cover_any_length_with_the_overlap_and_as_few_as_can(overlap):
    for length in range(8, 200):
        found = starts(length, 8, overlap)
        assert (found[0], found[-1] + 8) == (0, length)
        gaps = [b - a for a, b in itertools.pairwise(found)]
        assert all(1 <= gap <= 8 - overlap for gap in gaps)
        assert length > 8 + (len(found) - 2) * (8 - overlap)
        assert not gaps or max(gaps) - min(gaps) <= 1


def test_weights_of_tiles_sum_to_one_and_are_linear():
    """Of tiles with the values 0, 1, 2, …: a stair with linear ramps between them."""
    numbers = iter(range(100))

    def numbered(z, y):
        return torch.stack([torch.full((2, 8, 8), float(next(numbers))) for _ in y])

    got = in_tiles(numbered, SPEC, torch.zeros(2), torch.zeros(1, 8, 14), 2)[0, 0]  # tiles at 0 and 6
    assert got.tolist() == pytest.approx([0] * 6 + [1 / 3, 2 / 3] + [1] * 6)


def test_seams_of_a_convolution_are_small():
    """Only edges of tiles differ, and the ramp begins there with a weight near 0. Without overlap they are seen."""
    y = torch.rand(1, 1, 50, 70).expand(1, 1, 50, 70)
    z = torch.zeros(1, 2)
    whole = Blurred()(z, y)[0]
    error = {overlap: (in_tiles(Blurred(), SPEC, z[0], y[0], overlap) - whole).abs().max() for overlap in (0, 2, 4)}
    assert error[4] < error[2] < error[0]
    assert error[4] < 0.35 * error[0]


def test_memory_is_that_of_a_row_of_tiles():
    seen = []

    def decode(z, y):
        seen.append(len(y))
        return Pointwise()(z, y)

    y = torch.randn(1, 40, 4000)
    in_tiles(decode, SPEC, torch.randn(2), y)
    assert max(seen) <= 256
    assert len(seen) >= 6 * 2


@pytest.mark.parametrize(
    ("spec", "overlap", "message"),
    [
        (DataSpec((2,), condition=(3,)), None, "both must be images"),
        (DataSpec((3, 8, 8), condition=(5,)), None, "both must be images"),
        (DataSpec((3, 8, 8)), None, "both must be images"),
        (DataSpec((3, 8, 8), condition=(1, 8, 8), is_image=False), None, "both must be images"),
        (DataSpec((1, 12, 8), condition=(1, 8, 8)), None, "8×12 pixels are no whole multiple of conditions of 8×8"),
        (DataSpec((1, 4, 4), condition=(1, 8, 8)), None, "no whole multiple"),
        (SPEC, 5, "overlap = 5: it must be 0 to 4 pixels of the condition, half a tile"),
        (SPEC, -1, "overlap = -1: it must be 0 to 4"),
    ],
)
def test_what_cannot_be_tiled_is_refused(spec, overlap, message):
    with pytest.raises(ValueError, match=message):
        refuse_untileable(spec, overlap)


def test_samples_are_made_a_few_at_a_time():
    seen = []

    def decode(z, y):
        seen.append(len(z))
        return Pointwise()(z, y)

    z, y = torch.randn(3, 2), torch.randn(200, 1, 8, 8)
    got = torch.stack([*samples_under(decode, SPEC, z, [y[:150], y[150:]])])
    assert max(seen) <= 256
    assert torch.equal(got.unflatten(0, (200, 3))[77, 2], Pointwise()(z[2:], y[77:78])[0])


def test_every_condition_has_the_same_latents():
    G = generator(Pointwise())
    y = torch.randn(5, 1, 8, 8)
    got = G.translate(y, n=3, seed=7)
    assert got.shape == (5, 3, 2, 8, 8)
    for condition, samples in zip(y, got, strict=True):
        torch.testing.assert_close(samples, G.sample(3, seed=7, y=condition))
    torch.testing.assert_close(G.translate(y[0], n=3, seed=7), got[:1])
    pixels = torch.randint(256, (2, 1, 8, 8), dtype=torch.uint8)
    assert torch.equal(G.translate(pixels), G.translate(pixels / 127.5 - 1))


def test_images_of_another_size_are_tiled_where_that_is_asked_for():
    G = generator(Pointwise())
    y = torch.randn(2, 1, 9, 20)
    got = G.translate(y, n=2, tile=True)
    assert got.shape == (2, 2, 2, 9, 20)
    torch.testing.assert_close(got[1, 0], Pointwise()(G.with_conditions(y).latents(2)[0][:1], y[1:])[0])


@pytest.mark.parametrize(
    ("y", "options", "message"),
    [
        (torch.zeros(1, 9, 8), {}, r"shape \(1, 9, 8\): it must be \(1, 8, 8\), or \(k, …\) of them \(tile = True"),
        (torch.zeros(2, 9, 8), {"tile": True}, r"it must be \(1, 9, 8\)"),
        (torch.zeros(0, 1, 8, 8), {}, "it must be"),
        (torch.zeros(1, 1, 1, 8, 8), {}, "it must be"),
        (torch.zeros(8), {"tile": True}, "it must be"),
        (torch.zeros(1, 8, 8, dtype=torch.int64), {}, "conditions are int64"),
        (torch.zeros(1, 8, 8), {"n": 0}, "n = 0: at least one sample of each condition"),
        (torch.zeros(1, 8, 8), {"tile": True, "overlap": 9}, "overlap = 9"),
    ],
)
def test_conditions_of_another_form_are_refused(y, options, message):
    with pytest.raises(ValueError, match=message):
        generator(Pointwise()).translate(y, **options)


class Deaf(nn.Module):
    def forward(self, z, y):
        return z.view(len(z), 2, 1, 1).expand(-1, 2, 8, 8)


def test_a_generator_without_conditions_translates_nothing():
    with pytest.raises(ValueError, match="heeds no conditions"):
        generator(Deaf()).translate(torch.zeros(1, 8, 8))
    with pytest.raises(ValueError, match="takes no conditions"):
        generator(Deaf(), DataSpec((2, 8, 8))).translate(torch.zeros(1, 8, 8))
