"""What a run does between steps, against its engine alone: `python tests/benchmarks/loop.py [mlp|sngan …]`

Both train one recipe's networks, with a moving average. The run also has the watch, the log, a progress bar, and
pictures and checkpoints as often as a recipe has them that does not say: its clock stands while the engine alone is at
work. Short rounds of both alternate in one process. The result is the ratio of all their times, as most rounds have no
picture, and the quartiles of the rounds' own ratios. Run it with nothing else at work.

`… loop.py --memory CHECKOUT` compares the peak memory of `ganframe run`, in new processes by turns, with that of
another checkout of ganframe. Whether memory grows in a long run is measured by memory.py.
"""

from __future__ import annotations

import argparse
import functools
import os
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import tomli_w
from engine import MLP, SNGAN

from ganframe.cli.process import keep_freed_memory
from ganframe.engine.algorithm import train
from ganframe.engine.state import State
from ganframe.plugins import registry
from ganframe.recipes.reading import structure
from ganframe.storage.log import Record
from ganframe.storage.run_folder import RunFolder, add_missing_folders
from ganframe.training import checkpoint
from ganframe.training.background import Writer
from ganframe.training.callbacks import make_watch, standard_callbacks
from ganframe.training.prepare import prepare
from ganframe.training.progress import progress

CASES = {"mlp": (MLP, 250, 240), "sngan": (SNGAN, 1, 24)}
"""The recipe, steps a round, and rounds."""
BOUND = 1.05
STEPS_OF_MEMORY = {"mlp": 300, "sngan": 3}
ROUNDS_OF_MEMORY = 3
CHILD = """
import resource, sys
from ganframe import cli
try:
    cli.main(sys.argv[1:], prog_name="ganframe")
finally:
    print(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024)
"""


def document(recipe: dict[str, object], **train_options: object) -> dict[str, object]:
    common = {"objective": {"use": "non_saturating"}, "train": {"steps": 10**9, "ema": 0.999, **train_options}}
    return {**recipe, **common}


def speed(name: str, rounds: int | None) -> float:
    """The time of a run in that of its engine."""
    recipe, count, usual = CASES[name]
    rounds = rounds or usual
    trainer = prepare(structure(document(recipe), "benchmark", registry.load()))
    state, writer, records = trainer.state, Writer(), list[Record]()
    used = {"engine": 0.0, "run": 0.0}
    ratios = []
    begun = 0.0
    for due in trainer.cadences:
        due.clock = lambda: used["run"] + time.perf_counter() - begun
        due.begun = due.latest = 0.0
    with tempfile.TemporaryDirectory() as path:
        folder, watch = RunFolder(Path(path)), make_watch(trainer)
        add_missing_folders(folder)

        def save(state: State) -> None:
            checkpoint.save(trainer, folder, watch, None, writer)

        callbacks = standard_callbacks(trainer, folder, records, watch, save, None, writer)
        with progress(10**9, 0, records, True) as bar:
            contestants = {"engine": [], "run": [*callbacks, bar]}
            for index in range(rounds + 1):
                seconds = {}
                for contestant in contestants if index % 2 else reversed(contestants):
                    begun = time.perf_counter()
                    train(state, state.step + count, 1, contestants[contestant])
                    seconds[contestant] = time.perf_counter() - begun
                if index:  # the first warms up
                    ratios.append(seconds["run"] / seconds["engine"])
                    used = {key: used[key] + seconds[key] for key in used}
        drawn, saved = (len([*(folder.path / kind).iterdir()]) for kind in ("samples", "checkpoints"))
        writer.wait()
        writer.close()
    low, middle, high = statistics.quantiles(ratios, n=4)
    ratio = used["run"] / used["engine"]
    print(
        f"{name}: run / engine = {ratio:.3f} (median of rounds {middle:.3f}, quartiles {low:.3f} to {high:.3f}; "
        f"{rounds} rounds of {count} steps; {used['run']:.0f} s with {drawn} pictures, {saved} checkpoints kept; "
        f"bound {BOUND})",
        flush=True,
    )
    return ratio


def peak(checkout: Path, file: Path, out: Path) -> float:
    """MiB of `ganframe run` with the code of a checkout."""
    environment = {**os.environ, "PYTHONPATH": str(checkout)}
    command = [sys.executable, "-c", CHILD, "run", str(file), "--out", str(out)]
    done = subprocess.run(command, env=environment, capture_output=True, text=True, check=True, cwd=out.parent)
    return float(done.stdout.splitlines()[-1])


def memory(name: str, rounds: int | None, other: Path) -> float:
    """The peak memory of a run of this checkout in that of another, with a checkpoint in each third of its steps."""
    steps = STEPS_OF_MEMORY[name]
    recipe = document(CASES[name][0], steps=steps)
    recipe["log"] = {"samples_every": steps // 3, "checkpoint_every": steps // 3}
    checkouts = {"this": Path(__file__).parents[2], "other": other.resolve()}
    found: dict[str, list[float]] = {which: [] for which in checkouts}
    with tempfile.TemporaryDirectory() as path:
        file = Path(path) / f"{name}.toml"
        file.write_text(tomli_w.dumps(recipe))
        for index in range(rounds or ROUNDS_OF_MEMORY):
            for which, checkout in checkouts.items():
                found[which].append(peak(checkout, file, Path(path) / f"{which}-{index}"))
    this, that = (statistics.median(values) for values in found.values())
    print(f"{name}: peak memory {this:.0f} MiB, of the other {that:.0f} MiB: ratio {this / that:.3f}", flush=True)
    return this / that


def main() -> int:
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("cases", nargs="*", choices=[[], *CASES], metavar="|".join(CASES))
    parser.add_argument(
        "--rounds", type=int, help="of time: 240 of the perceptron, 24 of the residual networks; of memory: 3"
    )
    parser.add_argument("--memory", type=Path, metavar="CHECKOUT")
    asked = parser.parse_args()
    if asked.memory is not None and not (asked.memory / "ganframe").is_dir():
        parser.error(f"{asked.memory}: no checkout of ganframe")
    keep_freed_memory()  # as the command line does
    measure = speed if asked.memory is None else functools.partial(memory, other=asked.memory)
    ratios = [measure(name, asked.rounds) for name in asked.cases or CASES]
    return int(asked.memory is None and max(ratios) > BOUND)


if __name__ == "__main__":
    sys.exit(main())
