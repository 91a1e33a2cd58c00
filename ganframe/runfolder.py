"""The run folder: where a run's files lie, and how they are written so that none is ever half there.

    recipe.toml  environment.json  metrics.jsonl  samples/  checkpoints/step-000500/  generator.safetensors

Knows files and networks' weights; not recipes or training. Weights are safetensors, the rest of a checkpoint is a
file of torch's that is read with `weights_only`: data, never code.
"""

from __future__ import annotations

import hashlib
import itertools
import json
import math
import os
import re
import shutil
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

import attrs
import torch
from filelock import FileLock, Timeout
from safetensors import SafetensorError, safe_open
from safetensors.torch import load_model, save_model
from torch import nn

from ganframe.components import DataSpec
from ganframe.errors import RequestError

MANIFEST = "checkpoint.json"


@attrs.frozen
class RunFolder:
    """The paths of one run."""

    path: Path

    @property
    def recipe(self) -> Path:
        return self.path / "recipe.toml"

    @property
    def environment(self) -> Path:
        return self.path / "environment.json"

    @property
    def metrics(self) -> Path:
        return self.path / "metrics.jsonl"

    @property
    def generator(self) -> Path:
        return self.path / "generator.safetensors"

    def samples(self, step: int) -> Path:
        return self.path / "samples" / f"step-{step:06d}.png"

    def checkpoint(self, step: int) -> Path:
        return self.path / "checkpoints" / f"step-{step:06d}"

    def checkpoints(self) -> list[Path]:
        """The checkpoints, oldest first."""
        found = (self.path / "checkpoints").glob("step-*")
        return sorted((p for p in found if re.fullmatch(r"step-\d+", p.name) and p.is_dir()), key=step_of)


def step_of(checkpoint: Path) -> int:
    """The step of checkpoints/step-…, by its name."""
    return int(checkpoint.name.removeprefix("step-"))


def create(name: str, out: str | Path | None) -> RunFolder:
    """A new run folder: `out`, or the first free number under runs/<name>/.

    Raises RequestError where `out` already holds something or the folder cannot be written.
    """
    try:
        if out is not None:
            path = Path(out)
            if path.exists() and (not path.is_dir() or any(_holds(path))):
                raise RequestError(
                    f"{path} exists and is not empty; choose another --out, or go on with its run by --resume {path}"
                )
            path.mkdir(parents=True, exist_ok=True)
        else:
            path = _next_number(Path("runs") / name)
        (path / "samples").mkdir(exist_ok=True)
        (path / "checkpoints").mkdir(exist_ok=True)
    except OSError as error:
        raise RequestError(f"the run folder cannot be made: {error.strerror}: {error.filename}") from error
    return RunFolder(path)


def _holds(path: Path) -> Iterator[Path]:
    """What a folder holds but for what a run makes before its recipe.toml, and may have been killed after."""
    for inside in path.iterdir():
        empty = inside.name in ("samples", "checkpoints") and inside.is_dir() and not any(inside.iterdir())
        if not empty and inside.name not in (".lock", ".recipe.toml.partial"):
            yield inside


@contextmanager
def locked(folder: RunFolder) -> Iterator[None]:
    """Holds the folder for one process. Raises RequestError where another has it; a dead one's lock is free."""
    lock = FileLock(folder.path / ".lock")
    try:
        lock.acquire(timeout=0)
    except Timeout:
        raise RequestError(f"{folder.path}: another process is training in this folder") from None
    except OSError as error:
        raise RequestError(f"{folder.path / '.lock'}: cannot be locked: {error.strerror or error}") from None
    try:
        yield
    finally:
        lock.release()


def _next_number(parent: Path) -> Path:
    parent.mkdir(parents=True, exist_ok=True)
    taken = [int(p.name) for p in parent.iterdir() if p.name.isdigit()]
    for number in itertools.count(max(taken, default=0) + 1):
        try:
            (parent / str(number)).mkdir()
        except FileExistsError:  # another run took it in this moment
            continue
        return parent / str(number)
    raise AssertionError("unreachable")


def existing(path: str | Path) -> RunFolder:
    """The folder of a run that was made before. Raises RequestError where there is none."""
    folder = RunFolder(Path(path))
    if not folder.recipe.is_file():
        raise RequestError(f"{path}: no run there (it has no recipe.toml)")
    return folder


def complete(folder: RunFolder) -> None:
    """Makes the subfolders that someone may have deleted."""
    for name in ("samples", "checkpoints"):
        (folder.path / name).mkdir(exist_ok=True)


# ------------------------------------------------------------------------------------------------------------ weights


def save_generator(file: Path, network: nn.Module, spec: DataSpec) -> None:
    """Writes the weights to sample from, with the data's shape and classes, so that sampling needs no dataset."""
    # One key: safetensors writes several in any order, and one run's file could differ from its twin's.
    metadata = {"spec": json.dumps({**attrs.asdict(spec), "sum": _sum_of_weights(network)})}
    _aside(file, lambda partial: _save_model(network, partial, metadata))


