"""Samples of a generator under conditions: several of each, and of images of any size, which are cut into tiles."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Iterator

import torch
from torch import Tensor
from torch.nn.functional import pad

from ganframe.components import DataSpec
from ganframe.data.real import at_most

Decode = Callable[[Tensor, Tensor], Tensor]
"""z (N, dim), y (N, *condition) -> samples (N, *shape) on the CPU."""

PART = 256  # samples made at a time


def samples_under(
    decode: Decode, spec: DataSpec, z: Tensor, conditions: Iterable[Tensor], overlap: int | None = None
) -> Iterator[Tensor]:
    """Yields the sample of each latent z (n, dim) under each condition, condition by condition.

    `conditions` are tensors (m, *condition), as those of one file each. Images of another size than `spec.condition`
    are cut into tiles, see `in_tiles`, which raises ValueError. Few samples are in memory at a time.
    """
    n = len(z)
    for y in conditions:
        if tuple(y.shape[1:]) != spec.condition:
            yield from (in_tiles(decode, spec, latent, image, overlap) for image in y for latent in z)
            continue
        for places in torch.arange(len(y) * n).split(at_most(PART, spec)):
            yield from decode(z[places % n], y[places // n])


def in_tiles(decode: Decode, spec: DataSpec, z: Tensor, y: Tensor, overlap: int | None = None) -> Tensor:
    """The sample (C', f·h, f·w) of one latent z (dim,) under an image y (C, h, w) of any size.

    The image is cut into tiles of the size of `spec.condition`, spread evenly and `overlap` or more pixels over each
    other, by default a quarter of a tile. Their samples, all of the same z, are blended by linear ramps across each
    overlap; the weights sum to 1 at every pixel. f is the factor by which samples are larger than conditions. An image
    that is smaller than a tile is padded with its edge values, and its sample is cropped.

    Beside the result, it needs memory for one row of tiles. Raises ValueError as `refuse_untileable` does.
    """
    down, right, over = refuse_untileable(spec, overlap)
    assert spec.condition is not None
    size = high, wide = spec.condition[1:]
    sample = torch.empty(sample_shape(spec, tuple(y.shape)))
    missing = [max(0, side - there) for side, there in zip(size, y.shape[1:], strict=True)]
    y = pad(y[None], (0, missing[1], 0, missing[0]), mode="replicate")[0] if any(missing) else y
    rows, columns = (starts(*of) for of in zip(y.shape[1:], size, over, strict=True))
    row = torch.empty(len(sample), down * high, right * y.shape[2])
    at_a_time = at_most(PART, spec)
    for top, above in zip(rows, [0, *(top + high for top in rows)], strict=False):
        end = 0  # of the tile to the left
        for some in (columns[i : i + at_a_time] for i in range(0, len(columns), at_a_time)):
            tiles = torch.stack([y[:, top : top + high, left : left + wide] for left in some])
            for left, tile in zip(some, decode(z.expand(len(some), -1), tiles), strict=True):
                _lay(row, tile, right * left, right * end, axis=2)
                end = left + wide
        inside = row[:, : sample.shape[1], : sample.shape[2]]  # the rest belongs to padding
        _lay(sample, inside, down * top, down * above, axis=1)
    return sample


def refuse_untileable(spec: DataSpec, overlap: int | None = None) -> tuple[int, int, tuple[int, int]]:
    """The factors by which samples are higher and wider than conditions, and the overlap of tiles along both axes.

    Raises ValueError unless samples and conditions are images, the factors whole, and the overlap at most half a tile.
    """
    if not (spec.is_image and len(spec.shape) == 3 and spec.condition is not None and len(spec.condition) == 3):
        raise ValueError(
            f"tiles: samples of shape {spec.shape} under conditions of shape {spec.condition} have none: both must be "
            "images"
        )
    (height, width), (low, narrow) = spec.shape[1:], spec.condition[1:]
    if height % low or width % narrow:
        raise ValueError(
            f"tiles: samples of {width}×{height} pixels are no whole multiple of conditions of {narrow}×{low}, so they "
            "cannot be joined"
        )
    most = min(low, narrow) // 2
    if overlap is not None and not 0 <= overlap <= most:
        raise ValueError(f"overlap = {overlap}: it must be 0 to {most} pixels of the condition, half a tile")
    over = (low // 4, narrow // 4) if overlap is None else (overlap, overlap)
    return height // low, width // narrow, over


def sample_shape(spec: DataSpec, condition: tuple[int, ...]) -> tuple[int, ...]:
    """The shape of a sample under a condition of this shape, which may be an image larger or smaller than a tile."""
    if condition == spec.condition:
        return spec.shape
    down, right, _ = refuse_untileable(spec)
    return spec.shape[0], down * condition[1], right * condition[2]


def is_tileable(spec: DataSpec) -> bool:
    """Whether images of another size than in training can be cut into tiles."""
    try:
        refuse_untileable(spec)
    except ValueError:
        return False
    return True


def starts(length: int, tile: int, overlap: int) -> list[int]:
    """Where tiles begin that cover 0 to `length` ≥ `tile`: as few as overlap by `overlap` or more, spread evenly."""
    last = length - tile
    gaps = math.ceil(last / (tile - overlap))
    return [last * i // gaps for i in range(gaps)] + [last]


def _lay(image: Tensor, piece: Tensor, start: int, end: int, axis: int) -> None:
    """Lays a piece over an image from `start` on: by a linear ramp up to `end`, where the one before it ends.

    a + w (b - a) leaves equal values as they are, to the last bit.
    """
    both = max(0, end - start)
    if both:
        weight = torch.arange(1, both + 1, dtype=image.dtype) / (both + 1)
        under = image.narrow(axis, start, both)
        under += weight.view([-1 if i == axis else 1 for i in range(3)]) * (piece.narrow(axis, 0, both) - under)
    alone = piece.shape[axis] - both
    image.narrow(axis, start + both, alone).copy_(piece.narrow(axis, both, alone))
