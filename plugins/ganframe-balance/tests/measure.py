"""Repeats the measurements of the README: `python tests/measure.py [NAME …] [--seeds 5]`

Trains each case of each measurement with seeds 0, 1, …, and prints mean ± standard deviation over the seeds. A name is
one of `CASES`; without names, all are measured.

Modes and quality on the ring: 2,500 samples; a sample is of high quality if it is within 3 σ of its nearest mode, and a
mode is captured if a sample of high quality is nearest to it (Srivastava et al. 2017). A perfect sampler has 98.89 %.

FD on digits: the Fréchet distance of 1,000 samples and the held-out scans in the hidden layer of a classifier of
scikit-learn, with 128 units. It is not FID. "sure": the share of samples to which the classifier gives a class with
more than 90 %; classes: how many classes have at least 1 % of these.
"""

from __future__ import annotations

import argparse
import functools
import statistics
import tempfile
from collections.abc import Callable
from pathlib import Path

import numpy as np
import torch
from ganframe_balance.multipliers import Multiplier
from safetensors.torch import load_file
from scipy.linalg import sqrtm
from sklearn.datasets import load_digits
from sklearn.neural_network import MLPClassifier
from torch import Tensor

import ganframe

FOLDER = Path(__file__).parent.parent
FEW = 200

Found = dict[str, float]
Measure = Callable[[ganframe.Run], Found]


def ring(run: ganframe.Run) -> Found:
    """Modes captured of 8, and the share of high quality in percent."""
    angles = torch.arange(8) * (torch.pi / 4)
    means = torch.stack([angles.cos(), angles.sin()], 1)
    samples = ganframe.load_generator(run.folder).sample(2500, seed=1)
    distance, nearest = torch.cdist(samples, means, compute_mode="donot_use_mm_for_euclid_dist").min(1)
    good = distance <= 3 * 0.01
    return {"modes of 8": len(nearest[good].unique()), "% within 3 σ": 100 * good.double().mean().item()}


def critic(run: ganframe.Run) -> tuple[torch.nn.Module, dict[str, Tensor], Tensor, Tensor]:
    """The last discriminator, its last checkpoint by file, and 2,500 real and fake samples."""
    recipe = ganframe.load_recipe(run.folder / "recipe.toml")
    checkpoint = max((run.folder / "checkpoints").iterdir(), key=lambda p: int("".join(filter(str.isdigit, p.name))))
    D = recipe.discriminator.build(recipe.dataset.spec)
    D.load_state_dict(load_file(checkpoint / "discriminator.safetensors"))
    memory = {file.stem: load_file(file) for file in checkpoint.glob("term.*.safetensors")}
    real, _ = recipe.dataset.build().draw(2500, torch.Generator().manual_seed(1))
    G = recipe.generator.build(recipe.dataset.spec, recipe.latent.dim)
    G.load_state_dict(load_file(checkpoint / "generator.safetensors"))
    with torch.no_grad():
        fake = G.eval()(torch.randn(2500, recipe.latent.dim), torch.zeros(2500, dtype=torch.long))
    return D, memory, real, fake


def moments(run: ganframe.Run) -> Found:
    """The second moments of Fisher and Sobolev GAN at the end, the IPM, and λ where there is one."""
    D, memory, real, fake = critic(run)
    y = torch.zeros(len(real), dtype=torch.long)
    sides = [x.requires_grad_() for x in (real, fake)]
    scores = [D(x, y) for x in sides]
    gradients = [torch.autograd.grad(s.sum(), x)[0] for s, x in zip(scores, sides, strict=True)]
    found = {
        "½(E D(x)² + E D(G)²)": sum(s.square().mean().item() for s in scores) / 2,
        "½(E‖∇D(x)‖² + E‖∇D(G)‖²)": sum(g.square().sum(1).mean().item() for g in gradients) / 2,
        "E D(x) - E D(G)": (scores[0].mean() - scores[1].mean()).item(),
    }
    for values in memory.values():
        found |= {"λ": values["value"].item()} if values.keys() == Multiplier().state_dict().keys() else {}
    return ring(run) | found


@functools.cache
def judge() -> tuple[MLPClassifier, np.ndarray]:
    """A classifier of digits trained on all scans, and its features of the scans outside the first FEW."""
    digits = load_digits()
    machine = MLPClassifier((128,), max_iter=400, random_state=0).fit(digits.data / 16, digits.target)
    return machine, features(machine, digits.data[FEW:] / 16)


def features(machine: MLPClassifier, x: np.ndarray) -> np.ndarray:
    return np.maximum(x @ machine.coefs_[0] + machine.intercepts_[0], 0)


