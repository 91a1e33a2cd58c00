"""A Boltzmann machine: a restricted one (Smolensky 1986; Hinton 2002). `python recipes/taxonomy/rbm.py`

p(v) = Σ_h exp(v·b + h·c + v·W h)/Z for binary h, and v of one unit for each level of each pixel, of which one is 1
(Salakhutdinov et al. 2007). Z is not known, and annealed importance sampling estimates it (Salakhutdinov & Murray
2008). Samples, in training too, come from a Markov chain that draws h and v in turn.
"""

from __future__ import annotations

import itertools
import math
import time

import torch
from shared import LEVELS, PIXELS, digits, nats, options, write
from torch import Tensor, nn
from torch.nn import functional as F

CHAIN = 500  # steps for a sample, from independent pixels
ANNEALED = 1000  # steps of the annealed importance sampling


class RBM(nn.Module):
    """Weights between pixels · levels visible units and `hidden` hidden ones. x are levels (N, pixels), int64."""

    def __init__(self, pixels: int = PIXELS, levels: int = LEVELS, hidden: int = 128) -> None:
        super().__init__()
        self.pixels, self.levels = pixels, levels
        self.W = nn.Parameter(0.01 * torch.randn(pixels * levels, hidden))
        self.b, self.c = nn.Parameter(torch.zeros(pixels * levels)), nn.Parameter(torch.zeros(hidden))

    def units(self, x: Tensor) -> Tensor:
        return F.one_hot(x, self.levels).flatten(1).float()

    def free_energy(self, x: Tensor) -> Tensor:
        """-log Σ_h exp(v·b + h·c + v·W h), (N,): -log p(x) - log Z."""
        v = self.units(x)
        return -v @ self.b - F.softplus(self.c + v @ self.W).sum(1)

    @torch.no_grad()
    def gibbs(self, x: Tensor, steps: int = 1) -> Tensor:
        """The chain after some steps from x: h given v, and v given h."""
        for _ in range(steps):
            h = (self.c + self.units(x) @ self.W).sigmoid().bernoulli()
            x = self.drawn(self.b + h @ self.W.T)
        return x

    def drawn(self, logits: Tensor) -> Tensor:
        """Levels (N, pixels), drawn by logits (N, pixels · levels)."""
        noise = -torch.empty_like(logits).exponential_().log()  # Gumbel's: the largest sum is a draw of the softmax
        return (logits + noise).unflatten(1, (self.pixels, self.levels)).argmax(2)

    @torch.no_grad()
    def log_Z(self, base: Tensor, chains: int = 100, steps: int = 1000) -> float:
        """An estimate of log Z by annealed importance sampling from the machine with W = 0 and b = `base`.

        Its expectation is at most log Z, so likelihoods that it gives are too large rather than too small.
        """
        log_Z0 = base.view(self.pixels, self.levels).logsumexp(1).sum() + len(self.c) * math.log(2)
        betas = torch.linspace(0, 1, steps + 1)
        x = self.drawn(base.expand(chains, -1))
        weights = torch.zeros(chains)
        for last, beta in itertools.pairwise(betas):
            v = self.units(x)
            inner = self.c + v @ self.W
            weights += (beta - last) * (v @ (self.b - base))
            weights += (F.softplus(beta * inner) - F.softplus(last * inner)).sum(1)
            h = (beta * inner).sigmoid().bernoulli()
            x = self.drawn((1 - beta) * base + beta * (self.b + h @ self.W.T))
        return (log_Z0 + weights.logsumexp(0) - math.log(chains)).item()


def frequencies(model: RBM, train: Tensor) -> Tensor:
    """The logarithms of the frequencies of the levels of each pixel, (pixels · levels,)."""
    return (model.units(train).mean(0) + 1 / len(train)).log()


def main() -> None:
    chosen = options(__doc__, steps=4000)
    train, held_out = digits(chosen.validate)
    model = RBM()
    base = frequencies(model, train)
    with torch.no_grad():
        model.b.copy_(base)
    optimizer = torch.optim.Adam(model.parameters(), lr=2e-3)
    schedule = torch.optim.lr_scheduler.CosineAnnealingLR(optimizer, chosen.steps)
    chain = train[torch.randint(len(train), (64,))]
    start = time.process_time()
    for step in range(chosen.steps):
        chain = model.gibbs(chain)  # goes on from step to step: persistent contrastive divergence (Tieleman 2008)
        batch = train[torch.randint(len(train), (64,))]
        loss = (model.free_energy(batch) - model.free_energy(chain)).mean() + 1e-3 * model.W.square().sum()
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        schedule.step()
        if chosen.validate and step % 500 == 499:
            z = model.log_Z(base, steps=500)
            with torch.no_grad():
                print(step + 1, *(nats(-model.free_energy(x) - z) for x in (train, held_out)), flush=True)
    taken = time.process_time() - start
    estimates = [model.log_Z(base, steps=ANNEALED) for _ in range(3)]
    with torch.no_grad():
        found = nats(-model.free_energy(held_out) - max(estimates))
    likelihood = {**found, "kind": "estimate, annealed importance sampling", "log_Z": estimates}

    def sample(n: int, steps: int = CHAIN) -> Tensor:
        return model.gibbs(model.drawn(base.expand(n, -1)), steps)  # from independent pixels

    about = {"latent_dim": len(model.c), "latent_size_is_free": True, "chain": True, "calls_for_a_sample": CHAIN}
    numbers = {"log_likelihood": likelihood, "training_seconds": taken, **about}
    shorter = {f"rbm_{steps}": sample(chosen.samples, steps) for steps in (1, 10, 100) if steps < CHAIN}
    write(chosen, "rbm", model, sample, numbers, shorter)


if __name__ == "__main__":
    main()
