"""Measures what each term does, with and without it, for seeds 0 to 4: `python tests/measure.py [NAME …]`.

Names are acgan, infogan, features, completion and semi; all of them by default. Each run takes up to a minute
on one core. Prints the mean and standard deviation over the seeds; `--seeds N` uses fewer, `--set a.b=c` changes all
recipes. Run by hand; needs scikit-learn.
"""

from __future__ import annotations

import argparse
import functools
import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import torch
from safetensors.torch import load_file
from scipy.linalg import sqrtm
from sklearn.datasets import load_digits
from sklearn.metrics import normalized_mutual_info_score
from sklearn.neural_network import MLPClassifier, MLPRegressor
from torch import Tensor, nn
from torch.nn.functional import cross_entropy

import ganframe

FOLDER = Path(__file__).parent.parent


def trained(name: str, seed: int, *overrides: str) -> Path:
    """The folder of a run of a recipe."""
    quiet = ["log.samples_every=100000", "log.checkpoint_every=100000"]
    recipe = ganframe.load_recipe(FOLDER / f"{name}.toml", [f"seed={seed}", *quiet, *overrides, *CHANGES])
    return Path(ganframe.run(recipe, out=Path(tempfile.mkdtemp()) / "run").folder)


def weights(run: Path, name: str) -> dict[str, Tensor]:
    """The tensors of a file of the run's last checkpoint."""
    return load_file(max((run / "checkpoints").iterdir()) / f"{name}.safetensors")


@functools.cache
def judge() -> MLPClassifier:
    """A perceptron that knows all scans and their classes."""
    digits = load_digits()
    return MLPClassifier((128,), max_iter=400, random_state=0).fit(digits.data / 16, digits.target)


def pixels(images: Tensor) -> np.ndarray:
    """Images in [-1, 1] as rows in [0, 1], for the judge."""
    return images.flatten(1).numpy() / 2 + 0.5


def acgan(seed: int) -> dict[str, float]:
    """The share of samples that the judge puts into the class they were made for, the share it is sure of, and the
    standard deviation within a label as a share of that of the scans."""
    y, machine, found = torch.arange(2000) % 10, judge(), {}
    digits = load_digits()
    of_scans = spread(digits.data / 16, digits.target)
    for case, overrides in {
        "class_head": [],
        "class_head, weight_generator 1": ["terms.0.weight_generator=1"],
        "without": ["terms=[]"],
    }.items():
        samples = ganframe.load_generator(trained("acgan_digits", seed, *overrides)).sample(2000, seed=1, y=y)
        probabilities = machine.predict_proba(pixels(samples))
        found[f"{case}: right class"] = float((probabilities.argmax(1) == y.numpy()).mean())
        found[f"{case}: sure"] = float((probabilities.max(1) > 0.9).mean())
        found[f"{case}: spread within a label"] = spread(pixels(samples), y.numpy()) / of_scans
    return found


def spread(x: np.ndarray, y: np.ndarray) -> float:
    """The mean standard deviation of a pixel within a class."""
    return float(np.sqrt(np.mean([x[y == label].var(0).mean() for label in range(10)])))


def infogan(seed: int, *changes: str) -> dict[str, float]:
    """How well a new classifier reads the codes from samples, and what the category tells about the digit."""
    machine, found = judge(), {}
    for case, overrides in {"info": [], "without": ["terms=[]"]}.items():
        G = ganframe.load_generator(trained("infogan_digits", seed, *overrides))
        z = torch.randn(6000, 32, generator=torch.Generator().manual_seed(1))
        with torch.no_grad():
            samples = pixels(G.network(z, torch.zeros(6000, dtype=torch.long)))
        code = z[:, 20:30].argmax(1).numpy()
        reader = MLPClassifier((128,), max_iter=60, random_state=0, early_stopping=True)
        reader.fit(samples[:4000], code[:4000])
        found[f"{case}: category read back"] = float(reader.score(samples[4000:], code[4000:]))
        c, reader = (
            z[:, 30:].numpy(),
            MLPRegressor(hidden_layer_sizes=(128,), max_iter=60, random_state=0, early_stopping=True),
        )
        explained = reader.fit(samples[:4000], c[:4000]).score(samples[4000:], c[4000:])
        found[f"{case}: variance of continuous codes explained"] = float(explained)
        digit = machine.predict(samples)
        found[f"{case}: digits told by category (NMI)"] = float(normalized_mutual_info_score(code, digit))
        found[f"{case}: sure"] = float((machine.predict_proba(samples).max(1) > 0.9).mean())
    return found


def frechet(x: np.ndarray, y: np.ndarray) -> float:
    """The Fréchet distance of two normal distributions with the means and covariances of rows x and y."""
    first, second = np.cov(x.T), np.cov(y.T)
    root = sqrtm(first @ second).real
    return float(np.square(x.mean(0) - y.mean(0)).sum() + np.trace(first + second - 2 * root))


