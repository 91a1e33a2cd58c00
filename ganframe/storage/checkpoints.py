"""Checkpoints of a run: written atomically, checked by checksums, the newest few kept.

checkpoints/step-000500/   <network>.safetensors …   training.pt   recipe.toml   checkpoint.json
"""

from __future__ import annotations

import json
import os
import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from torch import nn

from ganframe.errors import RequestError
from ganframe.storage.copies import Weights
from ganframe.storage.files import checksum, delete, first_line, removed_on_failure, sync
from ganframe.storage.run_folder import RunFolder, step_of
from ganframe.storage.weights import as_os_error, load_weights, save_weights

MANIFEST = "checkpoint.json"
RECIPE = "recipe.toml"


def save_checkpoint(
    folder: RunFolder,
    step: int,
    networks: Mapping[str, Weights],
    training: dict[str, Any],
    keep: int,
    about: Mapping[str, Any] | None = None,
    recipe: str | None = None,
    best: int | None = None,
) -> None:
    """Writes checkpoints/step-…: the weights of each network, and `training`, everything else.

    Keeps the newest `keep`, and that of the step `best`.

    checkpoint.json holds what is said `about` it, as versions, and the checksum of each file; recipe.toml holds the
    text `recipe`, with which it was trained. A checkpoint that exists is not written again: a resumed run has set
    damaged ones aside, and equal steps have equal states.
    """
    final = folder.checkpoint(step)
    if final.is_dir():
        return
    partial = final.with_name(f".{final.name}.partial")
    with removed_on_failure(partial):
        partial.mkdir(parents=True)
        for name, network in networks.items():
            save_weights(network, partial / f"{name}.safetensors")
        with as_os_error(partial / "training.pt"):
            torch.save(training, partial / "training.pt")
        if recipe is not None:
            (partial / RECIPE).write_text(recipe, encoding="utf-8")
        # Checksums while writing were tried: no faster (SHA-256 costs more than reading from the page cache).
        sums = {file.name: checksum(file) for file in sorted(partial.iterdir())}
        manifest = {"step": step, **(about or {}), "files": sums}
        (partial / MANIFEST).write_text(json.dumps(manifest, indent=2) + "\n", encoding="utf-8")
        for file in partial.iterdir():
            sync(file)
        sync(partial)
        if folder.log.exists():
            sync(folder.log)
        partial.rename(final)
    sync(final.parent)
    _remove_old(folder.checkpoints(), keep, best)


def load_checkpoint(path: Path, networks: Mapping[str, nn.Module]) -> dict[str, Any]:
    """Fills the networks and returns `training`. Raises RequestError where the checkpoint is damaged."""
    for name, network in networks.items():
        load_weights(path / f"{name}.safetensors", network)
    try:
        training = torch.load(path / "training.pt", map_location="cpu", weights_only=True)
        if not isinstance(training, dict):
            raise TypeError("it holds no table")
        return training
    except Exception as error:  # torch raises many types for a damaged file
        raise RequestError(f"{path / 'training.pt'}: cannot be loaded: {first_line(error)}") from None


def newest_intact(folder: RunFolder, every: int = 1) -> tuple[Path | None, list[str]]:
    """The newest intact checkpoint at a multiple of `every`, or None, and a line for each newer one that is damaged."""
    damages: list[str] = []
    for path in reversed(folder.checkpoints()):
        if step_of(path) % every:
            continue
        damage = _damage(path)
        if damage is None:
            return path, damages
        damages.append(f"{path}: {damage}")
    return None, damages


def newest_recipe(folder: RunFolder) -> Path | None:
    """The recipe.toml of the newest checkpoint that has an intact one; None where there is none."""
    for path in reversed(folder.checkpoints()):
        file = path / RECIPE
        try:
            if file.is_file() and read_manifest(path)["files"].get(RECIPE) == checksum(file):
                return file
        except (RequestError, OSError):
            continue
    return None


def set_aside(folder: RunFolder, after: int) -> None:
    """Renames what has the name of a checkpoint after the step `after`, so that training can save there again.

    Intact checkpoints become superseded-step-…, all else damaged-step-…
    """
    for path in (folder.path / "checkpoints").glob("step-*"):
        if re.fullmatch(r"step-\d+", path.name) and step_of(path) > after:
            aside = path.with_name(f"{'superseded' if _damage(path) is None else 'damaged'}-{path.name}")
            delete(aside)
            path.rename(aside)


def remove_leftovers(folder: RunFolder, step: int, keep: int, best: int | None = None) -> None:
    """Removes what a killed process left half written, and checkpoints older than those that are kept at `step`."""
    for place in (folder.path, folder.path / "checkpoints", folder.path / "samples"):
        for left in place.glob(".*"):
            # safetensors writes to a temporary file of such a name first
            if re.fullmatch(r"\..+\.partial|\.step-\d+\.old|\.tmp\w{6}", left.name):
                delete(left)
    _remove_old([path for path in folder.checkpoints() if step_of(path) <= step], keep, best)


def read_manifest(path: Path) -> dict[str, Any]:
    """A checkpoint's checkpoint.json. Raises RequestError where it is damaged."""
    try:
        manifest = json.loads((path / MANIFEST).read_text(encoding="utf-8-sig"))
        if not isinstance(manifest, dict) or not isinstance(manifest.get("files"), dict):
            raise ValueError("it has no table of files")
        return manifest
    except (OSError, ValueError, RecursionError) as error:
        raise RequestError(f"{path / MANIFEST}: cannot be read: {first_line(error)}") from None


def of_step(folder: RunFolder, step: int) -> Path:
    """The checkpoint of a step. Raises RequestError with those there are if there is none, and where it is damaged."""
    path = folder.checkpoint(step)
    if path not in folder.checkpoints():
        there = ", ".join(str(step_of(found)) for found in folder.checkpoints())
        known = f"there are those of {there} (log.keep says how many stay)" if there else _without(folder)
        raise RequestError(f"{folder.path}: no checkpoint of step {step}; {known}")
    damage = _damage(path)
    if damage is not None:
        raise RequestError(f"{path}: {damage}")
    return path


def _without(folder: RunFolder) -> str:
    """Why a folder has no checkpoints."""
    if not folder.is_published:
        return "this run has none yet"
    step = folder.published_step
    return "a published model has none" + ("" if step is None else f"; its weights are those of step {step}")


def _damage(path: Path) -> str | None:
    """What is wrong with a checkpoint's files, or None where it is intact."""
    try:
        manifest = read_manifest(path)
        if manifest.get("step") != step_of(path):
            return f"it is of step {manifest.get('step')!r}"
        if "training.pt" not in manifest["files"]:
            return f"{MANIFEST} does not name training.pt"
        for name, expected in manifest["files"].items():
            file = path / name
            if Path(name).name != name or not file.is_file() or file.is_symlink():
                return f"{name} is missing"
            if checksum(file) != expected:
                return f"{name} is not what was written"
    except (RequestError, OSError) as error:
        return first_line(error).removeprefix(f"{path}{os.sep}")
    return None


def _remove_old(checkpoints: list[Path], keep: int, best: int | None) -> None:
    for old in checkpoints[:-keep]:
        if step_of(old) != best:
            _remove(old)


def _remove(checkpoint: Path) -> None:
    """Renames a checkpoint before deleting it, so that no partial one is ever visible."""
    old = checkpoint.with_name(f".{checkpoint.name}.old")
    delete(old)
    checkpoint.rename(old)
    delete(old)
