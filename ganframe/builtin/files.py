"""What identifies the files of a dataset, wherever they lie."""

from __future__ import annotations

import hashlib
import os
from collections.abc import Sequence
from pathlib import Path

READ = 32  # files whose contents are compared, evenly spaced
MOST = 2**20  # bytes read at the beginning and at the end of each


def file_fingerprint(root: Path, files: Sequence[tuple[Path, int]]) -> dict[str, str]:
    """Hashes of the names below `root`, the sizes and the labels of files in their order, and of a few files' contents.

    Times are not part of it, as copying changes them. Raises OSError where a file cannot be read.
    """
    above = (
        0 if root == Path() else len(os.path.join(root, ""))
    )  # not by Path, which takes most of the time where there are a million files
    names = "\0".join(str(file)[above:].replace(os.sep, "/") for file, _ in files)
    sizes = ",".join(str(os.stat(file).st_size) for file, _ in files)
    labels = ",".join(str(label) for _, label in files)
    contents = hashlib.sha256()
    for index in sorted({i * (len(files) - 1) // (READ - 1) for i in range(READ)}):
        with files[index][0].open("rb") as opened:
            contents.update(opened.read(MOST))
            opened.seek(max(opened.tell(), files[index][0].stat().st_size - MOST))
            contents.update(opened.read(MOST))
    texts = {"file names": names, "file sizes": sizes, "labels of files": labels}
    found = {name: hashlib.sha256(text.encode("utf-8", "surrogateescape")).hexdigest() for name, text in texts.items()}
    return {name: value[:32] for name, value in {**found, "contents of files": contents.hexdigest()}.items()}
