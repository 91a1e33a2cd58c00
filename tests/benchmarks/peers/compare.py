"""ganframe beside mimicry, TorchGAN and vegans: `python tests/benchmarks/peers/compare.py FOLDER [CASE…] [--rounds N]`.

FOLDER gets an environment with the three packages from PyPI, at the first call; torch and all else are those of this
Python, so that all contestants use the same. Each contestant trains in a process of its own, as `contestant.py` says,
and only one at a time: rounds of some steps go around. Each result is a median of ratios to the first contestant of the
same round, with quartiles, by the clock and by the processor's time; where other programs run, trust the second one.

Cases: `mlp`, perceptrons 2-64-64-2 on points, one thread; `sngan1` and `sngan5`, the residual networks of SN-GAN for
32×32 with 1 and 5 critic steps, the hinge loss and two threads. All have batches of 64. `--before CHECKOUT` adds
ganframe as it is in another folder, which the last line compares with this one.
"""

from __future__ import annotations

import argparse
import os
import statistics
import subprocess
import sys
import sysconfig
import tempfile
import venv
from pathlib import Path

import attrs
import torch

HERE = Path(__file__).resolve().parent
ROOT = HERE.parents[2]
PACKAGES = ("torch-mimicry==0.1.16", "torchgan==0.1.0", "vegans==0.4.0")
SECONDS = 2.0  # of a round of one contestant, at least

CASES = {
    "mlp": ("mlp", 1, 1, ["torchgan", "vegans", "ganframe", "engine", "compiled"]),
    "sngan1": ("sngan", 1, 2, ["mimicry", "torchgan", "ganframe", "bf16"]),
    "sngan5": ("sngan", 5, 2, ["mimicry", "torchgan", "ganframe", "bf16"]),
}
"""What is trained, critic steps, threads, contestants."""

PEERS = {"mimicry", "torchgan", "vegans"}


def environment(folder: Path) -> Path:
    """The Python of the environment with the peers, which is made where it is not there."""
    python, done = folder / ("Scripts/python.exe" if os.name == "nt" else "bin/python"), folder / "peers-installed"
    if done.exists():
        return python
    venv.create(folder, with_pip=True)
    says = [str(python), "-c", "import sysconfig; print(sysconfig.get_path('purelib'))"]
    site = Path(subprocess.run(says, capture_output=True, text=True, check=True).stdout.strip())
    (site / "borrowed.pth").write_text(sysconfig.get_path("purelib") + "\n", encoding="utf-8")
    # The packages pin versions of torch and numpy that no longer install, and need little of what else they ask for.
    for what in (["--no-deps", *PACKAGES], ["tensorboard", "matplotlib"]):
        install = [str(python), "-m", "pip", "install", "--quiet", "--disable-pip-version-check", *what]
        found = subprocess.run(install, capture_output=True, text=True, check=False)
        if found.returncode:
            raise SystemExit(found.stderr)
    done.touch()
    return python


def install_plugins(site: Path) -> None:
    """Describes two plugins in `site` as an installer would: the hinge loss, and images of noise."""
    for module in ("ganframe_hinge", "noise_images"):
        info = site / f"{module}-1.0.dist-info"
        info.mkdir()
        (info / "METADATA").write_text(f"Metadata-Version: 2.1\nName: {module}\nVersion: 1.0\n", encoding="utf-8")
        (info / "entry_points.txt").write_text(f"[ganframe]\n{module} = {module}\n", encoding="utf-8")


@attrs.define
class Contestant:
    """A process that trains as many steps as it is asked for. `memory` is the most that it has held, in KiB."""

    name: str
    process: subprocess.Popen[str]
    errors: Path
    steps: int = 1
    memory: int = 0

    def train(self) -> tuple[float, float]:
        """Seconds of a step, by the clock and of the processor."""
        assert self.process.stdin is not None
        print(self.steps, file=self.process.stdin, flush=True)
        wall, cpu, memory = self.answer().split()
        self.memory = int(memory)
        return float(wall) / self.steps, float(cpu) / self.steps

    def answer(self) -> str:
        assert self.process.stdout is not None
        line = self.process.stdout.readline()
        if not line:
            raise SystemExit(f"{self.errors.read_text()}{self.name} has ended with {self.process.wait()}")
        return line


