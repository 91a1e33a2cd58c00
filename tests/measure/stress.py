"""Does a run survive kills, a full disk and damaged files? `python tests/measure/stress.py [KILLS] [SEED]`

Kills runs with -9 at random moments and resumes them until there have been KILLS kills (100); each run must end with
the bytes of one that was never interrupted. `--moments` instead dies, and then has a full disk, at each file-system
operation of two steps in turn, of the loop and of its writer. `--mutations N` damages N files of a run folder, one or
two at a time: resuming and loading must give a message or a right result. Each prints its figures and what went wrong,
and exits with 1 where anything did.

A process that has imported everything is forked for each attempt, so that an attempt takes a tenth of a second.
"""

from __future__ import annotations

import argparse
import builtins
import contextlib
import errno
import io
import json
import os
import random
import shutil
import signal
import sys
import tempfile
import threading
import time
import traceback
import warnings
from collections import Counter
from collections.abc import Callable, Iterator
from pathlib import Path

import matplotlib.figure  # noqa: F401  (these here, and not in each child)
import sklearn.datasets  # noqa: F401
import torch
import torchvision.transforms.functional
import torchvision.utils  # noqa: F401

import ganframe
from ganframe import RequestError, RunError, cli
from ganframe.analysis import lipschitz
from ganframe.engine import algorithm
from ganframe.engine.state import State
from ganframe.plugins import registry
from ganframe.recipes.writing import to_toml
from ganframe.storage import weights
from ganframe.training import background

RECIPE = """
seed = 3
dataset = { use = "ring" }
latent = { dim = 2 }
generator = { use = "mlp", hidden = [8], batch_norm = true }
discriminator = { use = "mlp", hidden = [8], dropout = 0.3 }
objective = { use = "non_saturating" }
constraints = [{ use = "spectral_norm" }]

[optimizer.generator]
schedule = { use = "LinearLR", start_factor = 1.0, end_factor = 0.1, total_iters = 20 }

[train]
steps = 24
batch_size = 8
critic_steps = 2
ema = 0.9

[log]
every = 1
samples_every = 1_000
checkpoint_every = 1
keep = 1
"""
SETTINGS = [  # what differs between the runs that are killed
    {"every": 1, "checkpoint_every": 1, "keep": 1},
    {"every": 2, "checkpoint_every": 1, "keep": 3},
    {"every": 3, "checkpoint_every": 2, "keep": 2},
    {"every": 1, "checkpoint_every": 5, "keep": 1},
]
DATASETS = ["ring", "digits"]  # one whose samples are drawn, and one that is gone through in an order
ACCEPTED = (RequestError, RunError)


class Enough(Exception):
    """Stops a run that would train for hours."""


# ------------------------------------------------------------------------------------------------------------ children


def fork(act: Callable[[], object], log: Path) -> int:
    """Starts `act` in a child, its output in a file; returns its process id. It exits as the program does, or by 99."""
    sys.stdout.flush()
    child = os.fork()
    if child:
        return child
    code = 0
    try:
        descriptor = os.open(log, os.O_WRONLY | os.O_CREAT | os.O_TRUNC)
        os.dup2(descriptor, 1)
        os.dup2(descriptor, 2)
        act()
    except SystemExit as end:
        code = end.code if isinstance(end.code, int) else 0
    except BaseException:
        traceback.print_exc()
        code = 99
    finally:
        sys.stdout.flush()
        sys.stderr.flush()
        os._exit(code)


def command(*arguments: object) -> Callable[[], object]:
    return lambda: cli.main([str(a) for a in arguments], prog_name="ganframe")


def wait(child: int, seconds: float = 60.0) -> int | None:
    """The exit code of a child, minus the signal's number where one ended it, or None where it hangs and is killed."""
    deadline = time.monotonic() + seconds
    while time.monotonic() < deadline:
        found, status = os.waitpid(child, os.WNOHANG)
        if found:
            return os.waitstatus_to_exitcode(status)
        time.sleep(0.0005)
    os.kill(child, signal.SIGKILL)
    os.waitpid(child, 0)
    return None


