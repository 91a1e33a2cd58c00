"""The penalty of WGAN-div: a power of D's gradient norm, with no Lipschitz constant as its aim."""

from __future__ import annotations

import attrs
import torch
from attrs.validators import ge
from torch import Tensor, nn

from ganframe import Constraint, Scored, option, refuse_mixed_samples, score_gradients


@attrs.frozen
class WGANDiv(Constraint):
    """weight · E‖∇D(x̂)‖^power, x̂ between real and fake samples (Wu et al. 2018, arXiv:1712.01026, eq. 9).

    With the objective `wgan`, the smallest loss of D is minus a divergence of real and fake samples, for any weight > 0
    and power > 1. Its critic's slope grows with the distance of both sides, unlike that of a 1-Lipschitz critic.
    """

    weight: float = option(2.0, help="k, the weight of the penalty", validator=ge(0), scheduled=True)
    power: float = option(6.0, help="p, the power of the gradient norm", validator=ge(1))

    def check(self, D: nn.Module) -> None:
        refuse_mixed_samples(D)

    def penalty(self, D: nn.Module, real: Scored, fake: Scored) -> Tensor:
        epsilon = torch.rand(len(real.x), *[1] * (real.x.ndim - 1), device=real.x.device, dtype=real.x.dtype)
        between = torch.lerp(fake.x.detach(), real.x.detach(), epsilon).requires_grad_()
        norms = torch.linalg.vector_norm(score_gradients(D, D(between, real.y), between), dim=1)
        return self.weight * norms.pow(self.power).mean()