def digits(run: ganframe.Run) -> Found:
    """FD to the scans, and what the classifier finds."""
    machine, reference = judge()
    x = ganframe.load_generator(run.folder).sample(1000, seed=1).flatten(1).numpy() / 2 + 0.5
    found = features(machine, x)
    means = [f.mean(0) for f in (reference, found)]
    covariances = [np.cov(f, rowvar=False) for f in (reference, found)]
    root = sqrtm(covariances[0] @ covariances[1]).real
    distance = ((means[0] - means[1]) ** 2).sum() + np.trace(covariances[0] + covariances[1] - 2 * root)
    probabilities = machine.predict_proba(x)
    sure = probabilities.max(1) > 0.9
    counts = np.bincount(probabilities.argmax(1)[sure], minlength=10)
    return {"FD": float(distance), "% sure": 100 * sure.mean(), "classes": int((counts >= 10).sum())}


def began(run: ganframe.Run, gamma: float = 0.7) -> Found:
    """The measure of convergence M of BEGAN, from the last tenth of the log, and the path of k."""
    last = run.log[-max(len(run.log) // 10, 1) :]
    real, fake = (-statistics.mean(record[f"score_{side}"] for record in last) for side in ("real", "fake"))
    found = {"L(x)": real, "L(G)/L(x)": fake / real, "M": real + abs(gamma * real - fake)}
    if "term_began" in run.log[-1]:
        ks = [1 + record["term_began"] / record["score_fake"] for record in run.log]
        found |= {f"k at {share} %": ks[int(share / 100 * (len(ks) - 1))] for share in (10, 50, 100)}
    return digits(run) | found


@functools.cache
def few_digits() -> str:
    """A folder with the first FEW scans as images: a dataset of few samples."""
    from PIL import Image

    folder = Path(tempfile.mkdtemp())
    for index, image in enumerate(load_digits().images[:FEW]):
        Image.fromarray(np.rint(image * (255 / 16)).astype(np.uint8)).save(folder / f"{index:03}.png")
    return str(folder)


def few() -> tuple[str, ...]:
    return ("dataset.use='image_folder'", f"dataset.root='{few_digits()}'", "dataset.channels=1")


# name: (label of the case, recipe, overrides, measure)
CASES: dict[str, list[tuple[str, str, tuple[str, ...], Measure]]] = {
    "fisher": [
        ("fisher", "fisher_ring", (), moments),
        ("without", "fisher_ring", ("terms=[]",), moments),  # and of sobolev and wgan_div, whose games are the same
    ],
    "sobolev": [
        ("sobolev", "sobolev_ring", (), moments),
    ],
    "wgan_div": [
        ("wgan_div", "wgan_div_ring", (), ring),
        ("gradient_penalty", "wgan_div_ring", ("constraints=[{use='gradient_penalty', weight=0.1}]",), ring),
    ],
    "mmd": [
        ("mmd", "mmd_ring", (), ring),
        ("without spectral_norm", "mmd_ring", ("constraints=[]",), ring),
    ],
    "cramer": [
        ("cramer", "cramer_ring", (), ring),
        ("without cramer_penalty", "cramer_ring", ("terms=[]",), ring),
    ],
    "minibatch_stddev": [
        ("minibatch_stddev", "minibatch_stddev_ring", (), ring),
        ("mlp", "minibatch_stddev_ring", ("discriminator={use='mlp'}",), ring),
    ],
    "began": [
        ("began", "began_digits", (), began),
        ("without the balance", "began_digits", ("terms=[]",), began),
    ],
    "ebgan": [
        ("ebgan with pulling_away", "ebgan_digits", (), digits),
        ("ebgan", "ebgan_digits", ("terms=[]",), digits),
    ],
    "lecam_few": [
        ("lecam", "lecam_digits", (), digits),
        ("without", "lecam_digits", ("terms=[]",), digits),
    ],
    "lecam": [
        ("lecam", "lecam_ring", (), ring),  # without it: see fisher
    ],
}


def measure(recipe: str, overrides: tuple[str, ...], measured: Measure, seed: int) -> Found:
    quiet = ("log.every=50", "log.samples_every=1000000", "log.checkpoint_every=1000000", f"seed={seed}")
    given = (*overrides, *(few() if recipe == "lecam_digits" else ()), *quiet)
    loaded = ganframe.load_recipe(FOLDER / f"{recipe}.toml", [*given])
    with tempfile.TemporaryDirectory() as folder:
        return measured(ganframe.run(loaded, out=Path(folder) / "run"))


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("names", nargs="*", choices=[*CASES, []])
    parser.add_argument("--seeds", type=int, default=5)
    parser.add_argument("--set", action="append", default=[])
    given = parser.parse_args()
    for name in given.names or CASES:
        for label, recipe, overrides, measured in CASES[name]:
            found = [measure(recipe, (*overrides, *given.set), measured, seed) for seed in range(given.seeds)]
            for key in found[0]:
                values = [each[key] for each in found]
                spread = statistics.stdev(values) if len(values) > 1 else 0.0
                each = ", ".join(f"{value:.4g}" for value in values)
                print(f"{name} | {label} | {key} | {statistics.mean(values):.4g} ± {spread:.2g} | {each}", flush=True)


if __name__ == "__main__":
    main()
