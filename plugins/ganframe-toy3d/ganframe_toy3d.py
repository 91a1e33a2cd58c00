"""Toy data in three dimensions as a plugin of ganframe: points on a helix, points at cube corners, walks on a circle.

Samples are drawn on the device, new ones in every batch.
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
    """Points (3,) on strands wound around the third axis (two: a double helix). The label is the strand."""

    strands: int = option(
        2, help="number of curves, evenly spaced around the axis; the label is the strand", validator=ge(1)
    )
    turns: float = option(1.5, help="turns of each strand around the axis", validator=gt(0))
    radius: float = option(1.0, help="distance of the strands from the axis", validator=gt(0))
    height: float = option(2.0, help="length along the axis, centred at 0", validator=gt(0))
    noise: float = option(0.02, help="standard deviation of the noise, in each direction", validator=ge(0))

    @property
    def spec(self) -> DataSpec:
        return DataSpec((3,), classes=self.strands)

    def curve(self, t: Tensor, strand: Tensor) -> Tensor:
        """Points (n, 3) on strands (n,) at t (n,): 0 is the lower end of a strand, 1 the upper end."""
        angle = 2 * math.pi * (self.turns * t + strand / self.strands)
        return torch.stack([self.radius * angle.cos(), self.radius * angle.sin(), self.height * (t - 0.5)], dim=1)

    def build(self) -> HelixPoints:
        return HelixPoints(self)


class HelixPoints(Distribution):
    """Points (n, 3), uniform along the strands of a helix, and the strands (n,) as labels."""

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
    """Points (3,) around the 8 corners of a cube, equally likely. The label is the corner; its bits are the signs."""

    side: float = option(2.0, help="edge length of the cube, which is centred at 0", validator=gt(0))
    std: float = option(0.05, help="standard deviation of the Gaussian at each corner", validator=gt(0))

    @property
    def spec(self) -> DataSpec:
        return DataSpec((3,), classes=8)

    def corners(self, y: Tensor) -> Tensor:
        """Corners (n, 3) of labels y (n,). Label 0 is negative in every coordinate, 4 is positive in the first only."""
        bits = y[:, None] >> torch.arange(2, -1, -1, device=y.device) & 1
        return self.side * (bits - 0.5)

    def build(self) -> CornerPoints:
        return CornerPoints(self)


class CornerPoints(Distribution):
    """Points (n, 3) of a mixture of eight Gaussians, and their corners (n,) as labels."""

    def __init__(self, cube: CubeCorners) -> None:
        self.cube = cube

    def draw(self, n: int, generator: torch.Generator) -> tuple[Tensor, Tensor]:
        device = generator.device
        y = torch.randint(8, (n,), generator=generator, device=device)
        return self.cube.corners(y) + self.cube.std * torch.randn(n, 3, generator=generator, device=device), y

    def modes(self) -> tuple[Tensor, Tensor, Tensor]:
        return self.cube.corners(torch.arange(8)), torch.full((8,), self.cube.std), torch.full((8,), 1 / 8)


@attrs.frozen
class Walk(Dataset):
    """Walks (points, 3) along a circle around 0 with a random orientation. A sample is a matrix, not a vector.

    A walk starts at a uniform point of the sphere, in a uniform direction, and has constant speed. It has no label.
    """

    points: int = option(16, help="number of points of each walk", validator=ge(2))
    turns: float = option(0.5, help="turns around the circle from the first point to the last", validator=gt(0))
    radius: float = option(1.0, help="radius of the circle", validator=gt(0))
    noise: float = option(0.02, help="standard deviation of the noise, in each coordinate", validator=ge(0))

    @property
    def spec(self) -> DataSpec:
        return DataSpec((self.points, 3))

    def circle(self, device: torch.device | None = None) -> Tensor:
        """The walk (points, 2) before its rotation into space: radius · (cos, sin), from angle 0."""
        angle = torch.linspace(0, 2 * math.pi * self.turns, self.points, device=device)
        return self.radius * torch.stack([angle.cos(), angle.sin()], dim=1)

    def build(self) -> Walks:
        return Walks(self)


class Walks(Distribution):
    """Walks (n, points, 3), and the label 0 for each."""

    def __init__(self, walk: Walk) -> None:
        self.walk = walk

    def draw(self, n: int, generator: torch.Generator) -> tuple[Tensor, Tensor]:
        device = generator.device
        # Gram-Schmidt of two Gaussian vectors: an orthonormal pair with uniform orientation.
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
