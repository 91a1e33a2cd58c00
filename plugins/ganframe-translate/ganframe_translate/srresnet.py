"""SRResNet, the generator of SRGAN (Ledig et al. 2017, figure 4), with z."""

from __future__ import annotations

import attrs
from attrs.validators import ge
from torch import Tensor, nn
from torch.nn import functional as F

from ganframe import DataSpec, Generator, option
from ganframe_translate.layers import Layer, Norm, Z, damp, image_shapes, init_weights
from ganframe_translate.residual import ResidualBlock


@attrs.frozen
class SRResNet(Generator):
    """SRResNet: residual blocks at the size of the input, then pixel shuffle up to the size of the samples.

    y (C', h, w) of any size gives x (C, f·h, f·w). The factor f is that of the data; it is a product of 2 and 3. The
    layers before a pixel shuffle start as nearest-neighbour upsampling, without checkerboards (Aitken et al. 2017).
    z = "concat" joins z to the first layer, "modulate" gives it and each layer of the blocks a scale and a shift.
    The output is tanh, which the paper does not have: samples stay within [-1, 1]. With `residual` the network adds to
    the enlarged input before the tanh.
    """

    width: int = option(64, help="channels of each layer", validator=ge(1))
    blocks: int = option(16, help="residual blocks", validator=ge(0))
    norm: Norm = option("batch", help="normalisation in the residual blocks")
    residual: bool = option(False, help="whether the network corrects the input, enlarged linearly, of equal channels")
    z: Z = option("concat", help="how z enters: joined to the first layer, scale and shift in the blocks, or not")

    def build(self, data: DataSpec, latent_dim: int) -> nn.Module:
        return _SRResNet(self, data, latent_dim)


def enlargement(data: DataSpec) -> list[int]:
    """The factors, each 2 or 3, by which images grow from y to x; none where they are equal in size.

    Raises ValueError where the size of x is no such multiple of that of y.
    """
    (_, h, w), (_, height, width) = image_shapes("srresnet", data)
    factor = height // h
    factors, rest = [], factor
    for step in (2, 3):
        while rest and rest % step == 0:
            factors.append(step)
            rest //= step
    if rest != 1 or (factor * h, factor * w) != (height, width):
        raise ValueError(
            f"srresnet enlarges images by a product of 2 and 3, and the data has {height}×{width} for an input of "
            f"{h}×{w}; set size or factor of the dataset"
        )
    return factors


class _SRResNet(nn.Module):
    def __init__(self, config: SRResNet, data: DataSpec, latent_dim: int) -> None:
        super().__init__()
        (channels, *_), (out, *_) = image_shapes("srresnet", data)
        factors = enlargement(data)
        if config.residual and channels != out:
            raise ValueError(
                f"residual = true adds the input to the output, and the data has {channels} and {out} channels; "
                "set it to false"
            )
        self.ignores_latent = config.z == "none"
        self.residual = config.residual
        width, z, norm = config.width, config.z, config.norm
        # No normalisation in this layer, as in the paper: so z may join before or after it.
        self.first = Layer(nn.Conv2d(channels, width, 9, padding=4), "none", nn.PReLU(), z, latent_dim, joins=True)
        self.blocks = nn.ModuleList(
            ResidualBlock(width, norm, nn.PReLU(), z, latent_dim, "zeros") for _ in range(config.blocks)
        )
        self.after = Layer(
            nn.Conv2d(width, width, 3, padding=1, bias=norm == "none"), norm, nn.Identity(), "none", latent_dim
        )
        self.up = nn.ModuleList(_PixelShuffle(width, factor) for factor in factors)
        self.last = nn.Conv2d(width, out, 9, padding=4)
        self.apply(init_weights)
        for block in self.blocks:
            damp(norm, block.second.conv)
        for up in self.up:
            up.start_as_nearest_neighbours()

    def forward(self, z: Tensor, y: Tensor) -> Tensor:
        y = y.to(z.dtype)
        first = h = self.first(y, z)
        for block in self.blocks:
            h = block(h, z)
        h = first + self.after(h, z)
        for up in self.up:
            h = up(h)
        h = self.last(h)
        if self.residual:
            size = h.shape[2], h.shape[3]
            # within the range in which tanh has an inverse, whatever y is; black stays nearly black, with a gradient
            h = h + (0.98 * F.interpolate(y.clamp(-1, 1), size, mode="bilinear")).atanh()
        return h.tanh()


class _PixelShuffle(nn.Module):
    """A 3×3 convolution to r² times the channels, which become r×r pixels (Shi et al. 2016), and PReLU."""

    def __init__(self, width: int, factor: int) -> None:
        super().__init__()
        self.conv = nn.Conv2d(width, width * factor**2, 3, padding=1)
        self.shuffle = nn.PixelShuffle(factor)
        self.activation = nn.PReLU()

    def start_as_nearest_neighbours(self) -> None:
        """Gives the r² channels that become one block of pixels the same weights."""
        weight, each = self.conv.weight.data, self.shuffle.upscale_factor**2
        weight.copy_(weight[::each].repeat_interleave(each, 0))

    def forward(self, h: Tensor) -> Tensor:
        return self.activation(self.shuffle(self.conv(h)))
