"""The folder of a study: the study that it is of, and whether locks hold in it.

study.toml  runs/<hash>/ …  study.md  study.json  heat_map.png
report.html, where it was asked for
search.db of a search, jobs/ of a cluster
"""

from __future__ import annotations

import json
import subprocess
import sys
import uuid
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

import tomli
import tomli_w
from filelock import FileLock, Timeout

from ganframe.errors import RequestError
from ganframe.judging.protocol import flat
from ganframe.storage.files import write_text
from ganframe.studies.presence import NO_LOCKS, PREFIX, refuse_unseen_locks
from ganframe.studies.reading import StudyFile

STUDY = "study.toml"
OWN = (
    "runs",
    "jobs",
    "search.db",
    "study.md",
    "study.json",
    "heat_map.png",
    "report.html",
    ".lock",
    ".report.lock",
    ".search.lock",
)
"""What else a study writes in its folder."""
PATIENCE = 30.0
"""Seconds after which a lock that should be free, or a process that should hold it, is given up."""

HOLD = """
import sys
from filelock import FileLock
with FileLock(sys.argv[1]).acquire(timeout=0):
    print("held", flush=True)
    sys.stdin.read()
"""


def default_folder(file: StudyFile) -> Path:
    """studies/<name>."""
    return Path("studies") / file.name


def is_new(folder: Path, file: StudyFile) -> bool:
    """Whether a folder holds no study yet. Raises RequestError where it holds another one, or anything else."""
    try:
        kept = tomli.loads((folder / STUDY).read_text(encoding="utf-8-sig"))
    except (FileNotFoundError, NotADirectoryError):
        _refuse_other_files(folder)
        return True
    except (OSError, ValueError, RecursionError) as error:
        raise RequestError(
            f"{folder / STUDY}: cannot be read: {error}; bring it back, or choose another --out"
        ) from None
    then, now = flat(kept), flat(file.document)
    changed = [place for place in {**then, **now} if then.get(place) != now.get(place)]
    if changed:
        place = changed[0]
        more = f" (and {len(changed) - 1} more)" if len(changed) > 1 else ""
        edit = f"{place} was {_shown(then.get(place))} and is {_shown(now.get(place))}{more}"
        raise RequestError(
            f"{folder}: this folder holds another study: {edit}; choose another --out, or remove {folder / STUDY} to "
            "continue there with this one: runs of both are kept"
        )
    return False


def keep_study(folder: Path, file: StudyFile) -> None:
    """Keeps a copy of the study in its folder, for other processes. Raises RequestError as `is_new` does.

    Nothing is written where locks do not hold there.
    """
    is_new(folder, file)
    there = folder.exists()
    try:
        folder.mkdir(parents=True, exist_ok=True)
        try:
            refuse_without_locks(folder)
            refuse_unseen_locks(folder)
        except RequestError:
            if not there:
                with suppress(OSError):
                    folder.rmdir()
            raise
        with FileLock(folder / ".lock").acquire(timeout=PATIENCE):  # two processes may begin the study at once
            if is_new(folder, file):
                write_text(folder / STUDY, tomli_w.dumps(dict(file.document)))
    except Timeout:
        raise RequestError(f"{folder / '.lock'}: another process holds it") from None
    except OSError as error:
        raise RequestError(f"{folder}: cannot be written: {error.strerror or error}") from None


def refuse_without_locks(folder: Path) -> None:
    """Raises RequestError unless a lock in this folder keeps another process out, and ends with its holder.

    This is of processes on this machine; `refuse_unseen_locks` is of others.
    """
    file = folder / f".lock-test-{uuid.uuid4().hex}"
    with _holding(file) as holder:
        assert holder.stdout is not None
        if holder.stdout.readline() != "held\n":
            said = holder.communicate()[1].strip().rpartition("\n")[2]
            raise RequestError(f"{folder}: {NO_LOCKS}: a file cannot be locked here ({said})")
        lock = FileLock(file)
        with suppress(Timeout):
            lock.acquire(timeout=0)
            lock.release()
            raise RequestError(f"{folder}: {NO_LOCKS}: two processes hold the same lock")
        holder.kill()
        holder.wait()
        try:
            lock.acquire(timeout=PATIENCE)
            lock.release()
        except Timeout:
            raise RequestError(f"{folder}: {NO_LOCKS}: a dead process still holds its lock") from None


@contextmanager
def _holding(file: Path) -> Iterator[subprocess.Popen[str]]:
    """A process that takes a lock, prints "held", and holds it until it is killed."""
    pipes: dict[str, Any] = dict.fromkeys(("stdin", "stdout", "stderr"), subprocess.PIPE)
    holder = subprocess.Popen([sys.executable, "-c", HOLD, str(file)], text=True, **pipes)
    try:
        yield holder
    finally:
        holder.kill()
        holder.communicate()
        with suppress(OSError):
            file.unlink()


def _refuse_other_files(folder: Path) -> None:
    if folder.exists() and not folder.is_dir():
        raise RequestError(f"{folder}: is not a folder; choose another --out")
    names = [path.name for path in folder.iterdir()] if folder.exists() else []
    passing = (".lock-test-", ".probe-", PREFIX, ".study.", ".heat_map.", "search.db-")  # of processes that are there
    if any(name not in OWN and not name.startswith(passing) for name in names):
        raise RequestError(f"{folder} exists and is not the folder of a study; choose another --out")


def _shown(value: Any) -> str:
    text = "not there" if value is None else json.dumps(value, ensure_ascii=False, default=str)
    return text if len(text) <= 80 else f"{text[:77]}…"
