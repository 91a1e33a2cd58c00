"""Features of a small classifier, trained once on the dataset's own labels and kept in a cache folder."""

from __future__ import annotations

import contextlib
import hashlib
import math
import os
import zlib
from collections.abc import Iterator
from pathlib import Path

import safetensors.torch
import torch
from filelock import FileLock
from safetensors import SafetensorError
from torch import Tensor, nn
from torch.nn import functional as F

from ganframe import Features, Judging, warn
from ganframe.builtin.cache import cache_folder
from ganframe.builtin.stacked import Stacked

VERSION = "1"  # of the network and its training, for the names of cached files
WIDTH = 64  # features
LARGEST = 64  # pixels: larger images are made smaller
MOST, FEWEST = 20_000, 50  # training samples
NUMBERS = 2**26  # of all samples together: 256 MiB of float32
BATCH, EPOCHS, STEPS = 128, 20, (200, 800)
SEED = 0
SLOW = 5_000  # samples from which on the training is announced


def classifier(judging: Judging) -> Features:
    """The 64 last features of a small classifier, trained once on the dataset's own labels.

    A convolutional network for images, a perceptron for other samples. It is trained on the CPU, for some seconds to a
    minute, on four fifths of at most 20,000 training samples. The score states its accuracy on the last fifth. Images
    of the dataset `stacked` are classified channel by channel.

    It is kept in the folder GANFRAME_CACHE, by default ganframe in XDG_CACHE_HOME or ~/.cache, under a hash of its
    data. The same data gives the same weights with the same version of torch on the same kind of processor; elsewhere
    their last digits, and so the hash in the score, may differ. Scores of several machines can be compared where these
    share the folder.
    """
    return _features(judging, "features")


def classifier_logits(judging: Judging) -> Features:
    """The logits of the network of `classifier`, one for each class: of each channel in turn for the data `stacked`."""
    return _features(judging, "logits")


def channels(judging: Judging) -> int:
    """How many images are stacked in a sample, each with a class of its own; 1 for other data."""
    return judging.dataset.channels if isinstance(judging.dataset, Stacked) else 1


class Classifier(nn.Module):
    """x (N, *shape) -> features (N, WIDTH), or logits (N, classes). Large images are made smaller first.

    With `parts` > 1 the images of all channels are classified apart, and what is said of them is joined.
    """

    mean: Tensor
    std: Tensor

    def __init__(self, shape: tuple[int, ...], classes: int, images: bool) -> None:
        super().__init__()
        self.images, self.parts, self.gives = images, 1, "logits"
        self.register_buffer("mean", torch.zeros(shape[0] if images else _count(shape)))
        self.register_buffer("std", torch.ones(shape[0] if images else _count(shape)))
        self.body = _convolutions(shape) if images else _perceptron(_count(shape))
        self.head = nn.Linear(WIDTH, classes)

    def forward(self, x: Tensor) -> Tensor:
        if self.parts > 1:
            x = x.reshape(-1, 1, *x.shape[2:])
        x = smaller(x) if self.images else x.flatten(1)
        form = (-1, 1, 1) if self.images else (-1,)
        features = self.body((x - self.mean.view(form)) / self.std.view(form))
        found = features if self.gives == "features" else self.head(features)
        return found.reshape(-1, self.parts * found.shape[1])


def _count(shape: tuple[int, ...]) -> int:
    return torch.Size(shape).numel()


def smaller(x: Tensor) -> Tensor:
    """Images (N, C, H, W) of at most LARGEST pixels along each side."""
    sizes = tuple(min(n, LARGEST) for n in x.shape[2:])
    return x if x.shape[2:] == sizes else F.interpolate(x, sizes, mode="bilinear", antialias=True)


def _convolutions(shape: tuple[int, ...]) -> nn.Sequential:
    """3×3 convolutions that halve images to some four pixels along each side, and the mean of each quarter."""
    halvings = max(0, math.ceil(math.log2(min(max(shape[1:]), LARGEST) / 4)))
    strides = [1] * (3 - halvings) + [2] * halvings
    widths = [shape[0], 16, 32, *[64] * (len(strides) - 2)]
    layers: list[nn.Module] = []
    for width, out, stride in zip(widths[:-1], widths[1:], strides, strict=True):
        layers += [nn.Conv2d(width, out, 3, stride, padding=1, bias=False), nn.BatchNorm2d(out), nn.ReLU()]
    last = [nn.AdaptiveAvgPool2d(2), nn.Flatten(), nn.Linear(4 * 64, WIDTH), nn.BatchNorm1d(WIDTH), nn.GELU()]
    return nn.Sequential(*layers, *last)


def _perceptron(width: int) -> nn.Sequential:
    layers: list[nn.Module] = []
    for out in (128, 128, WIDTH):
        layers += [nn.Linear(width, out), nn.BatchNorm1d(out), nn.GELU()]
        width = out
    return nn.Sequential(*layers)


def _features(judging: Judging, gives: str) -> Features:
    if judging.spec.classes is None:
        raise ValueError(
            "features 'classifier' need data with labels, and this dataset has none; use others, as 'pixels'"
        )
    network, accuracy = _known_or_trained(*_training_samples(judging))
    network.parts, network.gives = channels(judging), gives
    return Features(network, about={"accuracy": accuracy})


