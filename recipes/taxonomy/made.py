"""A fully visible belief net: MADE, a masked autoencoder (Germain et al. 2015). `python recipes/taxonomy/made.py`

p(x) = Π p(x_d | x_1, …, x_{d-1}): the log-likelihood is exact, and one call of the network gives all its terms, since
the masks hide from the output of a pixel all pixels from it on. A sample takes a call of the network for each pixel.
"""

from __future__ import annotations

import time

import torch
from shared import LEVELS, PIXELS, digits, log_levels, nats, options, spread_out, write
from torch import Tensor, nn
from torch.nn import functional as F


class MaskedLinear(nn.Linear):
    """A linear layer without the weights that the mask (out, in) forbids."""

    def __init__(self, mask: Tensor) -> None:
        super().__init__(mask.shape[1], mask.shape[0])
        self.register_buffer("mask", mask.float())

    def forward(self, x: Tensor) -> Tensor:
        return F.linear(x, self.weight * self.mask, self.bias)


class MADE(nn.Module):
    """log p (N, pixels, 17) of the levels of each pixel given those before it, for x (N, pixels), int64 levels."""

    def __init__(self, pixels: int = PIXELS, hidden: int = 512, mixture: int = 4, dropout: float = 0.3) -> None:
        super().__init__()
        self.pixels = pixels
        order = torch.arange(pixels)
        inner = torch.arange(hidden) % (pixels - 1)  # a unit of degree m sees the pixels 0 to m
        self.layers = nn.Sequential(
            MaskedLinear(inner[:, None] >= order),
            nn.ReLU(),
            nn.Dropout(dropout),
            MaskedLinear(inner[:, None] >= inner),
            nn.ReLU(),
            nn.Dropout(dropout),
            MaskedLinear(order.repeat_interleave(3 * mixture)[:, None] > inner),
        )
        spread_out(self.layers[-1].bias, pixels)

    def forward(self, x: Tensor) -> Tensor:
        return log_levels(self.layers(x * (2 / (LEVELS - 1)) - 1).unflatten(1, (self.pixels, -1)))

    def log_prob(self, x: Tensor) -> Tensor:
        """log p(x) (N,), exact."""
        return self(x).gather(2, x[:, :, None]).sum((1, 2))

    @torch.no_grad()
    def sample(self, n: int) -> Tensor:
        x = torch.zeros(n, self.pixels, dtype=torch.long)
        for pixel in range(self.pixels):  # in order: each call needs the pixels before
            x[:, pixel] = self(x)[:, pixel].exp().multinomial(1)[:, 0]
        return x


def main() -> None:
    chosen = options(__doc__, steps=1000)
    train, held_out = digits(chosen.validate)
    model = MADE()
    optimizer = torch.optim.Adam(model.parameters(), lr=1e-3)
    schedule = torch.optim.lr_scheduler.CosineAnnealingLR(optimizer, chosen.steps)
    start = time.process_time()
    for step in range(chosen.steps):
        loss = -model.log_prob(train[torch.randint(len(train), (64,))]).mean()
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        schedule.step()
        if chosen.validate and step % 100 == 99:
            model.eval()
            with torch.no_grad():
                print(step + 1, -loss.item(), nats(model.log_prob(held_out)))
            model.train()
    taken = time.process_time() - start
    model.eval()
    with torch.no_grad():
        likelihood = {**nats(model.log_prob(held_out)), "kind": "exact"}
    about = {"latent_dim": None, "latent_size_is_free": None, "chain": False, "calls_for_a_sample": model.pixels}
    write(chosen, "made", model, model.sample, {"log_likelihood": likelihood, "training_seconds": taken, **about})


if __name__ == "__main__":
    main()
