"""Measures the fit of runs of fgan_mixture.toml: `python tests/measure.py RUN...`

For each run, prints μ and σ of G, and μ* and σ* of the Gaussian that minimises the divergence which G minimises at the
optimal discriminator, found by quadrature; the divergence of both; and the errors of μ and σ in percent, that of μ also
in units of σ*.
"""

from __future__ import annotations

import sys
from pathlib import Path

import numpy as np
from ganframe_fgan import FGAN
from scipy.optimize import minimize
from scipy.stats import norm

import ganframe
from ganframe import Recipe

X = np.linspace(-14, 16, 30_001)
STEP = 30 / 30_000


def skewed(p: np.ndarray, q: np.ndarray, pi: float) -> np.ndarray:
    """The integrand of π KL(p‖m) + (1 - π) KL(q‖m), m = πp + (1 - π)q."""
    m = pi * p + (1 - pi) * q
    return pi * p * np.log(p / m) + (1 - pi) * q * np.log(q / m)


DIVERGENCES = {
    "total_variation": lambda p, q: abs(p - q) / 2,
    "kl": lambda p, q: p * np.log(p / q),
    "reverse_kl": lambda p, q: q * np.log(q / p),
    "pearson": lambda p, q: (p - q) ** 2 / q,
    "neyman": lambda p, q: (p - q) ** 2 / p,
    "squared_hellinger": lambda p, q: (np.sqrt(p) - np.sqrt(q)) ** 2,
    "jeffrey": lambda p, q: (p - q) * np.log(p / q),
    "jensen_shannon": lambda p, q: 2 * skewed(p, q, 0.5),
    "gan": lambda p, q: 2 * skewed(p, q, 0.5) - np.log(4) * q,
}
# The divergence that a non-saturating G minimises, where it is in DIVERGENCES.
NON_SATURATING = {"kl": "reverse_kl", "reverse_kl": "neyman", "pearson": "kl", "total_variation": "total_variation"}


def minimised(recipe: Recipe) -> str:
    """The name of the divergence that a recipe's G minimises."""
    objective = recipe.objective
    if not isinstance(objective, FGAN):
        return "kl"  # maximum likelihood
    return objective.divergence if objective.generator == "minimax" else NON_SATURATING[objective.divergence]


def divergence(name: str, recipe: Recipe, mean: float, std: float) -> float:
    """D_f(p‖q) of the recipe's mixture p and q = N(mean, std²)."""
    data = recipe.dataset
    shares = np.array(data.weights) / sum(data.weights)
    p = sum(share * norm.pdf(X, m, s) for share, m, s in zip(shares, data.means, data.stds, strict=True))
    q = norm.pdf(X, mean, std)
    tiny = 1e-290  # avoids 0/0 where both densities underflow
    p, q = np.maximum(p, tiny), np.maximum(q, tiny)
    values = skewed(p, q, recipe.objective.pi) if name == "jensen_shannon_weighted" else DIVERGENCES[name](p, q)
    return float(values.sum() * STEP)


def best(name: str, recipe: Recipe) -> tuple[float, float]:
    """μ* and σ* of the Gaussian that minimises the divergence, from several starts because of local minima."""
    starts = [(mean, log_std) for mean in (-1.0, 0.5, 2.0, 3.5) for log_std in (-0.5, 0.5)]
    found = [minimize(lambda t: divergence(name, recipe, t[0], np.exp(t[1])), s, method="Nelder-Mead") for s in starts]
    mean, log_std = min(found, key=lambda result: result.fun).x
    return float(mean), float(np.exp(log_std))


def fitted(run: Path) -> tuple[float, float]:
    """μ and σ of samples of a run."""
    samples = ganframe.load_generator(run).sample(200_000, seed=0)
    return samples.mean().item(), samples.std().item()


def main(runs: list[Path]) -> None:
    print("| run | G minimises | μ*, σ* | D(p‖q*) | μ, σ of G | D(p‖q) | error |\n|---|---|---|---|---|---|---|")
    for run in runs:
        recipe = ganframe.load_recipe(run / "recipe.toml")
        name = minimised(recipe)
        (m, s), (mean, std) = best(name, recipe), fitted(run)
        # Neyman's divergence is infinite where G is wide (σ ≥ √8 here); its sum over X is only large.
        values = [divergence(name, recipe, *parameters) for parameters in ((m, s), (mean, std))]
        least, reached = ("infinite" if value > 1e3 else f"{value:.4f}" for value in values)
        error = f"{mean / m - 1:+.1%}, {std / s - 1:+.1%} ({(mean - m) / s:+.3f} σ*)"
        print(f"| {run.name} | {name} | {m:.3f}, {s:.3f} | {least} | {mean:.3f}, {std:.3f} | {reached} | {error} |")


if __name__ == "__main__":
    main([Path(run) for run in sys.argv[1:]])
