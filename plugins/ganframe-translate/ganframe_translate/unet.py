"""The U-Net of pix2pix (Isola et al. 2017, appendix 6.1), with z."""

from __future__ import annotations

import attrs
import torch
from attrs.validators import and_, ge, lt
from torch import Tensor, nn

from ganframe import DataSpec, Generator, option
from ganframe_translate.layers import Layer, Norm, Z, even, init_weights, same_size


def _check_depth(_: object, __: object, depth: int | None) -> None:
    if depth is not None and depth < 2:
        raise ValueError(f"must be >= 2, not {depth}")


@attrs.frozen
class UNet(Generator):
    """The U-Net of pix2pix: 4×4 convolutions with stride 2 down, back up, and skips between equal sizes.

    y (C', H, W) of any size gives x (C, H, W). Odd sizes are padded by a repeated row or column at each level and
    cropped on the way up. pix2pix draws its noise by dropout, also when it samples. Here z is the noise, and dropout
    acts in training only. z = "concat" joins z to the input and to the innermost layer, "modulate" gives each hidden
    layer a scale and a shift. The innermost layer has no normalisation, which would turn its 1×1 maps into 0.
    On the way up 4×4 transposed convolutions with stride 2 reach every pixel equally often. Nearest neighbours and a
    3×3 convolution, which cost the same, could not carry single pixels from the first skip, of half the size.
    """

    width: int = option(
        64, help="channels of the first layer; they double with each level, up to 8 times", validator=ge(1)
    )
    depth: int | None = option(
        None, help="levels down; none: until one side is 1, but at most 8 as in the paper", validator=_check_depth
    )
    dropout: float = option(
        0.5, help="share of channel values dropped in the three innermost layers up", validator=and_(ge(0), lt(1))
    )
    norm: Norm = option("batch", help="normalisation; of batches of 1, batch is instance normalisation in training")
    z: Z = option("concat", help="how z enters: joined to input and innermost layer, scale and shift everywhere, not")

    def build(self, data: DataSpec, latent_dim: int) -> nn.Module:
        return _UNet(self, data, latent_dim)


class _UNet(nn.Module):
    def __init__(self, config: UNet, data: DataSpec, latent_dim: int) -> None:
        super().__init__()
        channels, out, *sides = same_size("unet", data)
        most = max(2, (min(sides) - 1).bit_length())  # halvings, rounded up, until the smaller side is 1
        depth = min(8, most) if config.depth is None else config.depth
        if depth > most:
            raise ValueError(
                f"depth = {depth} is too much for images of {sides[0]}×{sides[1]}, which are 1 pixel high or wide "
                f"after {most} levels; use depth = {most} or less"
            )
        self.ignores_latent = config.z == "none"
        widths = [config.width * min(2**i, 8) for i in range(depth)]
        z, norm = config.z, config.norm

        def down(i: int) -> Layer:
            a, b = (channels if i == 0 else widths[i - 1]), widths[i]
            edge = i in (0, depth - 1)  # the paper's first layer has no norm; for the last see the docstring of UNet
            activation = nn.ReLU() if i == depth - 1 else nn.LeakyReLU(0.2)
            conv = nn.Conv2d(a, b, 4, 2, 1, bias=edge or norm == "none")
            return Layer(conv, "none" if edge else norm, activation, z, latent_dim, joins=edge)

        def up(i: int) -> Layer:
            a, b = widths[i] * (1 if i == depth - 1 else 2), widths[i - 1]
            activation: nn.Module = nn.ReLU()
            if config.dropout and depth - 1 - i < min(3, depth - 2):  # never in the layer next to the pixels
                activation = nn.Sequential(nn.Dropout(config.dropout), activation)
            conv = nn.ConvTranspose2d(a, b, 4, 2, 1, bias=norm == "none")
            return Layer(conv, norm, activation, z, latent_dim)

        self.down = nn.ModuleList(down(i) for i in range(depth))
        self.up = nn.ModuleList(up(i) for i in reversed(range(1, depth)))
        self.last = nn.ConvTranspose2d(widths[0] * 2, out, 4, 2, 1)
        self.apply(init_weights)

    def forward(self, z: Tensor, y: Tensor) -> Tensor:
        h, skips = y.to(z.dtype), []
        for layer in self.down:
            skips.append(h)
            h = layer(even(h), z)
        for layer in self.up:
            skip = skips.pop()
            h = torch.cat([_cropped(layer(h, z), skip), skip], 1)
        return _cropped(self.last(h), y).tanh()


def _cropped(h: Tensor, like: Tensor) -> Tensor:
    """h without the row and column that `even` added: of the height and width of `like`."""
    return h[:, :, : like.shape[2], : like.shape[3]]
