"""The dataset `moving_digits`: the next frame of a digit that turns left or right at a wall: one past, two futures."""

from __future__ import annotations

from typing import cast

import attrs
import torch
from attrs.validators import and_, ge, le
from torch import Tensor
from torch.utils.data import TensorDataset

from ganframe import Dataset, DataSpec, Distribution, component, option

SCAN = 8  # pixels along each side of a scan
HELD_OUT = 200  # pasts that are held out: some ten thousand samples for them are made in seconds


@attrs.frozen
class MovingDigits(Dataset):
    """A digit moves over a canvas; y are its `past` frames, x is the next one.

    The digit is one of scikit-learn's scans (8×8) and moves along an axis by `speed` pixels a frame. Where its next
    step would leave the canvas, it turns left or right with even odds: one past, two futures. Else it moves on, and
    has one future. Pasts are straight ways, far enough from corners for both turns. x is (1, size, size), y is
    (past, size, size), oldest frame first, values in [-1, 1]; every batch is drawn anew, on the device.

    Scans of the training split are drawn; pasts of the others, a fifth, are held out: 200 of them, the same each time.
    `held_out_futures` returns both futures of those that have two. With `past` = 1 nobody sees where the digit goes: it
    may also come from the wall or move along it, so a past has more futures than two, and they are not known.
    """

    size: int = option(16, help="pixels along each side of the canvas", validator=ge(SCAN))
    past: int = option(2, help="frames in y; one does not show the direction", validator=ge(1))
    speed: int = option(2, help="pixels from one frame to the next", validator=ge(1))
    ambiguous: float = option(0.5, help="share of samples whose next frame is a turn", validator=and_(ge(0), le(1)))

    def __attrs_post_init__(self) -> None:
        needed = SCAN + self.speed * max(self.past, 2)
        if self.size < needed:
            raise ValueError(
                f"size: a digit of {SCAN} pixels that makes {self.past} steps of {self.speed} pixels, and turns to "
                f"both sides, needs a canvas of {needed} pixels, not {self.size}; raise size or lower speed or past"
            )

    @property
    def spec(self) -> DataSpec:
        return DataSpec((1, self.size, self.size), condition=(self.past, self.size, self.size))

    def build(self) -> Distribution:
        return Moving(self, _scans("train"))

    def held_out(self) -> TensorDataset:
        """200 pasts of scans that are not trained on, the ambiguous ones first, each with one future."""
        pasts, futures, turns = self._held_out()
        drawn = torch.rand(len(turns), generator=torch.Generator().manual_seed(1)) < 0.5
        return TensorDataset(torch.where(drawn[:, None, None, None], futures[:, 0], futures[:, 1]), pasts)

    def held_out_futures(self) -> tuple[Tensor, Tensor]:
        """Held-out pasts with two futures (P, past, size, size), and both of each (P, 2, 1, size, size).

        Raises ValueError with `past` = 1, where there are more.
        """
        if self.past == 1:
            raise ValueError(
                "past: one frame does not show the direction of the digit, so a past has more futures than two; set it "
                "to 2 or more"
            )
        pasts, futures, turns = self._held_out()
        return pasts[turns], futures[turns]

    def _held_out(self) -> tuple[Tensor, Tensor, Tensor]:
        """Pasts, two futures of each, equal where it does not turn, and whether it turns (HELD_OUT,)."""
        turns = torch.arange(HELD_OUT) < round(self.ambiguous * HELD_OUT)
        moving, generator = Moving(self, _scans("test")), torch.Generator().manual_seed(0)
        scans = torch.randperm(len(moving.scans), generator=generator)[:HELD_OUT]  # one past each: no two are equal
        return *moving.sequences(scans, turns, generator), turns


def _scans(split: str) -> Tensor:
    """uint8 (M, 8, 8)."""
    digits = component("dataset", "digits")(split=split)
    return cast(TensorDataset, digits.build()).tensors[0][:, 0]


