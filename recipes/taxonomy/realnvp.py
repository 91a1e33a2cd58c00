"""A change of variables: RealNVP (Dinh et al. 2017). `python recipes/taxonomy/realnvp.py`

x = g(z) with g invertible, so p(x) = p(z) |det ∂z/∂x|: the density is exact, a sample takes one call, and z must have
the size of x. The network needs continuous values: a level k becomes uniform in [k, k + 1)/17 (dequantisation), and the
mean log-density of these is a lower bound of the log-likelihood of the level.
"""

from __future__ import annotations

import math
import time

import torch
from shared import LEVELS, PIXELS, digits, nats, options, write
from torch import Tensor, nn
from torch.nn import functional as F

EDGE = 0.05  # values lie in [EDGE, 1 - EDGE] before the logit, so that it is finite


class Coupling(nn.Module):
    """x · exp(s(x')) + t(x') for one half of x, where x' is the other half, which stays (eq. 9)."""

    def __init__(self, mask: Tensor, hidden: int, dropout: float) -> None:
        super().__init__()
        self.register_buffer("mask", mask.float())
        size = len(mask)
        first, inner = [nn.Linear(size, hidden), nn.ReLU()], [nn.Linear(hidden, hidden), nn.ReLU()]
        last = nn.Linear(hidden, 2 * size)
        nn.init.zeros_(last.weight)  # the first transformation is the identity
        nn.init.zeros_(last.bias)
        self.network = nn.Sequential(*first, nn.Dropout(dropout), *inner, nn.Dropout(dropout), last)

    def parameters_for(self, x: Tensor) -> tuple[Tensor, Tensor]:
        s, t = self.network(x * self.mask).chunk(2, dim=1)
        return s.tanh() * (1 - self.mask), t * (1 - self.mask)

    def forward(self, x: Tensor) -> tuple[Tensor, Tensor]:
        """The transformed x and log |det| (N,), the sum of the logarithms of the scales."""
        s, t = self.parameters_for(x)
        return x * s.exp() + t, s.sum(1)

    def inverse(self, y: Tensor) -> Tensor:
        s, t = self.parameters_for(y)
        return (y - t) * (-s).exp()


class RealNVP(nn.Module):
    """Coupling layers between u in (0, 1)^pixels and z, normal. The halves alternate, random from pair to pair."""

    def __init__(self, pixels: int = PIXELS, layers: int = 8, hidden: int = 256, dropout: float = 0.2) -> None:
        super().__init__()
        self.pixels = pixels
        masks = []
        for pair in range(layers // 2):
            order = torch.randperm(pixels, generator=torch.Generator().manual_seed(pair))
            masks += [order < pixels // 2, order >= pixels // 2]
        self.couplings = nn.ModuleList(Coupling(mask, hidden, dropout) for mask in masks)

    def forward(self, u: Tensor) -> tuple[Tensor, Tensor]:
        """z (N, pixels) and log |det ∂z/∂u| (N,)."""
        inside = EDGE + (1 - 2 * EDGE) * u
        z = inside.logit()
        log_det = math.log(1 - 2 * EDGE) - F.logsigmoid(z) - F.logsigmoid(-z)  # of the logit: 1/(p (1 - p))
        log_det = log_det.sum(1)
        for coupling in self.couplings:
            z, more = coupling(z)
            log_det = log_det + more
        return z, log_det

    def inverse(self, z: Tensor) -> Tensor:
        """u for z; out of [0, 1] where no training value lies."""
        for coupling in reversed(self.couplings):
            z = coupling.inverse(z)
        return (z.sigmoid() - EDGE) / (1 - 2 * EDGE)

    def log_density(self, u: Tensor) -> Tensor:
        z, log_det = self(u)
        return log_det - (z.square().sum(1) + self.pixels * math.log(2 * math.pi)) / 2

    def bound(self, x: Tensor, k: int = 1) -> Tensor:
        """A lower bound of log p(x) (N,) of levels x (N, pixels), by k random points in the cell of each image."""
        cells = (x + torch.rand(k, *x.shape)) / LEVELS
        densities = self.log_density(cells.flatten(0, 1)).view(k, len(x))
        return densities.logsumexp(0) - math.log(k) - self.pixels * math.log(LEVELS)

    @torch.no_grad()
    def sample(self, n: int) -> Tensor:
        return (self.inverse(torch.randn(n, self.pixels)) * LEVELS).floor().clamp(0, LEVELS - 1).long()


def main() -> None:
    chosen = options(__doc__, steps=1200)
    train, held_out = digits(chosen.validate)
    model = RealNVP()
    optimizer = torch.optim.Adam(model.parameters(), lr=1e-3)
    schedule = torch.optim.lr_scheduler.CosineAnnealingLR(optimizer, chosen.steps)
    start = time.process_time()
    for step in range(chosen.steps):
        loss = -model.bound(train[torch.randint(len(train), (64,))]).mean()
        optimizer.zero_grad()
        loss.backward()
        nn.utils.clip_grad_norm_(model.parameters(), 50.0)
        optimizer.step()
        schedule.step()
        if chosen.validate and step % 200 == 199:
            model.eval()
            with torch.no_grad():
                print(step + 1, -loss.item(), nats(model.bound(held_out)), flush=True)
            model.train()
    taken = time.process_time() - start
    model.eval()
    with torch.no_grad():
        single = nats(torch.stack([model.bound(held_out) for _ in range(100)]).mean(0))
        tighter = nats(torch.cat([model.bound(image, 200) for image in held_out.split(1)]))
    likelihood = {**tighter, "kind": "lower bound, 200 points of the cell", "one_point": single["nats"]}
    about = {"latent_dim": model.pixels, "latent_size_is_free": False, "chain": False, "calls_for_a_sample": 1}
    write(chosen, "realnvp", model, model.sample, {"log_likelihood": likelihood, "training_seconds": taken, **about})


if __name__ == "__main__":
    main()
