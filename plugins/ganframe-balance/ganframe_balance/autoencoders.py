"""Discriminators that reconstruct their input, and the losses that use them: BEGAN and EBGAN.

The score of a sample is minus its reconstruction error: what D reconstructs well is real. So the energy E(x) of EBGAN
and the loss L(x) of BEGAN are -D(x).
"""

from __future__ import annotations

import copy
import itertools
import math
from typing import ClassVar, Literal

import attrs
import torch
from attrs.validators import and_, deep_iterable, ge, gt, le
from torch import Tensor, nn
from torch.nn.functional import normalize

from ganframe import DataSpec, Discriminator, Objective, Parts, Term, Turn, group_size, mean_scores, option, whole_batch


@attrs.frozen
class Autoencoder(Discriminator):
    """Autoencoder of a flattened sample of any shape; the score is minus the reconstruction error.

    The error is the mean over the numbers of a sample of |x - D(x)| (Berthelot et al. 2017, η = 1) or of its square
    (η = 2). Encoder and decoder are perceptrons of the same widths. Extras: {"features": (N, code)}.
    """

    hidden: tuple[int, ...] = option(
        (128,), help="units of the encoder's hidden layers", validator=deep_iterable(ge(1))
    )
    code: int = option(32, help="size of the code", validator=ge(1))
    error: Literal["absolute", "squared"] = option("absolute", help="reconstruction error of a number of a sample")

    def build(self, data: DataSpec) -> nn.Module:
        return _Autoencoder(self, math.prod(data.shape))


class _Autoencoder(nn.Module):
    gives_extras = True

    def __init__(self, config: Autoencoder, size: int) -> None:
        super().__init__()
        self.encoder = _perceptron((size, *config.hidden, config.code))
        self.decoder = _perceptron((config.code, *reversed(config.hidden), size))
        self.absolute = config.error == "absolute"

    def forward(self, x: Tensor, y: Tensor, extras: dict[str, Tensor] | None = None) -> Tensor:
        flat = x.flatten(1)
        code = self.encoder(flat)
        if extras is not None:
            extras["features"] = code
        difference = flat - self.decoder(code)
        return -(difference.abs() if self.absolute else difference.square()).mean(1)


def _perceptron(widths: tuple[int, ...]) -> nn.Sequential:
    """Linear layers of these widths, with ELU between them, as in BEGAN."""
    layers: list[nn.Module] = []
    for a, b in itertools.pairwise(widths):
        layers += [nn.Linear(a, b), nn.ELU()]
    return nn.Sequential(*layers[:-1])


class Balance(nn.Module):
    """k of BEGAN as memory: its value after the last step, before it is clamped to [0, 1]."""

    k: Tensor

    def __init__(self) -> None:
        super().__init__()
        self.register_buffer("k", torch.zeros(()))


@attrs.frozen
class BEGANBalance(Term):
    """(1 - k) L(G(z)) in D's loss, with BEGAN's balance k (Berthelot et al. 2017, arXiv:1703.10717, section 3.4).

    With the objective `wgan` on scores -L, D's loss is L(x) - L(G(z)), and with this term L(x) - k L(G(z)); G's is
    L(G(z)). After each step of D, k ← clamp(k + rate (gamma L(x) - L(G(z))), 0, 1). k is 0 at first: D learns to
    reconstruct, and opposes G only as G's samples get as easy as wanted. Use it with scores that are minus a loss, as
    those of `autoencoder`. The measure of convergence of the paper is L(x) + |gamma L(x) - L(G(z))|.
    """

    gamma: float = option(
        0.5,
        help="γ, wanted ratio of L(G(z)) to L(x); lower is less diverse",
        validator=and_(gt(0), le(1)),
        scheduled=True,
    )
    rate: float = option(0.001, help="λ, rate of k", validator=gt(0), scheduled=True)

    def prepare(self, G: nn.Module, D: nn.Module, data: DataSpec) -> Parts:
        n = 2 * group_size(D)
        x = torch.randn(n, *data.shape, generator=torch.Generator().manual_seed(0))
        with torch.no_grad():
            scores = copy.deepcopy(D).eval()(x, data.blank(n))
        if (scores > 0).any():
            raise ValueError(
                "needs a discriminator whose scores are minus a loss, but some scores are above 0; use one that "
                "reconstructs its input, as autoencoder of ganframe-balance"
            )
        return Parts(discriminator=Balance())

    def discriminator_term(self, turn: Turn) -> Tensor:
        assert turn.real is not None
        balance = turn.parts.discriminator
        assert isinstance(balance, Balance)
        real, fake = (-mean_scores(side.scores).mean() for side in (turn.real, turn.fake))
        # Clamped before the update: the buffer stays linear in the batch, and its mean over processes is exact.
        k = balance.k.clamp(0, 1)
        with torch.no_grad():
            balance.k.copy_(k + self.rate * (self.gamma * real - fake))
        return (1 - k) * fake


@attrs.frozen
class EBGAN(Objective):
    """The energy-based game (Zhao, Mathieu, LeCun 2016, arXiv:1609.03126, eq. 1 and 2), for energies E = -score.

    L_D = E(x) + relu(margin - E(G(z))) = -a + relu(margin + b), L_G = E(G(z)) = -b. With energies ≥ 0, as those of
    `autoencoder`, the game has an equilibrium where both distributions are equal and E(x) ≤ margin.
    """

    margin: float = option(1.0, help="m, energy above which a fake sample is not pushed up further", validator=gt(0))

    def discriminator_loss(self, real: Tensor, fake: Tensor) -> Tensor:
        return -real.mean() + (self.margin + fake).relu().mean()

    def generator_loss(self, fake: Tensor, real: Tensor | None = None) -> Tensor:
        return -fake.mean()


@attrs.frozen
class PullingAway(Term):
    """weight · mean over pairs i ≠ j of cos²(S_i, S_j) in G's loss, S the features of fakes (Zhao et al. 2016, eq. 5).

    It asks for fakes with different features: with `autoencoder`, the codes. The pairs are those of the batch of all
    processes.
    """

    needs_extras: ClassVar[tuple[str, ...]] = ("features",)

    weight: float = option(0.1, help="weight of the term", validator=gt(0), scheduled=True)

    def generator_term(self, turn: Turn) -> Tensor:
        features = normalize(whole_batch(turn.fake.extras["features"].flatten(1)), dim=1)
        n = len(features)
        # The sum over all pairs is ‖SSᵀ‖²; each of the n pairs i = j has the cosine 1.
        squares = (features @ features.T).square()
        return self.weight * (squares.sum() - squares.diagonal().sum()) / max(n * (n - 1), 1)
