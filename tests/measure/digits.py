"""Measures the quality of the digits of a run: `python tests/measure/digits.py RUN [RUN …]`.

A classifier trained on the scans of scikit-learn classifies 1,000 samples. Reports the share of samples that it is sure
of (probability > 0.9) and the classes among them. Exits with 1 unless the classifier is right on at least 97 % of
held-out scans, is sure of at least 70 % of the samples of each run, and finds all ten classes.
"""

from __future__ import annotations

import sys

import numpy as np
import torch
from sklearn.datasets import load_digits
from sklearn.model_selection import train_test_split
from sklearn.neural_network import MLPClassifier

import ganframe

SURE, SHARE, ACCURACY = 0.9, 0.7, 0.97


def classifier() -> tuple[MLPClassifier, float, float]:
    """A perceptron with one hidden layer, its accuracy, and the share of held-out scans that it is sure of."""
    digits = load_digits()
    train_x, test_x, train_y, test_y = train_test_split(
        digits.data / 16, digits.target, test_size=0.25, random_state=0, stratify=digits.target
    )
    machine = MLPClassifier((128,), max_iter=400, random_state=0).fit(train_x, train_y)
    sure = machine.predict_proba(test_x).max(1) > SURE
    return machine, machine.score(test_x, test_y), sure.mean()


def eight(images: torch.Tensor) -> np.ndarray:
    """Images (N, 1, H, W) in [-1, 1] -> (N, 64) in [0, 1], at 8×8 pixels as the classifier takes them."""
    if images.shape[2:] != (8, 8):
        images = torch.nn.functional.interpolate(images, (8, 8), mode="area")
    return images.flatten(1).numpy() / 2 + 0.5


def main() -> int:
    machine, accuracy, real_sure = classifier()
    print(f"classifier: {accuracy:.1%} right on held-out scans, sure of {real_sure:.1%} of them")
    good = accuracy >= ACCURACY
    for run in sys.argv[1:]:
        probabilities = machine.predict_proba(eight(ganframe.load_generator(run).sample(1000, seed=1)))
        sure = probabilities.max(1) > SURE
        counts = np.bincount(probabilities.argmax(1)[sure], minlength=10)
        print(f"{run}: sure of {sure.mean():.1%}; sure samples of each class: {counts.tolist()}")
        good = good and bool((counts > 0).all()) and bool(sure.mean() >= SHARE)
    return 0 if good else 1


if __name__ == "__main__":
    sys.exit(main())
