"""A variational autoencoder (Kingma & Welling 2014; Rezende et al. 2014). `python recipes/taxonomy/vae.py`

p(x) = ∫ p(z) p(x|z) dz with z of any size. The integral is not known; an encoder q(z|x) gives a lower bound of it,
E_q log p(x, z)/q(z|x), and with k samples inside the logarithm a tighter one (Burda et al. 2016).
"""

from __future__ import annotations

import itertools
import math
import time

import torch
from shared import LEVELS, PIXELS, digits, log_levels, nats, options, spread_out, write
from torch import Tensor, nn


def perceptron(*sizes: int) -> nn.Sequential:
    layers = [part for a, b in itertools.pairwise(sizes) for part in (nn.Linear(a, b), nn.ReLU())]
    return nn.Sequential(*layers[:-1])


class VAE(nn.Module):
    """q(z|x) = N(μ(x), σ(x)²) and p(x|z) = Π p(x_d|z), for x (N, pixels), int64 levels."""

    def __init__(self, pixels: int = PIXELS, latent: int = 12, hidden: int = 256, mixture: int = 4) -> None:
        super().__init__()
        self.pixels, self.latent = pixels, latent
        self.encoder = perceptron(pixels, hidden, hidden, 2 * latent)
        self.decoder = perceptron(latent, hidden, hidden, 3 * mixture * pixels)
        spread_out(self.decoder[-1].bias, pixels)

    def decode(self, z: Tensor) -> Tensor:
        """log p(x_d|z) (…, pixels, 17) of each level."""
        return log_levels(self.decoder(z).unflatten(-1, (self.pixels, -1)))

    def log_ratio(self, x: Tensor, k: int) -> Tensor:
        """log p(x, z)/q(z|x) (k, N) for k samples z of q(z|x)."""
        mean, log_std = self.encoder(x * (2 / (LEVELS - 1)) - 1).chunk(2, dim=-1)
        noise = torch.randn(k, *mean.shape)
        z = mean + log_std.exp() * noise
        log_q = (-log_std - noise.square() / 2).sum(2)  # both densities without (2π)^(-latent/2)
        log_prior = -z.square().sum(2) / 2
        each = self.decode(z).gather(3, x.expand(k, *x.shape)[..., None])
        return log_prior + each.sum((2, 3)) - log_q

    def elbo(self, x: Tensor) -> Tensor:
        """A lower bound of log p(x), (N,): one random estimate of it."""
        return self.log_ratio(x, 1)[0]

    @torch.no_grad()
    def tighter(self, x: Tensor, k: int = 500) -> Tensor:
        """log 1/k Σ p(x, z)/q(z|x), (N,): in the mean a lower bound, which tends to log p(x) as k grows."""
        parts = [self.log_ratio(image, k) for image in x.split(1)]
        return torch.cat(parts, 1).logsumexp(0) - math.log(k)

    @torch.no_grad()
    def sample(self, n: int) -> Tensor:
        return self.decode(torch.randn(n, self.latent)).exp().flatten(0, 1).multinomial(1).view(n, self.pixels)

    @torch.no_grad()
    def means(self, n: int) -> Tensor:
        """The mean grey levels (n, pixels) of p(x|z), which are often shown in the place of samples."""
        return self.decode(torch.randn(n, self.latent)).exp() @ torch.arange(LEVELS).float()


def main() -> None:
    chosen = options(__doc__, steps=2500)
    train, held_out = digits(chosen.validate)
    model = VAE()
    optimizer = torch.optim.Adam(model.parameters(), lr=1e-3)
    schedule = torch.optim.lr_scheduler.CosineAnnealingLR(optimizer, chosen.steps)
    start = time.process_time()
    for step in range(chosen.steps):
        loss = -model.elbo(train[torch.randint(len(train), (64,))]).mean()
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        schedule.step()
        if chosen.validate and step % 200 == 199:
            with torch.no_grad():
                print(step + 1, -loss.item(), nats(model.elbo(held_out)))
    taken = time.process_time() - start
    with torch.no_grad():
        elbo = nats(torch.stack([model.elbo(held_out) for _ in range(100)]).mean(0))
    likelihood = {**nats(model.tighter(held_out)), "kind": "lower bound, 500 samples of q", "elbo": elbo["nats"]}
    about = {"latent_dim": model.latent, "latent_size_is_free": True, "chain": False, "calls_for_a_sample": 1}
    numbers = {"log_likelihood": likelihood, "training_seconds": taken, **about}
    write(chosen, "vae", model, model.sample, numbers, {"vae_means": model.means(chosen.samples)})


if __name__ == "__main__":
    main()
