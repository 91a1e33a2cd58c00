"""What sampling takes in a fresh process, now and at an earlier commit.

`python tests/benchmarks/sampling.py --base COMMIT [--rounds N] [--samples N] [--form FORM] [case …]`

Cases: `resnet` is SN-GAN's generator for 32×32 pixels, `dcgan` that for 64×64; both have their default width. Each
contestant is a process of its own that loads the generator of a run and samples it, from the code of this folder or
from a worktree of the earlier commit; they take turns. Printed are the ratios of speeds, medians over the rounds with
quartiles, of the processor's time and of the clock's, without imports and loading; the largest peak of memory; and page
faults while sampling, which no other program disturbs.
`python` calls G.sample, `command` does so with the settings of the process that the command line makes. --precision
is that of the new one.
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

import ganframe

ROOT = Path(__file__).parents[2]
CASES = {"resnet": ("resnet", 32), "dcgan": ("dcgan", 64)}
RECIPE = """
[dataset]
use = "digits"
size = {size}
[latent]
dim = 128
[generator]
use = "{network}"
[discriminator]
use = "mlp"
hidden = [4]
[objective]
use = "non_saturating"
[train]
steps = 1
batch_size = 4
"""
CHILD = """
import json, resource, sys, time
run, count, form, precision = sys.argv[1:]
import ganframe
from ganframe.cli.process import keep_freed_memory
if form == "command":
    keep_freed_memory()
G = ganframe.load_generator(run)
G = G if precision == "no" else G.with_precision(precision)
faults = resource.getrusage(resource.RUSAGE_SELF).ru_minflt
processor, clock = time.process_time(), time.perf_counter()
x = G.sample(int(count))
times = time.process_time() - processor, time.perf_counter() - clock
usage = resource.getrusage(resource.RUSAGE_SELF)
print(json.dumps([*times, usage.ru_maxrss / 1024, x.double().abs().mean().item(), usage.ru_minflt - faults]))
"""


def sampled(code: Path, run: Path, count: int, form: str, precision: str) -> list[float]:
    """Seconds of the processor and the clock, the peak of memory in MiB, the mean |x|, and page faults."""
    command = [sys.executable, "-c", CHILD, str(run), str(count), form, precision]
    env = {**os.environ, "PYTHONPATH": str(code)}
    done = subprocess.run(command, env=env, cwd=run, stdout=subprocess.PIPE, check=True)
    return json.loads(done.stdout.splitlines()[-1])


def compare(name: str, run: Path, base: Path, arguments: argparse.Namespace) -> None:
    count = arguments.samples
    for form in arguments.form or ("python", "command"):
        taken: dict[Path, list[list[float]]] = {ROOT: [], base: []}
        for number in range(arguments.rounds):
            for code in (ROOT, base) if number % 2 else (base, ROOT):
                precision = arguments.precision if code == ROOT else "no"
                taken[code].append(sampled(code, run, count, form, precision))
        print(f"{name}, {form}, {count} samples, new against old", end="")
        for clock, words in enumerate(("processor", "clock")):
            pairs = zip(taken[base], taken[ROOT], strict=True)
            ratios = [old[clock] / new[clock] for old, new in pairs]
            low, middle, high = statistics.quantiles(ratios, n=4)
            speed = count / statistics.median(times[clock] for times in taken[ROOT])
            print(f"; {words}: × {middle:.2f} ({low:.2f} to {high:.2f}), {speed:.3g} a second", end="")
        peaks = [max(times[2] for times in taken[code]) for code in (ROOT, base)]
        means, faults = ([taken[code][0][i] for code in (ROOT, base)] for i in (3, 4))
        print(
            f"; peak {peaks[0]:.0f} MiB against {peaks[1]:.0f}; page faults {faults[0]:,} against {faults[1]:,}", end=""
        )
        print(f"; mean |x| {means[0]:.7f} and {means[1]:.7f}", flush=True)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("cases", nargs="*", metavar="case", help="resnet, dcgan; by default both")
    parser.add_argument("--base", required=True, metavar="COMMIT", help="the earlier commit")
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--samples", type=int, default=512)
    parser.add_argument("--form", action="append", choices=["python", "command"], help="by default both")
    parser.add_argument("--precision", choices=["no", "bf16"], default="no")
    arguments = parser.parse_args()
    with tempfile.TemporaryDirectory() as temporary:
        folder = Path(temporary)
        base = folder / "base"
        subprocess.run(["git", "-C", ROOT, "worktree", "add", "--quiet", "--detach", base, arguments.base], check=True)
        try:
            for case in arguments.cases or CASES:
                network, size = CASES[case]
                recipe = folder / f"{case}.toml"
                recipe.write_text(RECIPE.format(network=network, size=size))
                run = ganframe.run(ganframe.load_recipe(recipe), out=folder / case).folder
                compare(case, Path(run), base, arguments)
        finally:
            subprocess.run(["git", "-C", ROOT, "worktree", "remove", "--force", base], check=True)


if __name__ == "__main__":
    main()
