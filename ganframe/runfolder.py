"""The run folder: where a run's files lie, and how they are written so that none is ever half there.

    recipe.toml  environment.json  metrics.jsonl  samples/  checkpoints/step-000500/  generator.safetensors

Knows files and networks' weights; not recipes or training. Weights are safetensors, the rest of a checkpoint is a
file of torch's that is read with `weights_only`: data, never code.
"""

from __future__ import annotations

import itertools
import json
import os
import re
import shutil
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import attrs
import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import load_model, save_model
from torch import nn

from ganframe.components import DataSpec
from ganframe.errors import RequestError


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
        """The whole checkpoints, oldest first."""
        found = (self.path / "checkpoints").glob("step-*")
        numbered = [p for p in found if re.fullmatch(r"step-\d+", p.name) and p.is_dir()]
        return sorted(numbered, key=lambda p: int(p.name.removeprefix("step-")))


def create(name: str, out: str | Path | None) -> RunFolder:
    """A new run folder: `out`, or the first free number under runs/<name>/.

    Raises RequestError where `out` already holds something or the folder cannot be written.
    """
    try:
        if out is not None:
            path = Path(out)
            if path.exists() and (not path.is_dir() or any(path.iterdir())):
                raise RequestError(
                    f"{path} exists and is not empty; choose another --out, or go on with its run by --resume {path}"
                )
            path.mkdir(parents=True, exist_ok=True)
        else:
            path = _next_number(Path("runs") / name)
        (path / "samples").mkdir()
        (path / "checkpoints").mkdir()
    except OSError as error:
        raise RequestError(f"the run folder cannot be made: {error.strerror}: {error.filename}") from error
    return RunFolder(path)


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
    metadata = {"spec": json.dumps(attrs.asdict(spec))}
    _aside(file, lambda partial: save_model(network, str(partial), metadata))


def generator_spec(file: Path) -> DataSpec:
    """The data spec in a generator's weights. Raises RequestError where the file is missing or damaged."""
    try:
        with safe_open(file, framework="pt") as opened:
            metadata = opened.metadata() or {}
        spec = json.loads(metadata["spec"])
        return DataSpec(tuple(spec.pop("shape")), **spec)
    except FileNotFoundError:
        raise RequestError(f"{file}: no such file; the run has not saved a generator yet") from None
    except (OSError, SafetensorError, LookupError, ValueError, TypeError, AttributeError) as error:
        raise RequestError(f"{file}: not a generator's weights: {error}") from None


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
    folder: RunFolder, step: int, networks: Mapping[str, nn.Module], training: dict[str, Any], keep: int
) -> None:
    """Writes checkpoints/step-…: each network's weights, and `training`, everything else; keeps the newest `keep`."""
    final = folder.checkpoint(step)
    partial = final.with_name(f".{final.name}.partial")
    shutil.rmtree(partial, ignore_errors=True)
    partial.mkdir(parents=True)
    for name, network in networks.items():
        save_model(network, str(partial / f"{name}.safetensors"))
    torch.save(training, partial / "training.pt")
    for file in partial.iterdir():
        _sync(file)
    replaced = final.with_name(f".{final.name}.replaced")
    shutil.rmtree(replaced, ignore_errors=True)
    if final.exists():  # kept until the new one stands
        final.rename(replaced)
    partial.rename(final)
    shutil.rmtree(replaced, ignore_errors=True)
    _sync(final.parent)
    for old in folder.checkpoints()[:-keep]:
        shutil.rmtree(old, ignore_errors=True)


def load_checkpoint(path: Path, networks: Mapping[str, nn.Module]) -> dict[str, Any]:
    """Fills the networks and returns `training`. Raises RequestError where the checkpoint is damaged."""
    for name, network in networks.items():
        load_weights(path / f"{name}.safetensors", network)
    try:
        return torch.load(path / "training.pt", map_location="cpu", weights_only=True)
    except Exception as error:  # torch raises many kinds for a damaged file
        raise RequestError(f"{path / 'training.pt'}: cannot be loaded: {_first_line(error)}") from None


# ------------------------------------------------------------------------------------------------------------ metrics


def read_metrics(folder: RunFolder) -> list[dict[str, Any]]:
    """The lines of metrics.jsonl; a torn last line is left out."""
    records = []
    if folder.metrics.is_file():
        for line in folder.metrics.read_text(encoding="utf-8").splitlines():
            try:
                records.append(json.loads(line))
            except json.JSONDecodeError:
                break
    return records


def write_metrics(folder: RunFolder, records: list[dict[str, Any]]) -> None:
    """Replaces metrics.jsonl: a resumed run drops the lines after its checkpoint."""
    write_text(folder.metrics, "".join(json.dumps(record) + "\n" for record in records))


def write_text(file: Path, text: str) -> None:
    """Writes a text file aside, then renames it."""
    _aside(file, lambda partial: partial.write_text(text, encoding="utf-8"))


def _aside(file: Path, write: Callable[[Path], object]) -> None:
    partial = file.with_name(f".{file.name}.partial")
    write(partial)
    _sync(partial)
    partial.replace(file)


def _sync(path: Path) -> None:
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
