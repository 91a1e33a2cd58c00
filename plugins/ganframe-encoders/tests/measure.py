"""Trains each method with five seeds, and measures its encoder: `python tests/measure.py [CASE …]`.

For each case, mean ± standard deviation over the seeds of
- code: mean (E(G(z)) - z)²; an encoder that knows nothing of z and returns 0 has 1;
- sample: mean (x - G(E(x)))², over the 1,797 scans, those of the training, with values in [-1, 1], or 2,000 new points;
- kept: share of the reconstructions G(E(x)) in the class of x, as a classifier names it, or in the mode of x;
- good: share of 1,000 samples G(z) of which the classifier is sure (probability > 0.9), or within 3 σ of a mode;
- spread: mean of (variance - 1)² + mean² over the numbers of a code, 0 where codes of x have the moments of z.

The classifier is a perceptron trained on the scans. In the cases `regression_…` a GAN is trained without a term, and
then an encoder to predict z from G(z), with as many steps.
"""

from __future__ import annotations

import sys
import tempfile
from pathlib import Path
from typing import Any

import numpy as np
import torch
from ganframe_encoders import load_encoder
from ganframe_encoders.networks import build_encoder
from sklearn.datasets import load_digits
from sklearn.neural_network import MLPClassifier
from torch import Tensor, nn

import ganframe

FOLDER = Path(__file__).parent.parent
CASES = {
    "regression_digits": ("vae_gan_digits", ["terms=[]"]),
    "vae_gan_digits": ("vae_gan_digits", []),
    "autoencoder_digits": ("aae_digits", ["terms[0].adversarial=0.0"]),
    "aae_digits": ("aae_digits", []),
    "regression_ring": ("bigan_ring", ["terms=[]", "objective.use='non_saturating'"]),
    "bigan_ring": ("bigan_ring", []),
    "ali_ring": ("bigan_ring", ["terms[0].stochastic=true"]),
}


class Digits:
    """The scans, and a classifier of them."""

    def __init__(self) -> None:
        digits = load_digits()
        self.x, self.labels = torch.from_numpy(digits.images).float()[:, None] / 8 - 1, digits.target
        self.machine = MLPClassifier((128,), max_iter=400, random_state=0).fit(self.x.flatten(1).numpy(), self.labels)

    def classes(self, x: Tensor) -> np.ndarray:
        return self.machine.predict(x.flatten(1).numpy())

    def good(self, x: Tensor) -> np.ndarray:
        return self.machine.predict_proba(x.flatten(1).numpy()).max(1) > 0.9


class Ring:
    """New points of the ring, and their modes."""

    def __init__(self) -> None:
        self.dataset = ganframe.load_recipe(FOLDER / "bigan_ring.toml").dataset
        data: Any = self.dataset.build()
        self.means = data.means
        self.x, y = data.draw(2000, torch.Generator().manual_seed(7))
        self.labels = y.numpy()

    def classes(self, x: Tensor) -> np.ndarray:
        return torch.cdist(x, self.means).argmin(1).numpy()

    def good(self, x: Tensor) -> np.ndarray:
        return (torch.cdist(x, self.means).amin(1) <= 3 * self.dataset.std).numpy()  # type: ignore[attr-defined]


def regress(G: Any, recipe: ganframe.Recipe) -> nn.Module:
    """An encoder like those of the recipes, trained to predict z from G(z)."""
    dim = recipe.latent.dim
    encoder = build_encoder("mlp", (128, 128), recipe.dataset.spec, dim, gaussian=False)
    optimizer = torch.optim.Adam(encoder.parameters(), lr=1e-3, betas=(0.5, 0.999))
    for _ in range(recipe.train.steps):
        z = torch.randn(64, dim)
        optimizer.zero_grad()
        (encoder(G.decode(z)) - z).square().mean().backward()
        optimizer.step()
    return encoder.eval()


@torch.no_grad()
def measured(G: Any, E: nn.Module, data: Digits | Ring) -> list[float]:
    """code, sample, kept, good and spread."""
    z, _ = G.latents(1000, seed=1)
    samples, codes = G.decode(z), E(data.x)
    rebuilt = G.decode(codes)
    kept = (data.classes(rebuilt) == data.labels).mean()
    spread = ((codes.var(0) - 1).square() + codes.mean(0).square()).mean()
    errors = (E(samples) - z).square().mean(), (rebuilt - data.x).square().mean()
    return [float(value) for value in (*errors, kept, data.good(samples).mean(), spread)]


def main() -> None:
    names = ("code", "sample", "kept", "good", "spread")
    data = {"digits": Digits(), "ring": Ring()}
    for case in sys.argv[1:] or CASES:
        name, changes = CASES[case]
        found = []
        for seed in range(5):
            with tempfile.TemporaryDirectory() as folder:
                recipe = ganframe.load_recipe(FOLDER / f"{name}.toml", [*changes, f"seed={seed}"])
                run = ganframe.run(recipe, out=f"{folder}/run").folder
                G = ganframe.load_generator(run)
                torch.manual_seed(seed)
                E = load_encoder(run) if recipe.terms else regress(G, recipe)
            found.append(measured(G, E, data[case.rpartition("_")[2]]))
        mean, std = np.mean(found, axis=0), np.std(found, axis=0)
        print(case, "  ".join(f"{n} {m:.3f} ± {s:.3f}" for n, m, s in zip(names, mean, std, strict=True)), flush=True)


if __name__ == "__main__":
    main()
