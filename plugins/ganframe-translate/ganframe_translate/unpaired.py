"""Two sets of digit scans without pairs, of which the hidden pairing is known: `unpaired_digits` and `thick_digits`."""

from __future__ import annotations

from typing import Literal, cast

import attrs
import torch
from attrs.validators import ge
from torch import Tensor
from torch.nn.functional import max_pool2d
from torch.utils.data import TensorDataset

from ganframe import Dataset, DataSpec, component, option

SEED = 0  # of the division of the scans into two halves


@attrs.frozen
class UnpairedDigits(Dataset):
    """Digit scans as y and *other* scans as x, inverted and thickened: data for CycleGAN with a known answer.

    A random half of the 1,438 training scans is y, light on dark, and the other half, by `thickened`, x, dark on light:
    no scan is in both, and the two images of an item have nothing to do with each other. What is held out are true
    pairs, the 359 scans of the test split and what becomes of each, so that the metrics `paired` and `kept_class` can
    say how far a translation is from the right one.
    """

    size: int = option(16, help="pixels along each side", validator=ge(8))

    @property
    def spec(self) -> DataSpec:
        shape = (1, self.size, self.size)
        return DataSpec(shape, condition=shape)

    def build(self) -> TensorDataset:
        images, _ = scans(self.size, "train")
        rows = torch.randperm(len(images), generator=torch.Generator().manual_seed(SEED))
        half = len(images) // 2
        return TensorDataset(thickened(images[rows[half : 2 * half]]), images[rows[:half]])

    def held_out(self) -> TensorDataset:
        images, _ = scans(self.size, "test")
        return TensorDataset(thickened(images), images)


@attrs.frozen
class ThickDigits(Dataset):
    """Digit scans, inverted and thickened, with their labels: the images x of `unpaired_digits`, for a classifier."""

    size: int = option(16, help="pixels along each side", validator=ge(8))
    split: Literal["all", "train", "test"] = option("train", help="part of the scans, as of the dataset digits")

    @property
    def spec(self) -> DataSpec:
        return DataSpec((1, self.size, self.size), classes=10)

    def build(self) -> TensorDataset:
        images, labels = scans(self.size, self.split)
        return TensorDataset(thickened(images), labels)

    def held_out(self) -> TensorDataset | None:
        """The test split, for training on the rest; None for the other splits."""
        return attrs.evolve(self, split="test").build() if self.split == "train" else None


def thickened(images: Tensor) -> Tensor:
    """uint8 (N, 1, H, W), light strokes on dark -> dark strokes on light, thicker by an eighth of the size.

    Each pixel becomes 255 less the lightest of its neighbourhood, of 3×3 pixels at 16, and 5×5 at 32.
    """
    reach = max(1, round(images.shape[-1] / 16))
    return 255 - max_pool2d(images.float(), 2 * reach + 1, stride=1, padding=reach).to(torch.uint8)


def scans(size: int, split: str) -> tuple[Tensor, Tensor]:
    """uint8 (N, 1, size, size) and labels (N,) of a split of the builtin digits."""
    digits = component("dataset", "digits")(size=size, split=split)
    images, labels = cast(TensorDataset, digits.build()).tensors
    return images, labels
