"""Games on vectors: D returns an embedding h(x) of each sample, and the losses compare two sets of vectors.

Both losses are means over pairs of different samples of the batch, that of all processes, so they are unbiased.
"""

from __future__ import annotations

import copy
import itertools
import math
from typing import ClassVar, Literal

import attrs
import torch
from attrs.validators import and_, deep_iterable, ge, gt, min_len
from torch import Tensor, nn

from ganframe import (
    DataSpec,
    Discriminator,
    Objective,
    Parts,
    Term,
    Turn,
    group_size,
    option,
    refuse_mixed_samples,
    score_gradients,
    whole_batch,
)


@attrs.frozen
class Embedding(Discriminator):
    """Perceptron from a flattened sample of any shape to a vector h(x) (N, features), for `mmd` and `cramer`."""

    hidden: tuple[int, ...] = option((128, 128), help="units of each hidden layer", validator=deep_iterable(ge(1)))
    features: int = option(16, help="size of h(x)", validator=ge(1))
    activation: Literal["relu", "leaky_relu"] = option("leaky_relu", help="of hidden layers; leaky_relu has slope 0.2")

    def build(self, data: DataSpec) -> nn.Module:
        return _Embedding(self, math.prod(data.shape))


class _Embedding(nn.Module):
    many_scores = True

    def __init__(self, config: Embedding, size: int) -> None:
        super().__init__()
        layers: list[nn.Module] = []
        for a, b in itertools.pairwise((size, *config.hidden)):
            layers += [nn.Linear(a, b), nn.ReLU() if config.activation == "relu" else nn.LeakyReLU(0.2)]
        self.layers = nn.Sequential(nn.Flatten(), *layers, nn.Linear((size, *config.hidden)[-1], config.features))

    def forward(self, x: Tensor, y: Tensor) -> Tensor:
        return self.layers(x)


@attrs.frozen
class MMD(Objective):
    """Maximum mean discrepancy of embeddings (Li et al. 2017, MMD-GAN, arXiv:1705.08584): L_D = -MMD², L_G = MMD².

    MMD² = E k(r, r') + E k(f, f') - 2 E k(r, f) for vectors r of real and f of fake samples, k the sum of Gaussian
    kernels exp(-‖a - b‖²/(2 σ²)) over the bandwidths σ. The estimate is the unbiased one, which may be negative. It
    needs a discriminator that returns vectors (N, F), as `embedding`, with a constraint such as `weight_clipping` (the
    paper's) or `spectral_norm`: without one, h may separate any two sets. The paper's D also reconstructs its input;
    this part is not here.
    """

    compares_real: ClassVar[bool] = True
    scores_are_vectors: ClassVar[bool] = True

    bandwidths: tuple[float, ...] = option(
        (1.0, 2.0, 4.0, 8.0, 16.0), help="σ of each Gaussian kernel", validator=and_(min_len(1), deep_iterable(gt(0)))
    )

    def discriminator_loss(self, real: Tensor, fake: Tensor) -> Tensor:
        return -self._squared(real, fake)

    def generator_loss(self, fake: Tensor, real: Tensor | None = None) -> Tensor:
        return self._squared(_required(real), fake)

    def _squared(self, real: Tensor, fake: Tensor) -> Tensor:
        real, fake = whole_batch(_vectors(real)), whole_batch(_vectors(fake))
        within = _mean_of_different(self._kernel(real, real)) + _mean_of_different(self._kernel(fake, fake))
        return within - 2 * self._kernel(real, fake).mean()

    def _kernel(self, a: Tensor, b: Tensor) -> Tensor:
        squares = _distances(a, b).square()
        return torch.stack([(-squares / (2 * sigma**2)).exp() for sigma in self.bandwidths]).sum(0)


