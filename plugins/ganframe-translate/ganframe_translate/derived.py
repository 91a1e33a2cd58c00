"""Pairs made of single images: the dataset `derived`, whose condition y is computed from the image x."""

from __future__ import annotations

import functools
import math
from typing import Any, Literal

import attrs
import torch
from attrs.validators import and_, ge, gt, lt
from torch import Tensor
from torch.nn import functional as F
from torch.utils.data import Dataset as TorchDataset

from ganframe import Dataset, DataSpec, option
from ganframe_translate.changed import as_pixels, as_signed, changed, fingerprint_of, opened

LUMINANCE = (0.299, 0.587, 0.114)
"""What red, green and blue count in the grey of an image (ITU-R BT.601)."""

OWNER = {
    "factor": "downsample",
    "threshold": "edges",
    "hidden": "mask",
    "share": "mask",
    "std": "noise",
}
"""The condition that an option belongs to."""

RANDOM = ("mask", "noise")
TAN_22_5 = math.sqrt(2) - 1


@attrs.frozen
class Derived(Dataset):
    """Images x of another dataset, and conditions y that are computed from them. Labels of the dataset are left out.

    "grey": the luminance (1, H, W) of colour images, or the mean of other channels. "edges": 1 on edges of the
    luminance, -1 elsewhere (1, H, W). "downsample": means over squares of factor × factor pixels. "mask": x with a part
    hidden at 0, and as one more channel the mask, 1 where x is hidden, -1 where it is seen. "noise": x with Gaussian
    noise, cut off at -1 and 1 as a file of the noisy image would be.

    Masks and noise are drawn anew for each batch; samples held out have one each. Data in memory is changed on the
    device, other data item by item.
    """

    of: Dataset = option(help="the dataset of images")
    condition: Literal["grey", "edges", "downsample", "mask", "noise"] = option(help="how y is computed from x")
    factor: int = option(4, help="downsample: pixels of x along each side of a pixel of y", validator=ge(2))
    threshold: float = option(
        0.25, help="edges: step of luminance that is an edge, where 1 is from black to white", validator=gt(0)
    )
    hidden: Literal["box", "pixels"] = option("box", help="mask: hide a box at a random place, or random pixels")
    share: float = option(0.25, help="mask: share of the area that is hidden", validator=and_(gt(0), lt(1)))
    std: float = option(0.2, help="noise: standard deviation, in units of [-1, 1]", validator=gt(0))

    def __attrs_post_init__(self) -> None:
        for field in attrs.fields(Derived):
            owner = OWNER.get(field.name, self.condition)
            if owner != self.condition and getattr(self, field.name) != field.default:
                raise ValueError(f'{field.name} belongs to condition = "{owner}"; leave it out with "{self.condition}"')

    @property
    def spec(self) -> DataSpec:
        inner = self.of.spec
        if not inner.is_image or len(inner.shape) != 3:
            raise ValueError(f"derived needs images, and its `of` has samples of shape {inner.shape}; use another")
        channels, height, width = inner.shape
        if self.condition in ("grey", "edges"):
            if self.condition == "grey" and channels == 1:
                raise ValueError("the images are grey already, so y would be x; choose another condition")
            return DataSpec(inner.shape, condition=(1, height, width))
        if self.condition == "downsample":
            wrong = [n for n in (height, width) if n % self.factor]
            if wrong:
                lower = wrong[0] // self.factor * self.factor
                fit = " or ".join(str(n) for n in (lower, lower + self.factor) if n)
                divisors = [str(n) for n in range(2, min(height, width) + 1) if not (height % n or width % n)]
                others = f", or a factor of {', '.join(divisors[:6])}" if divisors else ""
                raise ValueError(
                    f"factor: {self.factor} does not divide images of {height}×{width}; take a size of {fit}{others}"
                )
            return DataSpec(inner.shape, condition=(channels, height // self.factor, width // self.factor))
        if self.condition == "mask":
            if self.hidden == "box" and _box(height, width, self.share) == (height, width):
                raise ValueError(f"share: a box of {self.share} of {height}×{width} hides all of it; lower it")
            return DataSpec(inner.shape, condition=(channels + 1, height, width))
        return DataSpec(inner.shape, condition=inner.shape)

    def build(self) -> TorchDataset[Any]:
        return opened(self, changed(self.of.build(), self._pairs, random=self.condition in RANDOM))

    def held_out(self) -> TorchDataset[Any] | None:
        """Pairs of the images that the dataset holds out, each with one mask or noise; None where it holds out none."""
        data = self.of.held_out()
        return None if data is None else changed(data, self._pairs, random=self.condition in RANDOM, fixed=True)

    def fingerprint(self) -> dict[str, str]:
        """A hash of images in memory whose conditions are drawn; what else identifies them, their dataset says."""
        return fingerprint_of(self, "values of images") if self.condition in RANDOM else {}

    def decode(self, x: Tensor, y: Tensor | None = None) -> Any:
        return self.of.decode(x)

    def condition_of(self, x: Tensor, generator: torch.Generator | None = None) -> Tensor:
        """The conditions y (N, C', h, w) of images x (N, C, H, W), floats, or uint8 where x is.

        With masks and noise y is float. These are drawn with `generator`, on the device of x; by default with torch's
        global one.
        """
        images = as_signed(x)
        if self.condition == "mask":
            return masked(images, self.hidden, self.share, generator)
        if self.condition == "noise":
            noise = torch.randn(images.shape, generator=generator, device=images.device)
            return (images + self.std * noise).clamp_(-1, 1)
        if self.condition == "grey":
            y = luminance(images)
        elif self.condition == "edges":
            y = edges(images, self.threshold)
        else:
            y = F.avg_pool2d(images, self.factor)
        return as_pixels(y) if x.dtype == torch.uint8 else y

    def _pairs(self, x: Tensor, _: Tensor, generator: torch.Generator | None) -> tuple[Tensor, Tensor]:
        return x, self.condition_of(x, generator)


def luminance(x: Tensor) -> Tensor:
    """The luminance (N, 1, H, W) of colour images x (N, 3, H, W), of BT.601; the mean of other numbers of channels."""
    if x.shape[1] != 3:
        return x.mean(1, keepdim=True)
    return (x * _weights(x.device)).sum(1, keepdim=True)


@functools.lru_cache(maxsize=8)
def _weights(device: torch.device) -> Tensor:
    return torch.tensor(LUMINANCE, device=device).view(1, 3, 1, 1)


def edges(x: Tensor, threshold: float) -> Tensor:
    """Thin lines (N, 1, H, W), 1 on edges and -1 elsewhere, of images x (N, C, H, W) in [-1, 1].

    A line is one pixel wide. Where a sharp edge runs at 45° it is a staircase, two pixels in each row.

    The first steps of Canny's detector (1986): Sobel's slopes of the luminance, and of those only the largest along
    their direction. `threshold` is the height of a step, in units of white, from which on it is an edge.
    """
    grey = F.pad((luminance(x) + 1) / 2, (1, 1, 1, 1), mode="replicate")
    across = _smoothed((grey[..., 2:] - grey[..., :-2]).mT).mT
    down = _smoothed(grey[..., 2:, :] - grey[..., :-2, :])
    slope = torch.hypot(across, down)
    flat, steep = (a.abs() <= TAN_22_5 * b.abs() for a, b in ((down, across), (across, down)))
    falling = across * down > 0
    height, width = slope.shape[2:]
    around = F.pad(slope, (1, 1, 1, 1))
    found = torch.zeros_like(slope, dtype=torch.bool)
    lines = {(0, 1): flat, (1, 0): steep, (1, 1): ~flat & ~steep & falling, (1, -1): ~flat & ~steep & ~falling}
    for (dy, dx), on_line in lines.items():
        ahead = around[:, :, 1 + dy : 1 + dy + height, 1 + dx : 1 + dx + width]
        behind = around[:, :, 1 - dy : 1 - dy + height, 1 - dx : 1 - dx + width]
        found |= on_line & (slope >= ahead) & (slope > behind)  # of two equal ones, one
    return (found & (slope >= threshold)).float().mul_(2).sub_(1)


def _smoothed(x: Tensor) -> Tensor:
    """Means (…, W - 2) of three neighbours along the last axis, with weights 1, 2, 1."""
    return (x[..., :-2] + 2 * x[..., 1:-1] + x[..., 2:]) / 4


def masked(x: Tensor, hidden: str, share: float, generator: torch.Generator | None = None) -> Tensor:
    """x (N, C, H, W) with the hidden pixels at 0, and the mask as the last channel: 1 hidden, -1 seen.

    `hidden` is "box", of this share of the area and with the image's ratio of sides, or "pixels", each with the
    probability `share`.
    """
    n, _, height, width = x.shape
    if hidden == "pixels":
        mask = torch.rand((n, 1, height, width), generator=generator, device=x.device) < share
    else:
        places = torch.rand((2, n, 1), generator=generator, device=x.device)
        sides = []
        for place, whole, part in zip(places, (height, width), _box(height, width, share), strict=True):
            first = (place * (whole - part + 1)).floor()
            at = torch.arange(whole, device=x.device)
            sides.append((at >= first) & (at < first + part))
        mask = (sides[0][:, :, None] & sides[1][:, None, :])[:, None]
    return torch.cat([x.masked_fill(mask, 0), mask.to(x.dtype) * 2 - 1], 1)


def _box(height: int, width: int, share: float) -> tuple[int, int]:
    """Sides of a box of this share of an image, with the same ratio of sides; at least one pixel."""
    return max(1, round(height * math.sqrt(share))), max(1, round(width * math.sqrt(share)))
