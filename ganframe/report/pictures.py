"""Pictures of samples, images as a grid and points as scatters or densities, and of curves and histograms.

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
from ganframe.report.grids import LINE, PANELS, channels_of_panels, grid, panels, side_by_side, to_image

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
) -> None:
    """Writes a picture of fakes (N, *shape) to `file`, with real samples and the discriminator's scores where given.

    Images are drawn as a grid of `columns`, by default about square; those of four channels with their opacity.
    Samples of any other shape are flattened to points: densities in one dimension; a scatter with contours of the
    scores in two; a scatter in space in three; in more, a scatter of the two principal components of the real samples,
    or of the fakes if there are no real ones.

    `conditions` are the y of the fakes. If they are images too, each is drawn to the left of its fake, and the real
    sample of the same place to the right. Conditions of other channels than 1, 3 or those of samples, as past frames
    or an image with a mask, are several images side by side.

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
        later(functools.partial(grid(fake, columns).save, file))
        return
    fake, real = fake.flatten(1), None if real is None else real.flatten(1)
    fake = fake[fake.isfinite().all(1)]  # a run that diverged has others
    shaped = None if scores is None else lambda x: scores(x.unflatten(1, spec.shape))
    dimensions = fake.shape[1]
    if dimensions == 1:
        _densities(file, fake[:, 0], None if real is None else real[:, 0], shaped)
    elif dimensions == 2:
        _scatter(file, fake, real, shaped)
    elif dimensions == 3:
        _space(file, fake, real)
    else:
        plane = _principal_plane(fake if real is None else real)
        _scatter(file, plane(fake), None if real is None else plane(real), None)


