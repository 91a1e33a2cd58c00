"""The example dataset as a plugin of ganframe."""

import math

import attrs
import torch
from attrs.validators import ge
from torch.utils.data import TensorDataset

from ganframe import Dataset, DataSpec, hookimpl, option


@attrs.frozen
class Example(Dataset):
    """Points on a circle in the plane, with Gaussian noise."""

    count: int = option(10_000, help="number of points", validator=ge(1))
    noise: float = option(0.02, help="standard deviation of the noise", validator=ge(0))

    # TO CHANGE: the data and its spec. Change with them the docstring, the options, and the test marked TO CHANGE in
    # tests/test_example.py.
    @property
    def spec(self):
        return DataSpec(shape=(2,))

    def build(self):
        angle = torch.rand(self.count) * 2 * math.pi
        x = torch.stack([angle.cos(), angle.sin()], dim=1) + self.noise * torch.randn(self.count, 2)
        return TensorDataset(x, torch.zeros(self.count, dtype=torch.long))


@hookimpl
def ganframe_datasets():
    return {"example": Example}
