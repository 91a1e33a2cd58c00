"""The networks of DCGAN (Radford et al. 2015), for images of any height and width from 8 pixels up."""

from __future__ import annotations

import itertools
import math

import attrs
from attrs.validators import ge
from torch import Tensor, nn

from ganframe import DataSpec, Discriminator, Generator, option
from ganframe.builtin.layers import (
    CRITIC_ACTIVATIONS,
    ConditionalBatchNorm,
    CriticActivation,
    DiscriminatorCondition,
    GeneratorCondition,
    Head,
    JoinLabel,
    Norm,
    given_for,
    joined_channels,
    joined_width,
    make_activation,
    make_norm,
    refuse_images,
)
from ganframe.layers import padded_to_even, resolutions

_MOST = 16  # the most channels of a layer in multiples of `width`: those of images of 128 pixels


def _multiples(layers: int) -> list[int]:
    """Channels of each layer in multiples of `width`, from the image to the smallest grid: 1, 2, 4, …"""
    return [min(2**i, _MOST) for i in range(layers)]


def _init(module: nn.Module) -> None:
    """Weights with mean 0 and standard deviation 0.02 as in the paper; BatchNorm scales with mean 1; biases 0."""
    if isinstance(module, (nn.Conv2d, nn.ConvTranspose2d, nn.Linear)):
        nn.init.normal_(module.weight, 0.0, 0.02)
        if module.bias is not None:
            nn.init.zeros_(module.bias)
    elif isinstance(module, nn.BatchNorm2d) and module.affine:
        nn.init.normal_(module.weight, 1.0, 0.02)
        nn.init.zeros_(module.bias)
    elif isinstance(module, Head) and module.embedding is not None:
        nn.init.normal_(module.embedding.weight, 0.0, 0.02)


@attrs.frozen
class DCGANGenerator(Generator):
    """Transposed convolutions from 4×4 up to the image, BatchNorm, ReLU, tanh (Radford et al. 2015, figure 1).

    The first grid is larger where 4×4 does not double to the image: 5×5 for 40 pixels, 8×4 for 64×32. What a doubling
    has too much, as 14 for 13, is cropped.
    """

    width: int = option(
        64,
        help="channels of the last hidden layer; each earlier layer has twice as many as the next, at most 16 × width",
        validator=ge(1),
    )
    condition: GeneratorCondition = option(
        "none", help="how labels or vectors enter: concatenated to z, or conditional BatchNorm"
    )

    def build(self, data: DataSpec, latent_dim: int) -> nn.Module:
        refuse_images("dcgan", self.condition, data, "use the generator mlp, or one made for images")
        return _DCGANGenerator(self, data, latent_dim)


class _DCGANGenerator(nn.Module):
    def __init__(self, config: DCGANGenerator, data: DataSpec, latent_dim: int) -> None:
        super().__init__()
        self.sizes = resolutions("dcgan", data)
        widths = [config.width * m for m in reversed(_multiples(len(self.sizes) - 1))]
        joined = given_for(config.condition, "concat", data)
        in_norm = given_for(config.condition, "batch_norm", data)
        self.join = JoinLabel(joined)
        first = nn.ConvTranspose2d(latent_dim + joined_width(joined), widths[0], self.sizes[0], bias=False)
        rest = [nn.ConvTranspose2d(a, b, 4, 2, 1, bias=False) for a, b in itertools.pairwise(widths)]
        self.convs = nn.ModuleList([first, *rest])
        self.norms = nn.ModuleList(ConditionalBatchNorm(width, in_norm, dims=2) for width in widths)
        self.last = nn.ConvTranspose2d(widths[-1], data.shape[0], 4, 2, 1)
        self.apply(_init)

    def forward(self, z: Tensor, y: Tensor) -> Tensor:
        h = self.join(z, y)[:, :, None, None]
        for conv, norm, (height, width) in zip(self.convs, self.norms, self.sizes, strict=False):
            h = norm(conv(h)[..., :height, :width], y).relu()
        height, width = self.sizes[-1]
        return self.last(h)[..., :height, :width].tanh()


@attrs.frozen
class DCGANDiscriminator(Discriminator):
    """Strided convolutions from the image down to 4×4, leaky ReLU with slope 0.2 (Radford et al. 2015, section 3).

    The paper uses BatchNorm in every layer except the first. The last grid is larger where halvings do not lead to 4×4:
    5×5 for 40 pixels. Before each halving odd sizes are made even by repeating the last row or column.
    """

    width: int = option(
        64,
        help="channels of the first layer; each later layer has twice as many as the one before, at most 16 × width",
        validator=ge(1),
    )
    norm: Norm = option("batch", help="normalisation in every layer except the first")
    condition: DiscriminatorCondition = option(
        "none", help="how labels or conditions enter: as extra channels of x, or by projection"
    )
    activation: CriticActivation = option("leaky_relu", help=CRITIC_ACTIVATIONS)

    def build(self, data: DataSpec) -> nn.Module:
        if self.condition == "projection":
            refuse_images("dcgan", self.condition, data, "use condition = 'concat'")
        return _DCGANDiscriminator(self, data)


class _Halving(nn.Conv2d):
    """A strided convolution that loses no pixel of odd sizes: (N, C, H, W) -> (N, C', ⌈H/2⌉, ⌈W/2⌉)."""

    def forward(self, x: Tensor) -> Tensor:
        return super().forward(padded_to_even(x))


class _DCGANDiscriminator(nn.Module):
    gives_extras = True

    def __init__(self, config: DCGANDiscriminator, data: DataSpec) -> None:
        super().__init__()
        grid, *larger = resolutions("dcgan", data)
        joined = given_for(config.condition, "concat", data)
        multiples = _multiples(len(larger))
        widths = [data.shape[0] + joined_channels(joined, data.shape), *(config.width * m for m in multiples)]
        layers: list[nn.Module] = []
        for i, (a, b) in enumerate(itertools.pairwise(widths)):
            norm = make_norm("none" if i == 0 else config.norm, b, dims=2)
            layers += [_Halving(a, b, 4, 2, 1, bias=isinstance(norm, nn.Identity)), norm]
            layers.append(make_activation(config.activation))
        self.join = JoinLabel(joined)
        self.layers = nn.Sequential(*(layer for layer in layers if not isinstance(layer, nn.Identity)))
        self.head = Head(widths[-1] * math.prod(grid), given_for(config.condition, "projection", data))
        self.apply(_init)

    def forward(self, x: Tensor, y: Tensor, extras: dict[str, Tensor] | None = None) -> Tensor:
        h = self.layers(self.join(x, y)).flatten(1)
        if extras is not None:
            extras["features"] = h
        return self.head(h, y)
