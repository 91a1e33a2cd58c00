"""PacGAN: the discriminator judges packs of samples (Lin et al. 2018)."""

from __future__ import annotations

import attrs
import torch
from attrs.validators import ge
from torch import Tensor, nn

from ganframe import DataSpec, Discriminator, group_size, option


@attrs.frozen
class Packing(Discriminator):
    """D on packs of m samples, joined along channels or coordinates, all real or all fake (Lin et al. 2018, PacGAN).

    A generator that leaves out modes makes packs with too little variety, which D sees. `of` is built for packs: images
    of m · C channels, points of m · D coordinates. Each sample has its pack's score. Where samples do not fill the last
    pack, as for pictures, the batch is repeated; training batches must be multiples of m.

    A pack has no one label: `of` is built for data without labels. Data with conditions is refused.
    """

    of: Discriminator = option(help="the discriminator of a pack")
    samples: int = option(2, help="m, the samples of a pack", validator=ge(2))

    def build(self, data: DataSpec) -> nn.Module:
        if data.condition is not None:
            raise ValueError("pac joins samples and not their conditions; use it for data without conditions")
        packs = attrs.evolve(
            data,
            shape=(self.samples * data.shape[0], *data.shape[1:]),
            classes=None,
            columns=data.columns and data.columns * self.samples,
        )
        try:
            return _Packed(self.of.build(packs), packs, self.samples)
        except ValueError as error:
            raise ValueError(f"of: for packs of shape {packs.shape}, without labels: {error}") from error


class _Packed(nn.Module):
    def __init__(self, inner: nn.Module, packs: DataSpec, samples: int) -> None:
        super().__init__()
        self.inner, self.packs, self.samples = inner, packs, samples
        self.mixes_groups_of = samples * group_size(inner)

    def forward(self, x: Tensor, y: Tensor, extras: dict[str, Tensor] | None = None) -> Tensor:
        n = len(x)
        packs = self._filled(x).unflatten(0, (-1, self.samples)).flatten(1, 2)
        blank = self.packs.blank(len(packs), x.device)
        if extras is None:
            return self._repeated(self.inner(packs, blank), n)
        found: dict[str, Tensor] = {}
        scores = self.inner(packs, blank, found)
        extras.update({name: self._repeated(value, n) for name, value in found.items()})
        return self._repeated(scores, n)

    def _filled(self, x: Tensor) -> Tensor:
        """x, with earlier samples once more behind it up to whole groups."""
        missing = -len(x) % self.mixes_groups_of
        return torch.cat([x, x[torch.arange(missing, device=x.device) % len(x)]]) if missing else x

    def _repeated(self, of_packs: Tensor, n: int) -> Tensor:
        """For each of the n samples what its pack has."""
        return of_packs.repeat_interleave(self.samples, 0)[:n]
