"""Two penalties on D's gradient norm. In D, the samples of a batch must be independent."""

from __future__ import annotations

import attrs
import torch
from attrs.validators import ge
from torch import Tensor, nn

from ganframe import Constraint, Scored, option, refuse_mixed_samples, score_gradients


def _gradient_norms(D: nn.Module, x: Tensor, y: Tensor) -> Tensor:
    """‖∇D(x)‖₂ of each sample, or of each group where D mixes groups, differentiable with respect to D's weights."""
    x = x.requires_grad_()
    # vector_norm has gradient 0 at 0; the square root of a sum of squares has gradient NaN.
    return torch.linalg.vector_norm(score_gradients(D, D(x, y), x), dim=1)


@attrs.frozen
class LipschitzPenalty(Constraint):
    """weight · E max(0, ‖∇D(x̂)‖₂ - 1)², x̂ between a real and a fake sample (WGAN-LP; Petzka et al. 2018).

    One-sided: the penalty is 0 for a 1-Lipschitz critic. The gradient penalty also penalises norms below 1, which an
    optimal Wasserstein critic can have away from the lines of transport. One ε per sample and one norm per sample.
    """

    weight: float = option(10.0, help="λ, the weight of the penalty", validator=ge(0), scheduled=True)

    def check(self, D: nn.Module) -> None:
        refuse_mixed_samples(D)

    def penalty(self, D: nn.Module, real: Scored, fake: Scored) -> Tensor:
        epsilon = torch.rand(len(real.x), *[1] * (real.x.ndim - 1), device=real.x.device, dtype=real.x.dtype)
        between = torch.lerp(fake.x.detach(), real.x.detach(), epsilon)
        return self.weight * (_gradient_norms(D, between, real.y) - 1).relu().square().mean()


@attrs.frozen
class DRAGAN(Constraint):
    """weight · E(‖∇D(x + δ)‖₂ - 1)² around real samples x (Kodali et al. 2017).

    δ is Gaussian, as in the paper. Its standard deviation is `scale` times that of all numbers of the real batch, as in
    the authors' code, so that it suits data of any range. (In their code δ is uniform between 0 and its scale, so it
    never decreases a coordinate, and is multiplied by one more random number per sample.) If all numbers of a batch are
    equal, δ is 0.
    """

    weight: float = option(10.0, help="λ, the weight of the penalty", validator=ge(0), scheduled=True)
    scale: float = option(0.5, help="standard deviation of δ, relative to that of the real batch", validator=ge(0))

    def check(self, D: nn.Module) -> None:
        refuse_mixed_samples(D)

    def penalty(self, D: nn.Module, real: Scored, fake: Scored) -> Tensor:
        x = real.x.detach()
        # correction=0: the standard deviation of a single number is 0, not NaN.
        around = x + self.scale * x.std(correction=0) * torch.randn_like(x)
        return self.weight * (_gradient_norms(D, around, real.y) - 1).square().mean()
