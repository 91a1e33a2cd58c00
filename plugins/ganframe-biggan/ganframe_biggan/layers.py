"""What both networks share: the sizes and channels of their blocks, how conditions enter, and the initialisation."""

from __future__ import annotations

import math

from torch import Tensor, nn

from ganframe import DataSpec
from ganframe.layers import SelfAttention, resolutions

_MULTIPLES = {
    5: (16, 16, 8, 4, 2),
    6: (16, 16, 8, 4, 2, 1),  # 128 pixels
    7: (16, 16, 8, 8, 4, 2, 1),  # 256 pixels
    8: (16, 16, 8, 8, 4, 2, 1, 1),  # 512 pixels
}


def sizes_and_channels(data: DataSpec, width: int) -> tuple[tuple[tuple[int, int], ...], list[int]]:
    """The (height, width) and the channels at each resolution, from the smallest grid to the image.

    Channels are those of Brock et al. 2019, tables 4 to 6, for 128, 256 and 512 pixels, in multiples of `width`. Images
    with one resolution less than 128 pixels have the same without the last; smaller ones 4 × width everywhere, as in
    SN-GAN (Miyato et al. 2018); larger ones continue with 1 × width.
    """
    sizes = resolutions("biggan", data)
    n = len(sizes)
    multiples = (4,) * n if n < min(_MULTIPLES) else (_MULTIPLES[min(n, 8)] + (1,) * (n - 8))
    return sizes, [width * m for m in multiples]


def attention_at(side: int, sizes: tuple[tuple[int, int], ...], channels: list[int]) -> list[nn.Module]:
    """Self-attention for the block that ends at maps whose shorter side is `side`, and identities for the others.

    `sizes` and `channels` are those at which the blocks end. No attention where `side` is 0. Raises ValueError if no
    block ends there.
    """
    shorter = [min(size) for size in sizes]
    if side and side not in shorter:
        raise ValueError(
            f"attention = {side}: no block of biggan ends at maps whose shorter side is {side}; choose one of "
            f"{', '.join(map(str, sorted(set(shorter))))}, or 0 for none"
        )
    return [SelfAttention(c, pool=2) if side == s else nn.Identity() for s, c in zip(shorter, channels, strict=True)]


def embedding_for(condition: str, features: int, data: DataSpec) -> nn.Module | None:
    """A map from labels or vectors to `features` numbers; None where `condition` is "none".

    Raises ValueError if a condition is requested, and the data has none, or images.
    """
    if condition == "none":
        return None
    if data.classes is not None:
        return nn.Embedding(data.classes, features)
    if data.condition is None:
        raise ValueError(
            f"condition = '{condition}' needs labels or vectors, and the data has neither; use condition = 'none'"
        )
    if len(data.condition) != 1:
        raise ValueError(
            f"biggan takes labels or vectors by condition = '{condition}', and the data's conditions have shape "
            f"{data.condition}; use condition = 'none', or networks made for such conditions"
        )
    return nn.Linear(math.prod(data.condition), features, bias=False)


def embedded(embedding: nn.Module, y: Tensor, like: Tensor) -> Tensor:
    """The embedding (N, features) of labels y (N,), or of vectors y (N, length), which get the dtype of `like`."""
    return embedding(y if isinstance(embedding, nn.Embedding) else y.to(like.dtype))


def initialise(module: nn.Module) -> None:
    """Orthogonal weights (Saxe et al. 2014; Brock et al. 2019, appendix C), biases 0; for `nn.Module.apply`."""
    if isinstance(module, (nn.Conv2d, nn.Linear, nn.Embedding)):
        nn.init.orthogonal_(module.weight)
        if not isinstance(module, nn.Embedding) and module.bias is not None:
            nn.init.zeros_(module.bias)