class Moving(Distribution):
    """Sequences of scans (M, 8, 8), uint8, that move as the options say.

    A digit ends where its ink does: the margins of a scan differ, and nobody could see whether one is at the wall.
    """

    def __init__(self, options: MovingDigits, scans: Tensor) -> None:
        self.options = options
        ink = scans > 0
        rows, columns = (ink.any(dim).byte() for dim in (2, 1))  # (M, 8)
        top, left = rows.argmax(1), columns.argmax(1)
        pixel = torch.arange(SCAN + 1)
        in_corner = torch.nn.functional.pad(scans, (0, SCAN, 0, SCAN))[
            torch.arange(len(scans))[:, None, None],
            (top[:, None] + pixel)[:, :, None],
            (left[:, None] + pixel)[:, None],
        ]
        # With a border of black, which is repeated over the canvas around the digit.
        self.scans = torch.nn.functional.pad(in_corner.float() / 127.5 - 1, (1, 0, 1, 0), value=-1.0)
        heights, widths = (SCAN - side.flip(1).argmax(1) - first for side, first in ((rows, top), (columns, left)))
        self.room = options.size - torch.stack([heights, widths], dim=1)

    def draw(self, n: int, generator: torch.Generator) -> tuple[Tensor, Tensor]:
        device = generator.device
        turns = torch.rand(n, generator=generator, device=device) < self.options.ambiguous
        scans = torch.randint(len(self.scans), (n,), generator=generator, device=device)
        pasts, futures = self.sequences(scans, turns, generator)
        first = torch.rand(n, generator=generator, device=device) < 0.5
        return torch.where(first[:, None, None, None], futures[:, 0], futures[:, 1]), pasts

    def sequences(self, scans: Tensor, turns: Tensor, generator: torch.Generator) -> tuple[Tensor, Tensor]:
        """Pasts (n, past, size, size) of scans (n,), and both futures (n, 2, 1, size, size), equal unless turns (n,).

        Positions are those of the ink's upper left corner, in pixels: `along` its way, 0 at the wall behind it and
        `last` at the wall before it, and `across`, 0 to `last_across`.
        """
        device, n = generator.device, len(turns)
        if self.scans.device != device:
            self.scans, self.room = self.scans.to(device), self.room.to(device)
        past, speed = self.options.past, self.options.speed

        def uniform(low: Tensor, high: Tensor) -> Tensor:
            """Integers (n,) from low to high, both included."""
            share = torch.rand(n, generator=generator, device=device)
            return torch.minimum(low + (share * (high - low + 1)).long(), high)

        direction = torch.randint(4, (n,), generator=generator, device=device)  # right, left, down, up
        vertical, backwards = direction >= 2, direction % 2 == 1
        last_row, last_column = self.room[scans].unbind(1)
        last, last_across = torch.where(vertical, last_row, last_column), torch.where(vertical, last_column, last_row)
        step = speed * turns  # to the side
        now = uniform(torch.where(turns, last - speed + 1, (past - 1) * speed), torch.where(turns, last, last - speed))
        across = uniform(step, last_across - step)
        time = torch.arange(1 - past, 1, device=device)
        next_along, before = (now + speed - step)[:, None].expand(n, 2), across[:, None].expand(n, past)
        along = torch.cat([now[:, None] + speed * time, next_along], dim=1)
        along = torch.where(backwards[:, None], last[:, None] - along, along)
        beside = torch.cat([before, (across - step)[:, None], (across + step)[:, None]], dim=1)
        rows, columns = (torch.where(vertical[:, None], *pair) for pair in ((along, beside), (beside, along)))
        frames = self._drawn(scans, rows, columns)
        return frames[:, :past], frames[:, past:, None]

    def _drawn(self, scans: Tensor, rows: Tensor, columns: Tensor) -> Tensor:
        """Frames (n, T, size, size) of scans (n,) at rows and columns (n, T)."""
        pixel = torch.arange(self.options.size, device=scans.device)
        row, column = ((pixel - corner[..., None] + 1).clamp(0, SCAN + 1) for corner in (rows, columns))
        return self.scans[scans[:, None, None, None], row[..., :, None], column[..., None, :]]
