"""Whether a run's memory grows: `python tests/benchmarks/memory.py [STEPS]`, 20,000 by default, in a few minutes.

A small recipe with everything that is done between steps: constraints, moving average, schedules, log, pictures,
checkpoints. After a tenth of the steps the resident memory is read at every twentieth of them, after a garbage
collection: matplotlib's figures have reference cycles, a megabyte each, and Python keeps some dozens of them until it
collects cycles itself. A run keeps its records, one for each line of log.jsonl; nothing else may grow.
"""

from __future__ import annotations

import gc
import json
import os
import statistics
import sys
import tempfile
import time
import tracemalloc
from pathlib import Path

import ganframe
from ganframe.engine.state import State
from ganframe.plugins import registry
from ganframe.recipes.reading import structure

CONSTRAINTS = ("gradient_penalty", "spectral_norm")


def document(steps: int, constraint: str) -> dict:
    schedule = {"use": "LinearLR", "start_factor": 1.0, "end_factor": 0.1, "total_iters": steps}
    return {
        "dataset": {"use": "ring"},
        "latent": {"dim": 2},
        "generator": {"use": "mlp", "hidden": [16], "batch_norm": True},
        "discriminator": {"use": "mlp", "hidden": [16]},
        "objective": {"use": "non_saturating"},
        "constraints": [{"use": constraint}],
        "optimizer": {"generator": {"use": "Adam", "lr": 1e-3, "schedule": schedule}},
        "train": {"steps": steps, "batch_size": 16, "ema": 0.99},
        "log": {"every": 50, "samples_every": 2000, "checkpoint_every": 2000},
    }


def resident() -> float:
    """MiB of this process in memory."""
    return int(Path("/proc/self/statm").read_text().split()[1]) * os.sysconf("SC_PAGE_SIZE") / 2**20


def of_records(records: list[dict]) -> float:
    """MiB that a copy of a run's records takes, with the list and all keys and values."""
    text = json.dumps(records)
    tracemalloc.start()
    before = tracemalloc.get_traced_memory()[0]
    copy = json.loads(text)
    taken = (tracemalloc.get_traced_memory()[0] - before) / 2**20
    tracemalloc.stop()
    assert len(copy) == len(records)
    return taken


def measure(steps: int, constraint: str) -> None:
    """Trains once and prints how memory grew."""
    samples: list[tuple[int, float]] = []

    def look(state: State) -> None:
        if state.step >= steps // 10 and state.step % (steps // 20) == 0:
            gc.collect()
            samples.append((state.step, resident()))

    recipe = structure(document(steps, constraint), "memory", registry.load())
    begun = time.monotonic()
    with tempfile.TemporaryDirectory() as folder:
        run = ganframe.run(recipe, Path(folder) / "run", callbacks=[look])
    seconds = time.monotonic() - begun
    x, y = [step / 1000 for step, _ in samples], [mib for _, mib in samples]
    slope, _ = statistics.linear_regression(x, y)
    half = len(y) // 2
    later, _ = statistics.linear_regression(x[half:], y[half:])
    print(f"{constraint}: {steps:,} steps in {seconds:.0f} s")
    print("  MiB at each look     ", " ".join(f"{mib:.1f}" for mib in y))
    print(f"  first to last         {y[-1] - y[0]:+.2f} MiB")
    print(f"  per 1,000 steps       {slope:+.4f} MiB; in the second half {later:+.4f}")
    print(f"  of the records        {of_records(run.log):.2f} MiB for {len(run.log)} of them")


if __name__ == "__main__":
    for name in CONSTRAINTS:
        measure(int(sys.argv[1]) if len(sys.argv) > 1 else 20_000, name)
