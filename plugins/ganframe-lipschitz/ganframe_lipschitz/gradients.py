"""Two penalties on the norm of D's gradient, at points of their own. D must treat samples independently."""

from __future__ import annotations

import attrs
import torch
from attrs.validators import ge
from torch import Tensor, nn

from ganframe import Constraint, Scored, option, refuse_mixed_samples


def _slopes(D: nn.Module, x: Tensor, y: Tensor) -> Tensor:
    """‖∇D(x)‖₂ of each sample, (N,), through which gradients reach D's weights."""
    x = x.requires_grad_()
    # The sum, not the mean: each sample's own score is differentiated, whatever the size of the batch.
    (gradient,) = torch.autograd.grad(D(x, y).sum(), x, create_graph=True)
    # vector_norm has gradient 0 at 0, where the square root of a sum of squares has none.
    return torch.linalg.vector_norm(gradient.flatten(1), dim=1)


@attrs.frozen
class LipschitzPenalty(Constraint):
    """weight · E max(0, ‖∇D(x̂)‖₂ - 1)², x̂ between a real and a fake sample (WGAN-LP; Petzka et al. 2018).

    One-sided: a 1-Lipschitz critic costs nothing, where the gradient penalty also charges slopes below 1, which an
    optimal critic may well have away from the straight lines of transport. One ε per sample and one norm per sample.
    """

    weight: float = option(10.0, help="λ, the weight of the penalty", validator=ge(0))

    def check(self, D: nn.Module) -> None:
        refuse_mixed_samples(D)

    def penalty(self, D: nn.Module, real: Scored, fake: Scored) -> Tensor:
        epsilon = torch.rand(len(real.x), *[1] * (real.x.ndim - 1), device=real.x.device, dtype=real.x.dtype)
        between = torch.lerp(fake.x.detach(), real.x.detach(), epsilon)
        return self.weight * (_slopes(D, between, real.y) - 1).relu().square().mean()


@attrs.frozen
class DRAGAN(Constraint):
    """weight · E(‖∇D(x + δ)‖₂ - 1)² around real samples x (Kodali et al. 2017).

    δ is Gaussian, as in the paper; its standard deviation is `scale` times that of all numbers of the real batch, as
    in its authors' code, so that it fits data of any range. (In the code δ is uniform between 0 and its scale, so it
    only ever brightens, and is shrunk by one more random number per sample.) A batch whose numbers are all equal is
    left as it is.
    """

    weight: float = option(10.0, help="λ, the weight of the penalty", validator=ge(0))
    scale: float = option(0.5, help="standard deviation of δ, in those of the real batch", validator=ge(0))

    def check(self, D: nn.Module) -> None:
        refuse_mixed_samples(D)

    def penalty(self, D: nn.Module, real: Scored, fake: Scored) -> Tensor:
        x = real.x.detach()
        # correction=0: a batch of one number has the standard deviation 0, not NaN.
        around = x + self.scale * x.std(correction=0) * torch.randn_like(x)
        return self.weight * (_slopes(D, around, real.y) - 1).square().mean()
