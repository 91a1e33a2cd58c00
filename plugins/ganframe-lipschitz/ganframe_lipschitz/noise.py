"""Instance noise: what D sees, real or fake, is blurred in training."""

from __future__ import annotations

import attrs
import torch
from attrs.validators import ge
from torch import Tensor, nn

from ganframe import Constraint, option


@attrs.frozen
class _Blur:
    """A forward pre-hook: x + std · N(0, I) in training, x in evaluation."""

    std: float

    def __call__(self, D: nn.Module, given: tuple[Tensor, ...]) -> tuple[Tensor, ...] | None:
        if not D.training:
            return None
        x, *rest = given
        return x + self.std * torch.randn_like(x), *rest


@attrs.frozen
class InstanceNoise(Constraint):
    """Gaussian noise on all that D sees in training (Sønderby et al. 2017; Mescheder et al. 2018).

    Data and generator then have densities everywhere, whose ratio D can learn. The noise is new in each call, of D's
    and of G's steps, and comes from torch's own generator. D stays the module it was, with the same keys in its state:
    the noise is a forward pre-hook. Penalties meet D with the noise, so they hold at blurred points too.
    """

    std: float = option(0.1, help="standard deviation of the noise, in units of the data", validator=ge(0))

    def wrap(self, D: nn.Module) -> nn.Module:
        D.register_forward_pre_hook(_Blur(self.std))
        return D
