"""Three ways to hold a critic back: clipped weights, a gradient penalty, spectral normalisation."""

from __future__ import annotations

from typing import Any

import attrs
import torch
from attrs.validators import ge, gt
from torch import Tensor, nn
from torch.nn.utils import parametrizations, parametrize

from ganframe import Constraint, Scored, option, refuse_mixed_samples

CONVOLUTIONS = (nn.Conv1d, nn.Conv2d, nn.Conv3d, nn.ConvTranspose1d, nn.ConvTranspose2d, nn.ConvTranspose3d)
NORMALISED = (nn.Linear, nn.Embedding, *CONVOLUTIONS)


@attrs.frozen
class WeightClipping(Constraint):
    """Every critic parameter in [-limit, limit] after each critic step (Arjovsky et al. 2017, algorithm 1)."""

    limit: float = option(0.01, help="largest absolute value of a weight", validator=gt(0))

    @torch.no_grad()
    def project(self, D: nn.Module) -> None:
        for parameter in D.parameters():
            parameter.clamp_(-self.limit, self.limit)


@attrs.frozen
class GradientPenalty(Constraint):
    """weight · E(‖∇D(x̂)‖₂ - target)², x̂ between a real and a fake sample (Gulrajani et al. 2017, eq. 3).

    One ε per sample and one norm per sample. The critic must treat samples independently: no BatchNorm.
    """

    weight: float = option(10.0, help="λ, the weight of the penalty", validator=ge(0))
    target: float = option(1.0, help="the gradient norm that costs nothing", validator=ge(0))

    def check(self, D: nn.Module) -> None:
        refuse_mixed_samples(D)

    def penalty(self, D: nn.Module, real: Scored, fake: Scored) -> Tensor:
        epsilon = torch.rand(len(real.x), *[1] * (real.x.ndim - 1), device=real.x.device, dtype=real.x.dtype)
        between = torch.lerp(fake.x.detach(), real.x.detach(), epsilon).requires_grad_()
        # The sum, not the mean: each sample's own score is differentiated, whatever the size of the batch.
        (gradient,) = torch.autograd.grad(D(between, real.y).sum(), between, create_graph=True)
        # vector_norm has gradient 0 at 0, where the square root of a sum of squares has none.
        norms = torch.linalg.vector_norm(gradient.flatten(1), dim=1)
        return self.weight * (norms - self.target).square().mean()


@attrs.frozen
class SpectralNorm(Constraint):
    """W / σ(W) in every linear, convolution and embedding layer of the critic (Miyato et al. 2018, algorithm 1).

    σ comes from a power iteration whose vectors are kept as buffers, one round per training forward and none in
    evaluation. A convolution's kernel is normalised as a matrix (C_out, rest), so its operator norm may exceed 1.
    """

    power_iterations: int = option(1, help="rounds of power iteration per training forward", validator=ge(1))

    def wrap(self, D: nn.Module) -> nn.Module:
        for module in list(D.modules()):
            if isinstance(module, NORMALISED):
                if _is_normalised(module):
                    raise ValueError("the critic's weights are normalised spectrally already; once is enough")
                parametrizations.spectral_norm(module, n_power_iterations=self.power_iterations)
        return D


def _is_normalised(module: nn.Module) -> bool:
    if not parametrize.is_parametrized(module, "weight"):
        return False
    held: Any = module.parametrizations
    return any(type(one).__name__ == "_SpectralNorm" for one in held["weight"])  # torch has no public name for it
