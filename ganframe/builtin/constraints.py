"""Lipschitz constraints on the discriminator: weight clipping, gradient penalty, spectral normalisation."""

from __future__ import annotations

from typing import Any

import attrs
import torch
from attrs.validators import ge, gt
from torch import Tensor, nn
from torch.nn.utils import parametrizations, parametrize

from ganframe import Constraint, Scored, option, refuse_mixed_samples, score_gradients

CONVOLUTIONS = (nn.Conv1d, nn.Conv2d, nn.Conv3d, nn.ConvTranspose1d, nn.ConvTranspose2d, nn.ConvTranspose3d)
NORMALISED = (nn.Linear, nn.Embedding, *CONVOLUTIONS)


@attrs.frozen
class WeightClipping(Constraint):
    """Clips every parameter of D to [-limit, limit] after each step of D (Arjovsky et al. 2017, algorithm 1)."""

    limit: float = option(0.01, help="largest absolute value of a parameter", validator=gt(0))

    @torch.no_grad()
    def project(self, D: nn.Module) -> None:
        for parameter in D.parameters():
            if parameter.requires_grad:  # not where the recipe freezes it
                parameter.clamp_(-self.limit, self.limit)


@attrs.frozen
class GradientPenalty(Constraint):
    """Gradient penalty weight · E(‖∇D(x̂)‖₂ - target)², x̂ between real and fake (Gulrajani et al. 2017, eq. 3).

    Each sample has its own ε and its own norm. D must treat the samples of a batch independently: no BatchNorm.
    """

    weight: float = option(10.0, help="λ, the weight of the penalty", validator=ge(0), scheduled=True)
    target: float = option(1.0, help="gradient norm at which the penalty is 0", validator=ge(0), scheduled=True)

    def check(self, D: nn.Module) -> None:
        refuse_mixed_samples(D)

    def penalty(self, D: nn.Module, real: Scored, fake: Scored) -> Tensor:
        epsilon = torch.rand(len(real.x), *[1] * (real.x.ndim - 1), device=real.x.device, dtype=real.x.dtype)
        between = torch.lerp(fake.x.detach(), real.x.detach(), epsilon).requires_grad_()
        # vector_norm has gradient 0 at 0; the square root of a sum of squares has gradient NaN there.
        norms = torch.linalg.vector_norm(score_gradients(D, D(between, real.y), between), dim=1)
        return self.weight * (norms - self.target).square().mean()


@attrs.frozen
class SpectralNorm(Constraint):
    """W / σ(W) in every linear, convolution and embedding layer of D (Miyato et al. 2018, algorithm 1).

    Power iteration estimates σ. Its vectors are buffers. They are updated in each forward pass in training mode, and
    not in evaluation mode. A convolution's kernel is normalised as a matrix (C_out, rest), so the operator norm of the
    convolution may exceed 1.
    """

    power_iterations: int = option(1, help="power iterations per forward pass in training mode", validator=ge(1))

    def wrap(self, D: nn.Module) -> nn.Module:
        for module in list(D.modules()):
            if isinstance(module, NORMALISED):
                if _is_normalised(module):
                    raise ValueError("the discriminator already has spectral normalisation; apply it only once")
                parametrizations.spectral_norm(module, n_power_iterations=self.power_iterations)
        return D


def _is_normalised(module: nn.Module) -> bool:
    if not parametrize.is_parametrized(module, "weight"):
        return False
    parametrizations_of: Any = module.parametrizations
    return any(type(p).__name__ == "_SpectralNorm" for p in parametrizations_of["weight"])  # not public in torch
