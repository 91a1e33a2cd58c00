"""Orthogonal regularisation of the generator, a term of its loss that depends on its weights alone."""

from __future__ import annotations

from typing import Any

import attrs
import torch
from attrs.validators import ge
from torch import Tensor, nn
from torch.nn.utils import parametrizations, parametrize

from ganframe import DataSpec, Parts, Term, Turn, option

TRANSPOSED = (nn.ConvTranspose1d, nn.ConvTranspose2d, nn.ConvTranspose3d)
REGULARISED = (nn.Linear, nn.Conv1d, nn.Conv2d, nn.Conv3d, *TRANSPOSED)


@attrs.frozen
class Orthogonal(Term):
    """β · Σ ‖WWᵀ ⊙ (1 - I)‖²_F over the linear and convolution layers of G (Brock et al. 2019, eq. 3).

    The rows of W (C_out, rest) are a layer's filters, which become orthogonal to each other and keep their norms; the
    paper has them as columns and writes WᵀW. Embeddings are left out. Under spectral normalisation it is the weight
    before the division by σ, which is what the optimiser moves: it is orthogonal exactly where W/σ is.
    """

    weight: float = option(1e-4, help="β, the weight of the term", validator=ge(0), scheduled=True)

    def prepare(self, G: nn.Module, D: nn.Module, data: DataSpec) -> Parts | None:
        if not any(isinstance(module, REGULARISED) for module in G.modules()):
            raise ValueError(
                "orthogonal needs linear or convolution layers in the generator, and it has none; remove the term or "
                "choose another generator"
            )
        return None

    def generator_term(self, turn: Turn) -> Tensor:
        layers = [module for module in turn.G.modules() if isinstance(module, REGULARISED)]
        return self.weight * torch.stack([_overlap(_filters(layer)) for layer in layers]).sum()


def _filters(layer: Any) -> Tensor:
    """The filters of a layer as the rows of matrices (groups, C_out, rest); filters of two groups share no input."""
    weight = _trained_weight(layer)
    if isinstance(layer, nn.Linear):
        return weight[None]
    split = weight.unflatten(0, (layer.groups, -1))
    return (split.transpose(1, 2) if isinstance(layer, TRANSPOSED) else split).flatten(2)


def _trained_weight(layer: Any) -> Tensor:
    """The weight of a layer, under spectral normalisation the one before it: W/σ costs a power iteration to read."""
    if parametrize.is_parametrized(layer, "weight"):
        steps = layer.parametrizations["weight"]
        if isinstance(steps[0], parametrizations._SpectralNorm):
            return steps.original
    return layer.weight


def _overlap(W: Tensor) -> Tensor:
    """Σ <w_i, w_j>² over all pairs i ≠ j of rows of W (groups, rows, columns), by the smaller of WWᵀ and WᵀW.

    The two have the same Frobenius norm. The first layer of G may have ten thousands of rows.
    """
    rows, columns = W.shape[1:]
    if rows <= columns:
        gram = W @ W.mT
        return (gram - torch.diag_embed(gram.diagonal(dim1=1, dim2=2))).square().sum()
    return (W.mT @ W).square().sum() - W.square().sum(2).square().sum()
