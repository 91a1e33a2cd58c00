"""Path-length regularisation: steps of one length in w change the image by one amount, everywhere."""

from __future__ import annotations

import math

import attrs
import torch
from attrs.validators import and_, ge, gt, le, lt
from torch import Tensor, nn

from ganframe import DataSpec, Parts, Term, Turn, option, whole_batch


class MeanLength(nn.Module):
    """a, the exponential moving mean of path lengths. Weights of what it has seen add up to 1 from the first batch."""

    total: Tensor
    seen: Tensor

    def __init__(self) -> None:
        super().__init__()
        self.register_buffer("total", torch.zeros(()))
        self.register_buffer("seen", torch.zeros(()))

    @torch.no_grad()
    def follow(self, mean: Tensor, decay: float) -> Tensor:
        """a after a batch of this mean length."""
        self.total.lerp_(mean.to(self.total), 1 - decay)
        # A mean that starts from 0 would pull all lengths there at first.
        self.seen.lerp_(torch.ones_like(self.seen), 1 - decay)
        return self.total / self.seen


@attrs.frozen
class PathLengths(Term):
    """weight · γ · E(‖Jᵀv‖ - a)² in G's loss, J = ∂ synthesize(w, y) / ∂w (Karras et al. 2020, eq. 4 and appendix B).

    v ~ N(0, I)/√(H·W) is one random image for each sample, and a the moving mean of ‖Jᵀv‖, over the batch of all
    processes. At the minimum J is orthogonal up to a factor, the same for all w: then E‖Jᵀv‖² = tr(JJᵀ)/(H·W) = a².

    G is called once more, without style mixing, by its methods map(z, y) -> w and synthesize(w, y) -> x, and its
    gradient is differentiated. That is expensive, so the paper has the term in each fourth step: `every = 4`.
    """

    weight: float = option(1.0, help="weight of the term, relative to the paper's", validator=ge(0), scheduled=True)
    decay: float = option(0.99, help="decay of the moving mean a", validator=and_(ge(0), lt(1)))
    share: float = option(0.5, help="share of G's batch that is looked at", validator=and_(gt(0), le(1)))

    def prepare(self, G: nn.Module, D: nn.Module, data: DataSpec) -> Parts:
        if not all(callable(getattr(G, method, None)) for method in ("map", "synthesize")):
            raise ValueError(
                "path lengths need a generator with latents w, by methods map(z, y) and synthesize(w, y); choose one, "
                "as stylegan2, or leave this term out"
            )
        return Parts(generator=MeanLength())

    def generator_term(self, turn: Turn) -> Tensor:
        z, y, a = turn.fake.z, turn.fake.y, turn.parts.generator
        assert z is not None
        assert isinstance(a, MeanLength)
        n = math.ceil(self.share * len(z))
        lengths = path_lengths(turn.G, z[:n], y[:n])
        mean = a.follow(whole_batch(lengths.detach()).mean(), self.decay)
        return self.weight * gamma(turn.fake.x) * (lengths - mean).square().mean()


def gamma(x: Tensor) -> float:
    """The paper's weight for images x (N, C, H, W) of r = √(H·W) pixels: 1 / (log₂ r - 1), at most 1.

    It is γ = ln 2 / (r² (ln r - ln 2)) of appendix B times r², as v is divided by r here.
    """
    return 1 / max(1.0, math.log2(x[0, 0].numel()) / 2 - 1)


def path_lengths(G: nn.Module, z: Tensor, y: Tensor) -> Tensor:
    """‖Jᵀv‖ (N,) at w = map(z, y), for a v of each sample, drawn by torch's random state. Can be differentiated."""
    w = G.map(z, y)  # type: ignore[operator]
    w = w if w.requires_grad else w.requires_grad_()  # where a recipe freezes the mapping
    x = G.synthesize(w, y)  # type: ignore[operator]
    v = torch.randn_like(x) / math.sqrt(x[0, 0].numel())
    (slope,) = torch.autograd.grad((x * v).sum(), w, create_graph=True)
    return torch.linalg.vector_norm(slope.flatten(1), dim=1)
