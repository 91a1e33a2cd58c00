"""messages.jsonl: the warnings of a run, why it ended before its last step, and where it was resumed, a line each."""

from __future__ import annotations

import codecs
import json
import re
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from typing import Any, Literal, get_args

import attrs

from ganframe.errors import RunError, heard_warnings
from ganframe.storage.files import append_lines
from ganframe.storage.run_folder import RunFolder

Kind = Literal["warning", "failed", "interrupted", "resumed"]


@attrs.frozen
class Message:
    """What was said in a run. `step` is that of "resumed", at which the run went on."""

    kind: Kind
    text: str
    step: int | None = None


def read_messages(folder: RunFolder) -> list[Message]:
    """The messages, without damaged lines, of which a killed process may have left one."""
    try:
        lines = folder.messages.read_bytes().removeprefix(codecs.BOM_UTF8).split(b"\n")
    except OSError:
        return []
    return [message for line in lines if (message := _message(line)) is not None]


class Messages:
    """The messages of a run of the program. Those before `begin` wait for the folder."""

    def __init__(self) -> None:
        self._waiting: list[Message] = []
        self._folder: RunFolder | None = None

    def begin(self, folder: RunFolder, resumed: int | None = None) -> None:
        """Writes to this folder from now on; `resumed` is the step at which its run goes on."""
        self._folder = folder
        waiting, self._waiting = self._waiting, []
        if resumed is not None:
            self.add("resumed", f"resumed at step {resumed}", resumed)
        for message in waiting:
            self.add(message.kind, message.text, message.step)

    @property
    def begun(self) -> bool:
        return self._folder is not None

    @contextmanager
    def end_kept(self) -> Iterator[None]:
        """Adds the error or the interruption that ends the run meanwhile."""
        try:
            yield
        except RunError as error:
            self.add("failed", str(error))
            raise
        except KeyboardInterrupt as interrupt:
            self.add("interrupted", str(interrupt) or "interrupted")
            raise

    def add(self, kind: Kind, text: str, step: int | None = None) -> None:
        if self._folder is None:
            self._waiting.append(Message(kind, text, step))
            return
        # Paths in the folder are relative to it, which may be moved. Others only end as it does, as data/1/x for 1/x.
        text = text.removeprefix(f"{self._folder.path}: ")
        text = re.sub(rf"(?<![^\s'\"(=]){re.escape(str(self._folder.path))}/", "", text)
        record: dict[str, Any] = {"kind": kind, "text": text} | ({} if step is None else {"step": step})
        with suppress(OSError):  # the disk may be full
            append_lines(self._folder.messages, [json.dumps(record)])


@contextmanager
def kept_warnings() -> Iterator[Messages]:
    """Messages to which every warning is added meanwhile."""
    found = Messages()
    with heard_warnings(lambda text: found.add("warning", text)):
        yield found


def _message(line: bytes) -> Message | None:
    """The message of a line, or None where it is damaged or empty."""
    try:
        record = json.loads(line)
        kind, text, step = record["kind"], record["text"], record.get("step")
    except (ValueError, TypeError, LookupError, AttributeError, RecursionError):
        return None
    sound = kind in get_args(Kind) and isinstance(text, str) and (step is None or type(step) is int)
    return Message(kind, text, step) if sound else None
