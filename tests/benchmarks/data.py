"""What opening data costs: a folder of small images, and many in memory. `python tests/benchmarks/data.py`

It writes PNG files of 32×32 pixels to a temporary folder (`--files 100000`, 400 MB) and opens them in processes of
their own with a cache folder of their own: the first start decodes all, later ones find them kept. With `--against
FOLDER`, the folder of another version of ganframe, starts of both alternate, and ratios of their times are shown with
quartiles. A start is `spec`, `build`, the checks, the feed's first batch and the fingerprint, as in a run, without
imports. Seconds of the processor are less disturbed by other programs than those of the clock.
"""

from __future__ import annotations

import argparse
import json
import os
import statistics
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

START = """
import json, resource, sys, time
import torch
from ganframe.builtin.image_folder import ImageFolder
from ganframe.components import Dataset, DataSpec
from ganframe.data.feed import Share, open_feed
from ganframe.data.fingerprint import fingerprint
from torch.utils.data import TensorDataset
import PIL.Image, PIL.ImageOps
if sys.argv[1] == "tensor":
    images = torch.randint(0, 256, (int(sys.argv[2]), 3, 32, 32), dtype=torch.uint8)
    class Given(Dataset):
        spec = DataSpec((3, 32, 32))
        def build(self):
            return TensorDataset(images, torch.zeros(len(images), dtype=torch.long))
    dataset = Given()
else:
    dataset = ImageFolder(sys.argv[2], memory=float(sys.argv[3]))
wall, cpu = time.perf_counter(), time.process_time()
spec = dataset.spec
feed = open_feed(dataset.build(), spec, 64, 0, Share(torch.device("cpu")))
x, y = feed()
found = fingerprint(dataset, spec, feed.data)
print(json.dumps({
    "wall": time.perf_counter() - wall,
    "cpu": time.process_time() - cpu,
    "MiB": resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024,
    "batch": x.double().sum().item(),
}))
"""
OWN = Path(__file__).resolve().parents[2]


def start(source: Path, cache: Path, *arguments: object) -> dict[str, Any]:
    """Seconds and memory of one start in a process of its own."""
    env = {**os.environ, "PYTHONPATH": str(source), "GANFRAME_CACHE": str(cache), "OMP_NUM_THREADS": "1"}
    command = [sys.executable, "-c", START, *map(str, arguments)]
    done = subprocess.run(command, env=env, cwd=source, check=True, capture_output=True)  # python -c looks there first
    found: dict[str, Any] = json.loads(done.stdout)
    return found


def show(name: str, own: list[dict[str, Any]], other: list[dict[str, Any]]) -> None:
    for kind in ("wall", "cpu", "MiB"):
        line = f"{name:28} {kind:4} {statistics.median(run[kind] for run in own):8.2f}"
        if other:
            ratios = [a[kind] / b[kind] for a, b in zip(own, other, strict=True)]
            low, middle, high = statistics.quantiles(ratios, n=4) if len(ratios) > 1 else ratios * 3
            line += f"  other {statistics.median(run[kind] for run in other):8.2f}"
            line += f"  ratio {middle:.3f} [{low:.3f}, {high:.3f}]"
        print(line, flush=True)
    if other and {run["batch"] for run in own} != {run["batch"] for run in other} and "tensor" not in name:
        sys.exit(f"{name}: the first batches differ")


def write_images(folder: Path, count: int) -> None:
    """PNG files that were changed last some days ago, as those of a folder in use are."""
    random = np.random.default_rng(0)
    folder.mkdir()
    for index in range(count):
        blocks = np.kron(random.integers(0, 248, (4, 4, 3), dtype=np.uint8), np.ones((8, 8, 1), np.uint8))
        file = folder / f"{index:06d}.png"
        Image.fromarray(blocks + random.integers(0, 8, (32, 32, 3), dtype=np.uint8)).save(file)
        os.utime(file, (1_600_000_000, 1_600_000_000))
    os.utime(folder, (1_600_000_000, 1_600_000_000))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--files", type=int, default=100_000)
    parser.add_argument("--images", type=int, default=1_000_000, help="images in memory, 3 GB a million")
    parser.add_argument("--rounds", type=int, default=5, help="later starts")
    parser.add_argument("--against", type=Path, help="the folder of another version of ganframe")
    given = parser.parse_args()

    def measured(name: str, rounds: int, *arguments: object) -> None:
        own, other = [], []
        for _ in range(rounds):
            own.append(start(OWN, temporary / "cache", *arguments))
            if given.against:
                other.append(start(given.against.resolve(), temporary / "cache-other", *arguments))
        show(name, own, other)

    with tempfile.TemporaryDirectory() as folder:
        temporary = Path(folder)
        if given.images:
            measured(f"{given.images} images in a tensor", given.rounds, "tensor", given.images)
        if given.files:
            write_images(temporary / "images", given.files)
            images = temporary / "images"
            measured(f"{given.files} files, first start", 1, "folder", images, 2.0)
            measured(f"{given.files} files, later starts", given.rounds, "folder", images, 2.0)
            measured(f"{given.files} files, from disk", given.rounds, "folder", images, 0.0)


if __name__ == "__main__":
    main()