def generator_spec(file: Path) -> DataSpec:
    """The data spec in a generator's weights. Raises RequestError where the file is missing or damaged."""
    try:
        spec = _about_generator(file)
        spec.pop("sum", None)
        return DataSpec(tuple(spec.pop("shape")), **spec)
    except FileNotFoundError:
        raise RequestError(f"{file}: no such file; the run has not saved a generator yet") from None
    except (OSError, SafetensorError, LookupError, ValueError, TypeError, AttributeError, RecursionError) as error:
        raise RequestError(f"{file}: not a generator's weights: {error}") from None


def load_generator_weights(file: Path, network: nn.Module) -> None:
    """Fills a generator. Raises RequestError as `load_weights` does, and where they are not those that were saved."""
    load_weights(file, network)
    expected = _about_generator(file).get("sum")
    if expected is not None and _sum_of_weights(network) != expected:
        raise RequestError(f"{file}: is damaged: its weights are not those that were saved")


def _about_generator(file: Path) -> dict[str, Any]:
    with safe_open(file, framework="pt") as opened:
        return json.loads((opened.metadata() or {})["spec"])


def _sum_of_weights(network: nn.Module) -> str:
    found = hashlib.sha256()
    for name, value in network.state_dict().items():
        found.update(f"{name} {tuple(value.shape)} {value.dtype}".encode())
        found.update(value.detach().cpu().contiguous().flatten().view(torch.uint8).numpy())
    return found.hexdigest()


def _save_model(network: nn.Module, file: Path, metadata: dict[str, str] | None = None) -> None:
    with _as_os_error(file):
        save_model(network, str(file), metadata)


@contextmanager
def _as_os_error(file: Path) -> Iterator[None]:
    """What compiled code could not write, as on a full disk, becomes an OSError like that of all other files."""
    try:
        yield
    except (SafetensorError, RuntimeError) as error:
        raise OSError(f"{_first_line(error)}: '{file}'") from error


def load_weights(file: Path, network: nn.Module) -> None:
    """Fills a network from safetensors. Raises RequestError where they are missing, damaged or of another network."""
    try:
        load_model(network, str(file))
    except (OSError, SafetensorError, RuntimeError) as error:
        raise RequestError(f"{file}: cannot be loaded: {_first_line(error)}") from None


def _first_line(error: Exception) -> str:
    """The first line of a message, and the one after it where it only announces that one."""
    lines = [line.strip() for line in str(error).splitlines() if line.strip()] or [type(error).__name__]
    return " ".join(lines[:2]) if lines[0].endswith(":") else lines[0]


# -------------------------------------------------------------------------------------------------------- checkpoints


def save_checkpoint(
    folder: RunFolder,
    step: int,
    networks: Mapping[str, nn.Module],
    training: dict[str, Any],
    keep: int,
    about: Mapping[str, Any] | None = None,
) -> None:
    """Writes checkpoints/step-…: each network's weights, and `training`, everything else; keeps the newest `keep`.

    `checkpoint.json` has `about`, what made it, and the sum of each file, by which a damaged one is known. What stands
    already is left as it is: a run that resumes puts damaged ones away first, and the same step has the same state.
    """
    final = folder.checkpoint(step)
    if final.is_dir():
        return
    partial = final.with_name(f".{final.name}.partial")
    with _whole_or_gone(partial):
        partial.mkdir(parents=True)
        for name, network in networks.items():
            _save_model(network, partial / f"{name}.safetensors")
        with _as_os_error(partial / "training.pt"):
            torch.save(training, partial / "training.pt")
        sums = {file.name: _sum(file) for file in sorted(partial.iterdir())}
        (partial / MANIFEST).write_text(json.dumps({"step": step, **(about or {}), "files": sums}, indent=2) + "\n")
        for file in partial.iterdir():
            _sync(file)
        _sync(partial)
        if folder.metrics.exists():
            _sync(folder.metrics)
        partial.rename(final)
    _sync(final.parent)
    for old in folder.checkpoints()[:-keep]:
        _remove(old)


def newest_checkpoint(folder: RunFolder, every: int = 1) -> tuple[Path | None, list[str]]:
    """The newest whole checkpoint of each `every`-th step, or None, and a line for each newer one that is damaged."""
    faults: list[str] = []
    for path in reversed(folder.checkpoints()):
        if step_of(path) % every:
            continue
        fault = _fault(path)
        if fault is None:
            return path, faults
        faults.append(f"{path}: {fault}")
    return None, faults


def put_away(folder: RunFolder, after: int) -> None:
    """Renames the checkpoints after a step, and what stands in the place of one, out of the way."""
    for path in (folder.path / "checkpoints").glob("step-*"):
        if re.fullmatch(r"step-\d+", path.name) and step_of(path) > after:
            aside = path.with_name(f"damaged-{path.name}")
            _delete(aside)
            path.rename(aside)


def tidy(folder: RunFolder, step: int, keep: int) -> None:
    """Removes what a killed process left of its last saving, the newest checkpoint being that of `step`."""
    for pattern in (".step-*.partial", ".step-*.old"):
        for left in (folder.path / "checkpoints").glob(pattern):
            _delete(left)
    for old in [path for path in folder.checkpoints() if step_of(path) <= step][:-keep]:
        _remove(old)


