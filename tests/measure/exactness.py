"""Is a run the same when it is killed, and on two processes? `python tests/measure/exactness.py RECIPE…`

By default every recipe of the packages in plugins/, which must be installed. Each is trained for a few steps (--steps)
three times: without interruption; killed with -9 right after a checkpoint and resumed; on two processes by torchrun.
Killed and resumed, all weights must be the same bytes. On two processes, the largest relative difference of the weights
is printed: batch statistics, random masks and paired losses differ there by design, sums in another order by rounding.
Exits with 1 where bytes differ or a run fails.
"""

from __future__ import annotations

import argparse
import os
import signal
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import torch
from safetensors.torch import load_file

ROOT = Path(__file__).parents[2]
GANFRAME = [sys.executable, "-m", "ganframe"]
TORCHRUN = [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc_per_node", "2", "-m", "ganframe"]


def settings(steps: int, more: list[str]) -> list[str]:
    few = [f"train.steps={steps}", f"log.checkpoint_every={steps // 2}", f"log.samples_every={steps}", *more]
    return [word for text in few for word in ("--set", text)]


def call(command: list[str], folder: Path, **environment: str) -> None:
    with (folder / "output").open("a") as output:
        subprocess.run(command, check=True, stdout=output, stderr=output, env={**os.environ, **environment})


def killed(recipe: str, out: Path, options: list[str], first: Path) -> None:
    """Trains until the checkpoint `first` is there, kills the run with -9, and resumes it."""
    with (out.parent / "output").open("a") as output:
        run = subprocess.Popen([*GANFRAME, "run", recipe, "--out", str(out), *options], stdout=output, stderr=output)
        while run.poll() is None and not first.exists():
            time.sleep(0.005)
        run.send_signal(signal.SIGKILL)
        run.wait()
    if not list((out / "checkpoints").glob("step-*")):
        raise SystemExit(f"{recipe}: killed before its first checkpoint")
    if run.returncode != 0:  # else it had finished already
        call([*GANFRAME, "run", "--resume", str(out)], out.parent)


def weights(out: Path, steps: int) -> dict[str, Path]:
    return {file.name: file for file in sorted((out / "checkpoints" / f"step-{steps:06d}").glob("*.safetensors"))}


def difference(one: dict[str, Path], two: dict[str, Path]) -> float:
    """The largest difference of a weight, relative to the largest value of its tensor."""
    largest = 0.0
    for name, file in one.items():
        a, b = load_file(file), load_file(two[name])
        for key, value in a.items():
            if value.is_floating_point() and value.numel():
                scale = value.abs().max().clamp_min(1e-6)
                largest = max(largest, ((value - b[key]).abs().max() / scale).item())
    return largest


def examine(recipe: Path, steps: int, more: list[str]) -> bool:
    with tempfile.TemporaryDirectory() as temporary:
        folder = Path(temporary)
        whole, parts, two = folder / "whole", folder / "parts", folder / "two"
        options = settings(steps, more)
        try:
            call([*GANFRAME, "run", str(recipe), "--out", str(whole), *options], folder)
            killed(str(recipe), parts, options, parts / "checkpoints" / f"step-{steps // 2:06d}")
            call([*TORCHRUN, "run", str(recipe), "--out", str(two), *options], folder, ACCELERATE_USE_CPU="true")
        except subprocess.CalledProcessError:
            print(f"{recipe}: failed\n{(folder / 'output').read_text()[-2000:]}", flush=True)
            return False
        a, b, c = (weights(out, steps) for out in (whole, parts, two))
        same = [name for name in a if a[name].read_bytes() == b[name].read_bytes()]
        resumed = "same bytes" if len(same) == len(a) else f"DIFFERENT: {', '.join(a.keys() - set(same))}"
        print(
            f"{recipe}: resumed {resumed} ({len(a)} files); two processes differ by {difference(a, c):.1e}", flush=True
        )
        return len(same) == len(a)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("recipes", nargs="*", type=Path)
    parser.add_argument("--steps", type=int, default=6)
    parser.add_argument("--set", action="append", default=[], dest="more", metavar="K=V")
    given = parser.parse_args()
    torch.set_num_threads(1)
    recipes = given.recipes or sorted((ROOT / "plugins").glob("*/*.toml"))
    recipes = [recipe for recipe in recipes if recipe.name != "pyproject.toml" and "cifar10" not in recipe.name]
    results = [examine(recipe, given.steps, given.more) for recipe in recipes]
    sys.exit(0 if all(results) else 1)


if __name__ == "__main__":
    main()
