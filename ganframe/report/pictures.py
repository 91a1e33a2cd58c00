"""Pictures of samples, images as a grid and points as scatters or densities, and of discriminators.

PIL draws images; matplotlib, which is slow to import, is imported only where points or curves are drawn.
"""

from __future__ import annotations

import functools
import math
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import torch
from torch import Tensor

from ganframe.components import DataSpec
from ganframe.report.figures import BLACK, BLUE, GREEN, MARGINS, ORANGE, drawing, legend_above, log_axis, shortened
from ganframe.report.grids import LINE, PANELS, blocks, channels_of_panels, grid, panels, side_by_side, to_image
from ganframe.report.points import draw_points, draw_points_side_by_side

if TYPE_CHECKING:
    from PIL.Image import Image

Scores = Callable[[Tensor], Tensor]
"""A discriminator in evaluation mode: x (N, *shape) -> raw scores (N,)."""


def draw(
    file: Path,
    spec: DataSpec,
    fake: Tensor,
    real: Tensor | None = None,
    scores: Scores | None = None,
    columns: int | None = None,
    conditions: Tensor | None = None,
    later: Callable[[Callable[[], None]], None] = lambda write: write(),
    title: str = "Samples",
) -> None:
    """Writes a picture of fakes (N, *shape) to `file`, with real samples and the discriminator's scores where given.

    Images are drawn as a grid of `columns`, by default about square; those of four channels with their opacity.
    Samples of any other shape are flattened to points: densities in one dimension; a scatter with contours of the
    scores in two; a scatter in space in three; in more, a scatter of the two principal components of the real samples,
    or of the fakes if there are no real ones.

    `conditions` are the y of the fakes. If they are images too, each is drawn to the left of its fake, and the real
    sample of the same place to the right. Conditions of other channels than 1, 3 or those of samples, as past frames
    or an image with a mask, are several images side by side. Where they are labels, and each column of the grid has
    one class, its name or label is above the column. `title` stands above points.

    What writes a picture of images is given to `later`, which may call it in a thread. Points are drawn by matplotlib:
    at once, as it is not made for threads and keeps Python's lock, so that a thread would not help.
    """
    fake = fake.detach().float().cpu()
    real = None if real is None else real.detach().float().cpu()
    if conditions is not None and shows_conditions(spec):
        kinds = [*panels(conditions, fake.shape[1]), fake, *([] if real is None else [real[: len(fake)]])]
        columns = max(1, round(math.sqrt(len(fake) / len(kinds))))
        later(functools.partial(grid(*side_by_side(kinds, columns)).save, file))
        return
    if spec.is_image:
        columns = columns or math.ceil(math.sqrt(len(fake)))
        names = () if conditions is None else class_columns(conditions, spec, columns)
        later(functools.partial(grid(fake, columns, names).save, file))
        return
    shaped = None if scores is None else lambda x: scores(x.unflatten(1, spec.shape))
    draw_points(file, fake.flatten(1), None if real is None else real.flatten(1), shaped, title)


def draw_rows(
    file: Path,
    spec: DataSpec,
    samples: Tensor,
    conditions: Tensor | None = None,
    names: Sequence[str] = (),
    above: Sequence[str] = (),
) -> None:
    """Writes a picture of samples (k, n, *shape): each row has n of them, after its condition (k, *condition).

    Rows of images have their k `names` to the left, and columns theirs `above`.

    Conditions are drawn where both are images, and with one sample each there are several such pairs in a row. Images
    may be larger than `spec` says. Samples that are no images are drawn as points.
    """
    shown = conditions is not None and shows_conditions(spec)
    if not spec.is_image or (samples.shape[1] == 1 and shown):
        draw(file, spec, samples.flatten(0, 1), columns=samples.shape[1], conditions=conditions)
        return
    kinds = [*samples.detach().float().cpu().unbind(1)]
    if conditions is not None and shown:
        kinds = [*panels(conditions, samples.shape[2]), *kinds]
    grid(*side_by_side(kinds, 1), above, shortened(names)).save(file)


