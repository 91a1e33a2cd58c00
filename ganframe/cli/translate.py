"""sample --condition: samples of each of the conditions that a user gives, images of any size among them."""

from __future__ import annotations

import os
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING

from ganframe.cli.common import as_request_error, tell_left_out, writing
from ganframe.errors import RequestError, counted, noted_if_slow

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

    from torch import Tensor

    from ganframe.analysis.trained import TrainedGenerator
    from ganframe.components import DataSpec

ONE, SEVERAL = 8, 1  # samples of a single condition, and of each of several, of tiles, or where z changes nothing
LARGEST = 2**26  # pixels of a picture


def sample_under(
    G: TrainedGenerator,
    condition: str,
    count: int | None,
    seed: int,
    file: Path,
    singly: bool,
    tile: bool,
    overlap: int | None,
) -> str:
    """Writes `count` samples of each condition in a file or folder to `file`, and returns a line that says so.

    `file` is a picture or an array, or with `singly` a folder for a file of each sample.
    """
    import torch

    from ganframe.analysis.conditions import find_conditions, read_condition
    from ganframe.analysis.translation import refuse_untileable, samples_under
    from ganframe.data.latents import fixed_latents
    from ganframe.declarations import ignores_latent
    from ganframe.report import pictures
    from ganframe.storage.files import write_array

    files = find_conditions(condition, G.spec)
    with as_request_error():
        G.with_conditions(G.spec.blank(1))  # refuses a generator that heeds none
        if tile:
            refuse_untileable(G.spec, overlap)
    read = partial(read_condition, spec=G.spec, kept=G.conditions, any_size=tile)
    # All is read before anything is written. Of images of other sizes, which may be large, none is kept.
    held = None if tile else [read(each) for each in files]
    shapes = [tuple(y.shape) for y in (held or map(read, files))]
    conditions: Iterable[Tensor] = (read(each) for each in files) if held is None else [torch.cat(held)]
    k = sum(shape[0] for shape in shapes)
    n = count or (SEVERAL if k > 1 or tile or ignores_latent(G) else ONE)
    if not singly:
        _refuse_sizes(G.spec, file, [shape[1:] for shape in shapes], k, n)
    z, _ = fixed_latents(G.prior, G.spec, n, seed)
    samples = samples_under(G.decode, G.spec, z, conditions, overlap)
    if singly:
        suffix = ".png" if pictures.is_picture(G.spec) else ".npy"
        with writing(file / "first"), noted_if_slow(f"making {counted(n * k, 'sample')}"):
            for name, x in zip(_names(files, [shape[0] for shape in shapes], n), samples, strict=True):
                to = file / f"{name}{suffix}"
                pictures.save_image(to, x) if suffix == ".png" else write_array(to, x.numpy())
    else:
        with noted_if_slow(f"making {counted(n * k, 'sample')}"):
            made = torch.stack([*samples])
        with writing(file):
            if file.suffix.lower() == ".npy":
                write_array(file, made.numpy())
            else:
                y = torch.cat([read(each) for each in files] if held is None else held)
                pictures.draw_rows(file, G.spec, made.unflatten(0, (k, n)), y)
        tell_left_out(file, G.spec)
    each = "" if k == 1 else f", {n} of each of {k:,} conditions"
    return f"{counted(n * k, 'sample')}{each}: {file}{os.sep if singly else ''}"


def _refuse_sizes(spec: DataSpec, file: Path, shapes: Sequence[tuple[int, ...]], k: int, n: int) -> None:
    """Raises RequestError where one array or picture cannot hold the samples: of several sizes, or too many pixels."""
    from ganframe.analysis.translation import sample_shape
    from ganframe.report import pictures

    remedy = f"--out {file.with_suffix('')}{os.sep} writes a file of each sample"
    if len(set(shapes)) > 1:
        sizes = " and ".join(f"{width}×{height}" for *_, height, width in sorted(set(shapes))[:2])
        raise RequestError(f"{file}: the conditions have different sizes, as {sizes} pixels; {remedy}")
    if file.suffix.lower() == ".png" and spec.is_image:
        pixels = pictures.pixels_of_rows(spec, sample_shape(spec, shapes[0]), shapes[0], k, n)
        if pixels > LARGEST:
            raise RequestError(f"{file}: the picture would have {pixels / 1e6:,.0f} million pixels; {remedy}")


def _names(files: Sequence[Path], counts: Sequence[int], n: int) -> list[str]:
    """A name for each of n samples of each condition, after its file: NAME, or NAME-000, … where there are several.

    Where two files have the same name but for their suffixes, all names keep them.
    """

    def numbered(names: Sequence[str], counts: Sequence[int]) -> list[str]:
        return [
            name if count == 1 else f"{name}-{i:0{max(3, len(str(count - 1)))}}"
            for name, count in zip(names, counts, strict=True)
            for i in range(count)
        ]

    found: list[str] = []
    for kept in ([file.stem for file in files], [file.name for file in files], [f"{i:06}" for i in range(len(files))]):
        found = numbered(kept, counts)
        if len({name.casefold() for name in found}) == len(found):
            break
    return numbered(found, [n] * len(found))
