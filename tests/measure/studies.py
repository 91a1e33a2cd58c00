"""Does a study survive kills? `python tests/measure/studies.py [--kills 10] [--processes 3] [--seed 0]`

Makes a study undisturbed, by one worker. Makes it again with several `ganframe study` at once, of which one is killed
with -9 now and then: the command alone, whose worker then saves; its worker alone; or both, as where a machine stops.
It is started again at once. Each run must have been made once, whoever did it: the bytes of every generator, the
scores and the log must be those of the undisturbed study. Prints its figures, and exits with 1 where there is a fault.
"""

from __future__ import annotations

import argparse
import json
import os
import random
import subprocess
import sys
import tempfile
import time
from collections import Counter
from pathlib import Path

import psutil

from ganframe.storage.files import checksum

BASE = """
dataset = { use = "ring" }
latent = { dim = 2 }
generator = { use = "mlp", hidden = [16] }
discriminator = { use = "mlp", hidden = [16], dropout = 0.3 }
objective = { use = "non_saturating" }
train = { steps = STEPS, batch_size = 32, ema = 0.99 }
log = { every = 50, samples_every = 1_000_000, checkpoint_every = 100, keep = 1 }
"""
STUDY = """
base = "base.toml"
seeds = SEEDS
[[metrics]]
use = "modes"
every = 250
samples = 500
[[axes.objective]]
name = "non-saturating"
[[axes.objective]]
name = "Wasserstein"
set = ["objective.use=wgan", 'constraints=[{use="spectral_norm"}]']
"""
MODES = ("command", "worker", "both")


def start(study: Path, out: Path) -> subprocess.Popen[bytes]:
    """`ganframe study` with one worker. What it says goes to a file beside the folder."""
    with (out.parent / "output").open("ab") as output:
        command = [sys.executable, "-m", "ganframe", "study", str(study), "--out", str(out)]
        return subprocess.Popen(command, stdin=subprocess.DEVNULL, stdout=output, stderr=output)


def workers_of(process: subprocess.Popen[bytes]) -> list[psutil.Process]:
    try:
        return psutil.Process(process.pid).children()
    except psutil.NoSuchProcess:
        return []


def kill(process: subprocess.Popen[bytes], mode: str) -> None:
    workers = workers_of(process) if mode != "command" else []
    if mode != "worker":
        process.kill()
    for worker in workers:
        worker.kill()
    process.wait()  # a command whose only worker was killed ends by itself


def begun(out: Path) -> int:
    """The number of log lines of all runs: how far the study is."""
    return sum(log.read_bytes().count(b"\n") for log in out.glob("runs/*/log.jsonl"))


def disturbed(study: Path, out: Path, kills: int, processes: int, lines: int, dice: random.Random) -> Counter[str]:
    """Makes the study with kills at random moments of it. Returns how often each of MODES was killed."""
    done: Counter[str] = Counter()
    working = [start(study, out) for _ in range(processes)]
    moments = sorted(dice.uniform(0.05, 0.9) * lines for _ in range(kills))
    try:
        for index, moment in enumerate(moments):
            while begun(out) < moment and any(process.poll() is None for process in working):
                time.sleep(0.02)
            running = [process for process in working if process.poll() is None]
            mode = MODES[index % len(MODES)]
            victim = dice.choice([process for process in running if workers_of(process)] or running or working)
            kill(victim, mode)
            done[mode] += 1
            working[working.index(victim)] = start(study, out)
        codes = [process.wait() for process in working]
    finally:
        for process in working:
            process.kill()
    if any(codes):
        print(f"exit codes {codes}\n{(out.parent / 'output').read_text()[-2000:]}")
    return done


def made(run: Path) -> dict[str, object]:
    """What a run must be equal in: its generator, its scores, and its log without times."""
    found = [json.loads(line) for line in (run / "evaluations.jsonl").read_text().splitlines()]
    scores = [{name: value for name, value in score.items() if name != "judged"} for score in found]
    log = [json.loads(line) for line in (run / "log.jsonl").read_text().splitlines()]
    return {
        "generator": checksum(run / "generator.safetensors"),
        "scores": [(score["judged"]["step"], rest) for score, rest in zip(found, scores, strict=True)],
        "log": [{name: value for name, value in record.items() if name != "seconds"} for record in log],
        "checkpoints": sorted(path.name for path in (run / "checkpoints").iterdir()),
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--kills", type=int, default=10)
    parser.add_argument("--processes", type=int, default=3)
    parser.add_argument("--seeds", type=int, default=4, help="of each of two cells")
    parser.add_argument("--steps", type=int, default=3000)
    parser.add_argument("--seed", type=int, default=0, help="of the moments of the kills")
    given = parser.parse_args()
    os.environ["PYTHONPATH"] = os.pathsep.join([str(Path(__file__).parents[2]), os.environ.get("PYTHONPATH", "")])
    with tempfile.TemporaryDirectory() as temporary:
        folder = Path(temporary)
        (folder / "base.toml").write_text(BASE.replace("STEPS", str(given.steps)))
        study, whole, out = folder / "study.toml", folder / "whole", folder / "parts"
        study.write_text(STUDY.replace("SEEDS", str(given.seeds)))
        began = time.monotonic()
        if start(study, whole).wait():
            sys.exit((folder / "output").read_text())
        middle = time.monotonic()
        dice = random.Random(given.seed)
        kills = disturbed(study, out, given.kills, given.processes, begun(whole), dice)
        ended = time.monotonic()
        names = sorted(run.name for run in (whole / "runs").iterdir())
        faults = [f"runs {names}"] if names != sorted(run.name for run in (out / "runs").iterdir()) else []
        for name in names:
            one, two = made(whole / "runs" / name), made(out / "runs" / name)
            faults += [f"{name}: {key} differs" for key in one if one[key] != two[key]]
        for fault in faults:
            print(fault)
        killed = ", ".join(f"{kind} {number}" for kind, number in kills.items())
        print(f"{len(names)} runs; undisturbed in {middle - began:.0f} s; kills {kills.total()} ({killed}) in", end=" ")
        print(f"{ended - middle:.0f} s by {given.processes} processes; faults {len(faults)}")
        sys.exit(1 if faults else 0)


if __name__ == "__main__":
    main()
