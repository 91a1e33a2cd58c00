"""What plugins cost: `ganframe plugins` with 50 of them installed, against importing torch alone.

`python tests/benchmarks/plugins.py [COUNT [ROUNDS]]`. Each plugin is a separate distribution with one module, as
`ganframe new-plugin` writes it. Rounds of both programs alternate, each in a new process, and the result is the median
of the ratios of their times, because the machine's speed drifts. Run it with nothing else at work.
"""

from __future__ import annotations

import json
import os
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path

from ganframe.components import KINDS
from ganframe.plugins import registry, scaffold

BOUND = 2.0


def install(site: Path, count: int) -> None:
    """Plugins of every kind in turn, as an installer would leave them."""
    plugins = registry.load()
    for i in range(count):
        name = f"many-{i}"
        folder = site / "sources" / name
        scaffold.write_package(name, KINDS[i % len(KINDS)], folder, plugins)
        (folder / f"many_{i}.py").rename(site / f"many_{i}.py")
        info = site / f"many_{i}-0.1.0.dist-info"
        info.mkdir()
        metadata = f"Metadata-Version: 2.1\nName: {name}\nVersion: 0.1.0\nRequires-Dist: ganframe>=0.1,<1\n"
        (info / "METADATA").write_text(metadata)
        (info / "entry_points.txt").write_text(f"[ganframe]\nmany_{i} = many_{i}\n")


def seconds(*command: str, site: str = "") -> float:
    begun = time.perf_counter()
    done = subprocess.run(
        [sys.executable, *command], env={**os.environ, "PYTHONPATH": site}, capture_output=True, text=True, check=True
    )
    taken = time.perf_counter() - begun
    if "--json" in command:
        assert all(row["status"] == "loaded" for row in json.loads(done.stdout))
    return taken


def main(count: int = 50, rounds: int = 10) -> None:
    with tempfile.TemporaryDirectory() as folder:
        install(Path(folder), count)
        listing = ("-m", "ganframe", "plugins", "--json")
        seconds(*listing, site=folder)  # compiles the modules, as an installer does
        pairs = [(seconds(*listing, site=folder), seconds("-c", "import torch")) for _ in range(rounds)]
    ratios = [ours / torch for ours, torch in pairs]
    low, middle, high = statistics.quantiles(ratios, n=4)
    print(f"ganframe plugins, {count} installed: {statistics.median(ours for ours, _ in pairs):.2f} s")
    print(f"python -c 'import torch': {statistics.median(torch for _, torch in pairs):.2f} s")
    print(f"ratio {middle:.3f} (quartiles {low:.3f} to {high:.3f}; bound {BOUND})")
    sys.exit(middle > BOUND)


if __name__ == "__main__":
    main(*map(int, sys.argv[1:]))
