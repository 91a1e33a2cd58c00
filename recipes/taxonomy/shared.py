"""What the four scripts share: the digits as grey levels, their options, and the form of their results."""

from __future__ import annotations

import argparse
import json
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np
import torch
from sklearn.datasets import load_digits
from torch import Tensor, nn
from torch.nn import functional as F

SIDE, LEVELS = 8, 17
PIXELS = SIDE**2


def digits(validate: bool = False) -> tuple[Tensor, Tensor]:
    """Images to train on and images to judge by, (N, 64), int64 grey levels 0..16.

    They are the splits "train" and "test" of ganframe's dataset `digits`. With `validate` both come from "train": four
    fifths and one fifth of it, for the choice of options.
    """
    images = torch.from_numpy(load_digits().data).long()
    order = torch.from_numpy(np.random.RandomState(0).permutation(len(images)))
    held_out, train = order.tensor_split([len(images) // 5])
    if validate:
        held_out, train = train.tensor_split([len(train) // 5])
    return images[train], images[held_out]


def options(description: str, steps: int) -> argparse.Namespace:
    """The options of the command line. Sets the seed, and one thread, with which such small networks are fastest."""
    parser = argparse.ArgumentParser(description=description, formatter_class=argparse.ArgumentDefaultsHelpFormatter)
    parser.add_argument("--out", type=Path, default=Path("runs/taxonomy"), help="folder of the results")
    parser.add_argument("--steps", type=int, default=steps, help="updates of the weights")
    parser.add_argument("--samples", type=int, default=2000, help="number of samples to write")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--validate", action="store_true", help="judge by a fifth of the training images")
    chosen = parser.parse_args()
    torch.manual_seed(chosen.seed)
    torch.set_num_threads(1)
    return chosen


def log_levels(parameters: Tensor) -> Tensor:
    """log p (…, 17) of each grey level, for parameters (…, 3 K) of a mixture of K logistic distributions.

    A level has the mass between it and the middles to its neighbours; the first and the last have the tails (Salimans
    et al. 2017, PixelCNN++, eq. 2). Such levels are ordered: 17 free logits would overfit so few images.
    """
    weights, means, scales = parameters.unflatten(-1, (3, -1)).unbind(-2)
    middles = torch.arange(LEVELS - 1, device=parameters.device) + 0.5
    below = (middles - LEVELS // 2 * (1 + means[..., None])) * scales.clamp(-4, 3).exp()[..., None]
    below = (weights.softmax(-1)[..., None] * below.sigmoid()).sum(-2)
    masses = F.pad(below, (1, 1)) + F.one_hot(torch.tensor(LEVELS), LEVELS + 1).to(below)
    return (masses.diff(dim=-1) * 0.9999 + 0.0001 / LEVELS).log()


def spread_out(bias: Tensor, pixels: int) -> None:
    """Sets the bias of the layer before `log_levels`: the logistic distributions of a pixel start apart."""
    with torch.no_grad():
        each = bias.view(pixels, 3, -1)
        each[:, 0], each[:, 1], each[:, 2] = 0, torch.linspace(-1, 1, each.shape[2]), -0.5


def nats(values: Tensor) -> dict[str, float]:
    """The mean of log-likelihoods (n,), in nats per image, with its standard error."""
    return {"nats": values.mean().item(), "standard_error": (values.std() / len(values) ** 0.5).item()}


def write(
    chosen: argparse.Namespace,
    name: str,
    model: nn.Module,
    sample: Callable[[int], Tensor],
    numbers: dict[str, object],
    more: dict[str, Tensor] | None = None,
) -> None:
    """Writes NAME.npy, samples as uint8 images (N, 1, 8, 8), and NAME.json, the numbers with the cost of samples.

    `sample(n)` returns grey levels (n, 64). `more` are other samples by the names of their files.
    """
    chosen.out.mkdir(parents=True, exist_ok=True)
    torch.manual_seed(chosen.seed + 1)
    for file, levels in {name: sample(chosen.samples), **(more or {})}.items():
        pixels = np.rint(levels.view(-1, 1, SIDE, SIDE).numpy() * (255 / (LEVELS - 1)))
        np.save(chosen.out / f"{file}.npy", pixels.astype(np.uint8))
    found = {
        "model": name,
        "seed": chosen.seed,
        "steps": chosen.steps,
        "parameters": sum(p.numel() for p in model.parameters()),
        **numbers,
        "seconds_for_1": seconds(lambda: sample(1)),
        "seconds_for_1000": seconds(lambda: sample(1000)),
    }
    (chosen.out / f"{name}.json").write_text(json.dumps(found, indent=2) + "\n", encoding="utf-8")
    print(json.dumps(found, indent=2))


def seconds(call: Callable[[], object]) -> float:
    """The seconds of a call: the shortest of three, or the first if it takes more than two."""
    taken: list[float] = []
    while len(taken) < 3 and max(taken, default=0) < 2:
        start = time.process_time()  # of this process alone, on its one thread
        call()
        taken.append(time.process_time() - start)
    return min(taken)