def call(log: Path, *arguments: object) -> int | None:
    return wait(fork(command(*arguments), log))


# ------------------------------------------------------------------------------------------------------------- results


def result(folder: Path) -> dict[str, object]:
    """What must be the same of any two runs of one recipe: weights to the byte, records without their seconds."""
    lines = (folder / "log.jsonl").read_text().splitlines()
    records = [{k: v for k, v in json.loads(line).items() if k != "seconds"} for line in lines]
    checkpoints = folder / "checkpoints"
    return {
        "generator": (folder / "generator.safetensors").read_bytes(),
        "log": records,
        "checkpoints": sorted(p.name for p in checkpoints.iterdir()),
        "states": {
            str(p.relative_to(folder)): p.read_bytes() for p in sorted(checkpoints.glob("step-*/*.safetensors"))
        },
        "pictures": sorted(p.name for p in (folder / "samples").iterdir()),
    }


def differences(folder: Path, straight: dict[str, object]) -> list[str]:
    """What is wrong with a finished run."""
    try:
        found = result(folder)
    except (OSError, ValueError) as error:
        return [f"not to be read: {error}"]
    wrong = [f"{name} differ" for name in straight if found[name] != straight[name]]
    left = [p for p in folder.rglob(".*") if p.name != ".lock"]
    return wrong + [f"{p.relative_to(folder)} is left" for p in left]


def half_written(folder: Path) -> bool:
    """Whether a process was killed while it wrote a checkpoint or a generator."""
    return any(p.name != ".lock" for p in folder.rglob(".*"))


# --------------------------------------------------------------------------------------------------------------- kills


