"""The example discriminator as a plugin of ganframe."""

import math

import attrs
from attrs.validators import ge
from torch import nn

from ganframe import Discriminator, hookimpl, option


@attrs.frozen
class Example(Discriminator):
    """Multilayer perceptron with two hidden layers, from a sample of any shape to its score."""

    width: int = option(128, help="units in each hidden layer", validator=ge(1))

    def build(self, data):
        return Network(self.width, data.shape)


class Network(nn.Module):
    """D(x, y): x (N, *shape), y (N,) -> raw scores (N,), before any sigmoid."""

    # TO CHANGE: the layers, and the docstring and options of the class above.
    def __init__(self, width, shape):
        super().__init__()
        self.layers = nn.Sequential(
            nn.Flatten(),
            nn.Linear(math.prod(shape), width),
            nn.LeakyReLU(0.2),
            nn.Linear(width, width),
            nn.LeakyReLU(0.2),
            nn.Linear(width, 1),
        )

    def forward(self, x, y):
        return self.layers(x).squeeze(1)


@hookimpl
def ganframe_discriminators():
    return {"example": Example}
