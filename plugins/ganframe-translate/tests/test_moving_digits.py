"""The dataset `moving_digits`: how digits move, where they turn, both futures, and what is held out."""

import pytest
import torch
from ganframe_translate import MovingDigits

import ganframe
from ganframe.testing import check_dataset


def corner(frames):
    """The upper left corner (n, 2) of the ink of frames (n, H, W), and its lower right one."""
    ink = frames > -1
    found = []
    for side in (ink.any(2), ink.any(1)):
        first, last = side.byte().argmax(1), side.shape[1] - 1 - side.flip(1).byte().argmax(1)
        found.append(torch.stack([first, last], dim=1))
    rows, columns = found
    return torch.stack([rows[:, 0], columns[:, 0]], 1), torch.stack([rows[:, 1], columns[:, 1]], 1)


def drawn(n=2000, **options):
    return MovingDigits(**options).build().draw(n, torch.Generator().manual_seed(0))


@pytest.mark.parametrize(
    "options",
    [{}, {"speed": 4}, {"past": 3, "size": 20, "speed": 3}, {"ambiguous": 1.0}, {"ambiguous": 0.0, "past": 1}],
    ids=str,
)
def test_conformance(options):
    check_dataset(MovingDigits(**options))


def test_digit_keeps_its_ink_and_moves_by_its_speed():
    x, y = drawn(speed=3)
    frames = torch.cat([y, x], dim=1)
    ink = (frames + 1).flatten(2).sum(2)
    torch.testing.assert_close(ink, ink[:, :1].expand_as(ink))
    places = torch.stack([corner(frames[:, t])[0] for t in range(3)], dim=1)
    assert ((places[:, 1:] - places[:, :-1]).abs().sum(2) == 3).all()


@pytest.mark.parametrize("share", [0.2, 0.5])
def test_digit_turns_at_walls_only_and_to_both_sides_evenly(share):
    x, y = drawn(n=8000, ambiguous=share)
    (first, _), (now, end), (ahead, _) = corner(y[:, 0]), corner(y[:, 1]), corner(x[:, 0])
    step = now - first
    blocked = ((now + step < 0) | (end + step > 15)).any(1)
    turned = (ahead - now != step).any(1)
    assert torch.equal(turned, blocked)
    assert turned.double().mean().item() == pytest.approx(share, abs=0.03)
    turn = (ahead - now)[turned]
    assert ((turn * step[turned]).sum(1) == 0).all()
    left = turn[:, 0] * step[turned][:, 1] - turn[:, 1] * step[turned][:, 0] > 0
    assert left.double().mean().item() == pytest.approx(0.5, abs=0.03)


def test_futures_are_mirrored_steps_and_held_out_samples_are_one_of_them():
    dataset = MovingDigits()
    pasts, futures = dataset.held_out_futures()
    assert pasts.shape == (100, 2, 16, 16)
    assert futures.shape == (100, 2, 1, 16, 16)
    now = corner(pasts[:, -1])[0]
    one, other = (corner(futures[:, side, 0])[0] - now for side in (0, 1))
    assert torch.equal(one, -other)
    x, y = dataset.held_out().tensors
    assert torch.equal(y[:100], pasts)
    is_first, is_second = ((x[:100] == futures[:, side]).flatten(1).all(1) for side in (0, 1))
    assert (is_first ^ is_second).all()
    assert 30 < is_first.sum() < 70


def test_held_out_pasts_are_distinct_and_of_scans_that_are_not_trained_on():
    digits = ganframe.component("dataset", "digits")
    ink = {split: digits(split=split).build().tensors[0].flatten(1).sum(1) for split in ("train", "test")}
    x, y = MovingDigits().held_out().tensors
    assert len(y) == 200
    assert len(torch.unique(y.flatten(1), dim=0)) == 200
    masses = ((x + 1) * 127.5).flatten(1).sum(1).round().long()
    assert torch.isin(masses, ink["test"]).all()


def test_share_of_pasts_with_two_futures():
    assert len(MovingDigits(ambiguous=1.0).held_out_futures()[0]) == 200
    assert len(MovingDigits(ambiguous=0.0).held_out_futures()[0]) == 0


def test_futures_of_one_frame_are_not_known():
    """The same frame at a wall is seen of digits that turn there and of others that leave it."""
    dataset = MovingDigits(size=10, past=1, speed=1)
    moving = dataset.build()
    turns = torch.arange(2000) < 1000
    pasts, _ = moving.sequences(torch.zeros(2000, dtype=torch.long), turns, torch.Generator().manual_seed(0))
    turned, others = ({past.numpy().tobytes() for past in pasts[rows]} for rows in (turns, ~turns))
    assert turned & others
    with pytest.raises(ValueError, match="past: one frame does not show the direction"):
        dataset.held_out_futures()


def test_canvas_too_small_for_both_turns_is_refused():
    MovingDigits(size=16, speed=4)
    with pytest.raises(ValueError, match=r"size: .* needs a canvas of 18 pixels, not 16; raise size"):
        MovingDigits(size=16, speed=5)
