"""The augmentations: values by hand, gradients, one random number for each image."""

import math

import pytest
import torch
from ganframe_augment import adaptive, diffaugment, transforms

AUGMENTATIONS = {**diffaugment.AUGMENTATIONS, **{f"ada {name}": a for name, a in adaptive.AUGMENTATIONS.items()}}
LINEAR = [name for name in AUGMENTATIONS if name not in ("color", "ada brightness")]
shifts = torch.tensor([[[1]], [[-2]], [[0]], [[0]]]), torch.tensor([[[2]], [[0]], [[-1]], [[0]]])


def fixed(monkeypatch, value, of="rand"):
    """Lets a function of torch draw `value` everywhere."""
    monkeypatch.setattr(
        torch, of, lambda *shape, **options: torch.full(shape[-1] if of == "randint" else shape, value, **options)
    )


@pytest.mark.parametrize("name", AUGMENTATIONS)
def test_each_image_draws_its_own_numbers_and_keeps_its_shape(name):
    one = torch.rand(1, 3, 8, 8) * 2 - 1
    result = AUGMENTATIONS[name](one.expand(64, -1, -1, -1))
    assert result.shape == (64, 3, 8, 8)
    assert result.isfinite().all()
    assert len(result.flatten(1).unique(dim=0)) > 1


@pytest.mark.parametrize("name", AUGMENTATIONS)
def test_images_of_a_batch_are_independent(name, numbered):
    def augmented(x):
        torch.manual_seed(1)
        return AUGMENTATIONS[name](x)

    changed = numbered.clone()
    changed[0] = torch.randn(3, 8, 8)
    assert torch.equal(augmented(numbered)[1:], augmented(changed)[1:])


@pytest.mark.parametrize("name", AUGMENTATIONS)
def test_augmentation_is_differentiable_twice(name):
    def augmented(x):
        torch.manual_seed(1)
        return AUGMENTATIONS[name](x)

    x = torch.randn(2, 3, 4, 4, dtype=torch.float64, requires_grad=True)
    assert torch.autograd.gradcheck(augmented, x)
    assert torch.autograd.gradgradcheck(lambda x: augmented(x).square(), x)


@pytest.mark.parametrize("name", LINEAR)
def test_linear_augmentations_scale_with_the_image(name):
    x = torch.randn(4, 3, 8, 8, dtype=torch.float64)
    torch.manual_seed(1)
    once = AUGMENTATIONS[name](x)
    torch.manual_seed(1)
    torch.testing.assert_close(AUGMENTATIONS[name](3 * x), 3 * once)


def test_shift_in_zeros_moves_rows_and_columns(monkeypatch, numbered):
    monkeypatch.setattr(transforms, "shifts", lambda x, share: shifts)
    moved = transforms.translated_in_zeros(numbered)
    expected = torch.zeros_like(numbered)
    expected[0, :, 1:, 2:] = numbered[0, :, :-1, :-2]
    expected[1, :, :-2] = numbered[1, :, 2:]
    expected[2, :, :, :-1] = numbered[2, :, :, 1:]
    expected[3] = numbered[3]
    assert torch.equal(moved, expected)


def test_reflected_shift_is_that_of_torch(monkeypatch, numbered):
    monkeypatch.setattr(transforms, "shifts", lambda x, share: shifts)
    padded = torch.nn.functional.pad(numbered, (2, 2, 2, 2), mode="reflect")
    corners = [(2 - down.item(), 2 - right.item()) for down, right in zip(*shifts, strict=True)]
    expected = [image[:, i : i + 8, j : j + 8] for image, (i, j) in zip(padded, corners, strict=True)]
    assert torch.equal(transforms.translated(numbered), torch.stack(expected))


@pytest.mark.parametrize(("side", "furthest"), [(8, 1), (16, 2), (28, 4), (32, 4), (4, 1)])
def test_shifts_reach_an_eighth_of_the_side_both_ways(side, furthest):
    for shift in transforms.shifts(torch.zeros(2000, 1, side, side), 1 / 8):
        assert shift.unique().tolist() == list(range(-furthest, furthest + 1))


def test_cutout_hides_half_of_each_side_at_most():
    hidden = diffaugment.cutout(torch.ones(2000, 1, 8, 8)) == 0
    areas = hidden.sum((1, 2, 3))
    assert areas.max() == 16
    assert areas.min() == 4
    assert hidden.any(0).all()


def test_color_by_hand(monkeypatch):
    """U = ¾: brightness + ¼, saturation · 3/2, contrast · 5/4."""
    fixed(monkeypatch, 0.75)
    x = torch.tensor([0.2, 0.4, 0.6], dtype=torch.float64).view(1, 3, 1, 1).repeat(1, 1, 1, 2)
    x[..., 1] = 0
    first = torch.tensor([0.35, 0.65, 0.95], dtype=torch.float64)  # mean 0.65, distances · 3/2
    mean = (0.65 + 0.25) / 2
    result = diffaugment.color(x)[0, :, 0]
    torch.testing.assert_close(result[:, 0], mean + 1.25 * (first - mean))
    torch.testing.assert_close(result[:, 1], torch.full((3,), mean + 1.25 * (0.25 - mean), dtype=torch.float64))


def test_rotate_is_rot90(monkeypatch, numbered):
    for turns in range(4):
        monkeypatch.setattr(torch, "randint", lambda *_, turns=turns, **__: torch.full((4, 1, 1), turns))
        assert torch.equal(adaptive.rotate(numbered), torch.rot90(numbered, turns, (2, 3)))


def test_rotate_refuses_images_that_are_not_square():
    with pytest.raises(ValueError, match="rotate needs square images"):
        adaptive.rotate(torch.zeros(2, 1, 4, 8))


def test_a_third_of_a_circle_of_hue_exchanges_channels(numbered):
    angle = torch.full((4, 1, 1, 1), 2 * math.pi / 3, dtype=torch.float64)
    torch.testing.assert_close(transforms.hue_turned(numbered, angle), numbered.roll(1, 1))
    torch.testing.assert_close(transforms.hue_turned(numbered, 0 * angle), numbered)


def test_saturation_keeps_luma(numbered):
    torch.testing.assert_close(transforms.luma(adaptive.saturation(numbered)), transforms.luma(numbered))


def test_flip_exchanges_left_and_right_of_half_of_the_images():
    x = torch.arange(8.0).expand(4000, 1, 8, 8)
    flipped = (transforms.flipped(x)[:, 0, 0, 0] == 7).float().mean()
    assert flipped == pytest.approx(0.5, abs=0.03)


@pytest.mark.parametrize(("name", "std"), [("brightness", 0.2), ("contrast", 0.5 * math.log(2))])
def test_widths_of_the_distributions(name, std):
    x = torch.ones(20_000, 1, 1, 1, dtype=torch.float64)
    result = AUGMENTATIONS[f"ada {name}"](x)
    values = result - 1 if name == "brightness" else result.log()
    assert values.std().item() == pytest.approx(std, rel=0.03)
    assert abs(values.mean().item()) < 0.01
