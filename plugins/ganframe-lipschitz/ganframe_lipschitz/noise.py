"""Instance noise: Gaussian noise on D's inputs, real and fake, in training."""

from __future__ import annotations

import attrs
import torch
from attrs.validators import ge
from torch import Tensor, nn

from ganframe import Constraint, option


@attrs.frozen
class _AddNoise:
    """Forward pre-hook: x + std · N(0, I) in training mode, x in evaluation mode."""

    std: float

    def __call__(self, D: nn.Module, given: tuple[Tensor, ...]) -> tuple[Tensor, ...] | None:
        if not D.training:
            return None
        x, *rest = given
        return x + self.std * torch.randn_like(x), *rest


@attrs.frozen
class InstanceNoise(Constraint):
    """Gaussian noise on every input of D in training (Sønderby et al. 2017; Mescheder et al. 2018).

    With noise, the distributions of data and generator have densities everywhere, whose ratio D can learn. The noise is
    new in each call, in D's and in G's steps, and is drawn from torch's global generator. It is added by a forward
    pre-hook, so D keeps its class and the keys of its state dict. Penalties also call D with the noise.
    """

    std: float = option(0.1, help="standard deviation of the noise, in units of the data", validator=ge(0))

    def wrap(self, D: nn.Module) -> nn.Module:
        D.register_forward_pre_hook(_AddNoise(self.std))
        return D
