"""BigGAN's discriminator (Brock et al. 2019, appendix B, figure 15c), for images of any size from 8×8."""

from __future__ import annotations

from typing import Literal

import attrs
from attrs.validators import ge
from torch import Tensor, nn
from torch.nn import functional as F

from ganframe import DataSpec, Discriminator, option
from ganframe.layers import ConvThenPool, padded_to_even
from ganframe_biggan.layers import attention_at, embedded, embedding_for, initialise, sizes_and_channels


@attrs.frozen
class BigGANDiscriminator(Discriminator):
    """Residual blocks down to the smallest grid, one block there, a sum over positions (Brock et al. 2019, app. B).

    Channels mirror the generator's. Spectral normalisation, which the paper has in all layers, the embedding of the
    projection included, is the constraint `spectral_norm` of the recipe.
    """

    width: int = option(
        64,
        help="channels: 1 to 16 × width from 64 pixels on, 4 × width in smaller images; 96 in the paper",
        validator=ge(1),
    )
    attention: int = option(
        0, help="shorter side of the maps with self-attention, 64 in the paper; 0 for none", validator=ge(0)
    )
    condition: Literal["none", "projection"] = option(
        "none", help="how labels or vectors enter: by projection (Miyato & Koyama 2018)"
    )

    def build(self, data: DataSpec) -> nn.Module:
        return _Discriminator(self, data)


class _Discriminator(nn.Module):
    gives_extras = True

    def __init__(self, config: BigGANDiscriminator, data: DataSpec) -> None:
        super().__init__()
        sizes, widths = sizes_and_channels(data, config.width)
        ends, widths = sizes[-2::-1], widths[::-1]
        attention = attention_at(config.attention, ends, widths[:-1])
        blocks = [
            *(
                _DownBlock(channels, out, attend, first=i == 0)
                for i, (channels, out, attend) in enumerate(
                    zip([data.shape[0], *widths], widths[:-1], attention, strict=False)
                )
            ),
            _DownBlock(widths[-2], widths[-1], None),
        ]
        self.linear = nn.Linear(widths[-1], 1)
        self.embedding = embedding_for(config.condition, widths[-1], data)
        for part in (*blocks, self.linear, self.embedding):
            if part is not None:
                part.apply(initialise)
        # Numbered from the smallest grid up, as in G: `train.from` a smaller size then finds the same resolutions.
        self.blocks = nn.ModuleList(reversed(blocks))

    def forward(self, x: Tensor, y: Tensor, extras: dict[str, Tensor] | None = None) -> Tensor:
        h = x
        for block in reversed(self.blocks):
            h = block(h)
        h = h.relu().sum((2, 3))
        if extras is not None:
            extras["features"] = h
        scores = self.linear(h).squeeze(1)
        return scores if self.embedding is None else scores + (embedded(self.embedding, y, h) * h).sum(1)


class _DownBlock(nn.Module):
    """ReLU, 3×3, ReLU, 3×3, average pooling, beside pooling and 1×1 (figure 15c); then `attention`.

    Where `attention` is None the block is the last, which keeps the size. The first block receives the image, so it
    starts without a ReLU. Both convolutions have the block's number of output channels.
    """

    def __init__(self, channels: int, out: int, attention: nn.Module | None, first: bool = False) -> None:
        super().__init__()
        self.first = first
        self.halves = attention is not None
        self.conv1 = nn.Conv2d(channels, out, 3, padding=1)
        self.conv2 = ConvThenPool(out, out) if self.halves else nn.Conv2d(out, out, 3, padding=1)
        self.shortcut = nn.Conv2d(channels, out, 1) if self.halves or channels != out else nn.Identity()
        self.attention = nn.Identity() if attention is None else attention

    def forward(self, x: Tensor) -> Tensor:
        x = padded_to_even(x) if self.halves else x
        branch = self.conv2(self.conv1(x if self.first else x.relu()).relu())
        # Pooling commutes with a 1×1 convolution, which is cheaper after pooling.
        return self.attention(branch + self.shortcut(F.avg_pool2d(x, 2) if self.halves else x))
