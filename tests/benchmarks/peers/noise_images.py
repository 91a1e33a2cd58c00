"""A plugin with images of noise, so that a benchmark needs no data."""

from __future__ import annotations

import attrs
import torch
from torch.utils.data import TensorDataset

from ganframe import Dataset, DataSpec, hookimpl


@attrs.frozen
class NoiseImages(Dataset):
    """4,096 images 3×32×32 of noise, in memory."""

    @property
    def spec(self) -> DataSpec:
        return DataSpec((3, 32, 32))

    def build(self) -> TensorDataset:
        x = torch.randint(256, (4096, 3, 32, 32), generator=torch.Generator().manual_seed(0)).to(torch.uint8)
        return TensorDataset(x, torch.zeros(4096, dtype=torch.long))


@hookimpl
def ganframe_datasets() -> dict[str, type[Dataset]]:
    return {"noise_images": NoiseImages}