def kills(count: int, seed: int, where: Path) -> tuple[dict[str, int], list[str]]:
    """Kills at random moments, half of them while something is being written."""
    chance, log = random.Random(seed), where / "log"
    figures: Counter[str] = Counter(kills=0, writing=0, resumes=0, finished=0, faults=0)
    faults: list[str] = []
    straight: dict[int, tuple[Path, dict[str, object], float]] = {}
    for number in range(10**6):
        if figures["kills"] >= count:
            break
        kind = number % (len(SETTINGS) * len(DATASETS))
        settings, dataset = SETTINGS[kind % len(SETTINGS)], DATASETS[kind // len(SETTINGS)]
        if kind not in straight:
            recipe = where / f"kind-{kind}.toml"
            sets = [f"log.{key}={value}" for key, value in settings.items()]
            recipe.write_text(ganframe_recipe([*sets, f"dataset.use={dataset}"]))
            begun = time.monotonic()
            code = call(log, "run", recipe, "--out", where / f"straight-{kind}")
            assert code == 0, log.read_text()
            straight[kind] = recipe, result(where / f"straight-{kind}"), time.monotonic() - begun
        recipe, expected, seconds = straight[kind]
        folder = where / f"run-{number}"
        for attempt in range(60):
            known = (folder / "recipe.toml").exists()
            arguments = ["run", "--resume", folder] if known else ["run", recipe, "--out", folder]
            child = fork(command(*arguments), log)
            if attempt < 59 and figures["kills"] < count:
                _kill_at_random(child, folder, chance, seconds)
            code = wait(child)
            figures["resumes"] += known
            if code == -signal.SIGKILL:
                figures["kills"] += 1
                figures["writing"] += half_written(folder)
                continue
            said = log.read_text()
            if code == 0 or (code == 2 and "this run has finished" in said):
                wrong = differences(folder, expected)
            else:
                wrong = [f"exit code {code}: {said[-2000:]}"]
            figures["finished"] += not wrong
            faults += [f"run {number} ({settings}, {dataset}), attempt {attempt}: {fault}" for fault in wrong]
            break
        else:
            faults.append(f"run {number}: not done after 60 attempts")
        shutil.rmtree(folder, ignore_errors=True)
    figures["faults"] = len(faults)
    return dict(figures), faults


def ganframe_recipe(overrides: list[str]) -> str:
    """The recipe with overrides, every option written out."""
    with tempfile.NamedTemporaryFile("w", suffix=".toml") as file:
        file.write(RECIPE)
        file.flush()
        return to_toml(ganframe.load_recipe(file.name, [*overrides, "name=stress"]))


def _kill_at_random(child: int, folder: Path, chance: random.Random, seconds: float) -> None:
    """Kills a child at a moment of its time, or as soon as something is half written after it."""
    time.sleep(chance.uniform(0, 0.8 * seconds))
    if chance.random() < 0.5:
        deadline = time.monotonic() + seconds
        while time.monotonic() < deadline and not os.path.exists(folder):
            time.sleep(0.0005)
        while time.monotonic() < deadline and not _writing_now(folder):
            pass
        time.sleep(chance.uniform(0, 0.004))
    os.kill(child, signal.SIGKILL)  # it is there until it has been waited for


def _writing_now(folder: Path) -> bool:
    try:
        names = os.listdir(folder / "checkpoints") + os.listdir(folder)
    except OSError:
        return False
    return any(name.startswith(".") and name != ".lock" for name in names)


# ------------------------------------------------------------------------------------------------------------- moments


class Operations:
    """Counts the file-system operations on a folder, and does something at one of them.

    By an audit hook, which Python calls before each; what torch and safetensors write is seen by wrapping them.
    """

    EVENTS = ("open", "os.rename", "os.remove", "os.rmdir", "os.mkdir", "os.truncate", "os.link", "os.symlink")

    def __init__(self, folder: Path, act: Callable[[int, str, Path, bool], None]) -> None:
        self.folder, self.act = str(folder), act
        self.count, self.on = 0, False
        self.lock, self.inside = threading.Lock(), threading.local()  # the loop and its writer are two threads
        sys.addaudithook(self._hook)
        self._wrap(weights, "save_model", 1)
        self._wrap(torch, "save", 1)
        fsync = os.fsync

        def synced(descriptor: int) -> None:
            self.seen("os.fsync", Path(os.readlink(f"/proc/self/fd/{descriptor}")), writes=True)
            fsync(descriptor)

        os.fsync = synced

    def seen(self, event: str, path: Path, writes: bool) -> None:
        if not self.on or getattr(self.inside, "now", False):
            return
        self.inside.now = True
        try:
            with self.lock:
                self.count += 1
                self.act(self.count, event, path, writes)
        finally:
            self.inside.now = False

    def _hook(self, event: str, arguments: tuple[object, ...]) -> None:
        if event not in self.EVENTS or not self.on or getattr(self.inside, "now", False):
            return
        path = os.fsdecode(arguments[0]) if isinstance(arguments[0], (str, bytes, os.PathLike)) else ""
        # What rmtree removes has a name relative to its folder's descriptor.
        inside = path.startswith(self.folder) or (event in ("os.remove", "os.rmdir") and not os.path.isabs(path))
        if not inside:
            return
        if event == "open":
            flags = arguments[2] if isinstance(arguments[2], int) else 0
            writes = bool(flags & (os.O_WRONLY | os.O_RDWR | os.O_CREAT))
        else:
            writes = event not in ("os.remove", "os.rmdir")
        self.seen(event, Path(path), writes)

    def _wrap(self, module: object, name: str, place: int) -> None:
        """Sees a function of compiled code that writes a file as two operations: before, and with half of it there."""
        function = getattr(module, name)

        def wrapped(*arguments: object, **options: object) -> object:
            self.seen(name, Path(str(arguments[place])), writes=True)
            done = function(*arguments, **options)
            self.seen(f"{name}, half", Path(str(arguments[place])), writes=True)
            return done

        setattr(module, name, wrapped)


def _die(at: int, torn: bool) -> Callable[[int, str, Path, bool], None]:
    def act(count: int, event: str, path: Path, writes: bool) -> None:
        if count != at:
            return
        if event.endswith("half"):
            os.truncate(path, path.stat().st_size // 2)
        elif torn and event == "open" and writes:  # empty, or a line that has only begun
            with builtins.open(path, "ab" if path.name == "log.jsonl" else "wb") as file:
                file.write(b'{"step": 3, "loss_d' if file.tell() or path.name == "log.jsonl" else b"")
        os._exit(9)

    return act


def _lack_room(at: int, torn: bool) -> Callable[[int, str, Path, bool], None]:
    def act(count: int, event: str, path: Path, writes: bool) -> None:
        if count >= at and writes:
            if event.endswith("half"):
                os.truncate(path, path.stat().st_size // 2)
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC), str(path))

    return act


def moments(where: Path, every: int = 1, first: int = 2, last: int = 4) -> tuple[dict[str, int], list[str]]:
    """Dies, or has a full disk from then on, at each `every`-th file-system operation from step `first` to `last`."""
    recipe, log = where / "moments.toml", where / "log"
    recipe.write_text(ganframe_recipe(["train.steps=5", "log.keep=1"]))
    assert call(log, "run", recipe, "--out", where / "straight") == 0, log.read_text()
    expected = result(where / "straight")
    count = _count(recipe, where / "counted", log, first, last)
    figures: Counter[str] = Counter(operations=count, deaths=0, full=0, faults=0)
    faults: list[str] = []
    for name, make, variants in (("deaths", _die, (False, True)), ("full", _lack_room, (False,))):
        for at in range(1, count + 1, every):
            for torn in variants:
                folder = where / f"{name}-{at}-{torn}"
                code = wait(fork(_watched(recipe, folder, make(at, torn), first, last), log))
                said = log.read_text()
                case = f"{name} at operation {at}{' (torn)' if torn else ''}"
                if name == "full":
                    if code == 0:
                        continue  # nothing is written after this operation
                    # Before the message there may be the first line of the run.
                    if code != 1 or "Traceback" in said or len(said.splitlines()) > 2:
                        faults.append(f"{case}: exit code {code}: {said[-1500:]}")
                elif code != 9:
                    faults.append(f"{case}: exit code {code}: {said[-1500:]}")
                figures[name] += 1
                code = call(log, "run", "--resume", folder)
                if code != 0:
                    faults.append(f"{case}, resumed: exit code {code}: {log.read_text()[-1500:]}")
                else:
                    faults += [f"{case}, resumed: {wrong}" for wrong in differences(folder, expected)]
                shutil.rmtree(folder)
    figures["faults"] = len(faults)
    return dict(figures), faults


def _watched(
    recipe: Path, folder: Path, act: Callable[[int, str, Path, bool], None], first: int, last: int
) -> Callable[[], None]:
    """A run whose operations after the saving of step `first`, up to that of step `last`, are seen by `act`.

    They are those of two threads, so that the n-th may be another one each time; their number is always the same.
    """

    def begin() -> None:
        operations = Operations(folder, act)
        step = algorithm.generator_step
        writers: list[background.Writer] = []
        made = background.Writer.__init__

        def kept(writer: background.Writer) -> None:
            made(writer)
            writers.append(writer)

        background.Writer.__init__ = kept  # type: ignore[method-assign]

        def watched(state: State) -> None:  # state.step is that of the last one
            if state.step in (first, last):
                writers[0].wait()
            operations.on = first <= state.step < last
            step(state)

        algorithm.generator_step = watched
        command("run", recipe, "--out", folder)()

    return begin


def _count(recipe: Path, folder: Path, log: Path, first: int, last: int) -> int:
    told = folder.with_suffix(".count")

    def tell(count: int, event: str, path: Path, writes: bool) -> None:
        told.write_text(str(count))

    assert wait(fork(_watched(recipe, folder, tell, first, last), log)) == 0, log.read_text()
    return int(told.read_text())


# ----------------------------------------------------------------------------------------------------------- mutations

VALUES: list[object] = [None, True, -1, 0, 1e308, 10**30, "x", "", [], {}, [[1]], {"a": 1}, float("nan"), "../../x"]


def finished_run(where: Path) -> Path:
    """A run of six steps, with a log, pictures, two checkpoints and what a killed process may leave."""
    recipe, folder = where / "small.toml", where / "whole"
    changes = ["train.steps=6", "log.checkpoint_every=2", "log.keep=2", "log.samples_every=1000"]
    recipe.write_text(ganframe_recipe(changes))
    ganframe.run(ganframe.load_recipe(recipe), folder)
    return folder


def mutate(folder: Path, chance: random.Random) -> str:
    """Damages a file of a run folder in one of many ways; says how."""
    files = sorted(p for p in folder.rglob("*") if p.is_file())
    file = chance.choices(files, [3 if p.parent == folder else 1 for p in files])[0]
    ways = [_flip, _cut, _empty, _delete, _swap, _turn_into_folder, _append, _zero, _link, _garble]
    if file.suffix in (".json", ".jsonl", ".toml"):
        ways += [_edit, _edit, _edit, _nest]
    if file.suffix == ".safetensors":
        ways += [_head, _head]
    if file.parent.name.startswith("step-") or file.suffix == "":
        ways += [_folder_into_file]
    way = chance.choice(ways)
    return f"{way.__name__[1:]} {file.relative_to(folder)}{way(file, folder, chance) or ''}"


def _flip(file: Path, folder: Path, chance: random.Random) -> str:
    data = bytearray(file.read_bytes())
    for place in (chance.sample(range(len(data)), min(len(data), chance.choice([1, 1, 8])))) if data else ():
        data[place] ^= 1 << chance.randrange(8)
    file.write_bytes(bytes(data))
    return ""


def _cut(file: Path, folder: Path, chance: random.Random) -> None:
    data = file.read_bytes()
    file.write_bytes(data[: chance.randrange(len(data) + 1)])


def _empty(file: Path, folder: Path, chance: random.Random) -> None:
    file.write_bytes(b"")


def _delete(file: Path, folder: Path, chance: random.Random) -> None:
    file.unlink()


def _swap(file: Path, folder: Path, chance: random.Random) -> str:
    other = chance.choice(sorted(p for p in folder.rglob("*") if p.is_file() and p != file))
    first, second = file.read_bytes(), other.read_bytes()
    file.write_bytes(second)
    other.write_bytes(first)
    return f" and {other.relative_to(folder)}"


def _turn_into_folder(file: Path, folder: Path, chance: random.Random) -> None:
    file.unlink()
    file.mkdir()
    if chance.random() < 0.5:
        (file / "inside").write_text("x")


def _folder_into_file(file: Path, folder: Path, chance: random.Random) -> str:
    inner = chance.choice([p for p in (file.parent, folder / "checkpoints", folder / "samples") if p != folder])
    shutil.rmtree(inner)
    inner.write_text("no folder")
    return f": {inner.relative_to(folder)} is a file"


def _append(file: Path, folder: Path, chance: random.Random) -> None:
    with file.open("ab") as opened:
        opened.write(
            chance.choice([b"\n", b"\0" * 50, b"{}\n", b"x = [", b'{"step": 99, "seconds": 1}\n', b"\xff\xfe"])
        )


def _zero(file: Path, folder: Path, chance: random.Random) -> None:
    file.write_bytes(bytes(file.stat().st_size))


def _garble(file: Path, folder: Path, chance: random.Random) -> None:
    file.write_bytes(chance.randbytes(chance.randrange(1, 400)))


def _link(file: Path, folder: Path, chance: random.Random) -> str:
    outside = folder.parent / "outside" / "kept"
    outside.parent.mkdir(exist_ok=True)
    outside.write_bytes(file.read_bytes())
    file.unlink()
    target = chance.choice([outside, outside.with_name("nowhere"), file])
    file.symlink_to(target)
    return f" to {target.name if target != file else 'itself'}"


def _nest(file: Path, folder: Path, chance: random.Random) -> None:
    depth = chance.choice([100, 100_000])
    text = chance.choice(["[" * depth + "]" * depth, '{"a":' * depth + "1" + "}" * depth])
    lines = file.read_text().splitlines(keepends=True)
    lines.insert(chance.randrange(len(lines) + 1), f"step = {text}\n" if file.suffix == ".toml" else f"{text}\n")
    file.write_text("".join(lines))


def _head(file: Path, folder: Path, chance: random.Random) -> str:
    """Another value in the header of a file of weights, which is JSON behind its length."""
    data = file.read_bytes()
    length = int.from_bytes(data[:8], "little")
    try:
        header = json.loads(data[8 : 8 + length])
        key = chance.choice(sorted(header))
        if key == "__metadata__":
            spec = json.loads(header[key]["spec"])
            spec[chance.choice([*sorted(spec), "x"])] = chance.choice([*VALUES, [10**12], [3], ["x"], 10**12])
            header[key]["spec"] = json.dumps(spec)
        else:
            header[key][chance.choice(sorted(header[key]))] = chance.choice([*VALUES, [10**12], [8], "F64", [0, 4]])
    except (ValueError, LookupError, TypeError, AttributeError):
        return ", which has no header any more"
    text = json.dumps(header).encode()
    file.write_bytes(len(text).to_bytes(8, "little") + text + data[8 + length :])
    return f": {key} {header[key]}"


def _edit(file: Path, folder: Path, chance: random.Random) -> str:
    """Another value, key or line in a text file."""
    lines = file.read_text().splitlines()
    number = chance.randrange(len(lines)) if lines else 0
    line = lines[number] if lines else ""
    value = json.dumps(chance.choice(VALUES))
    if file.suffix == ".jsonl" and line:
        record = json.loads(line)
        key = chance.choice(sorted(record))
        how = chance.randrange(4)
        if how == 0:
            record[f"{key}x"] = record.pop(key)
        else:
            record[key] = chance.choice([*VALUES, 10**400 if how == 1 else -1, 1])
        new = chance.choice([json.dumps(record), json.dumps(record), f"{line}\n{line}", "", "1e999", f"{line} {line}"])
    elif file.suffix == ".toml" and "=" in line:
        key = line.partition("=")[0]
        new = chance.choice([f"{key}= {value}", f"{key.strip()}x = 1", "", f"{line}\n{line}", f"{key}= -1.5", "[x]"])
    elif ":" in line:
        key = line.partition(":")[0]
        comma = "," if line.endswith(",") else ""
        new = chance.choice([f"{key}: {value}{comma}", f'"x": {value}{comma}', "", f"{line}\n{line}"])
    else:
        new = chance.choice(["", value, f"{line}{line}", "\0"])
    if lines:
        lines[number] = new
    file.write_text("\n".join(lines) + "\n")
    return f", line {number + 1}: {new[:60]!r}"


def mutations(count: int, seed: int, where: Path) -> tuple[dict[str, int], list[str]]:
    """Damages a run folder again and again: resuming and loading it must give a message or a right result."""
    torch.set_num_threads(1)
    whole = finished_run(where)
    straight = where / "straight"
    shutil.copytree(whole, straight)
    ganframe.resume(straight, ["train.steps=8"])
    expected, samples = result(straight), ganframe.load_generator(whole).sample(4)
    figures: Counter[str] = Counter(mutations=0, refused=0, resumed=0, another_recipe=0, faults=0)
    faults: list[str] = []
    for number in range(count):
        chance = random.Random(seed * 1_000_003 + number)
        folder = where / "mutated"
        shutil.rmtree(folder, ignore_errors=True)
        shutil.copytree(whole, folder)
        how = " + ".join(mutate(folder, chance) for _ in range(chance.choice([1, 1, 2])))
        case = f"mutation {number} of seed {seed}: {how}"
        figures["mutations"] += 1
        with contextlib.redirect_stderr(io.StringIO()), warnings.catch_warnings():
            warnings.simplefilter("ignore")  # of other versions in environment.json
            outcome, wrong = judge(folder, expected, samples, how)
        figures[outcome] += 1
        faults += [f"{case}: {fault}" for fault in wrong]
    figures["faults"] = len(faults)
    return dict(figures), faults


def judge(folder: Path, expected: dict[str, object], samples: torch.Tensor, how: str) -> tuple[str, list[str]]:
    """What became of a damaged folder, and what is wrong about it."""
    recipe_changed, log_changed = "recipe.toml" in how, "log.jsonl" in how
    wrong: list[str] = []
    outside = folder.parent / "outside" / "kept"
    before = outside.read_bytes() if outside.exists() else None
    try:
        made = ganframe.load_generator(folder).sample(4)
        if not recipe_changed and not torch.equal(made, samples):
            wrong.append("load_generator loaded other weights")
    except ACCEPTED as error:
        wrong += [] if str(error).strip() else ["load_generator: an empty message"]
    except Exception:
        wrong.append(f"load_generator: {traceback.format_exc()[-1200:]}")
    try:
        lipschitz.examine(folder, samples=8)
    except ACCEPTED:
        pass
    except Exception:
        wrong.append(f"lipschitz: {traceback.format_exc()[-1200:]}")
    standing = _standing(folder)

    def enough(state: State) -> None:
        if state.step > 8:
            raise Enough

    outcome, failed = "refused", False
    try:
        ganframe.resume(folder, ["train.steps=8"], callbacks=[enough])
        outcome = "another_recipe" if recipe_changed else "resumed"
    except ACCEPTED as error:
        failed = isinstance(error, RunError)  # having begun to write
        wrong += [] if str(error).strip() else ["resume: an empty message"]
    except Enough:
        outcome = "another_recipe"
    except Exception:
        wrong.append(f"resume: {traceback.format_exc()[-1200:]}")
    lost = {path for path, kept in standing.items() if not _found(folder, path, kept)}
    if failed:
        lost = {path for path in lost if path.startswith("checkpoints/step-000004/")}
    wrong += [f"lost or changed: {path}" for path in sorted(lost)] if outcome == "refused" else []
    if outcome == "resumed":
        found = result(folder)
        if found["generator"] != expected["generator"]:
            wrong.append("resumed, and the generator differs")
        steps = [record["step"] for record in found["log"]]  # type: ignore[attr-defined]
        if found["log"] != expected["log"] and not log_changed:
            wrong.append("resumed, and the log differs")
        if steps != sorted(set(steps)) or steps[-2:] != [7, 8]:
            wrong.append(f"resumed, and the log has steps {steps}")
        left = [p for p in folder.rglob(".*") if p.name != ".lock"]
        wrong += [f"{p.relative_to(folder)} is left" for p in left]
    if before is not None and outside.read_bytes() != before:
        wrong.append("a file outside of the folder was changed through a link")
        outside.write_bytes(before)
    if (folder.parent / "outside" / "nowhere").exists():
        wrong.append("a file outside of the folder was made through a link")
        (folder.parent / "outside" / "nowhere").unlink()
    return outcome, wrong


def _standing(folder: Path) -> dict[str, bytes]:
    """The files that a request which is refused must leave as they are."""
    files: Iterator[Path] = (p for p in folder.rglob("*") if p.is_file() and not p.is_symlink() and p.name != ".lock")
    return {str(p.relative_to(folder)): p.read_bytes() for p in files}


def _found(folder: Path, path: str, kept: bytes) -> bool:
    file = folder / path
    return file.is_file() and file.read_bytes() == kept


# ---------------------------------------------------------------------------------------------------------------- main


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("kills", nargs="?", type=int, default=100)
    parser.add_argument("seed", nargs="?", type=int, default=0)
    parser.add_argument(
        "--moments", nargs="?", const=1, type=int, metavar="EVERY", help="each operation, or every n-th"
    )
    parser.add_argument("--mutations", type=int, metavar="N")
    asked = parser.parse_args()
    torch.set_num_threads(1)
    registry.load()
    begun = time.monotonic()
    with tempfile.TemporaryDirectory() as folder:
        where = Path(folder)
        if asked.moments:
            figures, faults = moments(where, asked.moments)
        elif asked.mutations:
            figures, faults = mutations(asked.mutations, asked.seed, where)
        else:
            figures, faults = kills(asked.kills, asked.seed, where)
    for fault in faults:
        print(f"FAULT {fault}")
    print(", ".join(f"{name} {value}" for name, value in figures.items()), f"in {time.monotonic() - begun:.0f} s")
    sys.exit(bool(faults))


if __name__ == "__main__":
    main()
