"""Compiled steps beside plain ones: ratios of time, and the seconds that compiling takes, cold and from torch's cache.

python tests/benchmarks/compiled.py [RECIPE…] [--rounds 9] [--steps 200]

Without recipes: WGAN-GP and WGAN with spectral normalisation on small perceptrons (64 wide, 5 critic steps), and
gan_1d. Both sides train in one process on one thread, in turn; the numbers are the median and the quartiles of
plain / compiled. The compiled side is made in a cache of its own, and once more in a process that finds it there.
"""

from __future__ import annotations

import argparse
import os
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path

RECIPES = Path(__file__).parents[2] / "recipes"
SMALL = """
[dataset]
use = "ring"
[latent]
dim = 2
[generator]
use = "mlp"
hidden = [64, 64]
[discriminator]
use = "mlp"
hidden = [64, 64]
[objective]
use = "wgan"
[[constraints]]
use = "{constraint}"
[optimizer.generator]
use = "Adam"
betas = [0.5, 0.9]
[optimizer.discriminator]
use = "Adam"
betas = [0.5, 0.9]
[train]
steps = 100000
critic_steps = 5
batch_size = 64
"""


def measure(recipe: Path, rounds: int, steps: int) -> tuple[float, list[float], list[float]]:
    """Seconds to compile, then plain / compiled of each round, and the microseconds of a plain and a compiled step."""
    import torch

    import ganframe
    from ganframe.engine.algorithm import train
    from ganframe.engine.compiled import CompiledIteration
    from ganframe.training.prepare import prepare

    torch.set_num_threads(1)
    trainers = [prepare(ganframe.load_recipe(recipe)) for _ in range(2)]
    averaged = [] if trainers[1].averaged is None else [trainers[1].averaged]
    seconds: list[float] = []
    said: list[str] = []
    iteration = CompiledIteration(averaged, said.append, compiled=seconds.append)
    plain, compiled = (trainer.state for trainer in trainers)
    k = trainers[0].recipe.train.critic_steps
    train(compiled, 20, k, (), iteration)
    train(plain, 20, k)
    for line in said:
        if "not compiled" in line:
            raise SystemExit(f"{recipe.stem}: {line}")
    ratios, last = [], [0.0, 0.0]
    for _ in range(rounds):
        for side, (state, replaced) in enumerate(((plain, None), (compiled, iteration))):
            begun = time.perf_counter()
            train(state, state.step + steps, k, (), replaced)
            last[side] = (time.perf_counter() - begun) / steps
        ratios.append(last[0] / last[1])
    return sum(seconds), ratios, [1e6 * value for value in last]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("recipes", nargs="*", type=Path)
    parser.add_argument("--rounds", type=int, default=9)
    parser.add_argument("--steps", type=int, default=200)
    parser.add_argument("--one", action="store_true", help=argparse.SUPPRESS)
    given = parser.parse_args()
    if given.one:
        seconds, ratios, last = measure(given.recipes[0], given.rounds, given.steps)
        low, middle, high = statistics.quantiles(ratios, n=4) if len(ratios) > 1 else ratios * 3
        print(
            f"{given.recipes[0].stem}: × {middle:.2f} ({low:.2f} to {high:.2f}); a step {last[0]:.0f} µs plain, "
            f"{last[1]:.0f} µs compiled; {seconds:.0f} s to compile"
        )
        return
    with tempfile.TemporaryDirectory() as folder:
        recipes = given.recipes
        if not recipes:
            for name, constraint in (("wgan_gp", "gradient_penalty"), ("wgan_sn", "spectral_norm")):
                Path(folder, f"{name}_64.toml").write_text(SMALL.format(constraint=constraint))
            recipes = [*sorted(Path(folder).glob("*.toml")), RECIPES / "gan_1d.toml"]
        environment = {**os.environ, "TORCHINDUCTOR_CACHE_DIR": folder, "OMP_NUM_THREADS": "1"}
        for recipe in recipes:
            for rounds in (given.rounds, 1):  # the second process finds what the first one has compiled
                command = [sys.executable, __file__, str(recipe), "--one", "--rounds", str(rounds)]
                subprocess.run([*command, "--steps", str(given.steps)], env=environment, check=True)


if __name__ == "__main__":
    main()
