"""The run folder: the paths of a run's files, and how a folder is created and locked.

    recipe.toml  environment.json  log.jsonl  samples/  checkpoints/step-000500/  generator.safetensors
    conditions.safetensors, where the data has conditions
    evaluations.jsonl, where it was judged by metrics
    messages.jsonl, where it warned, failed or was resumed
    report.html, where it was asked for
    curves.png, at the end of training

Weights are safetensors. The rest of a checkpoint is a torch file that is read with `weights_only`: data, never code.
"""

from __future__ import annotations

import itertools
import json
import re
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from contextvars import ContextVar
from pathlib import Path
from typing import Any

import attrs
from filelock import FileLock, Timeout

from ganframe.errors import RequestError
from ganframe.storage import hub
from ganframe.storage.files import delete

PUBLISHED = "published"  # the table of environment.json that a published model has


class InUse(RequestError):
    """Another process trains in the folder."""


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
    def log(self) -> Path:
        return self.path / "log.jsonl"

    @property
    def curves(self) -> Path:
        return self.path / "curves.png"

    @property
    def evaluations(self) -> Path:
        return self.path / "evaluations.jsonl"

    @property
    def messages(self) -> Path:
        return self.path / "messages.jsonl"

    @property
    def report(self) -> Path:
        return self.path / "report.html"

    @property
    def generator(self) -> Path:
        return self.path / "generator.safetensors"

    @property
    def discriminator(self) -> Path:
        """The weights of D in a published folder; a run has them in its checkpoints."""
        return self.path / "discriminator.safetensors"

    @property
    def picture(self) -> Path:
        """Samples of a published model; those of a run are in samples/, by step."""
        return self.path / "samples.png"

    @property
    def is_published(self) -> bool:
        """Whether the folder is a published model: weights to load, without checkpoints to resume from."""
        return self.discriminator.is_file() and not self.checkpoints()

    @property
    def published_step(self) -> int | None:
        """The step of the weights of a published model; None for a run, or where environment.json does not say it."""
        step = self.noted("step")
        return step if type(step) is int and self.is_published else None

    def noted(self, name: str) -> Any:
        """What publishing noted in environment.json, as "step" and "licence"; None where it noted nothing."""
        try:
            return json.loads(self.environment.read_text(encoding="utf-8-sig"))[PUBLISHED][name]
        except (OSError, ValueError, LookupError, TypeError, RecursionError):
            return None

    @property
    def scheme(self) -> Path:
        """What `decode` of the dataset needs of the data, where it needs something."""
        return self.path / "scheme.json"

    @property
    def conditions(self) -> Path:
        return self.path / "conditions.safetensors"

    def samples(self, step: int) -> Path:
        return self.path / "samples" / f"step-{step:06d}.png"

    def points(self, step: int) -> Path:
        return self.path / "samples" / f"step-{step:06d}.safetensors"

    def checkpoint(self, step: int) -> Path:
        return self.path / "checkpoints" / f"step-{step:06d}"

    def checkpoints(self) -> list[Path]:
        """The checkpoints, oldest first."""
        found = (self.path / "checkpoints").glob("step-*")
        return sorted((p for p in found if re.fullmatch(r"step-\d+", p.name) and p.is_dir()), key=step_of)


def step_of(checkpoint: Path) -> int:
    """The step of checkpoints/step-…, from its name."""
    return int(checkpoint.name.removeprefix("step-"))


def create(name: str, out: str | Path | None) -> RunFolder:
    """A new run folder: `out`, or the first free number under runs/<name>/.

    Raises RequestError where `out` is not empty or the folder cannot be written.
    """
    with _named("the run folder"):
        path = _new(Path("runs") / name, out, ", or resume its run by --resume {}")
        (path / "samples").mkdir(exist_ok=True)
        (path / "checkpoints").mkdir(exist_ok=True)
    return RunFolder(path)


def create_measurement(name: str, out: str | Path | None, kind: str = "divergences") -> Path:
    """A new folder for a measurement: `out`, or the first free number under <kind>/<name>/. Raises as `create`."""
    with _named("the folder of the measurement"):
        return _new(Path(kind) / name, out)


def is_measurement(folder: Path) -> bool:
    """Whether a folder is that of a measurement, and not of a run."""
    return (folder / "comparison.toml").is_file() and not (folder / "recipe.toml").exists()


def _new(parent: Path, out: str | Path | None, also: str = "") -> Path:
    """The folder `out`, or the first free number under `parent`. `also` is another remedy where `out` is not empty."""
    if out is None:
        return _next_number(parent)
    path = Path(out)
    if path.exists() and (not path.is_dir() or any(_contents(path))):
        raise RequestError(f"{path} exists and is not empty; choose another --out{also.format(path)}")
    path.mkdir(parents=True, exist_ok=True)
    return path