def draw_rows(file: Path, spec: DataSpec, samples: Tensor, conditions: Tensor | None = None) -> None:
    """Writes a picture of samples (k, n, *shape): each row has n of them, after its condition (k, *condition).

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
    grid(*side_by_side(kinds, 1)).save(file)


def pixels_of_rows(spec: DataSpec, samples: tuple[int, ...], condition: tuple[int, ...], k: int, n: int) -> int:
    """About how many pixels a picture of `draw_rows` has, of n samples each under k conditions of these shapes."""
    shapes = [samples] * n
    if shows_conditions(spec):
        shapes += [condition] * len(channels_of_panels(condition[0], samples[0])[:PANELS])
    height, width = (max(shape[axis] for shape in shapes) + LINE for axis in (1, 2))
    return k * len(shapes) * height * width


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


def _scatter(file: Path, fake: Tensor, real: Tensor | None, scores: Scores | None) -> None:
    figure, axes = _figure((5, 5), margins=(0.13, 0.07, 0.98, 0.95))
    shown = fake if real is None else real
    half = 1.25 * shown[:, :2].abs().max().item() + 1e-6 if len(shown) else 1.0
    if scores is not None:
        ticks = torch.linspace(-half, half, 80)
        plane = torch.cartesian_prod(ticks, ticks)
        values = scores(plane).detach().float().cpu().nan_to_num().view(80, 80).T  # rows are the second coordinate
        axes.contourf(ticks, ticks, values, levels=14, cmap="Greys", alpha=0.6)
    if real is not None:
        axes.scatter(real[:, 0], real[:, 1], s=3, c="tab:blue", label="data")
    axes.scatter(fake[:, 0], fake[:, 1], s=3, c="tab:orange", label="G(z)")
    axes.set(xlim=(-half, half), ylim=(-half, half), aspect="equal")
    axes.legend(loc="upper right")
    figure.savefig(file, dpi=100)


def _space(file: Path, fake: Tensor, real: Tensor | None) -> None:
    figure, axes = _figure((6, 6), projection="3d")
    shown = fake if real is None else real
    half = 1.1 * shown.abs().max().item() + 1e-6 if len(shown) else 1.0
    if real is not None:
        axes.scatter(*real.T, s=3, c="tab:blue", label="data", depthshade=False)
    axes.scatter(*fake.T, s=3, c="tab:orange", label="G(z)", depthshade=False)
    axes.set(xlim=(-half, half), ylim=(-half, half), zlim=(-half, half), box_aspect=(1, 1, 1))
    axes.legend(loc="upper right")
    figure.savefig(file, dpi=100)


def _principal_plane(points: Tensor) -> Callable[[Tensor], Tensor]:
    """The projection (N, D) -> (N, 2) onto the first two principal components of the points, of 1,000 at most."""
    if not len(points):
        return lambda x: x[:, :2]
    points = points[:1000]  # the memory of the decomposition grows with their square
    mean = points.mean(0)
    directions = torch.linalg.svd(points - mean, full_matrices=False).Vh[:2]
    directions = torch.cat([directions, torch.zeros(2 - len(directions), points.shape[1])])
    return lambda x: (x - mean) @ directions.T


def _densities(file: Path, fake: Tensor, real: Tensor | None, scores: Scores | None) -> None:
    """The first figure of Goodfellow et al. 2014: the data's density, the generator's, and D(x) = σ(score)."""
    figure, axes = _figure((6, 4), margins=(0.13, 0.12, 0.89, 0.94))
    samples = torch.cat([s for s in (fake, real) if s is not None])
    low, high = (samples.quantile(0.001).item() - 1, samples.quantile(0.999).item() + 1) if len(samples) else (-1, 1)
    bins = torch.linspace(low, high, 80).numpy()
    if real is not None:
        axes.hist(real.numpy(), bins=bins, density=True, histtype="step", color="black", linestyle=":", label="data")
    some = len(fake) > 0
    axes.hist(fake.numpy(), bins=bins, density=some, histtype="step", color="tab:green", label="G(z)")
    axes.set(xlabel="x", ylabel="density", xlim=(low, high))
    if scores is not None:
        x = torch.linspace(low, high, 200)
        right = axes.twinx()
        right.plot(x, scores(x[:, None]).detach().float().cpu().sigmoid(), "--", color="tab:blue", label="D(x)")
        right.set(ylim=(0, 1.05), ylabel="D(x) = σ(score)")
        right.legend(loc="upper right")
    axes.legend(loc="upper left")
    figure.savefig(file, dpi=100)


def draw_convergence(file: Path, history: list[dict[str, float]], exact: float | None, label: str = "exact") -> None:
    """A curve of "value" ± "error" over "step", with the exact value as a line where it is known."""
    figure, axes = _figure((6, 4))
    steps, values, errors = (torch.tensor([record[key] for record in history]) for key in ("step", "value", "error"))
    axes.plot(steps, values, color="tab:blue", label="-L_D on held-out samples")
    axes.fill_between(steps, values - 2 * errors, values + 2 * errors, color="tab:blue", alpha=0.25)
    if exact is not None:
        axes.axhline(exact, color="black", linestyle=":", label=label)
    axes.set(xlabel="steps of D", ylabel="-L_D")
    axes.legend(loc="lower right")
    figure.savefig(file, dpi=100)


def draw_discriminator(
    file: Path, x: Tensor, p: Tensor, q: Tensor, D: Tensor, best: Tensor | None, label: str | None = None
) -> None:
    """Two densities on the line, D(x) = σ(score), and D of the optimal discriminator where it is known; each (n,).

    With a label, D and the optimal one are no probabilities but what it says.
    """
    figure, axes = _figure((6, 4))
    shown = (p + q) > 1e-4 * (p + q).max()
    x, p, q, D = (values[shown] for values in (x, p, q, D))
    axes.plot(x, p, color="black", linestyle=":", label="p")
    axes.plot(x, q, color="tab:green", label="q")
    axes.set(xlabel="x", ylabel="density", xlim=(x[0].item(), x[-1].item()))
    right = axes.twinx()
    if best is not None:
        right.plot(x, best[shown], color="tab:orange", linewidth=3, alpha=0.6, label="the optimal D(x)")
    right.plot(x, D, "--", color="tab:blue", label="D(x)")
    right.set(ylim=(0, 1.05) if label is None else None, ylabel=label or "D(x) = σ(score)")
    axes.legend(loc="upper left")
    right.legend(loc="upper right")
    figure.savefig(file, dpi=100)


def draw_steepness(file: Path, norms: Mapping[str, Tensor], weights: Mapping[str, Tensor]) -> None:
    """Histograms of the gradient norms and of the weights of several discriminators, by name.

    Norms under different constraints differ by orders of magnitude, so their axis is logarithmic. The weights of each
    discriminator are divided by its largest.
    """
    figure, (left, right) = _figure((10, 4), columns=2)
    together = torch.cat([*norms.values()])
    together = together[together > 0]
    low, high = (together.min().log10().item(), together.max().log10().item()) if len(together) else (-1.0, 1.0)
    logarithmic, even = torch.logspace(low - 0.1, high + 0.1, 61).numpy(), torch.linspace(-1.025, 1.025, 42).numpy()
    for name in norms:
        largest = weights[name].abs().max().item()
        for axes, values, bins, label in (
            (left, norms[name], logarithmic, name),
            (right, weights[name] / (largest or 1.0), even, f"{name}, at most {largest:.3g}"),
        ):
            axes.hist(values.numpy(), bins, histtype="step", label=label, weights=[1 / len(values)] * len(values))
            axes.legend()
    left.set(xlabel="gradient norm of D", ylabel="share of points", xscale="log")
    right.set(xlabel="weights of D / the largest", ylabel="share of weights")
    figure.savefig(file, dpi=100)


def _figure(  # type: ignore[no-untyped-def]
    size: tuple[float, float],
    projection: str | None = None,
    columns: int = 1,
    margins: tuple[float, float, float, float] | None = None,
):
    """A figure and its axes. `margins` are the left, lower, right and upper edges of the axes, as shares of the figure.

    Without them matplotlib finds room for all labels: it draws everything twice, which training would wait for. With
    them, large and small numbers are written as multiples of a power of ten, so that they have room.
    """
    from matplotlib.figure import Figure  # not pyplot, which keeps figures in memory and needs a display

    figure = Figure(figsize=size, layout="constrained" if margins is None else None)
    axes = figure.subplots(1, columns, subplot_kw={"projection": projection})
    if margins is not None:
        left, bottom, right, top = margins
        figure.subplots_adjust(left=left, bottom=bottom, right=right, top=top)
        axes.ticklabel_format(style="sci", scilimits=(-3, 4))
    return figure, axes
