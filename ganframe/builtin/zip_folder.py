"""Images of your own in a zip archive, with folders as classes, or with the labels of a dataset.json."""

from __future__ import annotations

import collections
import hashlib
import json
import os
import posixpath
import time
from pathlib import Path
from typing import Any

import attrs
import numpy as np
import torch
from torch import Tensor

from ganframe import choose_images, is_hidden, is_image, option
from ganframe.builtin.archive import Archive, Member
from ganframe.builtin.image_folder import ImageFolder
from ganframe.builtin.image_index import SETTLED, Index, divided, index_of, natural

LABELS = "dataset.json"


@attrs.frozen(kw_only=True)
class ZipFolder(ImageFolder):
    """Images in a zip archive, read as by `image_folder`, without unpacking it; if it has only folders, as classes.

    A single folder around everything is passed through. Where a dataset.json lies beside the images or folders, its
    "labels" take the place of folders: {"labels": [["folder/name.png", 3], …]}, as StyleGAN's programs write them.
    Integers are classes from 0; lists of numbers are conditions. Null, or none, are no labels.
    """

    root: str = option(help="path of the zip archive")

    def fingerprint(self) -> dict[str, str]:
        """Hashes of names and labels, and of the checksums that the archive has of all members."""
        index = self._index()
        assert index.archive is not None
        above = len(os.path.join(index.root, ""))
        names = [file[above:] for file in index.files]
        labels = index.labels.tolist() if isinstance(index.labels, Tensor) else index.labels
        checksums = [index.archive.members[name].CRC for name in names]
        told = {"file names": names, "labels of files": labels, "contents of files": checksums}
        texts = {name: json.dumps(value) for name, value in told.items()}
        return {n: hashlib.sha256(t.encode("utf-8", "surrogatepass")).hexdigest()[:32] for n, t in texts.items()}

    def _index(self) -> Index:
        return index_of(Path(self.root).expanduser(), self.channels, zip_index)


def zip_index(root: Path, channels: int) -> Index:
    """What an archive holds. Raises ValueError where there are no images to train on."""
    now = time.time_ns()
    archive = Archive(root)
    changed = os.stat(root).st_mtime_ns
    names = [name for name in archive.members if not any(map(is_hidden, name.split("/")))]
    names.sort(key=lambda name: [os.path.normcase(part) for part in name.split("/")])
    top = _top(names)
    labelled = _labels_of(archive, f"{top}{LABELS}")
    names = [name for name in names if name != f"{top}{LABELS}"]

    def chosen(members: list[str]) -> list[str]:
        files, others = choose_images(members, channels, lambda name: is_image(Member(archive, name).open()))
        left_out.update(others)
        return files

    left_out = collections.Counter[str]()
    labels: list[int] | Tensor
    if labelled is None:
        own = [name for name in names if "/" not in name[len(top) :]]
        inside: dict[str, list[str]] = collections.defaultdict(list)
        for name in names:
            folder, below, _ = name[len(top) :].partition("/")
            if below:
                inside[folder].append(name)
        by_folder = {folder: chosen(inside[folder]) for folder in sorted(inside, key=natural)}
        files, labels, classes = divided(root, chosen(own), by_folder, left_out, channels)
        count = None if classes is None else len(classes)
    else:
        files, _, _ = divided(root, chosen(names), {}, left_out, channels)
        labels, count, classes = *_found(root, [name[len(top) :] for name in files], labelled), None
    infos = [archive.members[name] for name in files]
    stats = np.array([(info.file_size, info.CRC, 0) for info in infos], dtype=np.int64)
    return Index(
        root,
        [os.path.join(root, name) for name in files],
        labels,
        classes,
        left_out,
        {str(root): changed},
        stats,
        settled=changed < now - SETTLED,
        classes=count,
        archive=archive,
    )


def _top(names: list[str]) -> str:
    """The folder that all members are in, as "photos/", or "" where there is none."""
    folders = {name.rpartition("/")[0] for name in names}
    shared = posixpath.commonpath(folders) if folders else ""
    return f"{shared}/" if shared else ""


def _labels_of(archive: Archive, name: str) -> dict[str, Any] | None:
    """The labels of a dataset.json by names of images; {} where it says that there are none, None where it is not."""
    if name not in archive.members:
        return None
    member = Member(archive, name)
    try:
        said = json.loads(member.read_bytes())
        pairs = said.get("labels") or []
        return {str(file).replace("\\", "/"): label for file, label in pairs}
    except (ValueError, TypeError, AttributeError) as error:
        raise ValueError(
            f'{member}: is not as StyleGAN\'s, {{"labels": [["name.png", 0], …]}}: {str(error).splitlines()[0]}'
        ) from error


def _found(root: Path, names: list[str], labelled: dict[str, Any]) -> tuple[list[int] | Tensor, int | None]:
    """The label or condition of each image, and the number of classes."""
    if not labelled:
        return [0] * len(names), None
    missing = [name for name in names if name not in labelled]
    if missing:
        raise ValueError(f"{root}: {LABELS} has no label for {len(missing)} of {len(names)} images, as {missing[0]}")
    given = [labelled[name] for name in names]
    if all(type(label) is int and label >= 0 for label in given):
        return given, max(given) + 1
    try:
        vectors = torch.tensor(given, dtype=torch.float32)
    except (ValueError, TypeError, RuntimeError):
        vectors = torch.empty(0)
    if vectors.ndim != 2 or not vectors.numel() or not vectors.isfinite().all():
        raise ValueError(f"{root}: labels in {LABELS} must all be integers from 0, or lists of as many finite numbers")
    return vectors, None