def load_checkpoint(path: Path, networks: Mapping[str, nn.Module]) -> dict[str, Any]:
    """Fills the networks and returns `training`. Raises RequestError where the checkpoint is damaged."""
    for name, network in networks.items():
        load_weights(path / f"{name}.safetensors", network)
    try:
        training = torch.load(path / "training.pt", map_location="cpu", weights_only=True)
        if not isinstance(training, dict):
            raise TypeError("it holds no table")
        return training
    except Exception as error:  # torch raises many kinds for a damaged file
        raise RequestError(f"{path / 'training.pt'}: cannot be loaded: {_first_line(error)}") from None


def read_about(path: Path) -> dict[str, Any]:
    """What made a checkpoint, from its checkpoint.json. Raises RequestError where that is damaged."""
    try:
        about = json.loads((path / MANIFEST).read_text(encoding="utf-8"))
        if not isinstance(about, dict) or not isinstance(about.get("files"), dict):
            raise ValueError("it has no table of files")
        return about
    except (OSError, ValueError, RecursionError) as error:
        raise RequestError(f"{path / MANIFEST}: cannot be read: {_first_line(error)}") from None


def _fault(path: Path) -> str | None:
    """What is wrong with a checkpoint's files, or None."""
    try:
        about = read_about(path)
        if about.get("step") != step_of(path):
            return f"it is of step {about.get('step')!r}"
        if "training.pt" not in about["files"]:
            return f"{MANIFEST} does not name training.pt"
        for name, expected in about["files"].items():
            file = path / name
            if Path(name).name != name or not file.is_file() or file.is_symlink():
                return f"{name} is missing"
            if _sum(file) != expected:
                return f"{name} is not what was written"
    except (RequestError, OSError) as error:
        return _first_line(error).removeprefix(f"{path}{os.sep}")
    return None


def _remove(checkpoint: Path) -> None:
    """Out of sight first, so that it is never there by half."""
    old = checkpoint.with_name(f".{checkpoint.name}.old")
    _delete(old)
    checkpoint.rename(old)
    _delete(old)


def _delete(path: Path) -> None:
    """Removes a file, a link itself or a folder, if it is there."""
    if path.is_dir() and not path.is_symlink():
        shutil.rmtree(path, ignore_errors=True)
    else:
        path.unlink(missing_ok=True)


@contextmanager
def _whole_or_gone(partial: Path) -> Iterator[None]:
    """A place to write something in: nothing is there, and nothing is left where that fails, as on a full disk."""
    _delete(partial)
    try:
        yield
    except BaseException:
        with suppress(OSError):
            _delete(partial)
        raise


def _sum(file: Path) -> str:
    with file.open("rb") as opened:
        return hashlib.file_digest(opened, "sha256").hexdigest()


# ------------------------------------------------------------------------------------------------------------ metrics


def read_metrics(folder: RunFolder) -> list[dict[str, Any]]:
    """The records of metrics.jsonl, without lines that are damaged, or are no later step's."""
    return _read_metrics(folder)[0]


def damaged_metrics(folder: RunFolder) -> list[str]:
    """A text for each damaged line, but for the last one, of which a killed process may have written a part."""
    return [f"{folder.metrics}: line {number} is damaged, and is left out" for number in _read_metrics(folder)[1]]


def _read_metrics(folder: RunFolder) -> tuple[list[dict[str, Any]], list[int]]:
    records: list[dict[str, Any]] = []
    damaged: list[int] = []
    try:
        *lines, _ = folder.metrics.read_bytes().split(b"\n")
    except FileNotFoundError:
        return records, damaged
    for number, line in enumerate(lines, 1):
        record = _record(line)
        if record is None or (records and record["step"] <= records[-1]["step"]):
            damaged.append(number)
        else:
            records.append(record)
    return records, damaged


def _record(line: bytes) -> dict[str, Any] | None:
    """A line of metrics.jsonl, or None where it is none: a step, seconds, and numbers or nulls."""
    try:
        record = json.loads(line)
        step, seconds = record["step"], record["seconds"]
        numbers = [value for value in record.values() if value is not None]
        if type(step) is not int or seconds is None or not all(type(value) in (int, float) for value in numbers):
            return None
        return record if all(map(math.isfinite, numbers)) else None
    except (ValueError, TypeError, LookupError, AttributeError, OverflowError, RecursionError):
        return None


def write_metrics(folder: RunFolder, records: list[dict[str, Any]]) -> None:
    """Replaces metrics.jsonl: a resumed run drops the lines after its checkpoint."""
    write_text(folder.metrics, "".join(json.dumps(record) + "\n" for record in records))


def write_text(file: Path, text: str) -> None:
    """Writes a text file aside, then renames it."""
    _aside(file, lambda partial: partial.write_text(text, encoding="utf-8"))


def _aside(file: Path, write: Callable[[Path], object]) -> None:
    partial = file.with_name(f".{file.name}.partial")
    with _whole_or_gone(partial):
        write(partial)
        _sync(partial)
        partial.replace(file)


def _sync(path: Path) -> None:
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
