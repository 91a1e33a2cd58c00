"""What judging costs: 10,000 samples of 32×32 by `frechet`, `kernel` and `precision_recall` on features "classifier".

`python tests/benchmarks/metrics.py [COUNT]`. The data is Fashion-MNIST where it is installed, else random images with
labels. The classifier is trained in an empty cache folder first, which counts as well. Exits with 1 where all of it
takes more than two minutes on two cores. Run it with nothing else at work.
"""

from __future__ import annotations

import os
import sys
import tempfile
import time

import attrs
import torch
from torch.utils.data import TensorDataset

from ganframe import Dataset, DataSpec
from ganframe.builtin.images import TorchvisionDataset
from ganframe.judging.judge import Judge, JudgedData, named
from ganframe.judging.protocol import numbers
from ganframe.plugins.registry import load
from ganframe.recipes.tables import Evaluation

BOUND = 120.0
METRICS = ("frechet", "kernel", "precision_recall")


@attrs.frozen
class Noise(Dataset):
    """Random images."""

    @property
    def spec(self) -> DataSpec:
        return DataSpec((3, 32, 32), classes=10)

    def build(self) -> TensorDataset:
        images = torch.randint(256, (60_000, 3, 32, 32), generator=torch.Generator().manual_seed(0)).to(torch.uint8)
        return TensorDataset(images, torch.arange(60_000) % 10)

    def held_out(self) -> TensorDataset:
        return TensorDataset(*(side[:10_000] for side in self.build().tensors))


def opened() -> JudgedData:
    dataset: Dataset = TorchvisionDataset(name="FashionMNIST", size=32)
    try:
        built = dataset.build()
    except ValueError:
        dataset = Noise()
        built = dataset.build()
    return JudgedData(dataset, dataset.spec, built, dataset.held_out())


def main() -> int:
    count = int(sys.argv[1]) if len(sys.argv) > 1 else 10_000
    registry, data = load(), opened()
    x = data.drawn("train", count, 5)[0]
    x = (x + 0.1 * torch.randn(x.shape, generator=torch.Generator().manual_seed(0))).clamp(-1, 1)
    total = cpu = 0.0
    with tempfile.TemporaryDirectory() as folder:
        os.environ["GANFRAME_CACHE"] = folder
        evaluations = named([Evaluation(registry.find("metric", name)()) for name in METRICS], registry)
        judge = Judge(evaluations, data, registry, torch.device("cpu"), "benchmark")
        for what in ("fit", *METRICS):
            start, used = time.perf_counter(), time.process_time()
            found = judge.fit() if what == "fit" else numbers(judge.scores(x, None, [what])[0])
            seconds, own = time.perf_counter() - start, time.process_time() - used
            total, cpu = total + seconds, cpu + own
            print(f"{what}: {seconds:.1f} s ({own:.1f} s of the processor) {found or ''}", flush=True)
    print(
        f"{count:,} samples of {tuple(x.shape[1:])}: {total:.1f} s ({cpu:.1f} s of the processor); bound {BOUND:.0f} s"
    )
    return 0 if total <= BOUND else 1


if __name__ == "__main__":
    sys.exit(main())
