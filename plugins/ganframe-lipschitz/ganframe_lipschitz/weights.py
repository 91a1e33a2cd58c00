"""Orthogonal regularisation: a penalty on D's weights, independent of the samples."""

from __future__ import annotations

import attrs
import torch
from attrs.validators import ge
from torch import Tensor, nn

from ganframe import Constraint, Scored, option

CONVOLUTIONS = (nn.Conv1d, nn.Conv2d, nn.Conv3d)
TRANSPOSED = (nn.ConvTranspose1d, nn.ConvTranspose2d, nn.ConvTranspose3d)
REGULARISED = (nn.Linear, *CONVOLUTIONS, *TRANSPOSED)


def _matrices(layer: nn.Module) -> Tensor:
    """A layer's weight as matrices (groups, C_out, rest) whose rows are its filters; groups is 1 for ungrouped layers.

    Filters of different groups read different channels, so they are orthogonal for any weights.
    """
    if isinstance(layer, nn.Linear):
        return layer.weight[None]
    split = layer.weight.unflatten(0, (layer.groups, -1))
    return (split.transpose(1, 2) if isinstance(layer, TRANSPOSED) else split).flatten(2)


@attrs.frozen
class Orthogonal(Constraint):
    """weight · Σ ‖WᵀW - I‖²_F over D's linear and convolution layers (Brock et al. 2018, section 3.1).

    A kernel is reshaped to a matrix W (C_out, rest); the penalty moves its singular values to 1. The smaller of WᵀW and
    WWᵀ is used: the two penalties differ by a constant and have the same gradient, and that of the smaller matrix is 0
    where all singular values are 1. `off_diagonal` is BigGAN's ‖WWᵀ ⊙ (1 - I)‖²_F: the filters, the rows of W, become
    orthogonal to each other and keep their norms. Brock et al. 2016, who introduced the penalty, sum absolute values
    instead of squares.
    """

    weight: float = option(1e-4, help="β, the weight of the penalty", validator=ge(0))
    off_diagonal: bool = option(False, help="BigGAN's variant, which does not change the norms of the filters")

    def check(self, D: nn.Module) -> None:
        if not any(isinstance(module, REGULARISED) for module in D.modules()):
            raise ValueError(
                "orthogonal regularisation needs linear or convolution layers, and this discriminator has none; "
                "choose another discriminator"
            )

    def penalty(self, D: nn.Module, real: Scored, fake: Scored) -> Tensor:
        layers = [module for module in D.modules() if isinstance(module, REGULARISED)]
        return self.weight * torch.stack([self._distance(_matrices(layer)) for layer in layers]).sum()

    def _distance(self, W: Tensor) -> Tensor:
        rows, columns = W.shape[1:]
        if self.off_diagonal:
            gram = W @ W.mT
            return (gram - torch.diag_embed(gram.diagonal(dim1=1, dim2=2))).square().sum()
        gram = W @ W.mT if rows <= columns else W.mT @ W
        return (gram - torch.eye(len(gram[0]), dtype=W.dtype, device=W.device)).square().sum()