@contextmanager
def _named(what: str) -> Iterator[None]:
    try:
        yield
    except OSError as error:
        raise RequestError(f"{what} cannot be created: {error.strerror}: {error.filename}") from error


def existing(path: str | Path) -> RunFolder:
    """The folder of a run, or a published model, that exists already. Raises RequestError where there is none.

    ~ is the home folder. A model on Hugging Face's hub, hf://owner/name, is fetched.
    """
    folder = RunFolder(hub.fetched(path) if hub.is_hub_name(path) else Path(path).expanduser())
    if not folder.recipe.is_file():
        raise RequestError(f"{path}: not the folder of a run (it has no recipe.toml)")
    return folder


def short_names(paths: Sequence[Path]) -> list[str]:
    """Paths without their common prefix: the shortest names that tell them apart."""
    parts = [path.resolve().parts for path in paths]
    shared = next((i for i, names in enumerate(zip(*parts, strict=False)) if len(set(names)) > 1), -2)
    return ["/".join(names[shared:]) for names in parts]


def remove(folder: RunFolder) -> None:
    """Removes the folder of a run that has not begun, and runs/<name>/ above it if nothing else is there."""
    remove_numbered(folder.path)


def remove_numbered(folder: Path) -> None:
    """Removes a folder that nothing was written to, and the one of its name above it if nothing else is there."""
    delete(folder)
    name = folder.absolute().parent
    if name.parent.name in ("runs", "divergences", "certificates", "comparisons"):
        with suppress(OSError):  # not empty
            name.rmdir()
            name.parent.rmdir()


@contextmanager
def removed_without(file: str, folder: Path) -> Iterator[None]:
    """Removes a new numbered folder where an error or an interruption comes before its `file` is written."""
    try:
        yield
    except BaseException:
        if not (folder / file).exists():
            remove_numbered(folder)
        raise


def refuse_begun(folder: RunFolder) -> None:
    """Raises InUse where a run has begun in a new folder: another process was given it too, and locked it before."""
    if any(_contents(folder.path)):
        raise InUse(f"{folder.path}: another process has trained in this folder; choose another --out")


def add_missing_folders(folder: RunFolder) -> None:
    """Creates the subfolders that someone may have deleted."""
    for name in ("samples", "checkpoints"):
        (folder.path / name).mkdir(exist_ok=True)


_claimed: ContextVar[Path | None] = ContextVar("_claimed", default=None)


@contextmanager
def locked(folder: RunFolder) -> Iterator[None]:
    """Locks the folder for one process. Raises InUse where another process holds it; dead ones hold none.

    Inside of `claimed` the folder is locked already.
    """
    if _claimed.get() == folder.path:
        yield
        return
    lock = FileLock(folder.path / ".lock")
    try:
        lock.acquire(timeout=0)
    except Timeout:
        raise InUse(f"{folder.path}: another process is training in this folder") from None
    except OSError as error:
        raise RequestError(f"{folder.path / '.lock'}: cannot be locked: {error.strerror or error}") from None
    try:
        yield
    finally:
        lock.release()


@contextmanager
def claimed(folder: RunFolder) -> Iterator[None]:
    """Locks the folder as `locked` does, also for `locked` itself in the same context, and creates it before.

    So one lock covers the look at what is in a folder, its training, and what is written after that.
    """
    folder.path.mkdir(parents=True, exist_ok=True)
    with locked(folder):
        token = _claimed.set(folder.path)
        try:
            yield
        finally:
            _claimed.reset(token)


def is_locked(folder: RunFolder) -> bool:
    """Whether a process holds the folder now. Nothing is written."""
    try:
        if not (folder.path / ".lock").is_file():
            return False
        with locked(folder):
            return False
    except RequestError:
        return True


def _contents(path: Path) -> Iterator[Path]:
    """What a folder holds, except what a run creates before its recipe.toml: it may have been killed there."""
    for inside in path.iterdir():
        empty = inside.name in ("samples", "checkpoints") and inside.is_dir() and not any(inside.iterdir())
        if not empty and inside.name not in (".lock", ".recipe.toml.partial"):
            yield inside


def _next_number(parent: Path) -> Path:
    parent.mkdir(parents=True, exist_ok=True)
    taken = [int(p.name) for p in parent.iterdir() if p.name.isdigit()]
    for number in itertools.count(max(taken, default=0) + 1):
        try:
            (parent / str(number)).mkdir()
        except FileExistsError:  # another run took this number in the meantime
            continue
        return parent / str(number)
    raise AssertionError("unreachable")
