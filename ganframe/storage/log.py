"""log.jsonl, the training log: one record a line, {"step": …, losses, penalties, scores, "seconds": …}."""

from __future__ import annotations

import codecs
import json
import math
from typing import Any

from ganframe.storage.files import write_text
from ganframe.storage.run_folder import RunFolder

Record = dict[str, Any]


def read_log(folder: RunFolder) -> list[Record]:
    """The records, without damaged lines and lines of an earlier step than the line before."""
    return _read(folder)[0]


def damaged_lines(folder: RunFolder) -> list[str]:
    """A message for each damaged line. A killed process may have written the last line partly, which is no damage."""
    return [f"{folder.log}: line {number} is damaged and is left out" for number in _read(folder)[1]]


def append_record(folder: RunFolder, record: Record) -> None:
    with folder.log.open("a", encoding="utf-8") as lines:
        lines.write(json.dumps(record) + "\n")


def write_log(folder: RunFolder, records: list[Record]) -> None:
    """Replaces the log: a resumed run drops the lines after its checkpoint."""
    write_text(folder.log, "".join(json.dumps(record) + "\n" for record in records))


def _read(folder: RunFolder) -> tuple[list[Record], list[int]]:
    """The records and the numbers of damaged lines."""
    records: list[Record] = []
    damaged: list[int] = []
    try:
        *lines, _ = folder.log.read_bytes().removeprefix(codecs.BOM_UTF8).split(b"\n")
    except FileNotFoundError:
        return records, damaged
    for number, line in enumerate(lines, 1):
        record = _record(line)
        if record is None or (records and record["step"] <= records[-1]["step"]):
            damaged.append(number)
        else:
            records.append(record)
    return records, damaged


def _record(line: bytes) -> Record | None:
    """The record of a line, or None where it is damaged: it must have a step, seconds, and numbers or nulls."""
    try:
        record = json.loads(line)
        step, seconds = record["step"], record["seconds"]
        numbers = [value for value in record.values() if value is not None]
        if type(step) is not int or seconds is None or not all(type(value) in (int, float) for value in numbers):
            return None
        return record if all(map(math.isfinite, numbers)) else None
    except (ValueError, TypeError, LookupError, AttributeError, OverflowError, RecursionError):
        return None
