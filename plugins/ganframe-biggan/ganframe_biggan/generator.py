"""BigGAN's generator (Brock et al. 2019, appendix B, figure 15a and b), for images of any size from 8×8."""

from __future__ import annotations

from typing import Literal

import attrs
import torch
from attrs.validators import ge
from torch import Tensor, nn
from torch.nn.utils import parametrizations

from ganframe import DataSpec, Generator, option
from ganframe.layers import UpsampleThenConv, upsampled
from ganframe_biggan.layers import attention_at, embedded, embedding_for, initialise, sizes_and_channels


@attrs.frozen
class BigGANGenerator(Generator):
    """Residual blocks, each with its own piece of z and a class embedding that all share (Brock et al. 2019, app. B).

    z (N, latent_dim) is split into pieces of equal length, or nearly so: one for the first linear layer, one for each
    block. With condition = "shared" the piece is joined with an embedding of the label, or a linear map of the vector.
    In a block it gives scale and shift of BatchNorm.
    """

    width: int = option(
        64,
        help="channels: 16 to 1 × width from 64 pixels on, 4 × width in smaller images; 96 in the paper",
        validator=ge(1),
    )
    embedding: int = option(128, help="numbers in the class embedding that all blocks share", validator=ge(1))
    attention: int = option(
        0, help="shorter side of the maps with self-attention, 64 in the paper; 0 for none", validator=ge(0)
    )
    spectral_norm: bool = option(True, help="W / σ(W) in all linear and convolution layers")
    condition: Literal["none", "shared"] = option(
        "none", help="how labels or vectors enter: 'shared' is an embedding beside each piece of z"
    )

    def build(self, data: DataSpec, latent_dim: int) -> nn.Module:
        return _Generator(self, data, latent_dim)


class _Generator(nn.Module):
    truncates_latent = True

    def __init__(self, config: BigGANGenerator, data: DataSpec, latent_dim: int) -> None:
        super().__init__()
        self.sizes, widths = sizes_and_channels(data, config.width)
        self.pieces = _pieces(latent_dim, len(self.sizes), data)
        self.embedding = embedding_for(config.condition, config.embedding, data)
        given = [piece + (config.embedding if self.embedding is not None else 0) for piece in self.pieces]
        self.first = nn.Linear(given[0], widths[0] * self.sizes[0][0] * self.sizes[0][1])
        attention = attention_at(config.attention, self.sizes[1:], widths[1:])
        self.blocks = nn.ModuleList(
            _UpBlock(*of_block) for of_block in zip(widths, widths[1:], given[1:], attention, strict=False)
        )
        self.norm = nn.BatchNorm2d(widths[-1])
        self.last = nn.Conv2d(widths[-1], data.shape[0], 3, padding=1)
        self.apply(initialise)
        if config.spectral_norm:
            for module in list(self.modules()):
                if isinstance(module, (nn.Conv2d, nn.Linear)):
                    parametrizations.spectral_norm(module)

    def forward(self, z: Tensor, y: Tensor) -> Tensor:
        pieces = z.split(self.pieces, dim=1)
        if self.embedding is not None:
            shared = embedded(self.embedding, y, z)
            pieces = tuple(torch.cat([piece, shared], dim=1) for piece in pieces)
        h = self.first(pieces[0]).unflatten(1, (-1, *self.sizes[0]))
        for block, piece, size in zip(self.blocks, pieces[1:], self.sizes[1:], strict=True):
            h = block(h, piece, size)
        return self.last(self.norm(h).relu()).tanh()


def _pieces(latent_dim: int, n: int, data: DataSpec) -> list[int]:
    """The lengths of n pieces of z, the longer ones first. Raises ValueError if z is too short."""
    if latent_dim < n:
        raise ValueError(
            f"biggan splits z into {n} pieces for data of shape {data.shape}, and latent.dim is {latent_dim}; "
            f"set latent.dim to {n} or more"
        )
    shorter, longer = divmod(latent_dim, n)
    return [shorter + (i < longer) for i in range(n)]


class ConditionalBatchNorm(nn.Module):
    """BatchNorm whose scale 1 + V c and shift U c are linear in a condition c, without biases.

    forward(h, c): h (N, C, H, W), c (N, given) -> (N, C, H, W).
    """

    def __init__(self, channels: int, given: int) -> None:
        super().__init__()
        self.norm = nn.BatchNorm2d(channels, affine=False)
        self.scale = nn.Linear(given, channels, bias=False)
        self.shift = nn.Linear(given, channels, bias=False)

    def forward(self, h: Tensor, c: Tensor) -> Tensor:
        return (1 + self.scale(c))[..., None, None] * self.norm(h) + self.shift(c)[..., None, None]


class _UpBlock(nn.Module):
    """norm, ReLU, upsampling, 3×3, norm, ReLU, 3×3, beside upsampling and 1×1 (figure 15b); then attention, if any."""

    def __init__(self, channels: int, out: int, given: int, attention: nn.Module) -> None:
        super().__init__()
        self.norm1 = ConditionalBatchNorm(channels, given)
        self.conv1 = UpsampleThenConv(channels, out)
        self.norm2 = ConditionalBatchNorm(out, given)
        self.conv2 = nn.Conv2d(out, out, 3, padding=1)
        self.shortcut = nn.Conv2d(channels, out, 1)
        self.attention = attention

    def forward(self, h: Tensor, c: Tensor, size: tuple[int, int]) -> Tensor:
        branch = self.conv1(self.norm1(h, c).relu())[..., : size[0], : size[1]]
        branch = self.conv2(self.norm2(branch, c).relu())
        # A 1×1 convolution commutes with upsampling and is cheaper before it.
        return self.attention(branch + upsampled(self.shortcut(h), size))
