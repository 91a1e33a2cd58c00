"""Truncation: samples from the middle of G's latents, which are better and vary less."""

from __future__ import annotations

import math

import torch
from torch import Tensor, nn

from ganframe.components import DataSpec
from ganframe.data.latents import sample_prior
from ganframe.declarations import has_w, truncates_latent
from ganframe.errors import RequestError
from ganframe.recipes.tables import Prior
from ganframe.training.networks import in_parts

SEED = 4096  # of the latents whose w are averaged
LATENTS = 4096  # that many for each class
OF_A_CONDITION = 256  # fewer, as there may be a condition for each sample
CHUNK = 256  # latents mapped at a time


class MeanW:
    """w̄ (n, *shape of w) of y (n, …): the mean of map(z, y) over latents z of the prior, for each class or condition.

    Those of classes are computed where they are first needed, and kept.
    """

    def __init__(self, network: nn.Module, spec: DataSpec, prior: Prior) -> None:
        self.network, self.spec = network, spec
        number = LATENTS if spec.condition is None else OF_A_CONDITION
        self.z = sample_prior(prior, number, torch.Generator().manual_seed(SEED))
        self.of_classes: dict[int, Tensor] = {}

    @torch.no_grad()
    def __call__(self, y: Tensor) -> Tensor:
        different, places = torch.unique(y, dim=0, return_inverse=True)
        return torch.stack([self._of(one) for one in different]).to(y.device)[places]

    def _of(self, y: Tensor) -> Tensor:
        if self.spec.condition is not None:
            return self._computed(y)
        label = int(y)
        if label not in self.of_classes:
            self.of_classes[label] = self._computed(y)
        return self.of_classes[label]

    def _computed(self, y: Tensor) -> Tensor:
        with torch.autocast(y.device.type, enabled=False):  # w̄ is kept, for any precision
            w = in_parts(self.network.map, CHUNK, y.device, self.z, y.expand(len(self.z), *y.shape))  # type: ignore[arg-type]
        return w.double().mean(0).to(w)


class TruncatedInW(nn.Module):
    """G with x = synthesize(w̄ + ψ (w - w̄), y), w = map(z, y) (Karras et al. 2019, appendix B): ψ is `truncation`.

    Its `map` is that of G: what is given as w is truncated too. w may have axes that w̄ has not, as in (N, layers, dim).
    """

    def __init__(self, network: nn.Module, mean: MeanW, truncation: float) -> None:
        super().__init__()
        self.whole, self.mean, self.truncation = network, mean, truncation

    def forward(self, z: Tensor, y: Tensor) -> Tensor:
        return self.synthesize(self.map(z, y), y)

    def map(self, z: Tensor, y: Tensor) -> Tensor:
        return self.whole.map(z, y)  # type: ignore[operator]

    def synthesize(self, w: Tensor, y: Tensor) -> Tensor:
        return self.whole.synthesize(self.truncated(w, y), y)  # type: ignore[operator]

    def truncated(self, w: Tensor, y: Tensor) -> Tensor:
        """w̄ + ψ (w - w̄)."""
        if w.shape[0] == 0:
            return w  # no class, and so no w̄
        mean = self.mean(y).to(w)
        mean = mean.view(len(w), *[1] * (w.ndim - mean.ndim), *mean.shape[1:])
        return torch.lerp(mean.expand_as(w), w, self.truncation)


class TruncatedInZ(nn.Module):
    """G of latents of the normal distribution truncated to [-ψ, ψ] (Brock et al. 2019, section 3.1)."""

    def __init__(self, network: nn.Module, truncation: float) -> None:
        super().__init__()
        self.whole, self.truncation = network, truncation

    def forward(self, z: Tensor, y: Tensor) -> Tensor:
        return self.whole(truncated_normal(z, self.truncation), y)


def truncated_normal(z: Tensor, limit: float) -> Tensor:
    """z ~ N(0, I) as latents of the normal distribution truncated to [-limit, limit], elementwise.

    It is Φ⁻¹(Φ(-limit) + Φ(z) (Φ(limit) - Φ(-limit))), in float64. Brock et al. draw values outside again: that has the
    same distribution, but here each sample moves continuously with the limit.
    """
    exact = z.double()
    # The same by erf(x / √2) = 2 Φ(x) - 1, which loses no digits near 0. It is never farther out than z.
    moved = math.sqrt(2) * torch.erfinv(torch.erf(exact / math.sqrt(2)) * math.erf(limit / math.sqrt(2)))
    most = exact.abs().clamp_max(limit)
    return torch.minimum(torch.maximum(moved, -most), most).to(z)


def whole(network: nn.Module) -> nn.Module:
    """The network of a truncated one; itself if it is not truncated."""
    return network.whole if isinstance(network, (TruncatedInW, TruncatedInZ)) else network


def truncated(network: nn.Module, mean: MeanW, prior: Prior, truncation: float) -> nn.Module:
    """The network with truncated latents. Raises RequestError where it offers no such, or `truncation` is no ψ."""
    if not 0 <= truncation < math.inf:
        raise RequestError(f"truncation {truncation:g}: it must be a number from 0 up, as in 0.7")
    if has_w(network):
        return network if truncation == 1 else TruncatedInW(network, mean, truncation)
    if not truncates_latent(network):
        raise RequestError(
            f"truncation {truncation:g}: this generator offers none: its network has no map(z, y) and synthesize(w, "
            "y), nor declares truncates_latent; leave it out"
        )
    if prior.distribution != "normal":
        raise RequestError(
            f"truncation {truncation:g}: this generator truncates latents z of a normal prior, and its prior is "
            f"{prior.distribution}; leave it out"
        )
    if truncation == 0:
        raise RequestError("truncation 0: this generator truncates latents z to [-ψ, ψ]; give a number above 0")
    return TruncatedInZ(network, truncation)
