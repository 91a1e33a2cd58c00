"""A small convolutional classifier, trained on a labelled dataset: what names classes, and compares images by features.

It is trained on the CPU, on one thread and with a seed of its own: the same data gives the same weights, in each
process and when a run is resumed. The random state of the caller stays as it is.
"""

from __future__ import annotations

import contextlib
import copy
import hashlib
import itertools
import math
from collections.abc import Iterator
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.functional import cross_entropy
from torch.utils.data import Dataset as TorchDataset
from torch.utils.data import TensorDataset

from ganframe import Dataset, Distribution

SMALLEST = 8  # pixels along each side
WIDTHS = (16, 32, 64)
MOST, NUMBERS = 20_000, 2**26  # training images, and numbers of all of them together: 256 MiB of float32
BATCH, EPOCHS, STEPS = 64, 15, (200, 800)
SEED = 0

_known: dict[str, Classifier] = {}  # those trained in this process, by their data: the cells of a study share them


class Classifier(nn.Module):
    """x (N, C, H, W), values in [-1, 1] -> logits (N, classes). Each of three stages halves the size of the image.

    `features` are the outputs of the stages. Images of any size from 8 pixels on.
    """

    def __init__(self, channels: int, classes: int) -> None:
        super().__init__()
        widths = itertools.pairwise((channels, *WIDTHS))
        self.stages = nn.ModuleList(
            nn.Sequential(nn.Conv2d(a, b, 3, stride=2, padding=1, bias=False), nn.BatchNorm2d(b), nn.ReLU())
            for a, b in widths
        )
        self.head = nn.Sequential(nn.AdaptiveAvgPool2d(2), nn.Flatten(), nn.Linear(4 * WIDTHS[-1], classes))

    def features(self, x: Tensor) -> list[Tensor]:
        """The output of each stage, the last one last: (N, 16, H/2, W/2), (N, 32, H/4, W/4), (N, 64, H/8, W/8)."""
        return list(itertools.accumulate(self.stages, lambda h, stage: stage(h), initial=x))[1:]

    def forward(self, x: Tensor) -> Tensor:
        return self.head(self.features(x)[-1])

    @torch.no_grad()
    def classes(self, x: Tensor) -> Tensor:
        """The class (N,) of each image, on the CPU."""
        device = next(self.parameters()).device
        return torch.cat([self(part.to(device)).argmax(1).cpu() for part in x.split(500)])


def trained_classifier(of: Dataset, seed: int = SEED) -> Classifier:
    """A classifier of the images of a labelled dataset, in evaluation mode, on the CPU.

    It learns from at most 20,000 of them; another seed gives another network. Raises ValueError for data without
    labels, of other shapes than images, or of too small images, and what `of` raises.
    """
    spec = of.spec
    if spec.classes is None or not spec.is_image or len(spec.shape) != 3:
        what = f"shape {spec.shape}, and {'no labels' if spec.classes is None else f'{spec.classes} classes'}"
        raise ValueError(f"of: a classifier is trained on labelled images, and this data has {what}; use other data")
    if min(spec.shape[1:]) < SMALLEST:
        raise ValueError(f"of: the classifier needs images of at least {SMALLEST} pixels a side, not {spec.shape[1:]}")
    with torch.random.fork_rng(devices=[]), torch.enable_grad(), _one_thread():
        torch.default_generator.manual_seed(seed)
        x, y = samples(of.build(), min(MOST, NUMBERS // math.prod(spec.shape)))
        key = _hash(x, y, spec.classes, seed)
        if key not in _known:
            _known[key] = _trained(x, y, spec.classes)
    return copy.deepcopy(_known[key])


def _trained(x: Tensor, y: Tensor, classes: int) -> Classifier:
    """A classifier trained on images x (N, C, H, W) with labels y (N,)."""
    network = Classifier(x.shape[1], classes)
    low, high = STEPS
    steps = min(high, max(low, EPOCHS * len(x) // BATCH))
    optimizer = torch.optim.AdamW(network.parameters(), lr=3e-3, weight_decay=1e-2)
    schedule = torch.optim.lr_scheduler.OneCycleLR(optimizer, 3e-3, total_steps=steps + 1, pct_start=0.2)
    for _ in range(steps):
        rows = torch.randint(len(x), (BATCH,))
        optimizer.zero_grad()
        cross_entropy(network(x[rows]), y[rows]).backward()
        optimizer.step()
        schedule.step()
    return network.eval()


def _hash(x: Tensor, y: Tensor, *more: int) -> str:
    """What a classifier depends on."""
    found = hashlib.sha256(f"{tuple(x.shape)} {more} {STEPS}".encode())
    for tensor in (x, y):
        found.update(tensor.contiguous().flatten().view(torch.uint8).numpy().data)
    return found.hexdigest()


def samples(data: TorchDataset[Any], most: int) -> tuple[Tensor, Tensor]:
    """At most so many samples of built data, in an order drawn from torch's generator: x as floats, and y."""
    if isinstance(data, Distribution):
        x, y = data.draw(most, torch.Generator().manual_seed(SEED))
    else:
        rows = torch.randperm(len(data))[:most]  # type: ignore[arg-type]
        if isinstance(data, TensorDataset):
            x, y = (tensor[rows] for tensor in data.tensors)
        else:
            items = [data[row] for row in rows.tolist()]
            x = torch.stack([torch.as_tensor(item[0]) for item in items])
            y = torch.stack([torch.as_tensor(item[1]) for item in items])
    return x.float().div(127.5).sub(1) if x.dtype == torch.uint8 else x.float(), y.cpu()


@contextlib.contextmanager
def _one_thread() -> Iterator[None]:
    """Sums of floats depend on how they are divided among threads; the network is so small that one is enough."""
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        yield
    finally:
        torch.set_num_threads(before)
