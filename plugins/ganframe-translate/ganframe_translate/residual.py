"""The residual generator of Johnson et al. (2016) and CycleGAN (Zhu et al. 2017, appendix 7.2), with z."""

from __future__ import annotations

import attrs
from attrs.validators import ge
from torch import Tensor, nn

from ganframe import DataSpec, Generator, option
from ganframe.layers import UpsampleThenConv
from ganframe_translate.layers import Layer, Norm, Z, damp, even, init_weights, same_size


def _check_blocks(_: object, __: object, blocks: int | None) -> None:
    if blocks is not None and blocks < 0:
        raise ValueError(f"must be >= 0, not {blocks}")


@attrs.frozen
class Residual(Generator):
    """CycleGAN's generator: c7s1-64, d128, d256, residual blocks, u128, u64, c7s1-3.

    y (C', H, W) of any size gives x (C, H, W). Convolutions repeat the outermost pixels as padding, where the paper
    mirrors the image, so that small maps can be padded too. Odd sizes get one more row or column before a stride of 2,
    which is cropped later. z = "concat" joins z to the first layer, "modulate" gives each layer a scale and a shift.
    Upsampling is by nearest neighbours and 3×3 convolutions, in place of the paper's transposed ones with stride 2,
    which make checkerboards.
    """

    width: int = option(
        64, help="channels at full size; twice and four times as many at half and quarter", validator=ge(1)
    )
    blocks: int | None = option(
        None,
        help="residual blocks; none: 9 for images of 256 pixels or more, else 6, as in the paper",
        validator=_check_blocks,
    )
    norm: Norm = option("instance", help="normalisation of each layer")
    z: Z = option("concat", help="how z enters: joined to the first layer, scale and shift in every layer, or not")

    def build(self, data: DataSpec, latent_dim: int) -> nn.Module:
        return _Residual(self, data, latent_dim)


class ResidualBlock(nn.Module):
    """Two 3×3 convolutions with normalisation, added to their input: h + norm(conv(act(norm(conv(h))))).

    z enters as in `Layer`. forward(h, z): h (N, C, H, W), z (N, latent_dim) -> shape of h.
    """

    def __init__(self, channels: int, norm: Norm, activation: nn.Module, z: Z, latent_dim: int, padding: str) -> None:
        super().__init__()
        convs = [
            nn.Conv2d(channels, channels, 3, padding=1, padding_mode=padding, bias=norm == "none") for _ in range(2)
        ]
        self.first = Layer(convs[0], norm, activation, z, latent_dim)
        self.second = Layer(convs[1], norm, nn.Identity(), z, latent_dim)

    def forward(self, h: Tensor, z: Tensor) -> Tensor:
        return h + self.second(self.first(h, z), z)


class _Residual(nn.Module):
    def __init__(self, config: Residual, data: DataSpec, latent_dim: int) -> None:
        super().__init__()
        channels, out, *sides = same_size("residual", data)
        blocks = config.blocks if config.blocks is not None else (9 if max(sides) >= 256 else 6)
        self.ignores_latent = config.z == "none"
        width, z, norm = config.width, config.z, config.norm
        bias = norm == "none"

        def layer(conv: nn.Conv2d, joins: bool = False) -> Layer:
            return Layer(conv, norm, nn.ReLU(), z, latent_dim, joins)

        self.first = layer(nn.Conv2d(channels, width, 7, padding=3, padding_mode="replicate", bias=bias), joins=True)
        self.down = nn.ModuleList(
            layer(nn.Conv2d(width * m, width * 2 * m, 3, 2, 1, padding_mode="replicate", bias=bias)) for m in (1, 2)
        )
        self.blocks = nn.ModuleList(
            ResidualBlock(4 * width, norm, nn.ReLU(), z, latent_dim, "replicate") for _ in range(blocks)
        )
        self.up = nn.ModuleList(layer(UpsampleThenConv(width * 2 * m, width * m)) for m in (2, 1))
        self.last = nn.Conv2d(width, out, 7, padding=3, padding_mode="replicate")
        self.apply(init_weights)
        for block in self.blocks:
            damp(norm, block.second.conv)

    def forward(self, z: Tensor, y: Tensor) -> Tensor:
        h, sizes = self.first(y.to(z.dtype), z), []
        for layer in self.down:
            sizes.append(h.shape[2:])
            h = layer(even(h), z)
        for block in self.blocks:
            h = block(h, z)
        for layer in self.up:
            height, width = sizes.pop()
            h = layer(h, z)[:, :, :height, :width]
        return self.last(h).tanh()
