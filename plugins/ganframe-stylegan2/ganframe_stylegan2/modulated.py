"""Layers of the generator that a latent w controls: modulated convolutions with noise, and the layer of an image."""

from __future__ import annotations

import math
from typing import Literal

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from ganframe.layers import equalized
from ganframe_stylegan2.layers import SLOPE, Filter

Style = Literal["demodulate", "instance"]


def scaled(h: Tensor, factors: Tensor) -> Tensor:
    """Feature maps h (N, C, H, W) times one factor for each sample and channel, (N, C)."""
    return h * factors[:, :, None, None].to(h.dtype)


def demodulation(weight: Tensor, styles: Tensor) -> Tensor:
    """1 / σ_no, (N, O), for weights w'_noik = s_ni w_oik of each sample: σ² = Σ_ik w'² + ε (Karras et al. 2020, eq. 3).

    `weight` is w (O, I, k, k), `styles` are s (N, I).
    """
    return (F.linear(styles.square(), weight.square().sum((2, 3))) + 1e-8).rsqrt()


def _style(w_dim: int, channels: int) -> nn.Linear:
    """The linear layer from w to scales of channels, which are 1 on average at the start."""
    layer = equalized(nn.Linear(w_dim, channels), gain=1.0)
    nn.init.ones_(layer.bias)
    return layer


class StyledConv(nn.Module):
    """A 3×3 convolution that w controls, noise, bias and leaky ReLU: (N, C, H, W) -> (N, C', *size).

    `style` = "demodulate": the weights are modulated by w and demodulated (StyleGAN2, eq. 1 to 3). "instance": a plain
    convolution, whose activations are normalised over the pixels of each sample, then scaled and shifted by w
    (StyleGAN, Karras et al. 2019). With `up` it doubles the resolution: a transposed convolution of stride 2, then the
    filter; then it crops to `size`.

    Noise is one number for each pixel, the same for all channels, times a learnt strength that is 0 at the start. In
    evaluation mode it is a buffer, the same for all samples.
    """

    noise: Tensor

    def __init__(self, channels: int, out: int, size: tuple[int, int], w_dim: int, up: bool, style: Style) -> None:
        super().__init__()
        self.size = size
        self.demodulates = style == "demodulate"
        self.conv = equalized(nn.Conv2d(channels, out, 3, padding=1, bias=False))
        self.filter = Filter(gain=4.0) if up else None
        self.style = _style(w_dim, channels if self.demodulates else out)
        self.shift = None if self.demodulates else equalized(nn.Linear(w_dim, out), gain=1.0)
        self.bias = nn.Parameter(torch.zeros(out))
        self.noise_strength = nn.Parameter(torch.zeros(()))
        self.register_buffer("noise", torch.randn(1, 1, *size))

    def forward(self, h: Tensor, w: Tensor) -> Tensor:
        styles, weight = self.style(w), self.conv.weight
        if self.demodulates:
            # Scaling channels before and after it is the convolution with weights scaled for each sample, and one
            # convolution serves the whole batch. √2 is the gain of the leaky ReLU that follows.
            h = scaled(self._convolved(scaled(h, styles), weight), math.sqrt(2) * demodulation(weight, styles))
        else:
            h = self._convolved(h, weight)
        h = h + self.noise_strength * self._noise(h) + self.bias[:, None, None].to(h.dtype)
        h = F.leaky_relu(h, SLOPE)
        if self.shift is not None:
            h = scaled(F.instance_norm(h, eps=1e-8), styles) + self.shift(w)[:, :, None, None].to(h.dtype)
        return h

    def _convolved(self, h: Tensor, weight: Tensor) -> Tensor:
        if self.filter is None:
            return F.conv2d(h, weight, padding=1)
        h = F.conv_transpose2d(h, weight.transpose(0, 1), stride=2)  # one pixel more than twice as large
        doubled: Tensor = self.filter(h, padding=1)
        return doubled[..., : self.size[0], : self.size[1]]

    def _noise(self, h: Tensor) -> Tensor:
        if not self.training:
            return self.noise.to(h.dtype)
        return torch.randn(len(h), 1, *self.size, dtype=h.dtype, device=h.device)


class ToImage(nn.Module):
    """A 1×1 convolution to the channels of an image, modulated by w where the style demodulates, never demodulated.

    forward(h, w): (N, C, H, W) -> (N, channels of the image, H, W).
    """

    def __init__(self, channels: int, out: int, w_dim: int, style: Style) -> None:
        super().__init__()
        self.conv = equalized(nn.Conv2d(channels, out, 1), gain=1.0)
        self.style = _style(w_dim, channels) if style == "demodulate" else None

    def forward(self, h: Tensor, w: Tensor) -> Tensor:
        image: Tensor = self.conv(h if self.style is None else scaled(h, self.style(w)))
        return image
