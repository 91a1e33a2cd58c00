"""How long commands take to begin, against importing torch alone.

`python tests/benchmarks/startup.py [ROUNDS [NAME…]]`. Programs alternate, each in a new process with one thread. The
result is the median of the ratios to `import torch` in the same round, with quartiles: of wall time, and of processor
time, which suffers less from what else the machine does. `first step` is `ganframe run` up to the end of its first
step; the others are whole commands.
"""

from __future__ import annotations

import os
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path

BOUNDS = {"first step": 1.6, "sample": 1.4}
RECIPE = """
dataset = { use = "digits" }
latent = { dim = 32 }
generator = { use = "mlp", hidden = [64, 64], batch_norm = true }
discriminator = { use = "mlp", hidden = [64, 64] }
objective = { use = "wgan" }
constraints = [{ use = "spectral_norm" }]
train = { steps = 1, batch_size = 64, ema = 0.99 }
"""
FIRST_STEP = """
import os, sys
import ganframe

def run(recipe, out):
    from ganframe.training.run import run

    return run(recipe, out, callbacks=[lambda state: os._exit(0)])

ganframe.run = run
from ganframe.cli import main
main(["run", *sys.argv[1:]])
"""
COMMAND = ("-m", "ganframe")


def seconds(*arguments: object) -> tuple[float, float]:
    """Wall time and processor time of a new process."""
    begun = time.perf_counter()
    process = subprocess.Popen(
        [sys.executable, *map(str, arguments)],
        env={**os.environ, "OMP_NUM_THREADS": "1"},
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
    )
    _, status, usage = os.wait4(process.pid, 0)
    assert status == 0, arguments
    return time.perf_counter() - begun, usage.ru_utime + usage.ru_stime


def programs(folder: Path) -> dict[str, tuple[object, ...]]:
    recipe, run = folder / "recipe.toml", folder / "run"
    recipe.write_text(RECIPE)
    return {
        "import torch": ("-c", "import torch"),
        "--help": (*COMMAND, "--help"),
        "plugins": (*COMMAND, "plugins"),
        "first step": ("-c", FIRST_STEP, recipe, "--set", "train.steps=1000", "--out", folder / "begun"),
        "run": (*COMMAND, "run", recipe, "--out", folder / "one"),
        "sample": (*COMMAND, "sample", run, "-n", 64),
        "check": (*COMMAND, "check", recipe),
    }


def main(rounds: int = 10, *names: str) -> None:
    with tempfile.TemporaryDirectory() as path:
        folder = Path(path)
        every = programs(folder)
        seconds(*COMMAND, "run", folder / "recipe.toml", "--out", folder / "run")
        chosen = {name: every[name] for name in ("import torch", *(names or list(every)[1:]))}
        for arguments in chosen.values():  # compiles modules, as an installer does
            seconds(*arguments)
            _forget(folder)
        times: dict[str, list[tuple[float, float]]] = {name: [] for name in chosen}
        for _ in range(rounds):
            for name, arguments in chosen.items():
                times[name].append(seconds(*arguments))
                _forget(folder)
    print(f"{'':14}{'s':>7}{'ratio of wall time':>28}{'ratio of processor time':>28}   bound")
    for name, measured in times.items():
        middle = statistics.median(wall for wall, _ in measured)
        ratios = [
            [mine[kind] / theirs[kind] for mine, theirs in zip(measured, times["import torch"], strict=True)]
            for kind in (0, 1)
        ]
        shown = "".join(f"{_shown(r):>28}" for r in ratios)
        print(f"{name:14}{middle:7.2f}{shown}   {BOUNDS.get(name, '')}")


def _shown(ratios: list[float]) -> str:
    low, middle, high = statistics.quantiles(ratios, n=4)
    return f"{middle:.2f} ({low:.2f} to {high:.2f})"


def _forget(folder: Path) -> None:
    """Removes what a command wrote, so that it can be called again."""
    for name in ("begun", "one"):
        if (folder / name).exists():
            (folder / name).rename(folder / f"{name}-{time.monotonic_ns()}")


if __name__ == "__main__":
    main(*map(int, sys.argv[1:2]), *sys.argv[2:])
