"""Grey images in random colours of equal luminance, so that one grey image has many right colourings."""

from __future__ import annotations

import math
from typing import Any

import attrs
import torch
from attrs.validators import and_, gt, lt
from torch import Tensor
from torch.utils.data import Dataset as TorchDataset

from ganframe import Dataset, DataSpec, option
from ganframe_translate.changed import as_signed, changed, fingerprint_of, opened


@attrs.frozen
class Coloured(Dataset):
    """Grey images of another dataset, each in the light of a random colour: x = brightness · grey · colour.

    The hue of an image is uniform on the circle, and all colours have luminance 1 (BT.601). So the luminance of x is
    brightness · grey whatever the hue is, and does not tell it: `derived` with condition = "grey" makes pairs of which
    each y has many right x. Labels stay. Images in memory get new hues in each batch; samples held out have one each.
    """

    of: Dataset = option(help="the dataset of grey images")
    brightness: float = option(
        0.5,
        help="luminance of white: the lower it is, the more saturated the colours can be",
        validator=and_(gt(0), lt(1)),
    )

    @property
    def spec(self) -> DataSpec:
        inner = self.of.spec
        if not inner.is_image or len(inner.shape) != 3 or inner.shape[0] != 1:
            raise ValueError(
                f"coloured needs images of one channel, and its `of` has samples of shape {inner.shape}; image_folder "
                "reads images as grey with channels = 1"
            )
        return attrs.evolve(inner, shape=(3, *inner.shape[1:]))

    def build(self) -> TorchDataset[Any]:
        return opened(self, changed(self.of.build(), self._coloured, random=True))

    def held_out(self) -> TorchDataset[Any] | None:
        """The images that the dataset holds out, each in one colour; None where it holds out none."""
        data = self.of.held_out()
        return None if data is None else changed(data, self._coloured, random=True, fixed=True)

    def fingerprint(self) -> dict[str, str]:
        """A hash of grey images in memory; what else identifies them, their dataset says."""
        return fingerprint_of(self, "values of grey images")

    def _coloured(self, x: Tensor, y: Tensor, generator: torch.Generator | None) -> tuple[Tensor, Tensor]:
        hue = torch.rand(len(x), generator=generator, device=x.device) * (2 * math.pi)
        grey = (as_signed(x) + 1) * (self.brightness / 2)
        return (grey * colours(hue, self.brightness)[:, :, None, None]).mul_(2).sub_(1).clamp_(-1, 1), y


def colours(hue: Tensor, brightness: float) -> Tensor:
    """Colours (N, 3) of luminance 1, for hues (N,) in radians: as saturated as a white of `brightness` allows.

    They are 1 + s · d, with d the direction of the hue in the plane of chrominances of BT.601, of luminance 0, and s
    the largest with which all of brightness · (1 + s · d) lies in [0, 1].
    """
    blue, red = hue.cos(), hue.sin()
    # The inverse of Y = .299 R + .587 G + .114 B, Cb = (B - Y) / 1.772, Cr = (R - Y) / 1.402.
    green = -(0.114 * 1.772 * blue + 0.299 * 1.402 * red) / 0.587
    direction = torch.stack([1.402 * red, green, 1.772 * blue], 1)
    above, below = direction.amax(1), -direction.amin(1)
    saturation = torch.minimum((1 / brightness - 1) / above, 1 / below)
    return 1 + saturation[:, None] * direction
