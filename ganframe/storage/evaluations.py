"""evaluations.jsonl: what metrics found of a run, one score a line, each with its protocol."""

from __future__ import annotations

import codecs
import json
from collections.abc import Iterable
from typing import Any

from ganframe.storage.files import append_lines, write_text
from ganframe.storage.run_folder import RunFolder


def read_evaluations(folder: RunFolder) -> list[dict[str, Any]]:
    """The scores, without damaged lines, of which a killed process may have left one."""
    try:
        lines = folder.evaluations.read_bytes().removeprefix(codecs.BOM_UTF8).split(b"\n")
    except FileNotFoundError:
        return []
    return [score for line in lines if (score := _score(line)) is not None]


def append_evaluations(folder: RunFolder, scores: Iterable[dict[str, Any]]) -> None:
    """Adds scores, in one write, so that those of several processes do not mix."""
    append_lines(folder.evaluations, map(json.dumps, scores))


def keep_evaluations(folder: RunFolder, step: int) -> list[dict[str, Any]]:
    """Removes the scores of later steps, which a resumed run reaches once more, and returns the others."""
    found = read_evaluations(folder)
    kept = [score for score in found if score["judged"]["step"] <= step]
    if folder.evaluations.exists():
        write_text(folder.evaluations, "".join(json.dumps(score) + "\n" for score in kept))
    return kept


def _score(line: bytes) -> dict[str, Any] | None:
    """The score of a line, or None where it is damaged or empty."""
    try:
        score = json.loads(line)
        complete = isinstance(score["metric"], str) and isinstance(score["protocol"], dict)
        return score if complete and type(score["judged"]["step"]) is int else None
    except (ValueError, TypeError, LookupError, AttributeError, RecursionError):
        return None
