"""StyleGAN2's generator (Karras et al. 2020): a mapping network z -> w, and a synthesis network that w controls.

With `style` = "instance" and `output` = "last" it is StyleGAN's (Karras et al. 2019), but for the convolution that
follows the learnt constant. This follows the papers' descriptions, not their authors' code.
"""

from __future__ import annotations

import itertools
from typing import Literal

import attrs
import torch
from attrs.validators import and_, ge, le
from torch import Tensor, nn
from torch.nn import functional as F

from ganframe import DataSpec, Generator, option
from ganframe.layers import equalized, pixel_norm, resolutions
from ganframe_stylegan2.layers import SLOPE, Embedding, Given, Widths, given_for
from ganframe_stylegan2.modulated import Style, StyledConv, ToImage


@attrs.frozen
class StyleGAN2Generator(Widths, Generator):
    """StyleGAN2's generator, z (N, latent_dim) -> (N, C, H, W), for H and W from 8 up (Karras et al. 2020, figure 2).

    map(z, y) -> w (N, w_dim). synthesize(w, y) -> x takes w (N, w_dim), or (N, layers, w_dim): one w for each of the
    `layers` 3×3 convolutions, from the smallest resolution up. An image layer has the w of the convolution before it.
    """

    w_dim: int = option(512, help="numbers in a latent w", validator=ge(1))
    mapping_layers: int = option(8, help="layers of the mapping network z -> w", validator=ge(1))
    condition: Literal["none", "mapping"] = option(
        "none", help="how G takes labels or vectors: 'mapping' joins an embedding to z"
    )
    style_mixing: float = option(
        0.9,
        help="share of the samples whose layers from a random one on take the w of another sample, in training",
        validator=and_(ge(0), le(1)),
    )
    style: Style = option(
        "demodulate", help="how w acts: on the convolutions' weights, or by 'instance' normalisation as in StyleGAN"
    )
    output: Literal["skip", "last"] = option(
        "skip", help="the image: a sum of images of all resolutions, or that of the last one, as in StyleGAN"
    )

    def build(self, data: DataSpec, latent_dim: int) -> nn.Module:
        return _Generator(self, data, latent_dim)


class _Mapping(nn.Module):
    """z (N, latent_dim), normalised, and an embedding of y beside it -> w (N, w_dim), by linear layers with leaky ReLU.

    The layers learn at a hundredth of the rate (Karras et al. 2019, appendix C).
    """

    def __init__(self, config: StyleGAN2Generator, latent_dim: int, given: Given) -> None:
        super().__init__()
        self.embedding = None if given is None else Embedding(given, config.w_dim)
        widths = [latent_dim + (0 if given is None else config.w_dim), *[config.w_dim] * config.mapping_layers]
        self.layers = nn.ModuleList(equalized(nn.Linear(a, b), lr=0.01) for a, b in itertools.pairwise(widths))

    def forward(self, z: Tensor, y: Tensor) -> Tensor:
        w = pixel_norm(z)
        if self.embedding is not None:
            w = torch.cat([w, pixel_norm(self.embedding(y))], dim=1)
        for layer in self.layers:
            w = F.leaky_relu(layer(w), SLOPE)
        return w


class _Generator(nn.Module):
    def __init__(self, config: StyleGAN2Generator, data: DataSpec, latent_dim: int) -> None:
        super().__init__()
        sizes = resolutions("stylegan2", data)
        widths = config.widths(sizes)
        self.style_mixing = config.style_mixing
        self.mapping = _Mapping(config, latent_dim, given_for(config.condition, data))
        self.constant = nn.Parameter(torch.randn(1, widths[0], *sizes[0]))
        convs = [StyledConv(widths[0], widths[0], sizes[0], config.w_dim, up=False, style=config.style)]
        for size, before, width in zip(sizes[1:], widths, widths[1:], strict=False):
            convs.append(StyledConv(before, width, size, config.w_dim, up=True, style=config.style))
            convs.append(StyledConv(width, width, size, config.w_dim, up=False, style=config.style))
        self.convs = nn.ModuleList(convs)
        # Of each resolution, or of the last one. Convolutions 0, 2, 4, … are the last ones of their resolutions.
        shown = range(len(sizes)) if config.output == "skip" else [len(sizes) - 1]
        self.images = nn.ModuleDict(
            {str(2 * i): ToImage(widths[i], data.shape[0], config.w_dim, config.style) for i in shown}
        )
        self.layers = len(convs)

    def map(self, z: Tensor, y: Tensor) -> Tensor:
        """w (N, w_dim) of latents z (N, latent_dim) and their y."""
        w: Tensor = self.mapping(z, y)
        return w

    def synthesize(self, w: Tensor, y: Tensor) -> Tensor:
        """Images (N, C, H, W) of w (N, w_dim) for all layers, or (N, layers, w_dim). y is not used: w contains it."""
        if w.ndim == 3 and w.shape[1] != self.layers:
            raise ValueError(f"synthesize: w has {w.shape[1]} layers; give (N, w_dim), or (N, {self.layers}, w_dim)")
        each = w.unbind(1) if w.ndim == 3 else [w] * self.layers
        h = self.constant.expand(w.shape[0], -1, -1, -1)  # not len(w): an exported graph would keep the number
        image: Tensor | None = None
        for i, (conv, own) in enumerate(zip(self.convs, each, strict=True)):
            h = conv(h, own)
            if str(i) in self.images:
                shown = self.images[str(i)](h, own)
                image = shown if image is None else shown + _doubled(image, shown)
        assert image is not None
        return image

    def forward(self, z: Tensor, y: Tensor) -> Tensor:
        w = self.map(z, y)
        if self.training and self.style_mixing > 0:
            w = self._mixed(w, z, y)
        return self.synthesize(w, y)

    def _mixed(self, w: Tensor, z: Tensor, y: Tensor) -> Tensor:
        """w (N, layers, w_dim), where some samples have the w of another latent from a random layer on.

        The other latent is that of the sample half a batch away, so that it follows the prior whatever that is. Samples
        of one group of D's minibatch deviation must not share a w: they would differ less than real ones. It is mapped
        with the sample's own y. Processes take every P-th group of a batch, so their halves are those of the whole.
        """
        n = len(w)
        other = (torch.arange(n, device=z.device) + n // 2) % n
        others = w[other] if self.mapping.embedding is None else self.map(z[other], y)
        crossover = torch.randint(1, self.layers, (n, 1), device=z.device)
        mixes = torch.rand(n, 1, device=z.device) < self.style_mixing
        foreign = mixes & (torch.arange(self.layers, device=z.device) >= crossover)
        return torch.where(foreign[:, :, None], others[:, None], w[:, None])


def _doubled(image: Tensor, like: Tensor) -> Tensor:
    """The image of the resolution before, at that of `like`: the filter [1, 3, 3, 1] is bilinear interpolation."""
    return F.interpolate(image, scale_factor=2, mode="bilinear")[..., : like.shape[-2], : like.shape[-1]]
