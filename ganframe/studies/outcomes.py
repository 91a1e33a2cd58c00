"""What became of the runs of a study, read from their folders."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Literal

import attrs

from ganframe.judging.protocol import Score

Status = Literal["finished", "failed", "running", "waiting"]


@attrs.frozen
class Outcome:
    """One run of a study: its cell, its seed, and what has become of it.

    `cell` maps each axis to the name of its choice. `folder` is that of the run, which exists unless it is waiting.
    `scores` are those of its [[metrics]] after the last step, empty unless it has finished. `seconds` is the time that
    its training took, None where that is not known. `message` says why it failed.
    """

    cell: Mapping[str, str]
    seed: int
    folder: Path
    status: Status
    scores: tuple[Score, ...] = ()
    seconds: float | None = None
    message: str = ""