def start(name: str, case: str, python: Path, site: Path, before: str | None) -> Contestant:
    """A contestant that is ready. "before" is ganframe in the folder `before`."""
    trained, critic_steps, threads, _ = CASES[case]
    checkout = Path(before).resolve() if name == "before" and before else ROOT
    path = [] if name in PEERS else [checkout, site, HERE, ROOT / "plugins" / "ganframe-hinge"]
    program = [sys.executable if path else str(python), str(HERE / "contestant.py")]
    variables = {**os.environ, "PYTHONPATH": os.pathsep.join(map(str, path)), "OMP_NUM_THREADS": str(threads)}
    errors = site / f"{case}-{name}.txt"
    with errors.open("w") as file:
        process = subprocess.Popen(
            [*program, "ganframe" if name == "before" else name, trained, str(critic_steps), str(threads)],
            env=variables,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=file,
            text=True,
        )
    contestant = Contestant(name, process, errors)
    contestant.answer()
    return contestant


def measured(contestants: list[Contestant], rounds: int) -> dict[str, list[tuple[float, float]]]:
    """For each contestant its seconds of a step in each round. A first one says how long rounds are."""
    times: dict[str, list[tuple[float, float]]] = {contestant.name: [] for contestant in contestants}
    for contestant in contestants:
        contestant.train()
        contestant.steps = max(1, round(SECONDS / contestant.train()[0]))
    for round_ in range(rounds):
        for contestant in contestants if round_ % 2 == 0 else reversed(contestants):
            times[contestant.name].append(contestant.train())
    return times


def compare(case: str, python: Path, site: Path, rounds: int, before: str | None, left_out: list[str]) -> None:
    """Prints a case as rows of a table."""
    _, critic_steps, threads, names = CASES[case]
    names = [name for name in [*names, *(["before"] if before else [])] if name not in left_out]
    contestants: list[Contestant] = []
    try:
        for name in names:
            contestants.append(start(name, case, python, site, before))
        times = measured(contestants, rounds)
    finally:
        for contestant in contestants:
            contestant.process.kill()
    first = names[0]
    said = f"{critic_steps} critic steps, batch 64, {threads} threads, {rounds} rounds, torch {torch.__version__}"
    print(f"\n{case}: {said}")
    print(f"\n| loop | steps/s | × {first} | by the processor's time | MiB |\n|---|---|---|---|---|")
    for contestant in contestants:
        name = contestant.name
        speed = statistics.median(1 / wall for wall, _ in times[name])
        ratios = [spread(times[first], times[name], which) for which in (0, 1)]
        print(f"| {name} | {speed:.3g} | {' | '.join(ratios)} | {contestant.memory / 1024:,.0f} |")
    if before:
        print(f"\nbefore / now: {spread(times['before'], times['ganframe'], 0)}; by the processor's time", end=" ")
        print(spread(times["before"], times["ganframe"], 1), flush=True)


def spread(of: list[tuple[float, float]], to: list[tuple[float, float]], which: int) -> str:
    """How much faster the second one is: the median of the ratios of their rounds, and the quartiles."""
    ratios = [a[which] / b[which] for a, b in zip(of, to, strict=True)]
    if len(ratios) == 1:
        return f"{ratios[0]:.2f}"
    low, middle, high = statistics.quantiles(ratios, n=4, method="inclusive")
    return f"{middle:.2f} ({low:.2f} to {high:.2f})"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("folder", type=Path)
    parser.add_argument("cases", nargs="*", choices=[[], *CASES], default=list(CASES))
    parser.add_argument("--rounds", type=int, default=9)
    parser.add_argument("--before", metavar="CHECKOUT")
    parser.add_argument("--without", action="append", default=[], metavar="NAME", help="leave a contestant out")
    given = parser.parse_args()
    python = environment(given.folder)
    with tempfile.TemporaryDirectory() as site:
        install_plugins(Path(site))
        for case in given.cases:
            compare(case, python, Path(site), given.rounds, given.before, given.without)


if __name__ == "__main__":
    main()
