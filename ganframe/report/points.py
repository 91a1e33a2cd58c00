"""Pictures of samples that are no images: densities on the line, scatters in the plane and in space."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from ganframe.report.figures import BLACK, BLUE, DATA, FAKE, GREEN, drawing, legend_above, shortened

Scores = Callable[[Tensor], Tensor]
"""A discriminator in evaluation mode: x (N, D) -> raw scores (N,)."""

POINT = {"s": 4, "linewidths": 0}
LARGER = 3.0  # points in legends
MARGINS = (0.75, 0.6, 0.2, 0.65)  # inches around the axes; see `drawing`
SHADES = "#FFFFFF", "#8C8C8C"  # of low and high scores: lighter than points
SCALE = 1.2  # inches to the right of a scatter, for the scale of the scores
AXIS_NAMES = ("x₁", "x₂", "x₃")
COMPONENTS = ("first principal component of the data", "second principal component of the data")
PLACES = 64  # along a side of the plane, at which the discriminator is called
LEVELS = 10  # of its scores, about
COLUMNS = 3  # scatters side by side


def draw_points(file: Path, fake: Tensor, real: Tensor | None, scores: Scores | None, title: str) -> None:
    """Fakes (N, D) beside real samples (M, D), with the discriminator's scores where they fit."""
    fake = _finite(fake)
    if fake.shape[1] == 1:
        _densities(file, fake[:, 0], None if real is None else real[:, 0], scores, title)
    elif fake.shape[1] == 2:
        _scatter(file, fake, real, scores, title, AXIS_NAMES[:2])
    elif fake.shape[1] == 3:
        _space(file, fake, real, title)
    else:
        plane = _principal_plane(fake if real is None else real)
        names = COMPONENTS if real is not None else tuple(name.replace("data", "samples") for name in COMPONENTS)
        _scatter(file, plane(fake), None if real is None else plane(real), None, title, names)


