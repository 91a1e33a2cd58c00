"""Measures what each component of this package does to samples: `python tests/measure.py [CASE …] [--out FOLDER]`.

Trains each case with seeds 0 to 4, about a minute each on one core, and prints the mean and standard deviation over
seeds. A run that is there already is not trained again.

ring, grid: by VEEGAN's protocol (Srivastava et al. 2017), with 2,500 samples. A sample has high quality within three
standard deviations of its nearest mode; a mode is captured if it is the nearest of a sample of high quality. A perfect
sampler has 98.89 % of high quality.

digits: G is trained on 200 scans, other ones for each seed, and 1,597 of its samples are compared with the other 1,597
scans. FD is the Fréchet distance between their features, the 128 hidden units of a classifier of all scans. A sample is
sure if the classifier gives it a probability above 0.9. Below are the same numbers for the 200 scans themselves, and
for one half of the held-out scans against the other.
"""

from __future__ import annotations

import argparse
from pathlib import Path

import numpy as np
import torch
from sklearn.datasets import load_digits
from sklearn.neural_network import MLPClassifier

import ganframe

HERE = Path(__file__).parent.parent
SEEDS = range(5)
PLAIN = "constraints=[]"
ALONE = 'discriminator={use="mlp", hidden=[128, 128]}'
ADAM = '{use="Adam", lr=5e-4, betas=[0.8, 0.999]}'
GRID = [
    'dataset={use="grid"}',
    'generator={use="mlp", hidden=[128, 128], batch_norm=true}',
    f"optimizer={{generator={ADAM}, discriminator={ADAM}}}",
    "train.steps=2000",
]
CASES = {
    "ring without pac": ("pac_ring.toml", [ALONE]),
    "ring pac 2": ("pac_ring.toml", ["discriminator.samples=2"]),
    "ring pac 4": ("pac_ring.toml", []),
    "grid without pac": ("pac_ring.toml", [*GRID, ALONE]),
    "grid pac 4": ("pac_ring.toml", GRID),
    "digits without": ("diffaugment_digits.toml", [PLAIN]),
    "digits diffaugment": ("diffaugment_digits.toml", []),
    "digits ada": ("ada_digits.toml", []),
    "digits bcr": ("bcr_digits.toml", []),
    "digits zcr": ("zcr_digits.toml", []),
}


# ------------------------------------------------------------------------------------------------------- ring and grid


def mode_count(samples: torch.Tensor, dataset: ganframe.Dataset) -> list[float]:
    """The modes captured by samples (N, 2), and the share of high quality in percent."""
    means = dataset.build().means.double()
    distance, nearest = torch.cdist(samples.double(), means, compute_mode="donot_use_mm_for_euclid_dist").min(1)
    good = distance <= 3 * dataset.std
    return [float(len(nearest[good].unique())), 100 * good.double().mean().item()]


# -------------------------------------------------------------------------------------------------------------- digits


def classifier() -> MLPClassifier:
    """A perceptron with one hidden layer of 128 units, trained on all scans."""
    digits = load_digits()
    return MLPClassifier((128,), max_iter=400, random_state=0).fit(digits.data / 16, digits.target)


def pixels(images: torch.Tensor) -> np.ndarray:
    """Images (N, 1, 8, 8) in [-1, 1], or uint8, as rows of 64 numbers in [0, 1]."""
    scaled = images / 255 if images.dtype == torch.uint8 else images / 2 + 0.5
    return scaled.flatten(1).double().clamp(0, 1).numpy()


def frechet_distance(x: np.ndarray, y: np.ndarray) -> float:
    """‖m₁ - m₂‖² + tr(S₁ + S₂ - 2 (S₁S₂)^½) of two sets of features (N, F)."""
    one, two = np.cov(x.T), np.cov(y.T)
    values, vectors = np.linalg.eigh(one)
    root = vectors * np.sqrt(values.clip(0)) @ vectors.T
    cross = np.sqrt(np.linalg.eigvalsh(root @ two @ root).clip(0)).sum()
    return float(((x.mean(0) - y.mean(0)) ** 2).sum() + np.trace(one) + np.trace(two) - 2 * cross)


def quality(images: np.ndarray, held_out: np.ndarray, machine: MLPClassifier) -> list[float]:
    """FD to held-out scans, the share of sure samples in percent, and the classes among the sure ones."""

    def features(x: np.ndarray) -> np.ndarray:
        return np.maximum(x @ machine.coefs_[0] + machine.intercepts_[0], 0)

    probabilities = machine.predict_proba(images)
    sure = probabilities.max(1) > 0.9
    classes = len(np.unique(probabilities.argmax(1)[sure]))
    return [frechet_distance(features(images), features(held_out)), 100 * sure.mean(), float(classes)]


# ---------------------------------------------------------------------------------------------------------------- runs


def trained(case: str, seed: int, out: Path) -> Path:
    """The run of a case and a seed."""
    file, changes = CASES[case]
    folder = out / f"{case.replace(' ', '_')}_{seed}"
    if not (folder / "generator.safetensors").exists():
        own = [f"seed={seed}"] + ([f"dataset.seed={seed}"] if case.startswith("digits") else [])
        ganframe.run(ganframe.load_recipe(HERE / file, [*changes, *own]), out=folder)
    return folder


def line(name: str, results: list[list[float]], labels: tuple[str, ...]) -> str:
    """One line of means and standard deviations over seeds."""
    numbers = np.array(results)
    deviations = numbers.std(0, ddof=1) if len(numbers) > 1 else np.zeros(numbers.shape[1])
    shown = (f"{m:.2f} ± {s:.2f} {label}" for m, s, label in zip(numbers.mean(0), deviations, labels, strict=True))
    return f"{name}: {', '.join(shown)}; first number of each seed: {', '.join(f'{n:.2f}' for n in numbers[:, 0])}"


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("cases", nargs="*", metavar="CASE", help=f"{', '.join(CASES)}; all by default")
    parser.add_argument("--out", type=Path, default=Path("runs/augment"), help="folder of the runs")
    arguments = parser.parse_args()
    machine = classifier()
    labels = ("FD", "% sure", "classes")
    for case in arguments.cases or CASES:
        results = []
        for seed in SEEDS:
            run = trained(case, seed, arguments.out)
            generator, dataset = ganframe.load_generator(run), ganframe.load_recipe(run / "recipe.toml").dataset
            if not case.startswith("digits"):
                results.append(mode_count(generator.sample(2500, seed=1), dataset))
                continue
            held_out = pixels(dataset.held_out().tensors[0])
            results.append(quality(pixels(generator.sample(len(held_out), seed=1)), held_out, machine))
        names = ("modes", "% of high quality") if not case.startswith("digits") else labels
        print(line(case, results, names), flush=True)
    if any(case.startswith("digits") for case in arguments.cases or CASES):
        datasets = [
            ganframe.load_recipe(HERE / "diffaugment_digits.toml", [f"dataset.seed={seed}"]).dataset for seed in SEEDS
        ]
        few, others = ([pixels(data.tensors[0]) for data in part] for part in zip(*map(parts, datasets), strict=True))
        print(line("the 200 scans", [quality(f, o, machine) for f, o in zip(few, others, strict=True)], labels))
        print(line("half of the held-out scans", [quality(o[::2], o[1::2], machine) for o in others], labels))


def parts(dataset: ganframe.Dataset) -> tuple[torch.utils.data.TensorDataset, torch.utils.data.TensorDataset]:
    """The few scans, and the held-out ones."""
    return dataset.build(), dataset.held_out()


if __name__ == "__main__":
    main()