def draw_side_by_side(
    file: Path, spec: DataSpec, kinds: Mapping[str, Tensor], real: Tensor, conditions: Tensor | None, title: str
) -> None:
    """Writes samples (n, *shape) of several generators by name beside real ones (n, *shape) to `file`.

    Of images each generator has a grid, the data the first. Where conditions (n, *condition) are images too, a row is
    a condition, the sample of each generator, and the real one. Points are drawn on the same axes.
    """
    # A run's folder may be called data too: its samples must not be taken for real ones, nor take their place.
    kinds = {"run data" if name == "data" else name: fake.detach().float().cpu() for name, fake in kinds.items()}
    real = real.detach().float().cpu()
    if not spec.is_image:
        draw_points_side_by_side(file, {name: x.flatten(1) for name, x in kinds.items()}, real.flatten(1), title)
        return
    names = shortened([*kinds], 30)
    if conditions is not None and shows_conditions(spec):
        given = panels(conditions, real.shape[1])
        row = [*given, *kinds.values(), real]
        grid(*side_by_side(row, 1), above=[*["condition"] * len(given), *names, "data"]).save(file)
        return
    blocks({"data": real, **dict(zip(names, kinds.values(), strict=True))}).save(file)


def pixels_of_rows(spec: DataSpec, samples: tuple[int, ...], condition: tuple[int, ...], k: int, n: int) -> int:
    """About how many pixels a picture of `draw_rows` has, of n samples each under k conditions of these shapes."""
    shapes = [samples] * n
    if shows_conditions(spec):
        shapes += [condition] * len(channels_of_panels(condition[0], samples[0])[:PANELS])
    height, width = (max(shape[axis] for shape in shapes) + LINE for axis in (1, 2))
    return k * len(shapes) * height * width


def class_columns(y: Tensor, spec: DataSpec, columns: int) -> Sequence[str]:
    """What stands above the columns of a grid of images with labels y (N,), row by row: the class of each column.

    That is its name, or its label where there are no names. Empty where a column has several classes, or all have one.
    """
    if spec.classes is None or y.ndim != 1 or len(y) < columns:
        return ()
    first = y[:columns]
    place = torch.arange(len(y)) % columns
    if not torch.equal(y, first[place]) or len(first.unique()) < 2:
        return ()
    names = spec.class_names or [str(label) for label in range(spec.classes)]
    return shortened([names[int(label)] for label in first])


def is_picture(spec: DataSpec) -> bool:
    """Whether one sample is an image that a .png can hold: grey or colour, with or without transparency."""
    return spec.is_image and len(spec.shape) == 3 and spec.shape[0] in (1, 2, 3, 4)


def save_image(file: Path, image: Tensor) -> None:
    """Writes one image (C, H, W) in [-1, 1], of 1 to 4 channels, pixel by pixel."""
    to_image(image.detach().float().cpu().add(1).mul(127.5).add(0.5).clamp(0, 255).byte()).save(file)


def shows_conditions(spec: DataSpec) -> bool:
    """Whether pictures of samples show their conditions: where both are images."""
    return spec.is_image and spec.condition is not None and len(spec.condition) == 3


def draw_animation(file: Path, frames: Sequence[Tensor]) -> None:
    """Writes an animated GIF of frames, each a grid of images (N, C, H, W), played forwards and backwards.

    Of images of four channels, what is less than half opaque is clear.
    """
    there = [grid(images.detach().float().cpu(), None) for images in frames]
    first, *rest = [*there, *there[-2:0:-1]]
    if first.mode != "RGBA":
        first.save(file, save_all=True, append_images=rest, duration=100, loop=0)
        return
    first, *rest = [_see_through(frame) for frame in (first, *rest)]
    # Each frame is removed before the next (2), whose clear pixels would else show it.
    first.save(file, save_all=True, append_images=rest, duration=100, loop=0, transparency=_CLEAR, disposal=2)


_CLEAR = 255  # of a palette


def _see_through(frame: Image) -> Image:
    """RGBA with a palette of 255 colours and a clear one. A GIF has no half-opaque pixels, and PIL loses clear ones."""
    found = frame.convert("RGB").quantize(_CLEAR)
    found.paste(_CLEAR, mask=frame.getchannel("A").point([255] * 128 + [0] * 128))
    found.info["transparency"] = _CLEAR
    return found


def channels_left_out(spec: DataSpec) -> str | None:
    """What pictures of these samples and their conditions leave out, for people; None where they show all."""
    if not spec.is_image:
        return None
    left = []
    if spec.shape[0] not in (1, 3, 4):
        left.append("the first of 2 channels" if spec.shape[0] == 2 else f"the first 3 of {spec.shape[0]} channels")
    if spec.condition is not None and shows_conditions(spec):
        parts = len(channels_of_panels(spec.condition[0], spec.shape[0]))
        left += [f"the first {PANELS} of {parts} images in a condition"] if parts > PANELS else []
    return f"pictures show {' and '.join(left)}; .npy has all" if left else None


