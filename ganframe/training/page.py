"""Rewrites the page of a run while it goes on."""

from __future__ import annotations

import functools

from ganframe.engine.state import Callback, State
from ganframe.errors import RequestError, warn
from ganframe.report.page_of_run import write_run_page
from ganframe.storage.run_folder import RunFolder
from ganframe.training.background import Writer


def rewrite_page(folder: RunFolder, writer: Writer | None) -> Callback:
    """Writes report.html, in the thread of a `writer` if it is given, after the pictures that it was given before."""
    write = functools.partial(write_page, folder, running=True)

    def callback(state: State) -> None:
        write() if writer is None else writer.give("page", write)

    return callback


def write_page(folder: RunFolder, running: bool) -> None:
    """Writes report.html. A page that cannot be written is no reason to stop a run, so that is a warning."""
    try:
        write_run_page(folder, running)
    except (OSError, RequestError) as error:
        warn(f"{folder.report}: the page was not written: {error}")
