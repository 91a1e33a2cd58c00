"""The networks of DCGAN (Radford et al. 2015), for images of 8 to 128 pixels."""

from __future__ import annotations

import itertools

import attrs
from attrs.validators import ge
from torch import Tensor, nn

from ganframe import DataSpec, Discriminator, Generator, option
from ganframe.builtin.layers import (
    ConditionalBatchNorm,
    DiscriminatorCondition,
    GeneratorCondition,
    Head,
    JoinLabel,
    Norm,
    given_for,
    joined_channels,
    joined_width,
    make_norm,
    refuse_images,
)

SIZES = (8, 16, 32, 64, 128)


def square_size(network: str, data: DataSpec, sizes: tuple[int, ...]) -> int:
    """The side of the images in pixels. Raises ValueError unless they are square and their side is in `sizes`."""
    if not data.is_image or data.shape[1] != data.shape[2] or data.shape[1] not in sizes:
        remedy = "; set the dataset's size or choose another network"
        raise ValueError(
            f"{network} takes square images of {', '.join(map(str, sizes))} pixels; the data has shape {data.shape}"
            f"{remedy if data.is_image else ', which is not an image; choose another network'}"
        )
    return data.shape[1]


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
    """Transposed convolutions from 4×4 up to the image, BatchNorm, ReLU, tanh (Radford et al. 2015, figure 1)."""

    width: int = option(
        64, help="channels of the last hidden layer; each earlier layer has twice as many as the next", validator=ge(1)
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
        doublings = (square_size("dcgan", data, SIZES) // 4).bit_length() - 1
        widths = [config.width * 2**i for i in reversed(range(doublings))]
        joined = given_for(config.condition, "concat", data)
        in_norm = given_for(config.condition, "batch_norm", data)
        self.join = JoinLabel(joined)
        first = nn.ConvTranspose2d(latent_dim + joined_width(joined), widths[0], 4, bias=False)
        rest = [nn.ConvTranspose2d(a, b, 4, 2, 1, bias=False) for a, b in itertools.pairwise(widths)]
        self.convs = nn.ModuleList([first, *rest])
        self.norms = nn.ModuleList(ConditionalBatchNorm(width, in_norm, dims=2) for width in widths)
        self.last = nn.ConvTranspose2d(widths[-1], data.shape[0], 4, 2, 1)
        self.apply(_init)

    def forward(self, z: Tensor, y: Tensor) -> Tensor:
        h = self.join(z, y)[:, :, None, None]
        for conv, norm in zip(self.convs, self.norms, strict=True):
            h = norm(conv(h), y).relu()
        return self.last(h).tanh()


@attrs.frozen
class DCGANDiscriminator(Discriminator):
    """Strided convolutions from the image down to 4×4, leaky ReLU with slope 0.2 (Radford et al. 2015, section 3).

    The paper uses BatchNorm in every layer except the first.
    """

    width: int = option(
        64, help="channels of the first layer; each later layer has twice as many as the one before", validator=ge(1)
    )
    norm: Norm = option("batch", help="normalisation in every layer except the first")
    condition: DiscriminatorCondition = option(
        "none", help="how labels or conditions enter: as extra channels of x, or by projection"
    )

    def build(self, data: DataSpec) -> nn.Module:
        if self.condition == "projection":
            refuse_images("dcgan", self.condition, data, "use condition = 'concat'")
        return _DCGANDiscriminator(self, data)


class _DCGANDiscriminator(nn.Module):
    gives_extras = True

    def __init__(self, config: DCGANDiscriminator, data: DataSpec) -> None:
        super().__init__()
        halvings = (square_size("dcgan", data, SIZES) // 4).bit_length() - 1
        joined = given_for(config.condition, "concat", data)
        widths = [data.shape[0] + joined_channels(joined, data.shape), *(config.width * 2**i for i in range(halvings))]
        layers: list[nn.Module] = []
        for i, (a, b) in enumerate(itertools.pairwise(widths)):
            norm = make_norm("none" if i == 0 else config.norm, b, dims=2)
            layers += [nn.Conv2d(a, b, 4, 2, 1, bias=isinstance(norm, nn.Identity)), norm, nn.LeakyReLU(0.2)]
        self.join = JoinLabel(joined)
        self.layers = nn.Sequential(*(layer for layer in layers if not isinstance(layer, nn.Identity)))
        self.head = Head(widths[-1] * 16, given_for(config.condition, "projection", data))
        self.apply(_init)

    def forward(self, x: Tensor, y: Tensor, extras: dict[str, Tensor] | None = None) -> Tensor:
        h = self.layers(self.join(x, y)).flatten(1)
        if extras is not None:
            extras["features"] = h
        return self.head(h, y)
