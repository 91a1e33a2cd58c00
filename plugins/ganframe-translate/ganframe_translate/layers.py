"""Layers of the networks that translate images: how z enters, upsampling, padding, and how weights start."""

from __future__ import annotations

import math
from typing import Literal

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from ganframe import DataSpec

Z = Literal["concat", "modulate", "none"]
Norm = Literal["batch", "instance", "none"]
Convolution = nn.Conv2d | nn.ConvTranspose2d


class FromLatent(nn.Module):
    """What z adds to a layer's channels: a shift, h + U z, or scale and shift, (1 + V z) h + U z.

    The shift alone is what a convolution makes of z that is joined to its input as constant channels, without their
    memory. It must come after the layer's normalisation: instance normalisation takes constants away. U and V are
    drawn from N(0, 1/(4 · latent_dim)), so that samples differ from the start and y still decides most.

    forward(h, z): h (N, C, H, W), z (N, latent_dim) -> shape of h.
    """

    def __init__(self, channels: int, latent_dim: int, scale: bool) -> None:
        super().__init__()
        self.scale = nn.Linear(latent_dim, channels, bias=False) if scale else None
        self.shift = nn.Linear(latent_dim, channels, bias=False)

    def forward(self, h: Tensor, z: Tensor) -> Tensor:
        if self.scale is not None:
            h = (1 + self.scale(z))[:, :, None, None] * h
        return h + self.shift(z)[:, :, None, None]


class Layer(nn.Module):
    """A convolution, its normalisation, what z adds, and an activation.

    With z = "concat" z enters where `joins` says so, with "modulate" in every layer, with "none" nowhere.

    forward(h, z): h (N, C, H, W), z (N, latent_dim) -> (N, C', H', W') as the convolution makes them.
    """

    def __init__(
        self, conv: Convolution, norm: Norm, activation: nn.Module, z: Z, latent_dim: int, joins: bool = False
    ) -> None:
        super().__init__()
        channels = conv.out_channels
        self.conv = conv
        self.norm = make_norm(norm, channels)
        enters = z == "modulate" or (z == "concat" and joins)
        self.latent = FromLatent(channels, latent_dim, scale=z == "modulate") if enters else None
        self.activation = activation

    def forward(self, h: Tensor, z: Tensor) -> Tensor:
        h = self.norm(self.conv(h))
        if self.latent is not None:
            h = self.latent(h, z)
        return self.activation(h)


def make_norm(norm: Norm, channels: int) -> nn.Module:
    """BatchNorm, instance normalisation with learnt scale and shift, or identity, for (N, C, H, W).

    Groups of one channel are instance normalisation that also takes maps of 1×1, which it turns into 0.
    """
    if norm == "batch":
        return nn.BatchNorm2d(channels)
    return nn.GroupNorm(channels, channels) if norm == "instance" else nn.Identity()


def even(h: Tensor) -> Tensor:
    """h (N, C, H, W) with its last row and column repeated where their number is odd, so that a stride of 2 fits."""
    height, width = h.shape[2:]
    if height % 2 == 0 and width % 2 == 0:
        return h
    return F.pad(h, (0, width % 2, 0, height % 2), mode="replicate")


def init_weights(module: nn.Module) -> None:
    """Normal weights that keep the size of activations (He et al. 2015), biases 0, for `apply`.

    Their standard deviation, √(2/inputs), is 0.02 for the 5,000 inputs of a typical layer of the papers, which use 0.02
    everywhere. Narrow networks without normalisation would fade with 0.02.
    """
    if isinstance(module, Convolution):
        transposed = isinstance(module, nn.ConvTranspose2d)  # of its taps each output has one for each stride
        taps = math.prod(module.kernel_size) // (math.prod(module.stride) if transposed else 1)
        nn.init.normal_(module.weight, 0.0, math.sqrt(2 / (module.in_channels * taps)))
        if module.bias is not None:
            nn.init.zeros_(module.bias)
    elif isinstance(module, FromLatent):
        for layer in (module.scale, module.shift):
            if layer is not None:
                nn.init.normal_(layer.weight, 0.0, 0.5 * layer.in_features**-0.5)


@torch.no_grad()
def damp(norm: Norm, conv: nn.Conv2d) -> None:
    """Makes the last convolution of a residual branch small where no normalisation bounds the sum of the branches."""
    if norm == "none":
        conv.weight.mul_(0.1)


def image_shapes(network: str, data: DataSpec) -> tuple[tuple[int, int, int], tuple[int, int, int]]:
    """(C, H, W) of the input y and of the output x. Raises ValueError where the data has no images of either kind."""
    if len(data.shape) != 3:
        raise ValueError(
            f"{network} makes images (C, H, W), and the data has shape {data.shape}; choose another network"
        )
    if data.condition is None or len(data.condition) != 3:
        raise ValueError(
            f"{network} translates an image, and the data has {given(data)}; use the generator mlp, dcgan or resnet, "
            "or a dataset whose conditions are images (here: derived, paired_images)"
        )
    (c, h, w), (out, height, width) = data.condition, data.shape
    return (c, h, w), (out, height, width)


def given(data: DataSpec) -> str:
    """What samples of this data are conditioned on, in words."""
    if data.classes is not None:
        return f"labels of {data.classes} classes"
    return "no conditions" if data.condition is None else f"conditions of shape {data.condition}"


def same_size(network: str, data: DataSpec) -> tuple[int, int, int, int]:
    """Channels of y, channels of x, height and width. Raises ValueError where x and y differ in size."""
    (channels, h, w), (out, height, width) = image_shapes(network, data)
    if (h, w) != (height, width):
        raise ValueError(
            f"{network} makes images as large as its input, and the data has {height}×{width} for an input of "
            f"{h}×{w}; resize one of them in the dataset, or use srresnet for whole multiples"
        )
    return channels, out, height, width
