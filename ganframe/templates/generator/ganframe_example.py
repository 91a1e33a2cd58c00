"""The example generator as a plugin of ganframe."""

import math

import attrs
from attrs.validators import ge
from torch import nn

from ganframe import Generator, hookimpl, option


@attrs.frozen
class Example(Generator):
    """Multilayer perceptron with two hidden layers, from z to a sample of any shape."""

    width: int = option(128, help="units in each hidden layer", validator=ge(1))

    def build(self, data, latent_dim):
        return Network(latent_dim, self.width, data.shape)


class Network(nn.Module):
    """G(z, y): z (N, latent_dim), y (N,) -> (N, *shape)."""

    # TO CHANGE: the layers, and the docstring and options of the class above.
    def __init__(self, latent_dim, width, shape):
        super().__init__()
        self.shape = shape
        self.layers = nn.Sequential(
            nn.Linear(latent_dim, width),
            nn.ReLU(),
            nn.Linear(width, width),
            nn.ReLU(),
            nn.Linear(width, math.prod(shape)),
        )

    def forward(self, z, y):
        return self.layers(z).unflatten(1, self.shape)


@hookimpl
def ganframe_generators():
    return {"example": Example}