def features(seed: int) -> dict[str, float]:
    """The Fréchet distance of 2,000 samples to all scans in pixels, and the share of samples the judge is sure of."""
    machine, scans, found = judge(), load_digits().data / 16, {}
    for case, overrides in {
        "feature_matching alone": [],
        "beside non_saturating": ["objective={use='non_saturating'}"],
        "non_saturating without it": ["terms=[]", "objective={use='non_saturating'}"],
    }.items():
        run = trained("feature_matching_digits", seed, *overrides)
        samples = pixels(ganframe.load_generator(run).sample(2000, seed=1))
        found[f"{case}: Fréchet distance in pixels"] = frechet(samples, scans)
        found[f"{case}: sure"] = float((machine.predict_proba(samples).max(1) > 0.9).mean())
    return found


def completion(seed: int) -> dict[str, float]:
    """On scans that were held out: the L1 error, and the mean distance of two answers for one condition."""
    found = {}
    for case, overrides in {
        "both": [],
        "l1": ["terms.1.weight=0"],
        "neither": ["terms=[]"],
    }.items():
        run = trained("completion_digits", seed, *overrides)
        dataset, G = ganframe.load_recipe(run / "recipe.toml").dataset, ganframe.load_generator(run)
        x, y = (side.float() / 127.5 - 1 for side in dataset.held_out().tensors)
        answers = torch.stack([G.sample(len(y), seed=s, y=y) for s in range(8)])
        errors = (answers - x).abs().flatten(2).mean(2)
        found[f"{case}: L1 error"] = errors[0].mean().item()
        found[f"{case}: L1 error of the best of 8 answers"] = errors.min(0).values.mean().item()
        found[f"{case}: distance of two answers"] = (answers[0] - answers[1]).abs().mean().item()
    return found


def semi(seed: int) -> dict[str, float]:
    """Accuracy on held-out scans of D in the game, and of the same network trained on the labelled scans alone."""
    found = {}
    for case, overrides in {
        "game of K + 1": [],
        "game of K + 1, G by the non-saturating loss": ["terms.1.weight=0", "objective={use='non_saturating'}"],
    }.items():
        run = trained("semi_supervised_digits", seed, f"dataset.seed={seed}", *overrides)
        recipe = ganframe.load_recipe(run / "recipe.toml")
        D = recipe.discriminator.build(recipe.dataset.spec)
        D.load_state_dict(weights(run, "discriminator"))
        found[f"{case}: held-out accuracy"] = accuracy(D, recipe)
    torch.manual_seed(seed)
    D = recipe.discriminator.build(recipe.dataset.spec)
    scans, labels = recipe.dataset.build().tensors
    known = labels < 10
    scans, labels = scans[known].float() / 127.5 - 1, labels[known]
    optimizer = torch.optim.Adam(D.parameters(), lr=1e-3, betas=(0.5, 0.999))
    best = 0.0
    for step in range(1, recipe.train.steps + 1):
        extras: dict[str, Tensor] = {}
        D.train()(scans, labels, extras)
        optimizer.zero_grad()
        cross_entropy(extras["logits"], labels).backward()
        optimizer.step()
        if step % 100 == 0:
            best = max(best, accuracy(D, recipe))
    found["labelled scans alone: held-out accuracy"] = accuracy(D, recipe)
    found["labelled scans alone: best of all steps"] = best
    return found


def accuracy(D: nn.Module, recipe: ganframe.Recipe) -> float:
    """The share of held-out samples whose class has the largest logit."""
    x, y = recipe.dataset.held_out().tensors
    extras: dict[str, Tensor] = {}
    with torch.no_grad():
        D.eval()(x.float() / 127.5 - 1, y, extras)
    return (extras["logits"].argmax(1) == y).double().mean().item()


MEASURES: dict[str, Callable[[int], dict[str, float]]] = {
    "acgan": acgan,
    "infogan": infogan,
    "features": features,
    "completion": completion,
    "semi": semi,
}
CHANGES: list[str] = []


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("names", nargs="*", default=[*MEASURES], metavar="NAME")
    parser.add_argument("--seeds", type=int, default=5)
    parser.add_argument("--set", action="append", default=[], dest="changes")
    given: Any = parser.parse_args()
    CHANGES.extend(given.changes)
    torch.set_num_threads(1)
    for name in given.names:
        found = []
        for seed in range(given.seeds):
            found.append(MEASURES[name](seed))
            print(f"# {name}, seed {seed}: {found[-1]}", flush=True)
        for key in found[0]:
            values = np.array([each[key] for each in found])
            print(f"{name}: {key}: {values.mean():.4f} ± {values.std():.4f}  {values.round(4).tolist()}", flush=True)


if __name__ == "__main__":
    main()