@attrs.frozen
class Cramer(Objective):
    """Cramér GAN: the energy distance of embeddings (Bellemare et al. 2017, arXiv:1705.10743, algorithm 1).

    L_D = E f(g) - E f(r) with the critic f(v) = E_g'‖v - g'‖ - ‖v‖, for vectors r of real and g, g' of different fake
    samples. L_G = 2 E‖r - g‖ - E‖g - g'‖, the energy distance without its constant E‖r - r'‖. It needs a discriminator
    that returns vectors (N, F), as `embedding`, and the term `cramer_penalty`.
    """

    compares_real: ClassVar[bool] = True
    scores_are_vectors: ClassVar[bool] = True

    def discriminator_loss(self, real: Tensor, fake: Tensor) -> Tensor:
        real, fake = whole_batch(_vectors(real)), whole_batch(_vectors(fake))
        of_real = _distances(real, fake).mean() - _norms(real).mean()
        of_fake = _mean_of_different(_distances(fake, fake)) - _norms(fake).mean()
        return of_fake - of_real

    def generator_loss(self, fake: Tensor, real: Tensor | None = None) -> Tensor:
        real, fake = whole_batch(_vectors(_required(real))), whole_batch(_vectors(fake))
        return 2 * _distances(real, fake).mean() - _mean_of_different(_distances(fake, fake))


@attrs.frozen
class CramerPenalty(Term):
    """Gradient penalty weight · E(‖∇f(x̂)‖ - 1)² on Cramér GAN's critic f(x) = ‖h(x) - h(x'_g)‖ - ‖h(x)‖, in D's loss.

    x̂ is between a real and a fake sample, x'_g another fake sample of the batch (Bellemare et al. 2017, algorithm 1).
    h is D; D must treat the samples of a batch independently.
    """

    weight: float = option(10.0, help="λ, the weight of the penalty", validator=gt(0), scheduled=True)

    def prepare(self, G: nn.Module, D: nn.Module, data: DataSpec) -> Parts | None:
        refuse_mixed_samples(D)
        n = 2 * group_size(D)
        with torch.no_grad():
            _vectors(copy.deepcopy(D).eval()(torch.zeros(n, *data.shape), data.blank(n)))
        return None

    def discriminator_term(self, turn: Turn) -> Tensor:
        assert turn.real is not None
        real, fake = turn.real.x.detach(), turn.fake.x.detach()
        epsilon = torch.rand(len(real), *[1] * (real.ndim - 1), device=real.device, dtype=real.dtype)
        between = torch.lerp(fake, real, epsilon).requires_grad_()
        h = turn.D(between, turn.real.y).float().flatten(1)
        other = turn.fake.scores.flatten(1).roll(1, 0)
        gradients = score_gradients(turn.D, _norms(h - other) - _norms(h), between)
        return self.weight * (torch.linalg.vector_norm(gradients, dim=1) - 1).square().mean()


def _vectors(scores: Tensor) -> Tensor:
    """Scores (N, …) as vectors (N, F)."""
    if scores.ndim < 2:
        raise ValueError(
            f"compares vectors (N, F), and the discriminator returns scores of shape {tuple(scores.shape)}; use one "
            "that returns an embedding, as embedding of ganframe-balance"
        )
    return scores.flatten(1)


def _required(real: Tensor | None) -> Tensor:
    if real is None:
        raise ValueError("compares fake with real samples, and got no scores of real samples")
    return real


def _distances(a: Tensor, b: Tensor) -> Tensor:
    """‖a_i - b_j‖, (N, M). By differences: a matrix product loses the digits of small distances."""
    return torch.cdist(a, b, compute_mode="donot_use_mm_for_euclid_dist")


def _mean_of_different(values: Tensor) -> Tensor:
    """The mean over pairs i ≠ j of values (N, N); 0 for N = 1."""
    n = len(values)
    return (values.sum() - values.diagonal().sum()) / max(n * (n - 1), 1)


def _norms(vectors: Tensor) -> Tensor:
    """‖v‖ (N,) of vectors (N, F). The small constant keeps second derivatives finite at 0."""
    return (vectors.square().sum(1) + 1e-12).sqrt()
