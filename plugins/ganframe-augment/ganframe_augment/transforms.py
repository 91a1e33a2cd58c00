"""Augmentations of images, each with its own random numbers for each image.

All are differentiable, twice where they are not linear: pixels are moved whole, never interpolated, so that gradient
penalties can be differentiated through them. x is (N, C, H, W) with values in [-1, 1]; results may lie outside.
Random numbers are drawn from torch's global generator on x's device.
"""

from __future__ import annotations

import math

import torch
from torch import Tensor

LUMA = (0.299, 0.587, 0.114)  # brightness of red, green and blue


def require_images(name: str, x: Tensor) -> None:
    """Raises ValueError unless x is a batch of images."""
    if x.ndim != 4:
        raise ValueError(
            f"{name} augments images of shape (C, H, W), and these samples have shape {tuple(x.shape[1:])}; use it "
            "with images only"
        )


def each(x: Tensor, low: float, high: float) -> Tensor:
    """One number for each image, uniform in [low, high): (N, 1, 1, 1)."""
    return low + (high - low) * torch.rand(len(x), 1, 1, 1, device=x.device, dtype=x.dtype)


def normal_each(x: Tensor, std: float) -> Tensor:
    """One number for each image from N(0, std²): (N, 1, 1, 1)."""
    return std * torch.randn(len(x), 1, 1, 1, device=x.device, dtype=x.dtype)


def shifts(x: Tensor, share: float) -> tuple[Tensor, Tensor]:
    """Whole numbers of rows and columns for each image, uniform up to `share` of its sides, at least 1: (N, 1, 1)."""
    furthest = [max(1, round(share * side)) for side in x.shape[2:]]
    down, right = (torch.randint(-most, most + 1, (len(x), 1, 1), device=x.device) for most in furthest)
    return down, right


# ----------------------------------------------------------------------------------------------------- moving pixels


def positions(x: Tensor) -> tuple[Tensor, Tensor]:
    """Row and column of each pixel: (N, H, W) each. `taken(x, *positions(x))` is x."""
    n, _, height, width = x.shape
    rows = torch.arange(height, device=x.device).view(1, -1, 1).expand(n, height, width)
    columns = torch.arange(width, device=x.device).view(1, 1, -1).expand(n, height, width)
    return rows, columns


def taken(x: Tensor, rows: Tensor, columns: Tensor) -> Tensor:
    """The image whose pixel (i, j) is x's pixel (rows[i, j], columns[i, j])."""
    index = (rows * x.shape[3] + columns).flatten(1)
    return x.flatten(2).gather(2, index[:, None].expand(-1, x.shape[1], -1)).view(x.shape)


def flipped(x: Tensor) -> Tensor:
    """Exchanges left and right in half of the images, drawn at random."""
    return torch.where(each(x, 0, 1) < 0.5, x.flip(3), x)


def translated(x: Tensor, share: float = 1 / 8) -> Tensor:
    """Moves each image by up to `share` of its sides, with its reflection moved in."""
    (rows, columns), (down, right) = positions(x), shifts(x, share)
    height, width = x.shape[2:]
    return taken(x, reflected(rows - down, height), reflected(columns - right, width))


def translated_in_zeros(x: Tensor, share: float = 1 / 8) -> Tensor:
    """Moves each image by up to `share` of its sides, with zeros moved in."""
    (rows, columns), (down, right) = positions(x), shifts(x, share)
    rows, columns = rows - down, columns - right
    height, width = x.shape[2:]
    inside = (rows >= 0) & (rows < height) & (columns >= 0) & (columns < width)
    return taken(x, rows.clamp(0, height - 1), columns.clamp(0, width - 1)) * inside[:, None]


def reflected(index: Tensor, size: int) -> Tensor:
    """Indices outside 0 … size - 1, by less than size, as a mirror at the first and last pixel shows them."""
    index = index.abs()
    return size - 1 - (size - 1 - index).abs()


def without(x: Tensor, top: Tensor, left: Tensor, height: int, width: int) -> Tensor:
    """Sets a rectangle of each image to zero. Its corner, each (N, 1, 1), may lie outside the image."""
    rows, columns = positions(x)
    hidden = (rows >= top) & (rows < top + height) & (columns >= left) & (columns < left + width)
    return x * ~hidden[:, None]


# ------------------------------------------------------------------------------------------------------------ colours


def contrasted(x: Tensor, factor: Tensor) -> Tensor:
    """Distances from the image's mean, times `factor` (N, 1, 1, 1)."""
    mean = x.mean((1, 2, 3), keepdim=True)
    return mean + factor * (x - mean)


def saturated(x: Tensor, factor: Tensor, grey: Tensor) -> Tensor:
    """Distances of each pixel's channels from its `grey` (N, 1, H, W), times `factor` (N, 1, 1, 1)."""
    return grey + factor * (x - grey)


def luma(x: Tensor) -> Tensor:
    """The grey of an image with three channels, as the eye sees it: (N, 1, H, W)."""
    return (x * x.new_tensor(LUMA).view(1, 3, 1, 1)).sum(1, keepdim=True)


def hue_turned(x: Tensor, angle: Tensor) -> Tensor:
    """Turns colours around the grey axis (1, 1, 1) by `angle` (N, 1, 1, 1); x has three channels (Rodrigues)."""
    grey = x.mean(1, keepdim=True)
    across = (x.roll(-1, 1) - x.roll(-2, 1)) / -math.sqrt(3)  # axis × colour
    return grey + angle.cos() * (x - grey) + angle.sin() * across