def draw_points_side_by_side(file: Path, kinds: Mapping[str, Tensor], real: Tensor, title: str) -> None:
    """Samples (N, D) of several generators by name, each beside the same real ones (M, D), on the same axes."""
    shown = dict(zip(shortened([*kinds], 36), map(_finite, kinds.values()), strict=True))
    if real.shape[1] == 1:
        _densities_together(file, {name: fake[:, 0] for name, fake in shown.items()}, real[:, 0], title)
        return
    names = AXIS_NAMES[:2]
    if real.shape[1] > 2:
        plane, names = _principal_plane(real), COMPONENTS
        real, shown = plane(real), {name: plane(fake) for name, fake in shown.items()}
    columns = min(COLUMNS, len(shown))
    rows = -(-len(shown) // columns)
    half = _half(real)
    with drawing(file, (0.8 + 3.4 * columns, 0.5 + 3.6 * rows), rows, columns) as (figure, axes):
        figure.suptitle(title, x=0.01, ha="left", parse_math=False)
        places = [*axes.flat] if len(shown) > 1 else [axes]
        for place in places:
            place.set_axis_off()
        for place, (name, fake) in zip(places, shown.items(), strict=False):
            place.set_axis_on()
            place.scatter(real[:, 0], real[:, 1], **POINT, c=DATA, alpha=0.5, label="data")
            place.scatter(fake[:, 0], fake[:, 1], **POINT, c=FAKE, label="G(z)")
            place.set(xlim=(-half, half), ylim=(-half, half), aspect="equal", xlabel=names[0], ylabel=names[1])
            place.set_title(name, parse_math=False)
        figure.legend(*places[0].get_legend_handles_labels(), loc="outside lower left", ncols=2, markerscale=LARGER)


def _scatter(
    file: Path, fake: Tensor, real: Tensor | None, scores: Scores | None, title: str, names: tuple[str, ...]
) -> None:
    from matplotlib.colors import LinearSegmentedColormap
    from matplotlib.ticker import MaxNLocator

    half = _half(fake if real is None else real)
    left, below, right, above = MARGINS
    right = right if scores is None else SCALE
    margins = (left, below, right, above)
    with drawing(file, (left + 4.3 + right, below + 4.3 + above), margins=margins) as (figure, axes):
        if scores is not None:
            ticks = torch.linspace(-half, half, PLACES)
            plane = torch.cartesian_prod(ticks, ticks)
            values = (
                scores(plane).detach().float().cpu().nan_to_num().view(PLACES, PLACES).T
            )  # rows are the second coordinate
            contours = axes.contourf(
                ticks, ticks, values, levels=LEVELS, cmap=LinearSegmentedColormap.from_list("", SHADES)
            )
            box = axes.get_position()
            place = figure.add_axes((box.x1 + 0.02, box.y0, 0.025, box.height))
            axes.grid(False)
            figure.colorbar(contours, cax=place, ticks=MaxNLocator(6), label="discriminator's score")
        if real is not None:
            axes.scatter(real[:, 0], real[:, 1], **POINT, c=DATA, label="data")
        axes.scatter(fake[:, 0], fake[:, 1], **POINT, c=FAKE, label="G(z)")
        axes.set(xlim=(-half, half), ylim=(-half, half), xlabel=names[0], ylabel=names[1], title=title)
        axes.set_aspect("equal")
        legend_above(axes, scale=LARGER)


def _space(file: Path, fake: Tensor, real: Tensor | None, title: str) -> None:
    half = _half(fake if real is None else real)
    with drawing(file, (6, 6), margins=(0.3, 0.3, 0.5, 0.6), projection="3d") as (figure, axes):
        if real is not None:
            axes.scatter(*real.T, **POINT, c=DATA, label="data", depthshade=False)
        axes.scatter(*fake.T, **POINT, c=FAKE, label="G(z)", depthshade=False)
        axes.set(xlim=(-half, half), ylim=(-half, half), zlim=(-half, half), box_aspect=(1, 1, 1))
        figure.suptitle(title, x=0.05, ha="left", parse_math=False)  # the axes' own is lost in space
        axes.set(**dict(zip(("xlabel", "ylabel", "zlabel"), AXIS_NAMES, strict=True)))
        legend_above(axes, scale=LARGER)


def _densities(file: Path, fake: Tensor, real: Tensor | None, scores: Scores | None, title: str) -> None:
    """The first figure of Goodfellow et al. 2014: the data's density, the generator's, and D(x) = σ(score)."""
    low, high = _range([fake] if real is None else [fake, real])
    with drawing(file, (6.4, 4.4), margins=(0.75, 0.6, 0.75, 0.65)) as (_, axes):
        _histogram(axes, real, low, high, color=BLACK, linestyle=":", label="data")
        _histogram(axes, fake, low, high, color=GREEN, label="G(z)")
        axes.set(xlabel="x", ylabel="density", xlim=(low, high), title=title)
        others = []
        if scores is not None:
            x = torch.linspace(low, high, 200)
            right = axes.twinx()
            right.plot(x, scores(x[:, None]).detach().float().cpu().sigmoid(), "--", color=BLUE, label="D(x)")
            right.set(ylim=(0, 1.05), ylabel="D(x) = σ(score)")
            right.grid(False)
            right.spines["right"].set_visible(True)
            others = [right]
        legend_above(axes, *others)


def _densities_together(file: Path, kinds: Mapping[str, Tensor], real: Tensor, title: str) -> None:
    low, high = _range([real, *kinds.values()])
    with drawing(file, (7, 4.6), margins=(0.75, 0.6, 0.3, 0.65 + 0.2 * (len(kinds) // 2))) as (_, axes):
        _histogram(axes, real, low, high, color=BLACK, linestyle=":", label="data")
        for name, fake in kinds.items():
            _histogram(axes, fake, low, high, label=name)
        axes.set(xlabel="x", ylabel="density", xlim=(low, high), title=title)
        legend_above(axes)


def _histogram(axes: Any, x: Tensor | None, low: float, high: float, **style: Any) -> None:
    if x is not None:
        bins = torch.linspace(low, high, 80).numpy()
        axes.hist(x.numpy(), bins=bins, density=len(x) > 0, histtype="step", linewidth=1.4, **style)


def _range(sides: list[Tensor]) -> tuple[float, float]:
    samples = torch.cat(sides)
    return (samples.quantile(0.001).item() - 1, samples.quantile(0.999).item() + 1) if len(samples) else (-1, 1)


def _half(points: Tensor) -> float:
    """Half a side of the square or cube around 0 that is drawn."""
    return 1.25 * points.abs().max().item() + 1e-6 if len(points) else 1.0


def _finite(points: Tensor) -> Tensor:
    """Those that a picture can have: a run that diverged has others."""
    return points[points.isfinite().all(1)]


def _principal_plane(points: Tensor) -> Callable[[Tensor], Tensor]:
    """The projection (N, D) -> (N, 2) onto the first two principal components of the points, of 1,000 at most."""
    if not len(points):
        return lambda x: x[:, :2]
    points = points[:1000]  # the memory of the decomposition grows with their square
    mean = points.mean(0)
    directions = torch.linalg.svd(points - mean, full_matrices=False).Vh[:2]
    directions = torch.cat([directions, torch.zeros(2 - len(directions), points.shape[1])])
    return lambda x: (x - mean) @ directions.T
