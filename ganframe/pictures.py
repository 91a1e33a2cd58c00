"""Draws samples: images as a grid, points in the plane as a scatter, points on the line as densities.

Knows tensors and files; not where they come from. matplotlib and torchvision are imported only when something is
drawn.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from pathlib import Path

import torch
from torch import Tensor

from ganframe.components import DataSpec

Scores = Callable[[Tensor], Tensor]
"""A critic in evaluation: x (N, *shape) -> raw scores (N,)."""


def draw(file: Path, spec: DataSpec, fake: Tensor, real: Tensor | None = None, scores: Scores | None = None) -> None:
    """Writes a picture of fakes (N, *shape) to `file`, with real samples and the critic's scores where given.

    Images make a grid. Samples of any other shape are points with as many coordinates as they have numbers: one makes
    densities, two a scatter with the critic's contours, three a scatter in space, and more a scatter of the two
    principal components of the real samples, or of the fakes where there are none.
    """
    fake = fake.detach().float().cpu()
    real = None if real is None else real.detach().float().cpu()
    if spec.is_image:
        _image_grid(file, fake)
        return
    fake, real = fake.flatten(1), None if real is None else real.flatten(1)
    fake = fake[fake.isfinite().all(1)]  # of a run that diverged, what is left
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


def _image_grid(file: Path, images: Tensor) -> None:
    """A square-ish grid; small images are enlarged, pixel by pixel, so that a person can see them."""
    from torchvision.utils import save_image

    images = images[:, :3] if images.shape[1] >= 3 else images[:, :1]
    factor = max(1, 48 // images.shape[-1])
    images = images.repeat_interleave(factor, 2).repeat_interleave(factor, 3)
    save_image(images, file, nrow=math.ceil(math.sqrt(len(images))), normalize=True, value_range=(-1, 1), pad_value=0.5)


def _scatter(file: Path, fake: Tensor, real: Tensor | None, scores: Scores | None) -> None:
    figure, axes = _figure((5, 5))
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
    """The projection (N, D) -> (N, 2) onto the two directions in which the points vary most."""
    if not len(points):
        return lambda x: x[:, :2]
    mean = points.mean(0)
    directions = torch.linalg.svd(points - mean, full_matrices=False).Vh[:2]
    directions = torch.cat([directions, torch.zeros(2 - len(directions), points.shape[1])])
    return lambda x: (x - mean) @ directions.T


def _densities(file: Path, fake: Tensor, real: Tensor | None, scores: Scores | None) -> None:
    """The first figure of Goodfellow et al. 2014: the data's density, the generator's, and D(x) = σ(score)."""
    figure, axes = _figure((6, 4))
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


def draw_convergence(file: Path, history: list[dict[str, float]], exact: float | None) -> None:
    """A curve of "value" ± "error" over "step", with the exact value as a line where it is known."""
    figure, axes = _figure((6, 4))
    steps, values, errors = (torch.tensor([record[key] for record in history]) for key in ("step", "value", "error"))
    axes.plot(steps, values, color="tab:blue", label="-L_D on held-out samples")
    axes.fill_between(steps, values - 2 * errors, values + 2 * errors, color="tab:blue", alpha=0.25)
    if exact is not None:
        axes.axhline(exact, color="black", linestyle=":", label="exact")
    axes.set(xlabel="steps of D", ylabel="-L_D")
    axes.legend(loc="lower right")
    figure.savefig(file, dpi=100)


def _figure(size: tuple[float, float], projection: str | None = None):  # type: ignore[no-untyped-def]
    from matplotlib.figure import Figure  # not pyplot: it keeps figures alive and asks for a screen

    figure = Figure(figsize=size, layout="constrained")
    return figure, figure.subplots(subplot_kw={"projection": projection})