def draw_convergence(file: Path, history: list[dict[str, float]], exact: float | None, source: str) -> None:
    """A curve of "value" ± "error" over "step", with the exact value as a line where it is known.

    `source` says what that is, and where it is from.
    """
    steps, values, errors = (torch.tensor([record[key] for record in history]) for key in ("step", "value", "error"))
    with drawing(file, (6.4, 4.6), margins=MARGINS) as (_, axes):
        axes.plot(steps, values, color=BLUE, label="-L_D ± 2 standard errors")
        axes.fill_between(steps, values - 2 * errors, values + 2 * errors, color=BLUE, alpha=0.25, linewidth=0)
        if exact is not None:
            axes.axhline(exact, color=BLACK, linestyle=":", label=source)
        axes.set(xlabel="steps of D", ylabel="-L_D", title="-L_D on held-out samples")
        legend_above(axes)


def draw_discriminator(
    file: Path, x: Tensor, p: Tensor, q: Tensor, D: Tensor, best: Tensor | None, label: str | None = None
) -> None:
    """Two densities on the line, D(x) = σ(score), and D of the optimal discriminator where it is known; each (n,).

    With a label, D and the optimal one are no probabilities but what it says.
    """
    shown = (p + q) > 1e-4 * (p + q).max()
    x, p, q, D = (values[shown] for values in (x, p, q, D))
    with drawing(file, (6.4, 4.6), margins=(0.8, 0.6, 0.8, 0.85)) as (_, axes):
        axes.plot(x, p, color=BLACK, linestyle=":", label="p, the data")
        axes.plot(x, q, color=GREEN, label="q, the other side")
        axes.set(xlabel="x", ylabel="density", xlim=(x[0].item(), x[-1].item()), title="Discriminator of p and q")
        right = axes.twinx()
        if best is not None:
            right.plot(x, best[shown], color=ORANGE, linewidth=3, alpha=0.6, label="the optimal D(x)")
        right.plot(x, D, "--", color=BLUE, label="D(x)")
        right.set(ylim=(0, 1.05) if label is None else None, ylabel=label or "D(x) = σ(score)")
        right.grid(False)
        right.spines["right"].set_visible(True)
        legend_above(axes, right)


def draw_steepness(file: Path, norms: Mapping[str, Tensor], weights: Mapping[str, Tensor]) -> None:
    """Histograms of the gradient norms and of the weights of several discriminators, by name.

    Norms under different constraints differ by orders of magnitude, so their axis is logarithmic. The weights of each
    discriminator are divided by its largest.
    """
    together = torch.cat([*norms.values()])
    together = together[(together > 0) & together.isfinite()]
    low, high = (together.min().log10().item(), together.max().log10().item()) if len(together) else (-1.0, 1.0)
    logarithmic, even = torch.logspace(low - 0.1, high + 0.1, 61).numpy(), torch.linspace(-1.025, 1.025, 42).numpy()
    names = shortened([*norms], 32)
    above = 0.5 + 0.2 * len(names)
    with drawing(file, (10.5, 3.4 + above), columns=2, margins=(0.75, 0.6, 0.2, above)) as (figure, (left, right)):
        figure.subplots_adjust(wspace=0.22)
        for shown, name in zip(names, norms, strict=True):
            largest = weights[name].abs().max().item()
            for axes, values, bins, label in (
                (left, norms[name], logarithmic, shown),
                (right, weights[name] / (largest or 1.0), even, f"{shown}: at most {largest:.3g}"),
            ):
                share = [1 / len(values)] * len(values)
                axes.hist(values.numpy(), bins, histtype="step", linewidth=1.4, label=label, weights=share)
        left.set(xlabel="‖∇D(x)‖, score per unit of distance", ylabel="share of points", title="Gradient norms of D")
        left.set_xscale("log")
        log_axis(left.xaxis, 10 ** (low - 0.1), 10 ** (high + 0.1))
        right.set(xlabel="weight / the largest", ylabel="share of weights", title="Weights of D")
        for axes in (left, right):
            legend_above(axes, columns=1)
