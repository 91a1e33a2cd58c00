"""Toy data in three dimensions as a plugin of ganframe: two kinds of points, and walks of several points each.

All of it is drawn on the device, every batch anew. Nothing here knows how it is trained or drawn as a picture.
"""

from __future__ import annotations

import math

import attrs
import torch
from attrs.validators import ge, gt
from torch import Tensor

from ganframe import Dataset, DataSpec, Distribution, hookimpl, option


@attrs.frozen
class Helix(Dataset):
    """Points (3,) on strands wound around the third axis; two strands make a double helix. The label is the strand."""

    strands: int = option(2, help="curves, evenly spaced around the axis; the label is the strand", validator=ge(1))
    turns: float = option(1.5, help="times each strand goes round", validator=gt(0))
    radius: float = option(1.0, help="distance of the strands from the axis", validator=gt(0))
    height: float = option(2.0, help="extent along the axis, half of it on either side of 0", validator=gt(0))
    noise: float = option(0.02, help="standard deviation of the noise, in each direction", validator=ge(0))

    @property
    def spec(self) -> DataSpec:
        return DataSpec((3,), classes=self.strands)

    def curve(self, t: Tensor, strand: Tensor) -> Tensor:
        """The points (n, 3) at t (n,), from 0 at a strand's lower end to 1 at its upper, of strands (n,)."""
        angle = 2 * math.pi * (self.turns * t + strand / self.strands)
        return torch.stack([self.radius * angle.cos(), self.radius * angle.sin(), self.height * (t - 0.5)], dim=1)

    def build(self) -> HelixPoints:
        return HelixPoints(self)


class HelixPoints(Distribution):
    """Points (n, 3) evenly along the strands of a helix, which all have one length, and their strands (n,)."""

    def __init__(self, helix: Helix) -> None:
        self.helix = helix

    def draw(self, n: int, generator: torch.Generator) -> tuple[Tensor, Tensor]:
        device = generator.device
        y = torch.randint(self.helix.strands, (n,), generator=generator, device=device)
        x = self.helix.curve(torch.rand(n, generator=generator, device=device), y)
        x += self.helix.noise * torch.randn(n, 3, generator=generator, device=device)
        return x, y


@attrs.frozen
class CubeCorners(Dataset):
    """Points (3,) around the 8 corners of a cube, equally likely. The label is the corner: its bits tell the sides."""

    side: float = option(2.0, help="length of the cube's edges; its centre is 0", validator=gt(0))
    std: float = option(0.05, help="standard deviation of the Gaussian at each corner", validator=gt(0))

    @property
    def spec(self) -> DataSpec:
        return DataSpec((3,), classes=8)

    def corners(self, y: Tensor) -> Tensor:
        """The corners (n, 3) of labels y (n,): 0 is negative in every coordinate, 4 positive in the first alone."""
        bits = y[:, None] >> torch.arange(2, -1, -1, device=y.device) & 1
        return self.side * (bits - 0.5)

    def build(self) -> CornerPoints:
        return CornerPoints(self)


class CornerPoints(Distribution):
    """Points (n, 3) of a mixture of eight Gaussians, and their corners (n,)."""

    def __init__(self, cube: CubeCorners) -> None:
        self.cube = cube

    def draw(self, n: int, generator: torch.Generator) -> tuple[Tensor, Tensor]:
        device = generator.device
        y = torch.randint(8, (n,), generator=generator, device=device)
        return self.cube.corners(y) + self.cube.std * torch.randn(n, 3, generator=generator, device=device), y


@attrs.frozen
class Walk(Dataset):
    """Walks (points, 3) along a circle around 0 that is turned at random: a sample is a table, not a list of numbers.

    The walk begins anywhere on the sphere, in any direction, and goes on at one pace. It has no label.
    """

    points: int = option(16, help="points of each walk", validator=ge(2))
    turns: float = option(0.5, help="share of the circle from the first point to the last", validator=gt(0))
    radius: float = option(1.0, help="radius of the circle", validator=gt(0))
    noise: float = option(0.02, help="standard deviation of the noise, in each coordinate", validator=ge(0))

    @property
    def spec(self) -> DataSpec:
        return DataSpec((self.points, 3))

    def circle(self, device: torch.device | None = None) -> Tensor:
        """The walk (points, 2) before it is turned: radius · (cos, sin), from angle 0 on."""
        angle = torch.linspace(0, 2 * math.pi * self.turns, self.points, device=device)
        return self.radius * torch.stack([angle.cos(), angle.sin()], dim=1)

    def build(self) -> Walks:
        return Walks(self)


class Walks(Distribution):
    """Walks (n, points, 3), and a label of 0 for each."""

    def __init__(self, walk: Walk) -> None:
        self.walk = walk

    def draw(self, n: int, generator: torch.Generator) -> tuple[Tensor, Tensor]:
        device = generator.device
        # Gaussians have no preferred direction, so what Gram and Schmidt make of two of them has none either.
        first, second = torch.randn(2, n, 3, generator=generator, device=device)
        first = first / first.norm(dim=1, keepdim=True)
        second = second - (second * first).sum(1, keepdim=True) * first
        second = second / second.norm(dim=1, keepdim=True)
        x = self.walk.circle(device) @ torch.stack([first, second], dim=1)
        x += self.walk.noise * torch.randn(x.shape, generator=generator, device=device)
        return x, torch.zeros(n, dtype=torch.long, device=device)


@hookimpl
def ganframe_datasets() -> dict[str, type[Dataset]]:
    return {"helix": Helix, "cube_corners": CubeCorners, "walk": Walk}
