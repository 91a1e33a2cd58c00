"""The discriminator of patches of pix2pix (PatchGAN, Isola et al. 2017, appendix 6.1.2), at one or several scales."""

from __future__ import annotations

from typing import Literal

import attrs
import torch
from attrs.validators import ge, in_, optional
from torch import Tensor, nn
from torch.nn import functional as F

from ganframe import DataSpec, Discriminator, option
from ganframe_translate.layers import Norm, given, init_weights, make_norm

STRIDED = {1: 0, 16: 1, 34: 2, 70: 3, 142: 4, 286: 5}
"""Layers with stride 2, by the receptive field of a score in pixels."""


@attrs.frozen
class Patch(Discriminator):
    """PatchGAN: a score for each patch of (x, y), as far as the receptive field reaches.

    Normalisation adds statistics of the whole image to each score; with `norm` = "none" it sees its patch alone.
    Scores are (N, scales, h, w). The second scale sees images of half the size, and so on (pix2pixHD, Wang et al.
    2018). Its scores are repeated to the size of the first one's, so that each scale counts the same in a mean. y of
    another size than x is resized to it, smaller ones by nearest neighbours. Extras are each layer's output, "layer0",
    "layer1", …, through all scales, and "features", the last hidden layer of the first scale.
    """

    receptive_field: int | None = option(
        None,
        help="pixels that decide a score: 1, 16, 34, 70, 142 or 286; none: up to 70, as the images allow",
        validator=optional(in_(tuple(STRIDED))),
    )
    scales: int = option(1, help="networks, each on images of half the size of the one before", validator=ge(1))
    width: int = option(
        64, help="channels of the first layer; they double with each layer, up to 8 times", validator=ge(1)
    )
    norm: Norm = option("instance", help="normalisation in every hidden layer except the first")
    condition: Literal["concat", "none"] = option("concat", help="whether y is joined to x, or not seen")

    def build(self, data: DataSpec) -> nn.Module:
        return _Patch(self, data)


def smallest_image(receptive_field: int) -> int:
    """The smallest side of images, in pixels, of which the network makes at least one score."""
    return 1 if receptive_field == 1 else 3 * 2 ** STRIDED[receptive_field]


class _Patch(nn.Module):
    many_scores = True
    gives_extras = True

    def __init__(self, config: Patch, data: DataSpec) -> None:
        super().__init__()
        if len(data.shape) != 3:
            raise ValueError(f"patch judges images (C, H, W), and the data has shape {data.shape}; use another network")
        channels, *sides = data.shape
        self.joins = config.condition == "concat"
        if self.joins:
            if data.condition is None or len(data.condition) != 3:
                raise ValueError(
                    f"condition = 'concat' joins an image to each sample, and the data has {given(data)}; use "
                    "condition = 'none', or the discriminator mlp, dcgan or resnet for labels and vectors"
                )
            channels += data.condition[0]
        coarsest = -(-min(sides) // 2 ** (config.scales - 1))
        fitting = [size for size in STRIDED if smallest_image(size) <= coarsest]
        field = config.receptive_field or max(size for size in fitting if size <= 70)
        if field not in fitting:
            least = smallest_image(field) * 2 ** (config.scales - 1)
            scaled = f" at {config.scales} scales" if config.scales > 1 else ""
            raise ValueError(
                f"receptive_field = {field}{scaled} needs images of {least} pixels or more, and the data has "
                f"{sides[0]}×{sides[1]}; use receptive_field = {fitting[-1]} or less"
            )
        self.scales = nn.ModuleList(_scale(config, channels, field) for _ in range(config.scales))
        self.apply(init_weights)

    def forward(self, x: Tensor, y: Tensor, extras: dict[str, Tensor] | None = None) -> Tensor:
        h = torch.cat([x, resized(y.to(x.dtype), x)], 1) if self.joins else x
        scores: list[Tensor] = []
        outputs: list[Tensor] = []
        for i, scale in enumerate(self.scales):
            if i > 0:
                h = F.avg_pool2d(h, 3, 2, 1, count_include_pad=False)
            made = h
            for layer in scale:
                made = layer(made)
                outputs.append(made)
            scores.append(outputs.pop())
        if extras is not None:
            extras["features"] = outputs[len(self.scales[0]) - 2]
            extras.update({f"layer{i}": output for i, output in enumerate(outputs)})
        size = scores[0].shape[2:]
        return torch.cat([each if each.shape[2:] == size else F.interpolate(each, size) for each in scores], 1)


def _scale(config: Patch, channels: int, field: int) -> nn.ModuleList:
    """The layers of one scale; each is a convolution, its normalisation and leaky ReLU, the last a convolution."""
    strided = STRIDED[field]
    kernel, padding = (1, 0) if field == 1 else (4, 1)
    strides = [*[2] * strided, 1] if strided else [1, 1]
    layers: list[nn.Module] = []
    for i, stride in enumerate(strides):
        width = config.width * min(2**i, 8)
        norm: Norm = "none" if i == 0 else config.norm
        conv = nn.Conv2d(channels, width, kernel, stride, padding, bias=norm == "none")
        layers.append(nn.Sequential(conv, make_norm(norm, width), nn.LeakyReLU(0.2)))
        channels = width
    return nn.ModuleList([*layers, nn.Conv2d(channels, 1, kernel, 1, padding)])


def resized(y: Tensor, x: Tensor) -> Tensor:
    """y (N, C, h, w) of the height and width of x: means of smaller regions, or nearest neighbours of larger ones."""
    size = x.shape[2:]
    if y.shape[2:] == size:
        return y
    shrinks = y.shape[2] > size[0] or y.shape[3] > size[1]
    return F.interpolate(y, size, mode="area" if shrinks else "nearest")