def _training_samples(judging: Judging) -> tuple[Tensor, Tensor, int, bool]:
    """Training samples x, their labels y, the number of classes, and whether they are images to convolve."""
    spec = judging.spec
    x, y = judging.training(max(FEWEST, min(MOST, NUMBERS // _count(spec.shape)) // channels(judging)))
    classes = spec.classes or 1
    if isinstance(judging.dataset, Stacked):
        y = judging.dataset.parts(y).flatten()
        x = x.reshape(-1, 1, *x.shape[2:])
        classes = judging.dataset.dataset.spec.classes or 1
    if len(x) < FEWEST:
        raise ValueError(f"features 'classifier' need {FEWEST} training samples, and there are {len(x)}; use 'pixels'")
    return x, y, classes, spec.is_image and len(spec.shape) == 3


def _known_or_trained(x: Tensor, y: Tensor, classes: int, images: bool) -> tuple[Classifier, float]:
    """The classifier of these samples and its accuracy: read from the cache, or trained and kept there.

    Of several processes that need it at once, one trains it and the others wait. Where the folder cannot be written,
    it is trained each time, with a warning.
    """
    network = Classifier(tuple(x.shape[1:]), classes, images)
    folder = cache_folder()
    if folder is None:
        return train(x, y, classes, images)
    file = folder / f"classifier-{_hash(x, y, classes, images)}.safetensors"
    with _lock(file) as keeps:
        accuracy = _read(network, file)
        if accuracy is None:
            if len(x) >= SLOW:
                warn(f"a classifier of this data is trained for its features, on {len(x):,} samples; it is kept")
            network, accuracy = train(x, y, classes, images)
            if keeps:
                _keep(network, accuracy, file)
    return network, accuracy


def _hash(x: Tensor, y: Tensor, classes: int, images: bool) -> str:
    found = hashlib.sha256(f"{VERSION} {SEED} {tuple(x.shape)} {classes} {images} {torch.__version__}".encode())
    for tensor in (x, y):
        found.update(tensor.contiguous().flatten().view(torch.uint8).numpy().data)
    return found.hexdigest()[:24]


@contextlib.contextmanager
def _lock(file: Path) -> Iterator[bool]:
    """Holds the lock beside the file, which the system frees where a process dies. False where it cannot be made."""
    lock = FileLock(f"{file}.lock")
    try:
        file.parent.mkdir(parents=True, exist_ok=True)
        lock.acquire()
    except (OSError, NotImplementedError) as error:
        warn(f"the classifier is not kept: {error}; set GANFRAME_CACHE to a folder that can be written")
        yield False
        return
    try:
        yield True
    finally:
        lock.release()


def _read(network: Classifier, file: Path) -> float | None:
    """Loads the weights and returns the accuracy; None where there is no such file, or a damaged one."""
    try:
        with safetensors.safe_open(file, "pt") as opened:
            accuracy = float(opened.metadata()["accuracy"])
            network.load_state_dict({name: opened.get_tensor(name) for name in opened.keys()})  # noqa: SIM118
    except (OSError, SafetensorError, RuntimeError, KeyError, TypeError, ValueError):
        return None
    return accuracy


def _keep(network: Classifier, accuracy: float, file: Path) -> None:
    """Writes the weights under another name first, so that a file is never half there."""
    part = file.with_suffix(f".{os.getpid()}.tmp")
    try:
        safetensors.torch.save_file(network.state_dict(), part, {"accuracy": str(accuracy)})
        os.replace(part, file)
    except (OSError, SafetensorError) as error:
        part.unlink(missing_ok=True)
        warn(f"the classifier is not kept: {error}; set GANFRAME_CACHE to a folder that can be written")


def train(x: Tensor, y: Tensor, classes: int, images: bool) -> tuple[Classifier, float]:
    """A classifier trained on four fifths of the samples x (N, *shape), y (N,), and its accuracy on the others.

    Which samples are held apart is decided by their values, so that two copies of one are on the same side.
    """
    if images:
        x = torch.cat([smaller(part) for part in x.split(1000)])
    apart = torch.tensor([zlib.crc32(row + 0) % 5 == 0 for row in x.flatten(1).numpy()])  # -0 + 0 is 0
    if apart.all() or not apart.any():
        raise ValueError("features 'classifier' need samples that differ, and all training samples are the same")
    with torch.random.fork_rng(devices=[]), _one_thread():
        torch.default_generator.manual_seed(SEED)
        network = Classifier(tuple(x.shape[1:]), classes, images)
        _descend(network, x[~apart], y[~apart])
        network.eval()
        with torch.no_grad():
            found = torch.cat([network(part).argmax(1) for part in x[apart].split(500)])
    return network, round((found == y[apart]).float().mean().item(), 4)


def _descend(network: Classifier, x: Tensor, y: Tensor) -> None:
    """Adam on the cross-entropy, with a learning rate that falls to 0."""
    over = (0, 2, 3) if network.images else 0
    flat = x if network.images else x.flatten(1)
    network.mean.copy_(flat.mean(over))
    network.std.copy_(flat.std(over).clamp(min=1e-3))
    low, high = STEPS
    steps = min(high, max(low, EPOCHS * len(x) // BATCH))
    optimizer = torch.optim.AdamW(network.parameters(), lr=3e-3, weight_decay=1e-2)
    schedule = torch.optim.lr_scheduler.OneCycleLR(optimizer, 3e-3, total_steps=steps + 1, pct_start=0.2)
    network.train()
    with torch.enable_grad():
        for _ in range(steps):
            rows = torch.randint(len(x), (BATCH,))
            loss = F.cross_entropy(network(x[rows]), y[rows])
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
            schedule.step()


@contextlib.contextmanager
def _one_thread() -> Iterator[None]:
    """Sums of floats depend on how they are divided among threads; the network is so small that one is enough."""
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        yield
    finally:
        torch.set_num_threads(before)
